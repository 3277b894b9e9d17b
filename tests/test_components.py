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
from tests.conftest import ROOT, Serve, answer
from tests.databases.postgres import PostgresServer
from tests.databases.redis import RedisServer
from upcheck import catalog, components
from upcheck.collector import Collector
from upcheck.declaration import seconds
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


def test_a_component_says_how_many_failures_open_its_circuit(tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text("checks: [{name: api, url: 'http://127.0.0.1:1/', failure_threshold: 2}]\n")
    health = Health()
    components.register(health, tmp_path / "shop.yml", "")
    seen = []
    for _ in range(3):
        asyncio.run(health.first_round())
        seen += [one.circuit for one in health.components()]
    assert seen == ["closed", "open", "open"]


def test_a_mistake_in_the_file_is_told_as_the_collector_starts(tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text("checks: [{name: api, urll: /x}]\n")
    collector = Collector(services=tmp_path / "services", components=tmp_path / "shop.yml")
    with pytest.raises(DocumentError, match=r"shop\.yml:1:\d+: .*'urll'"):
        _ = collector.app


SHIPPED = ROOT / "monitoring/health"
BUILT_IN = {
    "system": "system",
    "metrics": "metrics",
    "memory": "system",
    "disk_space": "system",
    "observability": "metrics",
}


@pytest.mark.parametrize("service", catalog.load_all(ROOT / "monitoring/services"), ids=lambda one: one.name)
def test_each_documented_component_is_asked_as_often_as_it_says(service: catalog.Service) -> None:
    shipped = {one.name: one for one in components.load(SHIPPED / f"{service.name}.yml", "http://127.0.0.1:1")}
    for name, said in service.health.items():
        if name in BUILT_IN:
            assert name not in shipped
            continue
        one = shipped[name]
        assert one.critical is said["critical"]
        assert one.interval == seconds(said["interval"])
        assert one.timeout == seconds(said["timeout"]) + 1


def test_a_database_that_goes_and_comes_is_seen_and_left_alone_meanwhile(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("circuitbreaker.monotonic", lambda: now)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("CODESYNC_HOST", "127.0.0.1:1")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{redis_server.port}")
    health = Health()
    components.register(health, SHIPPED / "codesync.yml", "")

    def redis() -> ComponentHealth:
        asyncio.run(health.first_round())
        return next(one for one in health.components() if one.name == "redis")

    well = redis()
    assert (well.status, well.circuit) == ("healthy", "closed"), well.error
    assert well.details["probe_redis_loading"] == 0
    redis_server.stop()
    seen = [redis() for _ in range(4)]
    assert {one.status for one in seen} == {"unhealthy"}
    assert all("Connection refused" in (one.error or "") for one in seen)
    assert [one.circuit for one in seen] == ["closed", "closed", "open", "open"]
    redis_server.begin()
    assert redis().circuit == "open", "it is back, and nobody asks yet"
    now = 31.0
    again = redis()
    assert (again.status, again.circuit) == ("healthy", "closed")


def test_a_database_is_degraded_or_unhealthy_for_its_reason(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_server.url())
    asked_here = SHIPPED / "codex-clone.yml"
    found = asked(tmp_path, asked_here.read_text(), "")
    assert (found["database"].status, found["query_performance"].status) == ("healthy", "healthy"), found
    assert found["database"].details["probe_postgres_read_only"] == 0
    slow_query = asked_here.read_text().replace("SELECT count(*) FROM pg_stat_activity", "SELECT pg_sleep(0.7)")
    found = asked(tmp_path, slow_query, "")
    assert found["query_performance"].status == "degraded"
    assert "wanted latency within 500ms" in (found["query_performance"].message or "")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://upcheck:mistaken@127.0.0.1:{postgres_server.port}/app")
    found = asked(tmp_path, asked_here.read_text(), "")
    assert found["database"].status == "unhealthy"
    assert "password" in (found["database"].error or "")
    assert "mistaken" not in (found["database"].error or "")
