from __future__ import annotations

import time

from upcheck.history import Streak
from upcheck.report import verdict
from upcheck.report.block import MAX_LINES, block
from upcheck.result import Kind, Outcome, Result

HELD = Result("checks/a.py::a", Outcome.HELD, 0, 0.041, facts={"name": "a"})
FAILED = Result(
    "checks/a.yml::front page",
    Outcome.FAILED,
    0,
    0.2,
    reason="503 in 212 ms",
    facts={
        "name": "front page",
        "file": "checks/a.yml",
        "line": 4,
        "asked": "GET /",
        "got": "503 in 212 ms",
        "want": "status 200",
    },
)
PROOF = {"alerts": ["Down", "Slow"], "fires": ["Down"], "silent": ["Down", "Slow"]}
RULE = Result("rules_tests/a.yml::x", Outcome.HELD, 0, 0, Kind.RULE, facts=PROOF)
OTHER = Result(
    "rules_tests/a.yml::y", Outcome.HELD, 0, 0, Kind.RULE, facts={"alerts": ["Down", "Slow"], "fires": ["Slow"]}
)
CONFIG = Result(
    "monitoring/p/prometheus.yml::prometheus",
    Outcome.HELD,
    0,
    0,
    Kind.CONFIG,
    facts={"file": "monitoring/p/prometheus.yml"},
)


def test_a_line_for_each_kind() -> None:
    assert verdict.counts([HELD, HELD, RULE, OTHER, CONFIG]) == [
        "checks      2 held                   slowest 41 ms  a",
        "rules       2 held                   2 alerts, each seen to fire and to keep silent",
        "configs     1 valid                  prometheus.yml",
    ]


def test_an_alert_that_no_test_fires_is_named() -> None:
    assert verdict.counts([RULE]) == ["rules       1 held                   2 alerts, never seen fired: Slow"]


def test_an_alert_of_a_file_that_no_test_loads_counts() -> None:
    rules = Result("m/r.yml::rules", Outcome.HELD, 0, 0, Kind.CONFIG, facts={"file": "m/r.yml", "alerts": ["New"]})
    assert verdict.counts([RULE, OTHER, rules])[0].endswith("3 alerts, never seen fired: New")
    assert verdict.counts([rules])[0] == "rules       no tests                 1 alert, never seen fired: New"


def test_a_test_that_failed_proves_nothing() -> None:
    failed = Result("y", Outcome.FAILED, 0, 0, Kind.RULE, facts=OTHER.facts)
    assert verdict.counts([RULE, failed])[0].endswith("2 alerts, never seen fired: Slow")


def test_a_failure_says_what_where_and_since_when() -> None:
    at = time.mktime((*time.localtime()[:3], 14, 2, 10, 0, 0, -1))
    lines = verdict.failures([HELD, FAILED], lambda _: Streak(Outcome.FAILED, at, 3, at - 123))
    assert lines == [
        "FAILED   front page                                               checks/a.yml:4",
        "  asked  GET /",
        "  got    503 in 212 ms",
        "  want   status 200",
        "  since  14:02:10, third failure in a row; last held 14:00:07",
        "",
    ]


def test_errors_of_one_cause_are_one_block() -> None:
    errors = [
        Result(f"r::{n}", Outcome.ERROR, 0, 0, Kind.RULE, "no promtool", {"name": n, "got": "no promtool"})
        for n in "abc"
    ]
    other = Result("r::d", Outcome.ERROR, 0, 0, Kind.RULE, "hung", {"name": "d", "got": "hung"})
    assert [line.rstrip() for line in verdict.failures([*errors, other], lambda _: None)] == [
        "ERROR    a",
        "  got    no promtool",
        "  and 2 more for the same reason",
        "",
        "ERROR    d",
        "  got    hung",
        "",
    ]


def test_long_streaks_and_other_days_are_told_in_full() -> None:
    at = time.mktime((2020, 1, 2, 3, 4, 5, 0, 0, -1))
    assert verdict.since(Streak(Outcome.ERROR, at, 12, None)) == "2020-01-02 03:04, 12th error in a row; has never held"


def test_the_last_line() -> None:
    assert verdict.total([HELD], 1.94) == "held in 1.9 s"
    assert verdict.total([HELD, FAILED], 2.0) == "1 held, 1 failed in 2.0 s"
    assert verdict.total([], 2.0) == "nothing ran, so nothing is known"


def test_detail_is_bounded() -> None:
    lines = block({"got": "\n".join("x" * 10_000 for _ in range(10_000))}).splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"  ... {10_000 - MAX_LINES} more lines"
    assert max(map(len, lines)) < 500
