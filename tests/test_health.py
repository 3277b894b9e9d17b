"""Health components: their verdicts, their deadlines, their age."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from upcheck.health import ComponentHealth, Health, Status, in_thread, metrics_component, system_component
from upcheck.system import SystemCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from upcheck.health import Finding


class Hands:
    """A clock moved by hand."""

    now = 0.0

    def time(self) -> float:
        return 1_800_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now


def known(health: Health, name: str) -> ComponentHealth:
    return next(one for one in health.components() if one.name == name)


def asked(function: Callable[[], Any], clock: Hands | None = None) -> ComponentHealth:
    """*function* as the only component, after one round."""
    health = Health(clock or Hands())
    health.register("it", function)
    asyncio.run(health.first_round())
    return known(health, "it")


async def fine() -> None:
    return None


def broken() -> None:
    raise ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("finding", "status", "message"),
    [
        (None, "healthy", None),
        ("degraded", "degraded", None),
        (Status.UNHEALTHY, "unhealthy", None),
        (("degraded", "1,204 jobs wait"), "degraded", "1,204 jobs wait"),
    ],
)
def test_what_a_function_returns_is_its_status(finding: Finding, status: str, message: str | None) -> None:
    async def later() -> Finding:
        return finding

    for function in (lambda: finding, later):
        got = asked(function)
        assert (got.status, got.message, got.error) == (status, message, None)
        assert got.timestamp == 1_800_000_000.0


@pytest.mark.parametrize("finding", [True, "healty", ("degraded",), 3, {"status": "healthy"}, [], ("a", "b", "c")])
def test_anything_else_is_unhealthy_and_says_what_was_expected(finding: object) -> None:
    got = asked(lambda: finding)
    assert got.status is Status.UNHEALTHY
    assert got.error is not None
    assert repr(finding) in got.error
    assert "expected None, 'healthy', 'degraded', 'unhealthy'" in got.error


@pytest.mark.parametrize("raised", [ValueError, TimeoutError, SystemExit, KeyboardInterrupt])
def test_what_a_function_raises_is_its_error_and_ends_nothing_else(raised: type[BaseException]) -> None:
    def sync() -> None:
        raise raised("no database")

    async def later() -> None:
        raise raised("no database")

    for function in (sync, later):
        got = asked(function)
        assert (got.status, got.error) == (Status.UNHEALTHY, f"{raised.__name__}: no database")


def test_an_endless_error_is_cut() -> None:
    def shout() -> None:
        raise ValueError("a" * 100_000)

    assert len(asked(shout).error or "") == 500


def test_components_that_hang_are_unhealthy_and_hold_up_nobody() -> None:
    release, calls = threading.Event(), []

    def stuck() -> None:
        calls.append(1)
        release.wait(30)

    async def slow() -> None:
        await asyncio.sleep(30)

    async def stubborn() -> None:  # refuses to be cancelled
        while not release.is_set():
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue

    async def look() -> Health:
        health = Health()
        for function in (stuck, slow, stubborn):
            health.register(function.__name__, function, timeout=0.1, interval=0.1)
        health.register("fine", fine, interval=0.1)
        await health.first_round()
        running = asyncio.create_task(health.run())
        first = known(health, "fine").timestamp
        try:
            while known(health, "fine").timestamp == first or known(health, "stuck").response_time < 0.2:
                await asyncio.sleep(0.02)
        finally:
            running.cancel()
            release.set()
        return health

    health = asyncio.run(asyncio.wait_for(look(), 20))
    for name in ("stuck", "slow", "stubborn"):
        assert (known(health, name).status, known(health, name).error) == ("unhealthy", "no answer within 0.1 s")
    assert known(health, "fine").status is Status.HEALTHY
    assert len(calls) == 1, "a call that hangs is not started a second time"


def test_a_component_that_recovers_is_healthy_again() -> None:
    answers = iter(["unhealthy", "degraded"])

    async def look() -> Health:
        health = Health()
        health.register("it", lambda: next(answers, None), interval=0.01)
        await health.first_round()
        assert known(health, "it").status is Status.UNHEALTHY
        running = asyncio.create_task(health.run())
        while known(health, "it").status is not Status.HEALTHY:
            await asyncio.sleep(0.01)
        running.cancel()
        return health

    assert asyncio.run(asyncio.wait_for(look(), 20)).overall() is Status.HEALTHY


def test_a_result_older_than_three_intervals_is_stale() -> None:
    clock = Hands()
    health = Health(clock)
    health.register("it", fine, interval=10)
    asyncio.run(health.first_round())
    clock.now = 30
    assert known(health, "it").status is Status.HEALTHY
    clock.now = 42
    got = known(health, "it")
    assert (got.status, got.error) == (Status.UNHEALTHY, "stale, last known healthy 42 s ago")
    assert got.timestamp == 1_800_000_000.0, "when it was last asked, not when it was looked at"
    assert health.overall() is Status.UNHEALTHY


@pytest.mark.parametrize(
    ("critical", "optional", "overall"),
    [
        ("healthy", "healthy", "healthy"),
        ("healthy", "degraded", "degraded"),
        ("healthy", "unhealthy", "degraded"),
        ("degraded", "healthy", "degraded"),
        ("unhealthy", "healthy", "unhealthy"),
        ("unhealthy", "unhealthy", "unhealthy"),
    ],
)
def test_overall(critical: str, optional: str, overall: str) -> None:
    health = Health(Hands())
    health.register("critical", lambda: critical)
    health.register("optional", lambda: optional, critical=False)
    asyncio.run(health.first_round())
    assert health.overall() == overall
    assert (health.not_ready() is None) == (overall != "unhealthy")


def test_readiness_says_why_not() -> None:
    health = Health(Hands())
    health.register("database", broken)
    health.register("cache", broken, critical=False)
    assert health.not_ready() == "the first health round is not finished"
    assert known(health, "database").error == "not asked yet"
    asyncio.run(health.first_round())
    reason = health.not_ready()
    assert reason == "database is unhealthy: ConnectionRefusedError: [Errno 111] Connection refused"
    health.drain()
    assert health.not_ready() == "draining"


def test_registration_refuses_what_can_not_work() -> None:
    health = Health(Hands())
    health("queue", interval=30)(fine)
    with pytest.raises(ValueError, match="'queue' is registered twice"):
        health.register("queue", fine)
    with pytest.raises(ValueError, match=r"interval=0 and timeout=5\.0 must be above 0 s"):
        health.register("other", fine, interval=0)
    with pytest.raises(ValueError, match="'other': failures=0 must be above 0"):
        health.register("other", fine, failures=0)
    asyncio.run(health.first_round())
    with pytest.raises(RuntimeError, match="before the collector starts"):
        health.register("late", fine)


def host(memory: float, disk: float, cpu: float | None = None) -> SystemCollector:
    """A host so full, because no test should fill a real one. *cpu*: busy seconds out of every second."""
    times = iter([SimpleNamespace(user=n * (cpu or 0), idle=n * (1 - (cpu or 0))) for n in range(2)])
    source = SimpleNamespace(
        virtual_memory=lambda: SimpleNamespace(total=1000, available=1000 - 10 * memory),
        swap_memory=lambda: SimpleNamespace(total=0, free=0),
        cpu_times=lambda percpu: [next(times)] * percpu,
    )
    sizes = SimpleNamespace(f_blocks=1000, f_bfree=1000 - 10 * disk, f_bavail=1000 - 10 * disk)
    return SystemCollector(source=source, proc=Path("/nonexistent"), statvfs=lambda _: sizes)


@pytest.mark.parametrize(
    ("memory", "disk", "cpu", "status", "message"),
    [
        (50.0, 60.0, None, "healthy", "memory 50.0% used, disk / 60.0% used"),
        (50.0, 60.0, 0.25, "healthy", "CPU 25.0% used, memory 50.0% used, disk / 60.0% used"),
        (50.0, 60.0, 0.95, "degraded", "CPU 95.0% used (degraded at 95%)"),
        (90.0, 93.5, 0.1, "degraded", "memory 90.0% used (degraded at 90%), disk / 93.5% used (degraded at 90%)"),
        (98.5, 10.0, 1.0, "unhealthy", "memory 98.5% used (unhealthy at 98%)"),
        (10.0, 98.0, 0.1, "unhealthy", "disk / 98.0% used (unhealthy at 98%)"),
    ],
)
def test_the_system_component(memory: float, disk: float, cpu: float | None, status: str, message: str) -> None:
    system = host(memory, disk, cpu)
    if cpu is not None:
        system.sample()
        system.sample()
    got = asked(system_component(system))
    assert (got.status, got.message, got.error) == (status, message, None)


def test_the_metrics_component() -> None:
    clock = Hands()
    system = SystemCollector(clock=clock, interval=10)
    assert asked(metrics_component(system)).message == "no background sample yet"
    system.sample()
    clock.now = 30
    got = asked(metrics_component(system))
    assert (got.status, got.message) == ("healthy", "last sample 30.0 s ago (every 10 s), took 0.0 ms")
    clock.now = 31
    assert asked(metrics_component(system)).status is Status.UNHEALTHY


def test_a_slow_sample_degrades_the_metrics_component() -> None:
    clock = Hands()

    def slow(percpu: bool) -> list[Any]:
        clock.now += 2 * percpu
        return []

    system = SystemCollector(source=SimpleNamespace(cpu_times=slow), proc=Path("/nonexistent"), clock=clock)
    system.sample()
    got = asked(metrics_component(system))
    assert (got.status, got.message) == ("degraded", "last sample 0.0 s ago (every 10 s), took 2000.0 ms")


def test_a_thread_that_outlives_its_loop_troubles_nobody() -> None:
    release = threading.Event()

    async def leave() -> None:
        in_thread(release.wait)

    before = set(threading.enumerate())
    asyncio.run(leave())
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon, "a process that ends does not wait for it"
    release.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_circuit_opens_after_three_failures_and_one_answer_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Hands(), list[float]()
    answers: list[Callable[[], Finding]] = [broken, broken, broken, broken, lambda: "degraded", broken, broken, broken]
    monkeypatch.setattr("circuitbreaker.monotonic", clock.monotonic)

    def it() -> Finding:
        calls.append(clock.now)
        return answers[len(calls) - 1]()

    health = Health(clock)
    health.register("it", it)
    seen = []
    for _ in range(12):
        asyncio.run(health.first_round())
        one = known(health, "it")
        seen.append((clock.now, one.status, one.circuit))
        assert "stale" not in (one.error or "")
        clock.now += 10
    assert calls == [0, 10, 20, 50, 80, 90, 100, 110]
    assert [circuit for _, _, circuit in seen] == [
        "closed", "closed", "open", "open", "open", "open", "open", "open", "closed", "closed", "closed", "open",
    ]  # fmt: skip
    assert [status for _, status, _ in seen][:8] == ["unhealthy"] * 8
    assert seen[8] == (80, "degraded", "closed")


def test_a_status_that_is_bad_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Hands(), list[float]()
    monkeypatch.setattr("circuitbreaker.monotonic", clock.monotonic)

    def it() -> Finding:
        calls.append(clock.now)
        return "unhealthy"

    health = Health(clock)
    health.register("it", it)
    for _ in range(6):
        asyncio.run(health.first_round())
        clock.now += 10
    assert len(calls) == 6
    assert known(health, "it").circuit == "closed"
