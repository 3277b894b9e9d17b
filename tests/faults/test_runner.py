"""What checks do to the runner that runs them: whatever it is, the other checks are told of."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.conftest import Repo
from tests.test_run import upcheck
from tests.watch.conftest import Watching, watching  # noqa: F401 - a fixture
from upcheck.history import History
from upcheck.result import Outcome

pytestmark = pytest.mark.slow

GOOD = "def test_good(): pass\n"


def run_of(repo: Repo, *arguments: str) -> tuple[str, int, float]:
    """What `upcheck run` prints, its exit code, and how many seconds it took."""
    began = time.monotonic()
    told = upcheck(repo, "run", *arguments)
    return told.stdout + told.stderr, told.returncode, time.monotonic() - began


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("import time; time.sleep(60)", "call not done within 1 s: still at test_bad.py:5"),
        ("\n    while True: pass", "call not done within 1 s: still at test_bad.py:6"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt was raised by the check itself"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("\n    def deeper(): deeper()\n    deeper()", "RecursionError"),
        ("raise MemoryError('no more')", "MemoryError: no more"),
        (
            "\n    import time\n    while True:\n        try: time.sleep(0.05)\n        except: pass",
            "call not done within 1 s",
        ),
        ("assert 'x' * 300_000 == 'y'", "assert"),
        ("raise AssertionError('x' * 3_000_000)", "AssertionError"),
    ],
    ids=[
        "sleeps",
        "computes",
        "interrupts",
        "exits",
        "recurses",
        "eats memory",
        "swallows all",
        "says too much",
        "says far more",
    ],
)
def test_a_check_that_misbehaves_fails_alone(repo: Repo, body: str, sentence: str) -> None:
    repo.write("checks/test_good.py", GOOD)
    repo.write(
        "checks/test_bad.py", f"from upcheck import check\n\n@check(timeout='1s')\ndef test_bad():\n    {body}\n"
    )
    text, code, took = run_of(repo)
    assert "checks      1 held, 1 failed" in text
    assert sentence in text
    assert (code, took < 20) == (1, True)
    assert len(text) < 20_000


def test_a_coroutine_that_blocks_the_loop_holds_up_no_other_check(repo: Repo) -> None:
    repo.write("checks/test_good.py", GOOD)
    repo.write(
        "checks/test_bad.py",
        "import asyncio, time\nfrom upcheck import check\n\n@check(timeout='1s')\n"
        "async def test_blocks(): time.sleep(8)\n\n"
        "@check(timeout='20s')\nasync def test_waits(): await asyncio.sleep(0.1)\n",
    )
    text, code, took = run_of(repo)
    assert "checks      2 held, 1 failed" in text
    assert "call not done within 1 s" in text
    assert (code, took < 20) == (1, True)


@pytest.mark.parametrize(
    "body", ["os._exit(0)", "os.kill(os.getpid(), 11)", "os.abort()"], ids=["exit", "segfault", "abort"]
)
def test_a_check_that_ends_the_process_hides_nothing(repo: Repo, body: str) -> None:
    repo.write("checks/test_bad.py", f"import os, time\n\ndef test_bad():\n    time.sleep(1)\n    {body}\n")
    repo.write("checks/test_good.py", GOOD)
    text, code, _ = run_of(repo)
    assert "1 held, 1 error" in text
    assert "test_bad" in text
    assert code == 3


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("def test_it(:", "SyntaxError"),
        ("import there_is_no_such_module", "No module named 'there_is_no_such_module'"),
    ],
)
def test_a_file_that_can_t_be_imported_is_one_error(repo: Repo, source: str, sentence: str) -> None:
    repo.write("checks/test_good.py", GOOD)
    repo.write("checks/test_bad.py", source + "\n")
    text, code, _ = run_of(repo)
    assert "1 held, 1 error" in text
    assert sentence in text
    assert code == 3


@pytest.mark.parametrize(
    ("source", "told"), [("import pytest\npytestmark = pytest.mark.skip\n" + GOOD, "1 skipped"), ("", "nothing")]
)
def test_nothing_that_ran_is_nothing_known(repo: Repo, source: str, told: str) -> None:
    repo.write("checks/test_a.py", source)
    text, code, _ = run_of(repo)
    assert told in text
    assert code == 3


def test_a_thousand_failures_are_told_in_short(repo: Repo) -> None:
    repo.write(
        "checks/test_bad.py",
        "import pytest\n\n@pytest.mark.parametrize('n', range(1000))\ndef test_bad(n):\n    value = {'n': n}\n"
        "    assert value == {'n': -1}, 'x' * 5000\n",
    )
    text, code, took = run_of(repo)
    assert "1000 failed" in text
    assert len(text) < 60_000
    assert "and 950 more" in text
    assert (code, took < 30) == (1, True)


def test_names_of_any_kind(repo: Repo) -> None:
    names = "['x' * 10_000, '\\u202e\\x00\\ud800', 'é ' * 50, '](', 'a::b', '']"
    repo.write(
        "checks/test_a.py",
        f"import pytest\n\n@pytest.mark.parametrize('value', {names})\ndef test_it(value): pass\n",
    )
    text, code, _ = run_of(repo)
    assert "6 held" in text
    assert code == 0
    with History(repo.path / ".upcheck/history.sqlite", read_only=True) as history:
        assert len(history.latest()) == 6


def test_a_slow_check_is_never_queued_behind_itself(repo: Repo, watching: Watching) -> None:  # noqa: F811
    repo.write(
        "checks/test_a.py",
        "import time\nfrom upcheck import check\n\n@check(every='200ms', timeout='5s')\n"
        "def test_slow(): time.sleep(1)\n",
    )
    watch = watching()
    watch.started()
    time.sleep(4)
    assert watch.stop() == 0
    with History(repo.path / ".upcheck/history.sqlite") as history:
        (engine,) = history.engines()
        runs = history.results("checks/test_a.py::test_slow")
    assert 2 <= len(runs) <= 5
    assert engine.missed >= 5
    assert {run.outcome for run in runs} == {Outcome.HELD}


def test_a_check_that_never_ends_is_given_up_and_started_once(repo: Repo, watching: Watching) -> None:  # noqa: F811
    repo.write(
        "checks/test_a.py",
        "import subprocess\nfrom upcheck import check\n\n@check(every='500ms', timeout='1s')\n"
        "def test_hangs(): subprocess.run(['sleep', '61'])\n\n@check(every='300ms')\ndef test_good(): pass\n",
    )
    watch = watching()
    watch.started()
    told = watch.changed("test_hangs", "failed")
    assert "call not done within 1 s: still at test_a.py:5" in told["reason"]
    time.sleep(4)
    sleeping = [child for child in watch.engine.children(recursive=True) if child.name() == "sleep"]
    assert len(sleeping) == 1
    assert watch.stop() == 0
    assert not sleeping[0].is_running() or sleeping[0].status() == psutil.STATUS_ZOMBIE
    with History(repo.path / ".upcheck/history.sqlite") as history:
        hangs = history.results("checks/test_a.py::test_hangs")
        good = history.results("checks/test_a.py::test_good")
        (engine,) = history.engines()
    assert len(hangs) == 1
    assert engine.missed >= 4
    assert len(good) >= 8


@pytest.mark.parametrize("body", ["os._exit(0)", "os.kill(os.getpid(), 11)"], ids=["exit", "segfault"])
def test_a_check_that_ends_the_engine_is_found_and_left_out(repo: Repo, watching: Watching, body: str) -> None:  # noqa: F811
    slow = "import time\nfrom upcheck import check\n\n@check(every='500ms', timeout='3s')\n"
    repo.write("checks/test_good.py", slow + "def test_good(): time.sleep(0.4)\n")  # in flight most of the time
    repo.write(
        "checks/test_bad.py", f"import os\nfrom upcheck import check\n\n@check(every='1s')\ndef test_bad(): {body}\n"
    )
    watch = watching()
    watch.started()
    watch.started()
    told = watch.changed("test_bad", "error")
    assert told["reason"].startswith("the engine ended while this check ran")
    watch.started()
    time.sleep(4)
    began = time.time()
    time.sleep(2)
    repo.write(
        "checks/test_bad.py", "from upcheck import check\n\n@check(every='1s')\ndef test_bad(): assert 'mended' == 0\n"
    )
    watch.changed("test_bad", "failed")
    assert watch.stop() == 0
    blamed = [event["text"] for event in watch.events if event["event"] == "engine"]
    assert len(blamed) == 2
    assert "test_bad.py::test_bad" in blamed[1]
    with History(repo.path / ".upcheck/history.sqlite") as history:
        assert len(history.results("checks/test_good.py::test_good", since=began)) >= 3
        found = history.results("checks/test_bad.py::test_bad")
    assert any("twice: it does not run again before a file of checks changes" in one.reason for one in found)


def test_an_engine_that_is_killed_or_stopped_is_replaced(repo: Repo, watching: Watching) -> None:  # noqa: F811
    repo.write("checks/test_good.py", "from upcheck import check\n\n@check(every='300ms')\ndef test_good(): pass\n")
    watch = watching()
    watch.started()
    os.kill(watch.engine.pid, signal.SIGKILL)
    watch.started()
    assert any("was ended by SIGKILL" in event.get("text", "") for event in watch.events)
    assert watch.stop() == 0


def test_the_engine_ends_with_its_supervisor(repo: Repo, watching: Watching) -> None:  # noqa: F811
    repo.write("checks/test_good.py", "from upcheck import check\n\n@check(every='300ms')\ndef test_good(): pass\n")
    watch = watching()
    watch.started()
    engine = watch.engine
    watch.process.kill()
    assert psutil.wait_procs([engine], timeout=15)[1] == []


def test_one_that_hangs_does_not_keep_others_from_being_alone(repo: Repo, watching: Watching) -> None:  # noqa: F811
    repo.write(
        "checks/test_a.py",
        "import time, pytest\nfrom upcheck import check\n\n@check(every='1h', timeout='1s')\ndef test_hangs():\n"
        "    time.sleep(30)\n\n@check(every='300ms')\n@pytest.mark.serial\ndef test_alone(): pass\n",
    )
    watch = watching()
    watch.started()
    watch.changed("test_hangs", "failed")
    since = time.time() + 1
    time.sleep(3)
    assert watch.stop() == 0
    with History(repo.path / ".upcheck/history.sqlite") as history:
        assert len(history.results("checks/test_a.py::test_alone", since=since)) >= 3
