"""A stack whose collector asks for a token: Prometheus and Alertmanager show it, and what is wrong with it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stack.conftest import Repo
from tests.stack.test_more_than_one import until
from upcheck import alertmanager as api
from upcheck.prometheus import Prometheus
from upcheck.stack.credentials import token_file
from upcheck.stack.services import StackError


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
    until(lambda: asked.query('up{job="collector"} == 1'), lambda: asked.query("up"))
    watchdog = {"alertname": "Watchdog", "severity": "info"}
    assert api.push(closed.url("alertmanager"), [{"labels": watchdog}]) is None
    until((closed.path / ".upcheck/push/watchdog.json").exists, lambda: "the watchdog was not let in")

    (closed.path / "token").write_text("second")
    until(lambda: answers("second") == 200, lambda: answers("second"))
    assert answers("first") == 401
    scraped = "timestamp(node_time_seconds)"
    (before,) = asked.query("time()")
    until(lambda: asked.query(f"{scraped} > {before.value}"), lambda: asked.query("up"))


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
        token_file({"METRICS_TOKEN_FILE": "token"}, tmp_path)
    assert str(raised.value).startswith(sentence.format(path=path))


def test_a_token_that_is_in_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"METRICS_TOKEN is set, .*: name one in METRICS_TOKEN_FILE instead"):
        token_file({"METRICS_TOKEN": "first"}, tmp_path)
    assert token_file({}, tmp_path) is None
