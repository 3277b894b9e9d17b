from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from upcheck.result import ExitCode, Kind, Outcome, Result, exit_code, fold


@dataclass
class Phase:
    """What xdist makes of a TestReport and back: the attributes alone."""

    when: str | None
    outcome: str = "passed"
    user_properties: list[tuple[str, Any]] = field(default_factory=list)
    nodeid: str = "checks/test_a.py::test_a"
    start: float = 100.0
    duration: float = 0.25
    longreprtext: str = ""


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([Phase("setup"), Phase("call"), Phase("teardown")], Outcome.HELD),
        ([Phase("setup"), Phase("call", "failed"), Phase("teardown")], Outcome.FAILED),
        ([Phase("setup", "failed"), Phase("teardown")], Outcome.ERROR),
        ([Phase("setup"), Phase("call"), Phase("teardown", "failed")], Outcome.ERROR),
        ([Phase("setup"), Phase("call", "failed"), Phase("teardown", "failed")], Outcome.FAILED),
        ([Phase("setup", "skipped"), Phase("teardown")], Outcome.SKIPPED),
        ([Phase("setup"), Phase("call", "skipped"), Phase("teardown")], Outcome.SKIPPED),
        ([Phase("???", "failed", longreprtext="worker 'gw0' crashed")], Outcome.ERROR),
    ],
)
def test_three_phases_are_one_outcome(phases: list[Phase], outcome: Outcome) -> None:
    assert fold(phases).outcome is outcome


def test_facts_are_taken_over_and_the_telling_phase_wins() -> None:
    call = Phase("call", "failed", [("upcheck.reason", "503"), ("upcheck.kind", "rule"), ("theirs", 1)])
    setup = Phase("setup", user_properties=[("upcheck.severity", "info")], start=99.0, duration=9.0)
    teardown = Phase("teardown", user_properties=[("upcheck.reason", "later")])
    result = fold([setup, call, teardown])
    assert result == Result(call.nodeid, Outcome.FAILED, 100.0, 0.25, Kind.RULE, "503", {"severity": "info"})


def test_a_report_without_a_time_is_of_now() -> None:
    assert abs(fold([Phase("???", "failed", start=0.0)]).started - time.time()) < 60


def test_a_result_survives_json() -> None:
    result = Result("a::b[ü]", Outcome.ERROR, 1.5, 0.0, Kind.CONFIG, "why", {"line": 3, "fires": ["A"]})
    assert Result.from_json(result.to_json()) == result
    assert "\n" not in Result("a", Outcome.HELD, 0, 0, reason="two\nlines").to_json()


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Outcome.HELD], ExitCode.HELD),
        ([Outcome.HELD, Outcome.SKIPPED], ExitCode.HELD),
        ([Outcome.HELD, Outcome.FAILED, Outcome.ERROR], ExitCode.FAILED),
        ([Outcome.HELD, Outcome.ERROR], ExitCode.UNKNOWN),
        ([Outcome.SKIPPED], ExitCode.UNKNOWN),
        ([], ExitCode.UNKNOWN),
    ],
)
def test_exit_codes_tell_failed_from_unknown(outcomes: list[Outcome], code: ExitCode) -> None:
    assert exit_code([Result("a", outcome, 0, 0) for outcome in outcomes]) == code
