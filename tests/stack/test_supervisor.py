"""The supervisor with programs that end, grow or don't listen."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.waiting import eventually
from upcheck import tools
from upcheck.settings import Settings
from upcheck.stack import supervisor
from upcheck.stack.health import standings
from upcheck.stack.record import Record, reason
from upcheck.stack.services import Service, StackError


@contextmanager
def supervised(root: Path, *argvs: str) -> Iterator[tuple[Record, subprocess.Popen[bytes]]]:
    """A supervisor of shell scripts called a, b, ..."""
    record = Record(root)
    record.make()
    record.write_plan([Service(chr(97 + number), ("sh", "-c", argv)) for number, argv in enumerate(argvs)])
    process = subprocess.Popen([sys.executable, "-m", "upcheck.stack.supervisor", str(root)])
    try:
        yield record, process
    finally:
        process.terminate()
        assert process.wait(20) == 0


def died(record: Record, name: str) -> int:
    state = record.state()
    return state.runs[name].died if state else 0


def test_what_is_asked_to_end_comes_back_and_has_not_died(tmp_path: Path) -> None:
    def pid(record: Record) -> int | None:
        state = record.state()
        return state.runs["a"].pid if state else None

    with supervised(tmp_path, "exec sleep 60") as (record, _):
        eventually(lambda: pid(record))
        for expected, asked in ((0, True), (1, False)):
            running = pid(record)
            assert running is not None
            if asked:
                record.ask(running)
            os.kill(running, signal.SIGTERM)
            eventually(lambda: pid(record) not in (None, running))  # noqa: B023
            assert died(record, "a") == expected


def test_what_is_another_user_s_is_told_in_a_sentence(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.make()
    record.folder.chmod(0o500)
    if root := os.geteuid() == 0:  # who may write everywhere
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        for what in (record.alone, record.supervised):
            with (
                pytest.raises(StackError, match=r"lock can't be written: Permission denied; run this as its owner"),
                what(),
            ):
                pass
    finally:
        if root:
            os.seteuid(0)
        record.folder.chmod(0o700)


def test_what_ends_is_started_again_and_status_says_how_it_ended(tmp_path: Path) -> None:
    with supervised(tmp_path, "echo the disk is full >&2; exit 3", "exec sleep 60") as (record, _):
        eventually(lambda: died(record, "a") >= 2)
        ended, runs = standings(Settings.load(tmp_path, {}), record)
        assert ended.why.startswith("ended with exit code 3: the disk is full")
        assert runs.run.died == 0
        assert "a ended with exit code 3" not in record.log("a").read_text()


def test_two_never_supervise_one_stack(tmp_path: Path) -> None:
    with supervised(tmp_path, "exec sleep 60") as (record, _):
        eventually(record.state)
        second = subprocess.run([sys.executable, "-m", "upcheck.stack.supervisor", str(tmp_path)], timeout=10)
        assert second.returncode == 3


def test_a_program_that_is_not_there_is_told_and_does_no_harm_to_others(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.make()
    record.write_plan([Service("gone", ("/nowhere/gone",)), Service("a", ("sleep", "60"))])
    process = subprocess.Popen([sys.executable, "-m", "upcheck.stack.supervisor", str(tmp_path)])
    try:
        eventually(record.state)
        state = record.state()
        assert state is not None
        assert state.runs["gone"].ended == "could not be started: No such file or directory"
        assert state.runs["a"].pid is not None
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_at_its_end_all_have_ended_what_does_not_listen_too(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $! > child; wait; wait"
    code = (
        "import sys; from pathlib import Path; from upcheck.stack import supervisor; "
        "supervisor.STOP = 0.3; sys.exit(supervisor.main(Path(sys.argv[1])))"
    )
    record = Record(tmp_path)
    record.make()
    record.write_plan([Service("a", ("sh", "-c", script))])
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    eventually(record.state)  # which is written after it was started
    state = record.state()
    assert state is not None
    own = state.runs["a"].pid
    assert own is not None
    pids = [own, int((tmp_path / "child").read_text())]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    try:
        eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert record.state() is None


def test_a_log_that_has_grown_begins_anew_and_the_one_before_it_is_kept(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.make()
    record.log("a").write_bytes(b"x" * (supervisor.LOG + 1))
    with supervised(tmp_path, "sleep 0.3; echo hello; exec sleep 60") as (record, _):
        eventually(lambda: record.last_line("a") == "hello")
        assert record.log("a").stat().st_size < 100
        assert record.log("a").with_suffix(".log.1").stat().st_size > supervisor.LOG


@pytest.mark.parametrize(
    ("tool", "flag", "said"),
    [
        ("prometheus", "--storage.tsdb.retention.time=15days", "Error parsing commandline arguments: not a valid dur"),
        ("alertmanager", "--nonsense", "alertmanager: error: unknown long flag '--nonsense', try --help"),
    ],
)
def test_of_what_a_program_said_before_it_ended_its_error_is_told(
    tmp_path: Path, tool: str, flag: str, said: str
) -> None:
    record = Record(tmp_path)
    record.make()
    (found,) = tools.ensure([tool], Settings.load(ROOT, {})).values()
    with record.log("a").open("wb") as log:
        subprocess.run([str(found.path), flag], stdout=log, stderr=log, timeout=30)
    assert record.last_line("a").startswith(said)
    assert reason(["all is well", "that was it", " "]) == "that was it"
    assert reason([]) == ""
