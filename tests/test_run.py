from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Repo
from tests.test_promtool import GOOD, RULES, TESTS
from upcheck import run
from upcheck.result import Outcome
from upcheck.run import RunError
from upcheck.settings import Settings

COLLECTOR = (ROOT / "collector.py").read_text()


def upcheck(repo: Repo, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Type `upcheck ...` in the repo."""
    argv = [sys.executable, "-m", "upcheck.cli", *arguments]
    return subprocess.run(argv, cwd=repo.path, env=os.environ | environ, capture_output=True, text=True, timeout=60)


@pytest.fixture
def whole(repo: Repo) -> Repo:
    repo.write("collector.py", COLLECTOR)
    repo.write("checks/endpoints.yml", "checks:\n  - {name: alive, url: /live}\n")
    repo.write("monitoring/rules.yml", RULES)
    repo.write("rules_tests/a.yml", (TESTS % (GOOD, 1)).replace("[rules.yml]", "[../monitoring/rules.yml]"))
    return repo


def test_all_is_well(whole: Repo) -> None:
    told = upcheck(whole, "check")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].startswith("collector   http://127.0.0.1:")
    assert lines[1].startswith("checks      1 held")
    assert lines[2].startswith("rules       1 held")
    assert lines[3].startswith("configs     1 valid                  rules.yml")
    assert lines[-1].startswith("held in ")
    assert told.stderr == ""


def test_one_broken_threshold_is_told_and_exits_1(whole: Repo) -> None:
    whole.write("monitoring/rules.yml", RULES.replace("up == 0", "up == 7"))
    told = upcheck(whole, "check")
    assert told.returncode == 1
    assert "FAILED   fires" in told.stdout
    assert "  + nothing fires" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("2 held, 1 failed in ")


def test_a_target_needs_no_collector_and_pytest_gets_the_rest(repo: Repo) -> None:
    repo.write("checks/endpoints.yml", "checks:\n  - {name: a, url: /}\n  - {name: b, url: /}\n")
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1", "-k", "b")
    assert told.returncode == 1
    assert told.stdout.startswith("target      http://127.0.0.1:1\nchecks      1 failed")
    assert "  got    Connection refused" in told.stdout
    assert "first failure in a row; has never held" in told.stdout
    assert "second failure in a row" in upcheck(repo, "check", "--target", "http://127.0.0.1:1", "-k", "b").stdout


def test_could_not_tell_exits_3(repo: Repo) -> None:
    repo.write("checks/test_a.py", "def test_a(no_such_fixture): ...\n")
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1")
    assert told.returncode == 3
    assert "ERROR    test_a" in told.stdout
    assert "fixture 'no_such_fixture' not found" in told.stdout


def test_nothing_that_ran_is_not_well(repo: Repo) -> None:
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1")
    assert told.returncode == 3
    assert told.stdout.splitlines()[-1] == "nothing ran, so nothing is known"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "--target", "http://127.0.0.1:1", "--no-such-option"), "unrecognized arguments: --no-such-option"),
        (("run", "--concurency=3"), "--concurency: did you mean --concurrency?"),
        (("check", "--target", "http://127.0.0.1:1", "--verbos"), "--verbos: did you mean --verbose?"),
        (("chekc",), "there is no command 'chekc'; did you mean 'check'?"),
        (("drill",), "there is no command 'drill'; did you mean `upcheck rules drill`?"),
    ],
)
def test_wrong_usage_exits_2(repo: Repo, arguments: tuple[str, ...], said: str) -> None:
    told = upcheck(repo, *arguments)
    assert told.returncode == 2
    assert said in told.stderr


def test_settings_that_can_not_be_meant_exit_2(repo: Repo) -> None:
    repo.write("pyproject.toml", "[tool.upcheck]\ntagret = 'x'\n")
    told = upcheck(repo, "check")
    assert told.returncode == 2
    assert "has no key 'tagret'; did you mean 'target'?" in told.stderr


def test_a_check_that_ends_the_process_hides_nothing(repo: Repo) -> None:
    repo.write("checks/test_a.py", "import os\ndef test_a(): ...\ndef test_b(): os._exit(0)\ndef test_c(): ...\n")
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1")
    assert told.returncode == 3
    assert "checks      2 held, 1 error" in told.stdout
    (block,) = told.stdout.split("ERROR    ")[1:]
    assert block.startswith("test_b")
    assert "ended the whole of pytest (exit code 0)" in block


def test_a_file_that_ends_the_process_as_it_is_imported_is_named(repo: Repo) -> None:
    repo.write("checks/test_a.py", "import os\nos._exit(0)\n")
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1")
    assert told.returncode == 3
    assert "ERROR    checks/test_a.py" in told.stdout
    assert "ended the whole of pytest (exit code 0)" in told.stdout


def test_a_variable_names_the_target_too(repo: Repo) -> None:
    repo.write("checks/endpoints.yml", "checks:\n  - {name: a, url: /}\n")
    told = upcheck(repo, "check", UPCHECK_TARGET="http://127.0.0.1:1")
    assert told.stdout.startswith("target      http://127.0.0.1:1\n")


def test_nagios_counts_what_never_reported(repo: Repo) -> None:
    repo.write("checks/test_a.py", "import os\ndef test_a(): os._exit(0)\n")
    told = upcheck(repo, "check", "--nagios", "--target", "http://127.0.0.1:1")
    assert told.returncode == 3
    assert told.stdout.startswith("UPCHECK UNKNOWN - 1 error: test_a (ended the whole of pytest")
    assert len(told.stdout.splitlines()) == 1


def test_from_a_folder_of_the_repo_it_is_the_same_repo(whole: Repo) -> None:
    argv = [sys.executable, "-m", "upcheck.cli", "check"]
    told = subprocess.run(argv, cwd=whole.path / "checks", capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert not (whole.path / "checks/.tools").exists()


def test_outside_of_a_repo_nothing_is_fetched(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "upcheck.cli", "check"]
    told = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert f"no monitoring repo at {tmp_path} or above" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_a_scheme_is_wrong_usage(repo: Repo) -> None:
    told = upcheck(repo, "check", "--target", "127.0.0.1:9")
    assert told.returncode == 2
    assert "target 127.0.0.1:9: expected a URL; did you mean http://127.0.0.1:9?" in told.stderr


def test_a_collector_that_does_not_start_says_why(repo: Repo) -> None:
    repo.write("collector.py", "raise SystemExit('no database')\n")
    told = upcheck(repo, "check")
    assert told.returncode == 3
    assert "did not start to serve: it ended with 1: no database" in told.stderr


def test_a_missing_collector_says_so(repo: Repo) -> None:
    with pytest.raises(RunError, match="No such file"), run.collector(Settings.load(repo.path)):
        pass


def test_a_collector_that_says_much_is_not_held_up(whole: Repo) -> None:
    noisy = COLLECTOR.replace("collector.serve()", "import sys; sys.stderr.write('x' * 300_000); collector.serve()")
    whole.write("collector.py", noisy)
    assert upcheck(whole, "check").returncode == 0


def test_results_can_be_had_beside_the_verdict(repo: Repo) -> None:
    repo.write("checks/test_a.py", "def test_a(): ...\n")
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1", "--results=mine.jsonl")
    assert told.stdout.splitlines()[-1].startswith("held in ")
    assert '"outcome": "held"' in (repo.path / "mine.jsonl").read_text()


def test_options_of_pytest_s_terminal_are_understood(repo: Repo) -> None:
    repo.write("checks/test_a.py", "def test_a(): ...\n")
    assert upcheck(repo, "check", "--target", "http://127.0.0.1:1", "-q", "--durations=3").returncode == 0
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1", "-v")
    assert "1 passed" in told.stdout


def test_a_newer_history_is_a_warning(whole: Repo) -> None:
    import sqlite3

    with sqlite3.connect(whole.path / "newer.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    told = upcheck(whole, "check", UPCHECK_HISTORY=str(whole.path / "newer.sqlite"))
    assert told.returncode == 0
    assert "warning     history" in told.stdout
    assert "written by a newer upcheck (schema 99" in told.stdout


def test_a_read_only_repo_is_checked_all_the_same(whole: Repo) -> None:
    argv = [sys.executable, "-B", "-m", "upcheck.cli", "check"]
    if os.getuid() == 0:  # whom permissions don't stop, so the folder is mounted read-only, for the command alone
        script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", script, str(whole.path), *argv]
    else:
        for path in [whole.path, *whole.path.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
    told = subprocess.run(argv, cwd=whole.path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "warning     history" in told.stdout
    assert "can't be written" in told.stdout
    assert not (whole.path / ".upcheck").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_collector_behind(whole: Repo, number: signal.Signals) -> None:
    whole.write("checks/test_slow.py", "import time\ndef test_slow(): time.sleep(30)\n")
    argv = [sys.executable, "-m", "upcheck.cli", "check"]
    process = subprocess.Popen(argv, cwd=whole.path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().split()[1].rpartition(":")[2])
    time.sleep(0.3)
    process.send_signal(number)
    process.wait(15)
    process.stdout.close()
    assert process.returncode == 128 + number
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_outcomes_of_a_report(repo: Repo) -> None:
    repo.write("checks/test_a.py", "def test_a(): ...\ndef test_b(): assert False\n")
    heard: list[tuple[int, int]] = []
    report = run.pytest(Settings.load(repo.path), ["checks"], progress=lambda done, of: heard.append((done, of)))
    assert [result.outcome for result in report.results] == [Outcome.HELD, Outcome.FAILED]
    assert all(done <= of for done, of in heard)
