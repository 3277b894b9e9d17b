"""The application with a user's own metrics and components, and with time or a task bent, in this process."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from prometheus_client import Counter, Gauge

from tests.collector.test_endpoints import samples
from tests.collector.test_serving import ROOT, running, script
from upcheck.collector import Collector, scrape
from upcheck.health import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Hands:
    """A clock moved by hand."""

    now = 0.0

    def time(self) -> float:
        return 1_800_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now


def inside(collector: Collector, ask: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """*ask* with a client of the application in this process, between its start and its end."""

    async def session() -> None:
        transport = httpx.ASGITransport(app=collector.app)
        async with (
            collector.app.router.lifespan_context(collector.app),
            httpx.AsyncClient(transport=transport, base_url="http://collector") as client,
        ):
            await ask(client)

    asyncio.run(asyncio.wait_for(session(), 60))


def test_a_users_own_metric_and_components(tmp_path: Path) -> None:
    own = """
import time
from prometheus_client import Gauge
from upcheck.collector import Collector

collector = Collector()
Gauge("queue_jobs", "Jobs that wait.", registry=collector.registry).set(7)

@collector.health("queue", critical=False)
async def queue():
    return "degraded", "1,204 jobs wait"

@collector.health("database")
def database():
    raise ConnectionRefusedError("no database")

@collector.health("slow", critical=False, timeout=0.2)
def slow():
    time.sleep(600)

if __name__ == "__main__":
    collector.serve()
"""
    with running(script(tmp_path, own)) as collector, httpx.Client(base_url=collector.url) as client:
        got = samples(client.get("/metrics").text)
        assert got["queue_jobs"] == 7
        assert [got[f"upcheck_health_status {name}"] for name in ("queue", "database", "slow")] == [0.5, 0, 0]
        answer = client.get("/api/health")
        assert (answer.status_code, answer.json()["overall"]) == (503, "unhealthy")
        checks = {check["name"]: check for check in answer.json()["checks"]}
        assert (checks["queue"]["status"], checks["queue"]["message"]) == ("degraded", "1,204 jobs wait")
        assert checks["database"]["error"] == "ConnectionRefusedError: no database"
        assert checks["slow"]["error"] == "no answer within 0.2 s"
        assert 200 <= checks["slow"]["responseTime"] < 60_000
        assert client.get("/health").status_code == 503
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert ready.json()["reason"] == "database is unhealthy: ConnectionRefusedError: no database"
        assert client.get("/live").status_code == 200, "a database that is down is no reason to restart the collector"


@pytest.mark.parametrize(
    ("block", "line"),
    [(0, "queue_jobs 7.0"), (1, "queue_jobs 7.0"), (2, 'upcheck_health_status{component="queue"} 0.5')],
)
def test_the_examples_of_the_docs_page_run(tmp_path: Path, block: int, line: str) -> None:
    page = (ROOT / "docs/collector.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[block]
    with running(script(tmp_path, example)) as collector:
        assert line in httpx.get(f"{collector.url}/metrics").text.splitlines()


class Faulty:
    """A user's collector that raises at the scrape."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def collect(self) -> list[object]:
        raise self.error


class Hanging:
    """A user's collector that never answers."""

    def collect(self) -> list[object]:
        time.sleep(600)
        return []


@pytest.mark.parametrize("error", [RuntimeError("no such queue"), TimeoutError("timed out")], ids=["own", "timeout"])
def test_a_metric_that_raises_is_named_and_the_rest_answers(error: Exception) -> None:
    collector = Collector()
    collector.registry.register(Faulty(error))  # type: ignore[arg-type]

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.get("/metrics")
        assert answer.status_code == 500
        assert answer.json()["error"] == f"a collector in the registry raised {type(error).__name__}: {error}"
        assert (await client.get("/health")).status_code == 200

    inside(collector, ask)


def test_metrics_that_hang_are_given_up_and_take_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "SCRAPE_DEADLINE", 0.5)
    collector = Collector()
    collector.registry.register(Hanging())  # type: ignore[arg-type]
    before = psutil.Process(os.getpid()).num_threads()

    async def ask(client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(40)))
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["error"] == "a collector in the registry did not answer within 0.5 s"
        assert psutil.Process(os.getpid()).num_threads() <= before + scrape.PARALLEL_SCRAPES + 2
        assert (await client.get("/live")).status_code == 200

    inside(collector, ask)


@pytest.mark.parametrize(
    "name",
    [
        "node_load1",
        "node_network_receive_bytes",
        "container_spec_memory_limit_bytes",
        "upcheck_cpu_usage_ratio",
        "process_resident_memory_bytes",
        "python_info",
        "upcheck_build_info",
        "upcheck_sampling_interval_seconds",
        "probe_success",
    ],
)
def test_a_name_that_the_page_has_is_refused(name: str) -> None:
    collector = Collector()
    assert collector.app.routes
    kind = Counter if name == "node_network_receive_bytes" else Gauge
    with pytest.raises(ValueError, match=name):
        kind(name, "One of their own.", registry=collector.registry)
    assert collector.registry.empty


def test_a_scrape_takes_a_thread_only_for_what_may_be_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads: list[object] = []

    def spy(function: Callable[[], object]) -> object:  # the real one, counted
        threads.append(function)
        return in_thread(function)

    monkeypatch.setattr(scrape, "in_thread", spy)
    history = tmp_path / "history.sqlite"
    collector = Collector(history=history)

    async def ask(client: httpx.AsyncClient) -> None:
        assert "node_load1" in samples((await client.get("/metrics")).text)
        assert not threads
        own = Gauge("queue_jobs", "Jobs that wait.", registry=collector.registry)
        assert samples((await client.get("/metrics")).text)["queue_jobs"] == 0
        assert len(threads) == 1
        collector.registry.unregister(own)
        assert "queue_jobs" not in samples((await client.get("/metrics")).text)
        assert len(threads) == 1
        history.touch()
        assert (await client.get("/metrics")).status_code == 200
        assert len(threads) == 2

    inside(collector, ask)


def test_before_the_first_round_nothing_is_ready() -> None:
    collector = Collector()

    async def ask() -> None:
        transport = httpx.ASGITransport(app=collector.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://collector") as client:
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["reason"]) == (503, "the first health round is not finished")
            live = await client.get("/live")
            assert (live.status_code, live.json()["status"]) == (503, "dead")
            assert (await client.get("/health")).status_code == 503

    asyncio.run(ask())


def test_draining_is_not_ready_but_alive() -> None:
    collector = Collector()

    async def ask(client: httpx.AsyncClient) -> None:
        assert (await client.get("/ready")).status_code == 200
        collector.health.drain()
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "not ready", "reason": "draining"})
        assert (await client.get("/live")).status_code == 200

    inside(collector, ask)


def test_a_dead_sampler_shows_in_live_in_the_timestamp_and_in_health() -> None:
    clock = Hands()
    collector = Collector(clock=clock)

    async def ask(client: httpx.AsyncClient) -> None:
        tasks = [task for task in asyncio.all_tasks() if "Sampling.run" in repr(task)]
        assert len(tasks) == 1
        tasks[0].cancel()
        stamp = "upcheck_collector_last_sample_timestamp_seconds"
        clock.now = 29
        assert (await client.get("/live")).status_code == 200
        clock.now = 42
        live = await client.get("/live")
        assert live.status_code == 503
        assert live.json()["reason"] == "the background loop last ran 42 s ago; it should every 10 s"
        got = samples((await client.get("/metrics")).text)
        assert got["node_time_seconds"] - got[stamp] == 42
        assert got["upcheck_health_status metrics"] == 0
        health = await client.get("/api/health")
        assert (health.status_code, health.json()["overall"]) == (503, "unhealthy")
        checks = {check["name"]: check["status"] for check in health.json()["checks"]}
        assert checks["metrics"] == "unhealthy"

    inside(collector, ask)
