"""A stack whose collector asks for a token: Prometheus and Alertmanager show it, and what is wrong with it is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.stack.conftest import Repo
from tests.waiting import eventually
from upcheck import alertmanager as api
from upcheck import run
from upcheck.prometheus import Prometheus
from upcheck.settings import Settings
from upcheck.stack import credentials
from upcheck.stack.credentials import token_file
from upcheck.stack.services import StackError

pytestmark = pytest.mark.slow


@pytest.fixture
def closed(repo: Repo) -> Iterator[Repo]:
    """The repo of a stack that was started with a token."""
    (repo.path / "token").write_text("first\n")
    try:
        said = repo.upcheck("up", METRICS_TOKEN_FILE="token")
        assert said.returncode == 0, said.stderr
        yield repo
    finally:
        repo.upcheck("stop")


def test_it_is_shown_where_it_is_asked_for_and_a_new_one_too(closed: Repo) -> None:
    def answers(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{closed.url('collector')}/metrics", headers=headers, trust_env=False).status_code

    assert (answers(""), answers("first"), answers("wrong")) == (401, 200, 401)
    asked = Prometheus(closed.url("prometheus"))
    eventually(lambda: asked.query('up{job="collector"} == 1'), lambda: asked.query("up"))
    watchdog = {"alertname": "Watchdog", "severity": "info"}
    assert api.push(closed.url("alertmanager"), [{"labels": watchdog}]) is None
    eventually((closed.path / ".upcheck/push/watchdog.json").exists, lambda: "the watchdog was not let in")

    (closed.path / "token").write_text("second")
    eventually(lambda: answers("second") == 200, lambda: answers("second"))
    assert answers("first") == 401
    scraped = "timestamp(node_time_seconds)"
    (before,) = asked.query("time()")
    eventually(lambda: asked.query(f"{scraped} > {before.value}"), lambda: asked.query("up"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "METRICS_TOKEN_FILE names {path}, which is not there: write one: (umask 077; "),
        ("", "METRICS_TOKEN_FILE names {path}, which has no token of printable characters without blanks: write one"),
        ("two words", "METRICS_TOKEN_FILE names {path}, which has no token"),
    ],
)
def test_a_file_without_a_token_is_told(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StackError) as raised:
        token_file({"METRICS_TOKEN_FILE": "token"}, Settings.load(tmp_path, {}))
    assert str(raised.value).startswith(sentence.format(path=path))


def test_a_token_that_is_in_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"METRICS_TOKEN is set, .*: name one in METRICS_TOKEN_FILE instead"):
        token_file({"METRICS_TOKEN": "first"}, Settings.load(tmp_path, {}))
    assert token_file({}, Settings.load(tmp_path, {})) is None


def test_a_token_is_not_lost_by_a_restart_from_another_shell(closed: Repo) -> None:
    def answers() -> int:
        return httpx.get(f"{closed.url('collector')}/metrics", trust_env=False).status_code

    told = closed.upcheck("restart")
    assert told.returncode == 3
    assert told.stderr.startswith(
        f"the collector asked for the token in {closed.path / 'token'}, and would ask for none"
    )
    assert told.stderr.endswith("what runs goes on as it is\n")
    assert answers() == 401

    (closed.path / "another").write_text("another")
    told = closed.upcheck("up", METRICS_TOKEN_FILE="another")
    assert told.returncode == 3
    assert f"asks for the token in {closed.path / 'token'}: `upcheck stack restart` has it ask for that" in told.stderr

    assert closed.upcheck("stop").returncode == 0
    told = closed.upcheck("up")
    assert (told.returncode, answers_nobody(closed)) == (3, True), "@reboot, without the variable"
    told = closed.upcheck("up", UPCHECK_METRICS_TOKEN_FILE="token")
    assert told.returncode == 0, told.stderr
    assert answers() == 401
    (checked,) = results(closed, UPCHECK_METRICS_TOKEN_FILE="token")
    assert checked["outcome"] == "held", checked
    told = closed.upcheck("restart", METRICS_TOKEN_FILE="")
    assert told.returncode == 0, told.stderr
    assert answers() == 200, "somebody has said so"


def answers_nobody(repo: Repo) -> bool:
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{repo.url('collector')}/live", trust_env=False)
    return True


def results(repo: Repo, **environ: str) -> list[dict[str, Any]]:
    """What came of a check of the target's metrics."""
    (repo.path / "checks/closed.yml").write_text("checks:\n  - {name: closed, url: /metrics, expect: {status: 200}}\n")
    lines = repo.path / "lines"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--results={lines}", "checks/closed.yml"]
    told = {**os.environ, **environ, "UPCHECK_TARGET": repo.url("collector")}
    ran = subprocess.run(argv, cwd=repo.path, env=told, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout
    return [one for line in lines.read_text().splitlines() if "outcome" in (one := json.loads(line))]


def test_a_token_that_containers_can_not_read_is_refused(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {})
    elsewhere, token = tmp_path / "token", tmp_path / "monitoring/secrets/token"
    with pytest.raises(StackError, match=f"{elsewhere} is in no container: move it to {token.parent}, and say so in"):
        credentials.seen(elsewhere, settings, os.getgid())
    token.parent.mkdir(parents=True)
    token.write_text("sesame")
    token.chmod(0o600)
    mend = re.escape(f"containers may not read {token}: chgrp {os.getgid()} {token} && chmod 640 {token}")
    with pytest.raises(StackError, match=mend):
        credentials.seen(token, settings, os.getgid())
    token.chmod(0o640)
    assert credentials.seen(token, settings, os.getgid()) == Path("/etc/upcheck/secrets/token")
    with pytest.raises(StackError, match="containers may not read"):
        credentials.seen(token, settings, os.getgid() + 1)


def test_the_collector_that_a_run_starts_for_itself_asks_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPCHECK_METRICS_TOKEN_FILE", str(tmp_path / "not there"))
    with run.collector(Settings.load(ROOT, {})) as url:
        assert httpx.get(f"{url}/metrics", trust_env=False).status_code == 200
