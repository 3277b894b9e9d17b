"""What `upcheck history` prints."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as Told

from upcheck.cli import main
from upcheck.history import DAY, History
from upcheck.report.history import duration, percent
from upcheck.result import Outcome, Result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    now = time.time()
    with History(tmp_path / "h.sqlite") as history:
        history.append(
            [
                Result("checks/shop.yml::cart", Outcome.FAILED if at == 3 else Outcome.HELD, now - 60 * at, 0.02,
                       reason="503 Service\nUnavailable" if at == 3 else "", facts={"severity": "critical"})
                for at in range(10)
            ]
        )  # fmt: skip
        history.append([Result("checks/test_api.py::test_x[\x1b]", Outcome.ERROR, now - 90, 0.0, reason="no fixture")])
        history.append([Result("checks/old.yml::gone", Outcome.HELD, now - 3 * DAY, 1.5)])
    return tmp_path / "h.sqlite"


def upcheck(file: Path, *arguments: str) -> Told:
    return CliRunner(env={"UPCHECK_HISTORY": str(file)}).invoke(main, ["history", *arguments])


def test_a_table_of_the_last_day(file: Path) -> None:
    told = upcheck(file)
    assert told.exit_code == 0
    head, shop, api = told.output.splitlines()
    assert head.split() == ["check", "runs", "held", "failed", "error", "availability", "p50", "p95", "last", "since"]
    assert shop.split()[:9] == ["checks/shop.yml::cart", "10", "9", "1", "0", "90%", "18", "ms", "24"]
    assert api.split()[:9] == [r"checks/test_api.py::test_x[\x1b]", "1", "0", "0", "1", "-", "-", "-", "error"]
    assert head.index(" runs") + 5 == shop.index(" 10 ") + 3, "numbers end where their heading ends"


def test_a_pattern_and_a_window_choose(file: Path) -> None:
    assert len(upcheck(file, "shop").output.splitlines()) == 2
    assert [line.split()[0] for line in upcheck(file, "--window", "7d").output.splitlines()[1:]] == [
        "checks/old.yml::gone", "checks/shop.yml::cart", r"checks/test_api.py::test_x[\x1b]",
    ]  # fmt: skip
    assert "9" in upcheck(file, "cart", "--window", "8m30s").output.splitlines()[1].split()


def test_json_is_a_line_per_check_and_csv_has_a_heading(file: Path) -> None:
    lines = [json.loads(line) for line in upcheck(file, "--format", "json").output.splitlines()]
    assert (lines[0]["availability"], lines[0]["failed"], lines[1]["availability"]) == (0.9, 1, None)
    table = list(csv.DictReader(io.StringIO(upcheck(file, "--format", "csv").output)))
    assert [row["check"] for row in table] == [line["check"] for line in lines]
    assert set(table[0]) == set(lines[0])
    assert (table[0]["availability"], table[1]["availability"]) == ("0.9", "")


def test_raw_lists_each_result_newest_last(file: Path) -> None:
    lines = upcheck(file, "--raw").output.splitlines()
    assert lines[0].split() == ["started", "outcome", "duration", "check", "reason"]
    assert len(lines) == 12
    assert [r"503 Service\nUnavailable" in line for line in lines].index(True) == 7
    assert lines[-1].split()[1] == "held"
    values = [json.loads(line) for line in upcheck(file, "cart", "--raw", "--format", "json").output.splitlines()]
    assert [one["started"] for one in values] == sorted(one["started"] for one in values)
    assert values[0]["facts"] == {"severity": "critical"}
    assert len(upcheck(file, "--raw", "--limit", "3").output.splitlines()) == 4
    table = list(csv.DictReader(io.StringIO(upcheck(file, "--raw", "--format", "csv").output)))
    assert len(table) == 11


def test_openmetrics_has_every_result_with_its_time(file: Path) -> None:
    lines = upcheck(file, "cart", "--format", "openmetrics").output.splitlines()
    assert lines[:2] == ["# HELP probe_success Whether the check held (1) or failed (0).", "# TYPE probe_success gauge"]
    assert lines[-1] == "# EOF"
    samples = [line for line in lines if line.startswith("probe_success{")]
    times = [float(line.rpartition(" ")[2]) for line in samples]
    assert len(times) == 10
    assert times == sorted(times)
    assert sum(line.split()[-2] == "0" for line in samples) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing-like-it"], 3, "no check in .*h.sqlite matches 'nothing-like-it': `upcheck history` lists all"),
        (["gone"], 3, "no run in the last 1d: ask for more, as in `upcheck history --window 30d`"),
        (["--window", "soon"], 2, "--window: expected a duration"),
        (["--format", "xml"], 2, "'xml' is not one of"),
    ],
)
def test_what_can_not_be_shown_is_a_sentence(file: Path, arguments: list[str], code: int, sentence: str) -> None:
    told = upcheck(file, *arguments)
    assert told.exit_code == code
    assert __import__("re").search(sentence, " ".join(told.output.split())), told.output


def test_no_history_says_what_makes_one(tmp_path: Path) -> None:
    told = upcheck(tmp_path / "none.sqlite")
    assert (told.exit_code, list(tmp_path.iterdir())) == (3, [])
    assert "none.sqlite: `upcheck check` makes one" in told.output
    History(tmp_path / "empty.sqlite").close()
    told = upcheck(tmp_path / "empty.sqlite")
    assert (told.exit_code, "has no results yet" in told.output) == (3, True)


def test_results_that_are_deleted_leave_their_sums(file: Path) -> None:
    with History(file) as history:
        history.prune(keep=0.001)
        history._db.execute("DELETE FROM results")
    assert "10" in upcheck(file, "cart").output.split()
    told = upcheck(file, "cart", "--raw")
    assert (told.exit_code, "leave out --raw" in told.output) == (3, True)


def test_a_hundred_percent_means_every_one() -> None:
    assert [percent(ratio) for ratio in (1.0, 0.999999, 0.99999, 0.9, 0.0, None)] == [
        "100%", "99.999%", "99.999%", "90%", "0%", "-",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0.0312, 1.234, None)] == ["31 ms", "1.23 s", "-"]


def test_colours_are_for_terminals(file: Path) -> None:
    told = CliRunner(env={"UPCHECK_HISTORY": str(file)}).invoke(main, ["history"], color=True)
    assert "\x1b[31m90%\x1b[0m" in told.output
    assert "\x1b" not in upcheck(file).output
