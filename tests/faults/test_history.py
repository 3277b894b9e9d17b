"""The history under what goes wrong: kill -9, a full disk, many writers, deletion meanwhile, clocks that jump."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from upcheck.history import DAY, HOUR, ClaimError, History, HistoryError
from upcheck.history.fold import fold
from upcheck.report.sinks import MOST, HistorySink
from upcheck.result import Outcome, Result

NOW = 1_700_000_000.0


def result(started: float, outcome: Outcome = Outcome.HELD, check: str = "a", reason: str = "") -> Result:
    return Result(check, outcome, started, 0.05, reason=reason)


def sound(file: Path) -> bool:
    """Whether SQLite finds no fault in *file*, and the rollups count every result once that is not recent."""
    db = sqlite3.connect(file)
    try:
        (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
        counts = "ifnull(sum(held + failed + error + skipped), 0)"
        sums = [
            db.execute(f"SELECT {counts} FROM rollups WHERE span = {span}").fetchone()[0] for span in (0, HOUR, DAY)
        ]
        (results,) = db.execute("SELECT count(*) FROM results").fetchone()
        (recent,) = db.execute("SELECT count(*) FROM recent").fetchone()
    finally:
        db.close()
    with History(file, read_only=True) as history:
        totals = sum(one.totals.runs for one in history.latest())
        window = history.summary("", 1e11, now=1e11 - 1).runs
    return bool(verdict == "ok" and sums == [results] * 3 and totals == window == results + recent)


WRITER = """
import sys; from pathlib import Path; from upcheck.history import History; from upcheck.result import *
history = History(Path(sys.argv[1])); first = int(sys.argv[2])
for n in range(first, first + 10**6):
    history.append([Result(f"check {m}", Outcome.HELD, float(n), 0.0) for m in range(5)])
    print(n, flush=True)
"""


def test_what_was_acknowledged_survives_forty_kills(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    acknowledged = -1
    for number in range(40):
        argv = [sys.executable, "-c", WRITER, str(file), str(acknowledged + 1)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(1 + number):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(rest[-1]) if rest else acknowledged
        assert sound(file)
        with History(file) as history:
            assert history.set_aside is None
            for check in ("check 0", "check 4"):
                stored = {int(one.started) for one in history.results(check)}
                assert stored >= set(range(acknowledged + 1))
        acknowledged = max(stored)


FOLDING = """
import sys; from pathlib import Path; from upcheck.history import History, writer; from upcheck.result import *
writer.FOLD_ROWS = 12
history = History(Path(sys.argv[1])); first = int(sys.argv[2])
for n in range(first, first + 10**6):
    history.append([Result(f"check {m}", Outcome.HELD, float(n), 0.0) for m in range(5)])
    if n % 7 == 0: history.prune()
    print(n, flush=True)
"""


def test_kills_between_appends_and_folds_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    begun, recent = 0, 0
    for number in range(40):
        argv = [sys.executable, "-c", FOLDING, str(file), str(begun)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            time.sleep(number * 0.0007)
            os.kill(process.pid, signal.SIGKILL)
            rest = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(rest[-1]) if rest else acknowledged
        with contextlib.closing(sqlite3.connect(file)) as db:
            recent += db.execute("SELECT count(*) FROM recent").fetchone()[0] > 0
        assert sound(file)
        with History(file, read_only=True) as history:
            for latest in history.latest():
                stored = [int(one.started) for one in history.results(latest.result.check)]
                assert stored == list(range(len(stored)))
                assert latest.totals.runs == latest.streak.runs == len(stored) > acknowledged
        begun = len(stored)
    assert recent, "some were killed while results waited"


def _append_and_fold(file: Path, writer: int, rounds: int) -> None:
    with History(file) as history:
        for number in range(rounds):
            history.append([result(float(number), check=f"writer {writer}"), result(float(number), check="all")])
            fold(history._db)


def test_two_processes_append_and_fold_at_once_and_a_reader_sees_counts_only_grow(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    History(file).close()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_and_fold, args=(file, writer, 100)) for writer in range(2)]
    for process in writers:
        process.start()
    before = 0
    with History(file, read_only=True) as history:
        while any(process.is_alive() for process in writers):
            totals = {one.result.check: one.totals.runs for one in history.latest()}
            assert history.summary("", 1e10, now=1e10 - 1).runs >= sum(totals.values()) >= before
            before = sum(totals.values())
    for process in writers:
        process.join(60)
    assert [process.exitcode for process in writers] == [0, 0]
    with History(file) as history:
        assert [one.totals.runs for one in history.latest()] == [200, 100, 100]
    assert sound(file)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    told = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"only root can mount a small disk: {told.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def test_a_full_disk_is_an_error_and_room_is_all_that_it_takes(small_disk: Path) -> None:
    with History(small_disk / "h.sqlite") as history:
        history.append([result(1.0)])
        ballast = fill(small_disk)
        for _ in range(3):
            with pytest.raises(HistoryError, match=r"200 results could not be written .*(full|disk I/O)"):
                history.append([result(2.0, check=f"c{n}", reason="x" * 5000) for n in range(200)])
        assert [one.started for one in history.results("a")] == [1.0]
        ballast.unlink()
        history.append([result(3.0), result(3.0, check="c1")])
        assert [one.started for one in history.results("a")] == [1.0, 3.0]
        assert [one.totals.runs for one in history.latest()] == [2, 1]
    assert sound(small_disk / "h.sqlite")


def test_results_wait_while_the_disk_is_full_and_are_written_when_it_is_not(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upcheck.report.sinks.FLUSH", -1.0)  # at each result
    sink = HistorySink(small_disk / "h.sqlite")
    sink.pytest_upcheck_result(result(1.0))
    ballast = fill(small_disk)
    for at in range(60):
        sink.pytest_upcheck_result(result(2.0 + at, reason="x" * 20_000))
    assert sink.write_errors > 0
    with pytest.raises(HistoryError, match="could not be written"):
        sink.flush()
    ballast.unlink()
    assert sink.finish() == ""
    with History(small_disk / "h.sqlite") as history:
        assert len(history.results("a")) == 61


def test_what_waits_is_bounded_and_what_is_lost_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    place.write_text("a file where a folder should be")
    sink = HistorySink(place / "h.sqlite")
    monkeypatch.setattr("upcheck.report.sinks.FLUSH", 3600.0)
    for at in range(MOST + 5):
        sink.pytest_upcheck_result(result(float(at)))
    monkeypatch.setattr("upcheck.report.sinks.FLUSH", -1.0)
    sink.pytest_upcheck_result(result(float(MOST + 5)))
    assert sink.write_errors == 1
    place.unlink()
    assert "6 results are lost" in sink.finish()
    with History(place / "h.sqlite") as history:
        kept = history.results("a")
        assert (len(kept), kept[-1].started) == (MOST, MOST + 5)


def _write(file: Path, writer: int, rounds: int) -> None:
    with History(file) as history:
        for number in range(rounds):
            history.append([result(float(number), check=f"writer {writer}"), result(float(number), check="all")])


def test_eight_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(file, writer, 25)) for writer in range(8)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
    assert [process.exitcode for process in writers] == [0] * 8
    with History(file) as history:
        assert [len(history.results(f"writer {writer}")) for writer in range(8)] == [25] * 8
        streak = history.streak("all")
        assert streak is not None
        assert streak.runs == 200
    assert sound(file)


def test_deletion_holds_up_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upcheck.history.retention.CHUNK", 500)
    file = tmp_path / "h.sqlite"
    with History(file) as history:
        history.append([result(NOW - 40 * DAY + at, check=f"c{at % 50}") for at in range(20_000)])
        history.append([result(NOW)])
        longest, written, done = 0.0, 0, threading.Event()

        def delete() -> None:
            with History(file) as other:
                while other.prune(NOW, budget=5):
                    pass
            done.set()

        thread = threading.Thread(target=delete)
        thread.start()
        while not done.is_set() or not written:
            began = time.monotonic()
            history.append([result(NOW + written, check="new")])
            longest, written = max(longest, time.monotonic() - began), written + 1
        thread.join()
        assert len(history.results("new")) == written
        assert history.results("c0") == []
        assert longest < 4, "one chunk at a time"


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -14 * HOUR])
def test_a_clock_that_jumps_hides_no_failure_and_counts_nothing_twice(tmp_path: Path, jump: float) -> None:
    file = tmp_path / "h.sqlite"
    with History(file) as history:
        for at in range(5):
            history.append([result(NOW + 60 * at)])
        for at in range(5):
            history.append([result(NOW + 300 + jump + 60 * at, Outcome.FAILED)])
        (latest,) = history.latest()
        assert (latest.result.outcome, latest.streak.runs) == (Outcome.FAILED, 5)
        assert latest.streak.since == NOW + 300 + jump <= latest.result.started
        assert latest.totals.counts[Outcome.HELD] == latest.totals.counts[Outcome.FAILED] == 5
        assert history.summary("a", 3 * DAY, now=NOW + 600).runs == 10
        history.append([result(latest.result.started - 2 * HOUR, Outcome.FAILED)])
        streak = history.streak("a")
        assert streak is not None
        assert streak.since == latest.result.started - 2 * HOUR, "it began no later than its latest run"
    assert sound(file)


def test_what_comes_days_late_is_counted_and_changes_no_state(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(NOW - 10 * DAY)])
        history.append([result(NOW - 12 * DAY, Outcome.FAILED)])
        (latest,) = history.latest()
        assert (latest.result.outcome, latest.totals.runs) == (Outcome.HELD, 2)


def test_a_result_of_a_year_ahead_does_not_stay_the_latest_for_a_year(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(time.time() + 365 * DAY)])
        history.append([result(time.time(), Outcome.FAILED)])
        streak = history.streak("a")
        assert streak is not None
        assert streak.outcome is Outcome.FAILED
        assert streak.since <= time.time()
        history.append([result(time.time())])
        streak = history.streak("a")
        assert streak is not None
        assert streak.last_held is not None
        assert streak.last_held <= time.time()


def test_a_claim_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from upcheck.history import History\n"
        "claim = History(Path(sys.argv[1])).claim(); print(flush=True); time.sleep(60)"
    )
    with (
        History(tmp_path / "h.sqlite") as history,
        subprocess.Popen([sys.executable, "-c", code, str(history.file)], stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ClaimError, match=f"process {process.pid}"):
            history.claim()
        process.kill()
        process.wait()
        history.claim().close()


def test_a_folder_that_can_not_be_written_can_still_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with History(folder / "h.sqlite") as history:
        history.append([result(1.0)])
    subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True)
    told = subprocess.run(["mount", "-o", "remount,ro,bind", folder], capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"only root can mount: {told.stderr.strip()}")
    try:
        with History(folder / "h.sqlite", read_only=True) as history:
            assert len(history.latest()) == 1
        with pytest.raises(HistoryError, match=r"can't be written.*UPCHECK_HISTORY"):
            History(folder / "h.sqlite")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
