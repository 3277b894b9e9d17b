"""Health components: asked in the background, each under its own deadline; answered from what is known."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from circuitbreaker import CircuitBreaker  # type: ignore[import-untyped]

from upcheck.redaction import redacted

if TYPE_CHECKING:
    from upcheck.system import Clock, SystemCollector

T = TypeVar("T")

_STALE_AFTER = 3  # intervals
_LONGEST_ERROR = 500  # characters
# What raises, or does not answer, so often in a row, unless it says otherwise, is left alone for so many seconds.
FAILURES, REST = 3, 30

# `system` judges by these shares (0..1). A busy CPU is never a reason to call a host unhealthy; a full disk is.
DEGRADED = {"CPU": 0.95, "memory": 0.90, "disk /": 0.90}
UNHEALTHY = {"memory": 0.98, "disk /": 0.98}
_SLOW_SAMPLE = 1.0  # seconds; a sample takes less than a millisecond on a host that is well


class Status(StrEnum):
    """How a component is, best first."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


Finding = Status | str | tuple[Status | str, str] | tuple[Status | str, str, Mapping[str, Any]] | None
"""What a component's function returns: a status, or one with a message, or with details too; None for healthy."""

Component = Callable[[], Finding] | Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One component as last known. *response_time* in seconds, *timestamp* in Unix seconds.

    *circuit* is that of its circuit breaker: closed, open (it is not asked) or half_open (the next answer decides).
    """

    name: str
    status: Status
    response_time: float
    timestamp: float
    message: str | None = None
    error: str | None = None
    critical: bool = True
    circuit: str = "closed"
    details: Mapping[str, Any] = field(default_factory=dict)


class UnhealthyError(Exception):
    """Raised by a component that is unhealthy: its words are the error, without the name of a type before them."""


class _Failed(Exception):
    """Tells the circuit breaker that a component raised, or did not answer."""


@dataclass(slots=True)
class _Registered:
    name: str
    function: Component
    critical: bool
    interval: float
    timeout: float
    breaker: CircuitBreaker
    call: asyncio.Future[_Answer] | None = None  # kept after its deadline: a hung call is not started twice
    begun: float = 0.0
    result: ComponentHealth | None = None
    taken: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: Status
    message: str | None = None
    error: str | None = None  # it raised, or did not answer
    details: Mapping[str, Any] = field(default_factory=dict)


class Health:
    """The registered components and what is known of them. Reading never asks a component anything."""

    def __init__(self, clock: Clock = time, *, interval: float = 10.0, timeout: float = 5.0) -> None:
        """*interval* and *timeout*, in seconds, are for components that don't say their own."""
        self._clock = clock
        self._interval = interval
        self._timeout = timeout
        self._components: dict[str, _Registered] = {}
        self._asked = False
        self._draining = False

    def register(
        self,
        name: str,
        function: Component,
        *,
        critical: bool = True,
        interval: float | None = None,
        timeout: float | None = None,
        failures: int = FAILURES,
    ) -> None:
        """Ask *function* every *interval* seconds, for *timeout* seconds at most; *failures* in a row open its circuit.

        It is sync (run in a thread) or async, and returns a Finding; what it raises is unhealthy. While a
        *critical* component is unhealthy the whole is; another one only degrades it.
        Raises ValueError for a name that is taken, or a time or number that is not above zero.
        """
        interval = self._interval if interval is None else interval
        timeout = self._timeout if timeout is None else timeout
        if name in self._components:
            raise ValueError(f"health component '{name}' is registered twice: give one of them another name")
        if not (interval > 0 and timeout > 0):
            raise ValueError(f"health component '{name}': interval={interval} and timeout={timeout} must be above 0 s")
        if failures < 1:
            raise ValueError(f"health component '{name}': failures={failures} must be above 0")
        if self._asked:
            raise RuntimeError(f"health component '{name}': register it before the collector starts")
        self._components[name] = _Registered(
            name, function, critical, interval, timeout, CircuitBreaker(failures, REST, _Failed)
        )

    def __call__(
        self,
        name: str,
        *,
        critical: bool = True,
        interval: float | None = None,
        timeout: float | None = None,
        failures: int = FAILURES,
    ) -> Callable[[Component], Component]:
        """`register` as a decorator: `@collector.health("queue", interval=30)`."""

        def decorate(function: Component) -> Component:
            self.register(name, function, critical=critical, interval=interval, timeout=timeout, failures=failures)
            return function

        return decorate

    async def first_round(self) -> None:
        """Ask every component once, all at the same time; takes no longer than the longest timeout."""
        await asyncio.gather(*map(self._ask, self._components.values()))
        self._asked = True

    async def run(self) -> None:
        """After the first round: ask every component at its interval, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for component in self._components.values():
                group.create_task(self._keep_asking(component))

    def components(self) -> list[ComponentHealth]:
        """What is known of every component now; a result older than three intervals is unhealthy."""
        return [self._aged(component) for component in self._components.values()]

    def overall(self) -> Status:
        """Unhealthy if a critical component is, degraded if any other is not healthy, else healthy."""
        known = self.components()
        if any(one.critical and one.status is Status.UNHEALTHY for one in known):
            return Status.UNHEALTHY
        return Status.HEALTHY if all(one.status is Status.HEALTHY for one in known) else Status.DEGRADED

    def drain(self) -> None:
        """From now on not ready: the process is about to leave."""
        self._draining = True

    def not_ready(self) -> str | None:
        """Why no work should be sent here, or None."""
        if self._draining:
            return "draining"
        if not self._asked:
            return "the first health round is not finished"
        down = [one for one in self.components() if one.critical and one.status is Status.UNHEALTHY]
        return "; ".join(f"{one.name} is unhealthy: {one.error or one.message}" for one in down) or None

    async def _keep_asking(self, component: _Registered) -> None:
        while True:
            wait = component.taken + component.interval - self._clock.monotonic()
            await asyncio.sleep(max(0.0, wait))
            await self._ask(component)

    async def _ask(self, component: _Registered) -> None:
        if component.breaker.opened and component.result is not None:
            component.taken = self._clock.monotonic()
            component.result = replace(component.result, timestamp=self._clock.time(), circuit="open")
            return
        if component.call is None or component.call.done():
            component.begun = self._clock.monotonic()
            component.call = _start(component.function)
            await asyncio.wait({component.call}, timeout=component.timeout)
        call = component.call
        if call.done() and not call.cancelled():
            answer = call.result()
        else:
            if isinstance(call, asyncio.Task):  # not awaited: a coroutine may refuse to be cancelled
                call.cancel()
            answer = _Answer(Status.UNHEALTHY, error=f"no answer within {component.timeout:g} s")
        with suppress(_Failed), component.breaker:
            if answer.error is not None:
                raise _Failed
        component.taken = self._clock.monotonic()
        component.result = ComponentHealth(
            component.name,
            answer.status,
            component.taken - component.begun,
            self._clock.time(),
            answer.message,
            answer.error,
            component.critical,
            str(component.breaker.state),
            answer.details,
        )

    def _aged(self, component: _Registered) -> ComponentHealth:
        if (result := component.result) is None:
            now = self._clock.time()
            return ComponentHealth(
                component.name, Status.UNHEALTHY, 0.0, now, error="not asked yet", critical=component.critical
            )
        age = self._clock.monotonic() - component.taken
        if age <= _STALE_AFTER * max(component.interval, component.timeout):
            return result
        return replace(result, status=Status.UNHEALTHY, error=f"stale, last known {result.status} {age:.0f} s ago")


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run *function* in a thread of its own; the future is its result.

    Not asyncio.to_thread: its pool has few threads and is joined at exit, so that one hung call would take
    a thread from the others and keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(deliver: Callable[[], None]) -> None:
        if not future.done():
            deliver()

    def run() -> None:
        try:
            deliver = partial(future.set_result, function())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the future is awaited
            deliver = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, deliver)

    threading.Thread(target=run, name=f"upcheck {getattr(function, '__name__', '')}", daemon=True).start()
    return future


def system_component(system: SystemCollector) -> Component:
    """The `system` component: CPU, memory and root disk against DEGRADED and UNHEALTHY."""

    def look() -> Finding:
        usage = system.usage()
        shares = {"CPU": usage.cpu, "memory": usage.memory, "disk /": usage.disk}
        known = {name: share for name, share in shares.items() if share is not None}
        for status, limits in ((Status.UNHEALTHY, UNHEALTHY), (Status.DEGRADED, DEGRADED)):
            over = [name for name in known if name in limits and known[name] >= limits[name]]
            if over:
                return status, ", ".join(f"{n} {known[n]:.1%} used ({status} at {limits[n]:.0%})" for n in over)
        return Status.HEALTHY, ", ".join(f"{name} {share:.1%} used" for name, share in known.items())

    return look


def metrics_component(system: SystemCollector) -> Component:
    """The `metrics` component: whether the background sampling goes on, and how long it takes."""

    async def look() -> Finding:
        age, duration = system.sample_age, system.sample_duration
        if age is None or duration is None:
            return Status.UNHEALTHY, "no background sample yet"
        message = f"last sample {age:.1f} s ago (every {system.interval:g} s), took {duration * 1000:.1f} ms"
        if age > _STALE_AFTER * system.interval:
            return Status.UNHEALTHY, message
        return (Status.DEGRADED if duration > _SLOW_SAMPLE else Status.HEALTHY), message

    return look


def _start(function: Component) -> asyncio.Future[_Answer]:
    """Begin one call. The future never raises, not even for SystemExit, which would end the event loop."""
    if inspect.iscoroutinefunction(function):
        return asyncio.create_task(_answer_of(function))
    return in_thread(lambda: _answer(function))


async def _answer_of(function: Callable[[], Awaitable[Finding]]) -> _Answer:
    try:
        return _read(await function())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it raises is what its component says
        return _raised(error)


def _answer(function: Callable[[], object]) -> _Answer:
    try:
        return _read(function())
    except BaseException as error:  # noqa: BLE001 - as above
        return _raised(error)


def _raised(error: BaseException) -> _Answer:
    words = str(error) if isinstance(error, UnhealthyError) else f"{type(error).__name__}: {error}"
    return _Answer(Status.UNHEALTHY, error=redacted(words)[:_LONGEST_ERROR])


def _read(finding: object) -> _Answer:
    told: tuple[Any, ...] = finding if isinstance(finding, tuple) and len(finding) in (2, 3) else (finding, None)
    status, message, details = told if len(told) == 3 else (*told, {})
    try:
        return _Answer(
            Status.HEALTHY if status is None else Status(status),
            None if message is None else redacted(str(message)),
            details={str(key): redacted(one) if isinstance(one, str) else one for key, one in dict(details).items()},
        )
    except (TypeError, ValueError):
        expected = "expected None, 'healthy', 'degraded', 'unhealthy', or one with a message, and details"
        return _Answer(Status.UNHEALTHY, error=f"it returned {redacted(repr(finding))[:100]}; {expected}")
