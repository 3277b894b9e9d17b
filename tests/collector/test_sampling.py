"""Layers of background samples: deadlines, no overlap, the budget, and the ramp of a busy host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import Gauge

from tests.collector.test_application import inside
from tests.collector.test_endpoints import samples
from tests.system.hosts import DEBIAN, STAT, Hands, debian, tree, values
from upcheck.collector import Collector
from upcheck.collector.sampling import LONGEST, Sampling, slowdown
from upcheck.system import SystemCollector


def run(sampling: Sampling, until: Callable[[], bool]) -> None:
    """Sample until *until*, and fail after 20 s."""

    async def session() -> None:
        task = asyncio.create_task(sampling.run())
        async with asyncio.timeout(20):
            while not until():
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(session())


def quick(host: SystemCollector | None = None, **arguments: float) -> Sampling:
    intervals = {"system": 0.02, "application": 0.02, "business": 0.02, "budget": 1.0} | arguments
    return Sampling(host or SystemCollector(), **intervals)  # type: ignore[arg-type]  # buffer is left out


@pytest.mark.parametrize(("cpu", "factor"), [(None, 1), (0.0, 1), (0.5, 1), (0.65, 2), (0.8, 3), (0.95, 3), (1.0, 3)])
def test_the_ramp(cpu: float | None, factor: float) -> None:
    assert slowdown(cpu) == pytest.approx(factor)


def test_functions_of_both_kinds_run_at_their_layers_interval_and_set_gauges() -> None:
    collector = Collector()
    jobs = Gauge("queue_jobs", "Jobs that wait.", registry=collector.registry)
    users = Gauge("users", "Users that are there.", registry=collector.registry)

    @collector.sample("business")
    def count_jobs() -> None:
        assert threading.current_thread() is not threading.main_thread()
        jobs.inc()

    @collector.sample("application")
    async def count_users() -> None:
        await asyncio.sleep(0)
        users.inc()

    async def ask(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(20):
            while min(jobs._value.get(), users._value.get()) < 3:
                await asyncio.sleep(0.01)
        got = samples((await client.get("/metrics")).text)
        assert got["queue_jobs"] >= 3
        assert got["users"] >= 3
        assert got["upcheck_sample_errors_total business count_jobs"] == 0
        assert got["upcheck_sample_duration_seconds_count business"] >= 2  # the third may not have been put down yet
        assert got["upcheck_sampling_interval_seconds business"] == pytest.approx(0.05)
        current = (await client.get("/api/metrics/current")).json()
        assert current["sampling"]["layers"]["business"]["why"] == "nominal"
        assert current["sampling"]["layers"]["business"]["next_in"] <= 0.05
        assert current["performance"]["cycle_ms"]["business"]["p50"] > 0

    for layer in ("application", "business"):
        collector.sampling.every(layer, 0.05)
    inside(collector, ask)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="layer 'busines': expected one of system, application, business"):
        Collector().sample("busines")  # type: ignore[arg-type]  # the mistake


def test_what_raises_is_counted_logged_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    sampling = quick()

    @sampling("business")
    def broken() -> None:
        calls.append("broken")
        raise ConnectionRefusedError("no database")

    @sampling("business")
    async def exits() -> None:
        calls.append("exits")
        raise SystemExit(1)

    @sampling("business")
    def fine() -> None:
        calls.append("fine")

    with caplog.at_level(logging.WARNING):
        run(sampling, lambda: calls.count("broken") >= 4 and calls.count("exits") >= 4)
    assert calls.count("fine") >= 3
    got = values(sampling)
    assert got["upcheck_sample_errors_total business broken"] >= 3
    assert got["upcheck_sample_errors_total business exits"] >= 3
    assert got["upcheck_sample_errors_total business fine"] == 0
    assert sorted(record.getMessage() for record in caplog.records) == [
        "sample 'broken' of layer 'business': ConnectionRefusedError: no database",
        "sample 'exits' of layer 'business': SystemExit: 1",
    ]


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_one_that_hangs_is_overdue_never_overlaps_and_holds_up_no_other(kind: str) -> None:
    sampling = quick()
    begun: list[str] = []
    others: list[float] = []
    release = threading.Event()

    def hangs() -> None:
        begun.append(kind)
        release.wait(30)

    async def refuses() -> None:
        begun.append(kind)
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):  # what is told to end, and does not
                await asyncio.sleep(0.01)

    sampling("business")(hangs) if kind == "thread" else sampling("business")(refuses)

    @sampling("business")
    def other() -> None:
        others.append(time.monotonic())

    def enough() -> bool:
        if len(others) >= 5:
            release.set()
        return release.is_set()

    run(sampling, enough)
    assert begun == [kind]
    (errors,) = [count for name, count in values(sampling).items() if "errors_total business" in name and count]
    assert 4 <= errors <= len(others)


def test_what_costs_more_than_its_share_of_the_budget_is_slowed_down() -> None:
    sampling = quick(budget=0.03)

    @sampling("business")
    def busy() -> None:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    layers: dict[str, dict[str, object]] = {}

    def slowed() -> bool:
        layers.update(json.loads(json.dumps(sampling.state()["layers"])))
        return layers["business"]["why"] == "budget"

    run(sampling, slowed)
    assert layers["business"]["interval"] == pytest.approx(1.0, rel=0.5)  # 10 ms of CPU, at 1% of it
    assert layers["application"] == {"interval": 0.02, "nominal": 0.02, "next_in": None, "why": "nominal"}
    assert values(sampling)["upcheck_sample_cpu_seconds_total business"] >= 0.01


def test_no_budget_stretches_an_interval_beyond_five_minutes() -> None:
    sampling = quick(budget=1e-9)
    sampling("business")(lambda: None)
    run(sampling, lambda: values(sampling)["upcheck_sampling_interval_seconds business"] > 1)
    assert values(sampling)["upcheck_sampling_interval_seconds business"] == LONGEST


def test_only_its_own_steps_are_the_cost_of_a_coroutine() -> None:
    sampling = quick()
    ends: list[float] = []

    @sampling("business")
    async def waits() -> None:
        await asyncio.sleep(0.01)
        ends.append(0)

    async def neighbour() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            await asyncio.sleep(0)

    async def session() -> None:
        task = asyncio.create_task(sampling.run())
        await neighbour()
        while not ends:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(session())
    assert 0 < values(sampling)["upcheck_sample_cpu_seconds_total business"] < 0.1


def test_a_busy_host_is_sampled_less_often_and_stays_alive(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    clock = Hands()
    host = debian(tmp_path, clock=clock)
    host.sample()
    clock.now += 10
    (tmp_path / "proc/stat").write_text(STAT.replace("cpu0 10 5", "cpu0 900 5"))
    sampling = quick(host)
    run(sampling, lambda: values(sampling)["upcheck_sampling_interval_seconds system"] > 0.02)
    assert host.interval == pytest.approx(0.06), "which /live and the health component judge by"
    layer = json.loads(json.dumps(sampling.state()))["layers"]["system"]
    assert (layer["nominal"], layer["why"]) == (0.02, "host busy")


def test_the_filesystems_are_measured_with_each_sample_of_the_host(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    host = debian(tmp_path)
    sampling = quick(host)
    run(sampling, lambda: host.snapshot().disk is not None)
    assert values(sampling)["upcheck_sample_errors_total system filesystems"] == 0


def test_remembered_durations_are_bounded() -> None:
    sampling = Sampling(SystemCollector(), business=0.001, buffer=5, budget=1.0)
    calls: list[int] = []
    sampling("business")(lambda: calls.append(1))
    run(sampling, lambda: len(calls) > 20)
    assert sampling.state()["buffer"] == {"size": 5, "fill": 5}
    assert sampling.cycles()["business"]["p50"] <= sampling.cycles()["business"]["max"]
