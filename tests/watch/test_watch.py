"""`upcheck watch` as its users meet it: real processes, real files, real signals."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.conftest import Repo, Serve, answer
from tests.waiting import eventually
from tests.watch.conftest import Watching
from upcheck.history import History
from upcheck.result import Outcome

pytestmark = pytest.mark.slow

QUICK = """
from upcheck import check

@check(every="300ms", timeout="2s")
def test_quick(): pass
"""


def outcomes(repo: Repo, check: str) -> list[Outcome]:
    with History(repo.path / ".upcheck/history.sqlite") as history:
        return [result.outcome for result in history.results(check)]


def test_checks_run_for_ever_and_are_kept(repo: Repo, watching: Watching, serve: Serve) -> None:
    url = serve(answer("200 OK", "fine"))
    repo.write("checks/test_a.py", QUICK + "\n@check(every='300ms')\ndef test_bad(): assert 1 == 2\n")
    repo.write("checks/b.yml", "checks:\n  - {name: page, url: /, every: 300ms, expect: {body: fine}}\n")
    watch = watching("--target", url)
    assert watch.started()["checks"] == 3
    bad = watch.changed("test_bad", "failed")
    assert bad["reason"] == "assert 1 == 2"
    assert bad["want"] == "assert 1 == 2" or "assert 1 == 2" in bad["want"]
    time.sleep(2.5)
    assert watch.stop() == 0
    for name, outcome in (
        ("test_a.py::test_quick", "held"),
        ("b.yml::page", "held"),
        ("test_a.py::test_bad", "failed"),
    ):
        found = outcomes(repo, f"checks/{name}")
        assert 5 <= len(found) <= 25, name
        assert set(found) == {Outcome(outcome)}
    with History(repo.path / ".upcheck/history.sqlite") as history:
        (engine,) = history.engines()
        (page,) = history.results("checks/b.yml::page", limit=1)
    assert (engine.shard, engine.checks, engine.missed) == ("1/1", 3, 0)
    assert engine.runs >= 15
    assert engine.lag_count == engine.runs
    assert set(page.facts["phases"]) == {"resolve", "connect", "tls", "processing", "transfer"}
    assert page.facts["status"] == 200


def test_a_change_is_told_once_and_so_is_its_end(repo: Repo, watching: Watching) -> None:
    flag = repo.path / "down"
    repo.write(
        "checks/test_a.py",
        f"from pathlib import Path\nfrom upcheck import check\n\n@check(every='300ms')\n"
        f"def test_flag(): assert not Path({str(flag)!r}).exists()\n",
    )
    watch = watching()
    watch.started()
    time.sleep(1)
    flag.touch()
    watch.changed("test_flag", "failed")
    time.sleep(1)
    flag.unlink()
    held = watch.changed("test_flag", "held")
    assert watch.stop() == 0
    changes = [(event["state"], event["alert"]) for event in watch.events if event["event"] == "changed"]
    assert changes == [("pending", None), ("down", "raised"), ("up", "resolved")]
    assert held["since"] >= held["time"] - 2


def test_retries_come_before_belief(repo: Repo, watching: Watching) -> None:
    tries = repo.path / "tries"
    repo.write(
        "checks/test_a.py",
        f"""
from pathlib import Path
from upcheck import check

TRIES = Path({str(tries)!r})

@check(every="5s", retries=2)
def test_third_time_lucky():
    TRIES.open("a").write("x")
    assert len(TRIES.read_text()) % 3 == 0
""",
    )
    watch = watching()
    watch.started()
    time.sleep(9)
    assert watch.stop() == 0
    check = "checks/test_a.py::test_third_time_lucky"
    with History(repo.path / ".upcheck/history.sqlite") as history:
        results = history.results(check)
    assert results
    assert {result.outcome for result in results} == {Outcome.HELD}
    assert results[0].facts["attempts"] == 3
    assert 0 <= len(tries.read_text()) - 3 * len(results) < 3, "the last one may have been stopped in its tries"


def test_a_change_of_a_file_is_taken_over_and_a_broken_one_is_not(repo: Repo, watching: Watching) -> None:
    repo.write("checks/test_a.py", QUICK)
    repo.write("checks/b.yml", "checks:\n  - {name: page, url: 'http://127.0.0.1:1/', every: 500ms, timeout: 400ms}\n")
    watch = watching()
    watch.started()
    watch.changed("page", "failed")
    repo.write("checks/test_a.py", QUICK.replace("pass", "assert 'new' == 'version'"))
    watch.changed("test_quick", "failed")
    repo.write("checks/test_a.py", QUICK.replace("pass", "assert 'new' ==") + "\n")
    broken = watch.wait(lambda event: event["event"] == "refused")
    assert "checks/test_a.py can't be read, its last good version runs on: line 5: SyntaxError" in broken["text"]
    repo.write("checks/b.yml", "checks:\n  - {name: pag\n")
    broken = watch.wait(lambda event: event["event"] == "refused")
    assert "checks/b.yml can't be read, its last good version runs on: line 3:1: not YAML" in broken["text"]
    time.sleep(1.5)
    with History(repo.path / ".upcheck/history.sqlite") as history:
        (engine,) = history.engines()
        (last,) = history.results("checks/test_a.py::test_quick", limit=1)
    assert list(engine.stale) == ["checks/b.yml", "checks/test_a.py"]
    assert last.outcome is Outcome.FAILED
    assert last.started > time.time() - 2
    repo.write("checks/test_a.py", QUICK + "\n# good again\n")
    watch.changed("test_quick", "held")
    repo.write("checks/test_new.py", QUICK.replace("test_quick(): pass", "test_new(): assert 0"))
    watch.changed("test_new", "failed")
    (repo.path / "checks/test_new.py").unlink()
    gone = watch.wait(lambda event: event["event"] == "reloaded" and "gone" in event["text"])
    assert gone["text"] == "checks/test_new.py: gone, and its checks with it"
    assert watch.stop() == 0


def test_a_change_below_them_all_starts_a_new_process(repo: Repo, watching: Watching) -> None:
    repo.write("conftest.py", "import pytest\n\n@pytest.fixture\ndef value():\n    return 1\n")
    repo.write(
        "checks/test_a.py",
        "from upcheck import check\n\n@check(every='300ms')\ndef test_value(value): assert value == 1\n",
    )
    watch = watching()
    watch.started()
    before = watch.engine.pid
    repo.write("conftest.py", "import pytest\n\n@pytest.fixture\ndef value(:\n")
    held_back = watch.wait(lambda event: event["event"] == "refused")
    assert "conftest.py has changed, and not everything can be read, all runs on as it was" in held_back["text"]
    assert watch.engine.pid == before
    repo.write("conftest.py", "import pytest\n\n@pytest.fixture\ndef value():\n    return 22\n")
    watch.changed("test_value", "failed")
    assert watch.engine.pid != before
    before = watch.engine.pid
    watch.process.send_signal(signal.SIGHUP)
    watch.started()
    assert watch.engine.pid != before
    assert watch.stop() == 0


def test_a_selection_holds_when_a_file_changes(repo: Repo, watching: Watching) -> None:
    repo.write("checks/b.yml", "checks:\n  - {name: one, url: /, severity: info}\n  - {name: other, url: /}\n")
    repo.write("checks/test_a.py", QUICK)
    watch = watching("-m", "info")
    assert watch.started()["checks"] == 1
    repo.write("checks/b.yml", "checks:\n  - {name: one, url: /, severity: info}\n  - {name: the other, url: /}\n")
    assert watch.wait(lambda event: event["event"] == "reloaded")["text"] == "checks/b.yml: 1 check, read anew"
    assert watch.stop() == 0
    watch = watching("checks/test_a.py")
    assert watch.started()["checks"] == 1
    assert watch.stop() == 0
    nothing = watching("-k", "no_such_check")
    assert nothing.process.wait(20) == 3
    assert "there is no check to watch" in nothing.errors.read_text()


def test_a_module_that_is_imported_late_is_no_change(repo: Repo, watching: Watching) -> None:
    repo.write("helper.py", "VALUE = 1\n")
    body = "def test_it():\n    import helper\n    assert helper.VALUE == 1\n"
    repo.write("checks/test_a.py", f"from upcheck import check\n\n@check(every='300ms')\n{body}")
    repo.write("pyproject.toml", "[tool.upcheck]\n[tool.pytest.ini_options]\npythonpath = ['.']\n")
    watch = watching()
    watch.started()
    time.sleep(4)
    assert [event["event"] for event in watch.events] == ["started"]
    repo.write("helper.py", "VALUE = 22\n")
    watch.changed("test_it", "failed")
    assert watch.stop() == 0


def test_what_fixtures_and_children_print_is_not_among_the_events(repo: Repo, watching: Watching) -> None:
    repo.write(
        "checks/test_a.py",
        "import os, pytest\nfrom upcheck import check\n\n@pytest.fixture(scope='session')\ndef token():\n"
        "    print('up')\n    yield 1\n    print('down')\n\n@check(every='300ms')\n"
        "def test_it(token): os.system('echo child')\n",
    )
    watch = watching()
    watch.started()
    time.sleep(2)
    assert watch.stop() == 0
    assert {event["event"] for event in watch.events} == {"started"}


def test_wider_fixtures_are_set_up_once_and_torn_down_at_the_end(repo: Repo, watching: Watching) -> None:
    told = repo.path / "told"
    repo.write(
        "checks/test_a.py",
        f"""
import pytest
from upcheck import check

@pytest.fixture(scope="module")
def server():
    open({str(told)!r}, "a").write("up ")
    yield
    open({str(told)!r}, "a").write("down ")

@check(every="200ms")
@pytest.mark.parametrize("number", range(3))
def test_it(server, number): pass
""",
    )
    watch = watching()
    watch.started()
    time.sleep(2)
    assert told.read_text() == "up "
    assert watch.stop() == 0
    assert told.read_text() == "up down "
    told.unlink()
    watch = watching("--fixture-lifetime", "1s")
    watch.started()
    time.sleep(3)
    assert watch.stop() == 0
    words = told.read_text().split()
    assert words.count("up") == words.count("down") >= 2


def test_sigterm_lets_runs_end(repo: Repo, watching: Watching) -> None:
    begun, done = repo.path / "begun", repo.path / "done"
    repo.write(
        "checks/test_a.py",
        f"import pathlib, time\nfrom upcheck import check\n\n@check(every='1h', timeout='5s')\ndef test_slow():\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n    time.sleep(2)\n    pathlib.Path({str(done)!r}).touch()\n",
    )
    watch = watching()
    watch.started()
    eventually(begun.exists)  # its first run comes within ten seconds
    assert not done.exists()
    assert watch.stop() == 0
    assert done.exists()


def test_a_second_sigterm_does_not_wait(repo: Repo, watching: Watching) -> None:
    repo.write(
        "checks/test_a.py",
        "import time\nfrom upcheck import check\n\n@check(every='500ms', timeout='1m')\n"
        "def test_slow(): time.sleep(50)\n",
    )
    watch = watching()
    watch.started()
    time.sleep(1.5)
    watch.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < 3


def test_systemd_is_told(repo: Repo, watching: Watching, tmp_path: Path) -> None:
    repo.write("checks/test_a.py", QUICK)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus:
        address = str(tmp_path / "notify")
        bus.bind(address)
        bus.settimeout(20)
        watch = watching(NOTIFY_SOCKET=address)
        states = [bus.recv(100).decode()]
        while "WATCHDOG=1" not in states:
            states.append(bus.recv(100).decode())
        watch.stop()
        while "STOPPING=1" not in states:
            states.append(bus.recv(100).decode())
    assert states[0] == "READY=1"


def test_two_engines_on_one_history(repo: Repo, watching: Watching) -> None:
    repo.write("checks/test_a.py", QUICK)
    first = watching()
    first.started()
    second = watching()
    assert second.process.wait(20) == 3
    assert f"in use by another engine, process {first.engine.pid}" in second.errors.read_text()
    assert first.stop() == 0


def test_shards_share_the_checks(repo: Repo, watching: Watching) -> None:
    repo.write(
        "checks/test_a.py",
        "import pytest\nfrom upcheck import check\n\n@check(every='1s')\n@pytest.mark.parametrize('n', range(40))\n"
        "def test_it(n): pass\n",
    )
    counts = []
    for shard in ("1/2", "2/2"):
        watch = watching("--shard", shard)
        counts.append(watch.started()["checks"])
    assert sum(counts) == 40
    assert min(counts) >= 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shard", "3/2"], "--shard 3/2: expected I/N with I from 1 to N, such as 2/3"),
        (["--fixture-lifetime", "soon"], "--fixture-lifetime: expected a duration such as '30s'"),
        (["--target", "shop.example"], "target shop.example: expected a URL; did you mean http://shop.example?"),
        (["-k", "(("], "Wrong expression passed to '-k'"),
        (["--pdb"], "--pdb makes no sense for checks that run for ever: leave it out"),
    ],
)
def test_what_can_t_be_meant_is_said_at_once(
    repo: Repo, watching: Watching, arguments: list[str], sentence: str
) -> None:
    repo.write("checks/test_a.py", QUICK)
    watch = watching(*arguments)
    assert watch.process.wait(20) == 2
    assert sentence in watch.errors.read_text()


def test_what_runs_alone_has_its_fixtures_and_what_is_printed_stays_apart(repo: Repo, watching: Watching) -> None:
    repo.write(
        "checks/test_a.py",
        """
import logging, os, time, warnings
import pytest
from upcheck import check

pytestmark = pytest.mark.check(every="400ms", timeout="5s")

def test_caplog(caplog):
    logging.getLogger("x").warning("told")
    assert caplog.messages == ["told"]

def test_capsys(capsys):
    print("told")
    assert capsys.readouterr().out == "told\\n"

def test_capfd(capfd):
    os.system("echo told")
    assert capfd.readouterr().out == "told\\n"

def test_environment(monkeypatch):
    monkeypatch.setenv("SHARED", "mine")
    time.sleep(0.05)
    assert os.environ["SHARED"] == "mine"

@pytest.mark.filterwarnings("error")
def test_warning():
    with pytest.raises(UserWarning):
        warnings.warn("careful")

def test_folder(tmp_path):
    print("noise")
    assert not list(tmp_path.iterdir())
    assert "SHARED" not in os.environ
""",
    )
    watch = watching()
    assert watch.started()["checks"] == 6
    time.sleep(4)
    assert watch.stop() == 0
    assert [event for event in watch.events if event["event"] != "started"] == []
    assert watch.errors.read_text() == ""
    with History(repo.path / ".upcheck/history.sqlite") as history:
        latest = {one.result.check.partition("::")[2]: one for one in history.latest()}
    assert len(latest) == 6
    for name, one in latest.items():
        assert one.result.outcome is Outcome.HELD, (name, one.result.reason)
        assert one.totals.runs >= 4


def test_probes_are_watched(repo: Repo, watching: Watching, serve: Serve) -> None:
    listening = serve(lambda connection: connection.sendall(b"hello\n")).removeprefix("http://")
    repo.write(
        "checks/probes.yml",
        f"""
checks:
  - {{name: good, tcp: '{listening}', every: 300ms, expect: {{banner: hello}}}}
  - {{name: wrong, tcp: '{listening}', every: 300ms, expect: {{banner: goodbye}}}}
  - {{name: later, tcp: '${{NO_SUCH_HOST}}:1', every: 300ms}}
""",
    )
    watch = watching()
    watch.started()
    watch.changed("later", "error")
    watch.changed("wrong", "failed")
    assert watch.stop() == 0
    with History(repo.path / ".upcheck/history.sqlite") as history:
        latest = {one.result.check.rpartition("::")[2]: one for one in history.latest()}
    assert latest["good"].result.facts["metrics"]["probe_ip_protocol"] == 4
    assert latest["good"].streak.runs >= 1
    assert latest["wrong"].result.reason == "no line matches 'goodbye'; the last was 'hello'"
    assert latest["wrong"].result.facts["code"] == "unexpected_answer"
