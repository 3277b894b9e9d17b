from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from upcheck.history import VERSION, History, HistoryError
from upcheck.result import Outcome, Result


def result(outcome: Outcome = Outcome.HELD, started: float = 1.0, check: str = "a") -> Result:
    return Result(check, outcome, started, 0.5, reason="why" if outcome is Outcome.FAILED else "", facts={"line": 3})


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    with History(tmp_path / "sub/h.sqlite") as history:
        history.append([result(started=2.0), result(Outcome.FAILED, 1.0), result(check="b")])
    with History(tmp_path / "sub/h.sqlite") as history:
        assert history.results("a") == [result(Outcome.FAILED, 1.0), result(started=2.0)]
        assert history.results("a", since=1.5) == [result(started=2.0)]
        assert history.results("nobody") == []


def test_a_streak_counts_from_the_last_change(tmp_path: Path) -> None:
    outcomes = [Outcome.FAILED, Outcome.HELD, Outcome.HELD, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED]
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(outcome, float(at)) for at, outcome in enumerate(outcomes)])
        streak = history.streak("a")
        assert streak is not None
        assert (streak.outcome, streak.since, streak.runs, streak.last_held) == (Outcome.FAILED, 3.0, 3, 2.0)
        assert history.streak("nobody") is None


def test_a_first_failure_has_never_held(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(Outcome.FAILED, 0.0)])
        streak = history.streak("a")
        assert streak is not None
        assert (streak.runs, streak.since, streak.last_held) == (1, 0.0, None)


def test_a_newer_history_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 6}")
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = file.read_bytes()
    with pytest.raises(
        HistoryError, match=rf"newer upcheck \(schema {VERSION + 6}, this one knows {VERSION}\).*UPCHECK_HISTORY"
    ):
        History(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at " * 40, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_history_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "h.sqlite"
    file.write_bytes(content)
    with History(file) as history:
        history.append([result()])
        assert history.set_aside is not None
        assert history.set_aside.read_bytes() == content
        assert history.results("a") == [result()]


def test_a_history_whose_pages_are_damaged_is_set_aside_when_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with History(file) as history:
        history.append([result(check=f"check {number}") for number in range(300)])
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with History(file) as history:
        assert history.streak("check 0") is None
        history.append([result()])
        assert history.set_aside is not None
        assert history.results("a") == [result()]


def test_what_is_set_aside_replaces_nothing_that_was_set_aside_before(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    contents = [b"damaged %d" % number * 100 for number in range(3)]
    for content in contents:
        file.write_bytes(content)
        History(file).close()
    assert sorted(path.read_bytes() for path in tmp_path.glob("h.sqlite.damaged-*")) == contents


def test_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite"), sqlite3.connect(tmp_path / "h.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match=r"file/h\.sqlite can't be written.*UPCHECK_HISTORY"):
        History(tmp_path / "file" / "h.sqlite")


def test_a_failed_write_loses_nothing_that_was_there(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result()])
        history._db.execute("PRAGMA max_page_count = 8")  # a full disk, as SQLite sees it
        many = [Result(f"check {n}", Outcome.HELD, 1.0, 0.0, reason="x" * 1000) for n in range(500)]
        with pytest.raises(HistoryError, match="500 results could not be written"):
            history.append(many)
        history._db.execute("PRAGMA max_page_count = 100000")
        history.append([result(started=2.0)])
        assert [one.started for one in history.results("a")] == [1.0, 2.0]
        assert history.results("check 0") == []


def _write(file: Path, writer: int, rounds: int) -> None:
    with History(file) as history:
        for number in range(rounds):
            history.append([result(started=float(number), check=f"writer {writer}")])


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


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    code = (
        "import sys; from pathlib import Path; from upcheck.history import History; from upcheck.result import *\n"
        "history = History(Path(sys.argv[1])); first = int(sys.argv[2])\n"
        "for n in range(first, first + 10**6):\n"
        "    history.append([Result('a', Outcome.HELD, float(n), 0.0)])\n"
        "    print(n, flush=True)\n"
    )
    import subprocess

    acknowledged = -1
    for _ in range(5):
        argv = [sys.executable, "-c", code, str(file), str(acknowledged + 1)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(40):
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        acknowledged = int(rest[-1]) if rest and rest[-1].isdigit() else acknowledged
        process.stdout.close()
        process.wait()
        with History(file) as history:
            assert history.set_aside is None
            stored = {int(one.started) for one in history.results("a")}
        assert set(range(acknowledged + 1)) <= stored
        acknowledged = max(stored)
