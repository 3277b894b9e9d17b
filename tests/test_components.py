"""Health components out of a file of checks: what they say of a target that is well, slow, wrong, and gone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.collector.test_application import inside
from tests.conftest import Serve, answer
from upcheck import components
from upcheck.collector import Collector
from upcheck.documents import DocumentError
from upcheck.health import ComponentHealth, Health

FILE = """
checks:
  - name: api
    url: /health
    every: 15s
    timeout: 2s
    expect: {status: 200, latency: 300ms}
  - name: cache
    tcp: "127.0.0.1:${PORT}"
    severity: warning
"""


def asked(folder: Path, text: str, target: str) -> dict[str, ComponentHealth]:
    """What the components in *text* say, by name, after one round."""
    (folder / "shop.yml").write_text(text)
    health = Health()
    components.register(health, folder / "shop.yml", target)
    asyncio.run(health.first_round())
    return {one.name: one for one in health.components()}


def slow(connection: socket.socket) -> None:
    time.sleep(0.4)
    answer("200 OK", "late")(connection)


@pytest.mark.parametrize(
    ("reply", "status", "says"),
    [
        (answer("200 OK", "fine"), "healthy", ""),
        (slow, "degraded", "200 OK in 4"),
        (answer("503 Service Unavailable", "no database"), "unhealthy", "503 Service Unavailable in "),
    ],
)  # fmt: skip
def test_a_component_says_how_its_target_is(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, reply: Callable[..., None], status: str, says: str
) -> None:
    url = serve(reply)
    monkeypatch.setenv("PORT", url.rpartition(":")[2])
    found = asked(tmp_path, FILE, url)
    assert (found["api"].status, found["api"].critical) == (status, True)
    assert says in f"{found['api'].message}{found['api'].error}"
    assert (found["cache"].status, found["cache"].critical) == ("healthy", False)
    if status == "healthy":
        assert found["api"].details["status"] == 200
        assert found["api"].details["phases"]["processing"] >= 0


def test_a_target_that_is_gone_and_a_variable_that_is_not_set(tmp_path: Path) -> None:
    found = asked(tmp_path, FILE, "http://127.0.0.1:1")
    assert found["api"].status == "unhealthy"
    assert "Connection refused" in (found["api"].error or "")
    assert "the variable PORT is not set in the environment" in (found["cache"].error or "")


def test_the_collector_asks_them_and_counts_them(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "shop.yml").write_text(f"checks: [{{name: api, url: '{serve(answer('500 No', 'no'))}'}}]\n")
    collector = Collector(services=tmp_path / "services", components=tmp_path / "shop.yml")

    async def ask(client: httpx.AsyncClient) -> None:
        reply = await client.get("/api/health")
        body = reply.json()
        assert reply.status_code == 503
        assert [check["name"] for check in body["checks"]] == ["system", "metrics", "api"]
        assert body["summary"] == {
            "total": 3, "healthy": body["summary"]["healthy"], "degraded": body["summary"]["degraded"], "unhealthy": 1,
            "responseTime": max(check["responseTime"] for check in body["checks"]),
        }  # fmt: skip
        assert (await client.get("/ready")).status_code == 503

    inside(collector, ask)


def test_a_mistake_in_the_file_is_told_as_the_collector_starts(tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text("checks: [{name: api, urll: /x}]\n")
    collector = Collector(services=tmp_path / "services", components=tmp_path / "shop.yml")
    with pytest.raises(DocumentError, match=r"shop\.yml:1:\d+: .*'urll'"):
        _ = collector.app
