"""Background samples in three layers, each as often as the host and a budget of CPU allow."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from upcheck.exposition import Block, Family, labelled
from upcheck.health import in_thread

if TYPE_CHECKING:
    from upcheck.system import SystemCollector

LayerName = Literal["system", "application", "business"]
Function = TypeVar("Function", bound=Callable[[], None] | Callable[[], Awaitable[None]])

LONGEST = 300.0  # seconds that the budget can stretch an interval to
DEADLINE = 10.0  # seconds for one function, or its layer's interval if that is shorter
BUSY_FROM, BUSY = 0.5, 0.8  # shares of CPU between which the host's own interval grows
SLOWEST = 3.0  # times the nominal interval, from BUSY on
_FADING = 0.8  # what a cost of the past still counts at the next cycle

_INTERVAL = Family("upcheck_sampling_interval_seconds", "gauge", ("layer",), "Seconds between two samples now.")
_DURATION = Family("upcheck_sample_duration_seconds", "summary", ("layer",), "Seconds that samples took.")
_CPU = Family("upcheck_sample_cpu_seconds_total", "counter", ("layer",), "Seconds of CPU that samples took.")
_ERRORS = Family(
    "upcheck_sample_errors_total",
    "counter",
    ("layer", "sample"),
    "Samples that raised, took too long, or were left out because the one before still ran.",
)

_log = logging.getLogger("upcheck.collector")


def slowdown(cpu: float | None) -> float:
    """The linear ramp: 1 up to half of the CPU, SLOWEST from 80% on, a straight line between; 1 where unknown."""
    share = ((cpu or 0.0) - BUSY_FROM) / (BUSY - BUSY_FROM)
    return 1 + (SLOWEST - 1) * min(1.0, max(0.0, share))


@dataclass(slots=True)
class _Sample:
    """A function that is run at its layer's interval."""

    name: str
    function: Callable[[], object]
    running: asyncio.Future[None] | None = None  # kept after its deadline: a hung one is not started twice
    failing: bool = False
    errors: int = 0


@dataclass(slots=True)
class _Layer:
    """*cpu* is what all cycles have cost; *cost* is what the budget expects of the next one. All in seconds."""

    name: str
    nominal: float
    samples: list[_Sample] = field(default_factory=list)
    interval: float = 0.0
    why: str = "nominal"
    due: float = 0.0
    cycles: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    cost: float = 0.0


class Sampling:
    """Runs the samples of all layers, and says how often and at which cost."""

    def __init__(
        self,
        host: SystemCollector,
        *,
        system: float = 10.0,
        application: float = 5.0,
        business: float = 60.0,
        buffer: int = 1000,
        budget: float = 0.02,
    ) -> None:
        """Seconds between two samples of each layer; durations kept; the share of one CPU that all layers can have."""
        self._host = host
        self._share = budget / len(get_args(LayerName))
        nominal = {"system": system, "application": application, "business": business}
        self._layers = {name: _Layer(name, seconds, interval=seconds) for name, seconds in nominal.items()}
        self._layers["system"].samples.append(_Sample("filesystems", host.measure_filesystems))
        self._durations: deque[tuple[str, float]] = deque(maxlen=buffer)
        self._process = ((time.monotonic(), time.process_time()),) * 2
        host.interval = system

    def __call__(self, layer: LayerName) -> Callable[[Function], Function]:
        """`@collector.sample("business")`: run the function, sync or async, at the interval of *layer*.

        Raises ValueError for an unknown layer.
        """
        if layer not in self._layers:
            raise ValueError(f"layer '{layer}': expected one of {', '.join(self._layers)}")

        def decorate(function: Function) -> Function:
            self._layers[layer].samples.append(_Sample(function.__name__, function))
            return function

        return decorate

    def every(self, layer: LayerName, seconds: float) -> None:
        """Set the nominal interval of *layer*, before the collector starts."""
        self._layers[layer].nominal = self._layers[layer].interval = seconds
        if layer == "system":
            self._host.interval = seconds

    async def first_round(self) -> None:
        """Take each sample once, all at the same time; takes no longer than DEADLINE."""
        await asyncio.gather(*(self._cycle(layer) for layer in self._layers.values() if layer.samples))

    async def run(self) -> None:
        """After the first round: go on until cancelled."""
        async with asyncio.TaskGroup() as group:
            for layer in self._layers.values():
                if layer.samples:
                    group.create_task(self._keep_sampling(layer))

    @property
    def cpu_percent(self) -> float:
        """Of one CPU, for this whole process, between the two last samples of the host."""
        (began, before), (ended, after) = self._process
        return 100 * (after - before) / (ended - began) if ended > began else 0.0

    def state(self) -> dict[str, object]:
        """Each layer's interval: seconds now, nominal, until the next, and why; how full the buffer is."""
        now = time.monotonic()
        layers = {
            layer.name: {
                "interval": layer.interval,
                "nominal": layer.nominal,
                "next_in": round(max(0.0, layer.due - now), 3) if layer.due else None,
                "why": layer.why,
            }
            for layer in self._layers.values()
        }
        return {"layers": layers, "buffer": {"size": self._durations.maxlen, "fill": len(self._durations)}}

    def cycles(self) -> dict[str, dict[str, float]]:
        """p50, p99 and the longest of the remembered cycles of each layer, in milliseconds."""
        told: dict[str, dict[str, float]] = {}
        for name in self._layers:
            if known := sorted(seconds for layer, seconds in self._durations if layer == name):
                at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
                told[name] = {word: round(1000 * known[int(share * (len(known) - 1))], 3) for word, share in at.items()}
        return told

    def blocks(self) -> Iterator[Block]:
        """The families."""
        layers = self._layers.values()
        yield _INTERVAL, "".join([_line(_INTERVAL.name, layer, layer.interval) for layer in layers])
        yield (
            _DURATION,
            "".join(
                _line(f"{_DURATION.name}_sum", layer, layer.seconds)
                + _line(f"{_DURATION.name}_count", layer, layer.cycles)
                for layer in layers
            ),
        )
        yield _CPU, "".join([_line(_CPU.name, layer, layer.cpu) for layer in layers])
        errors = [
            f"{labelled(_ERRORS.name, (('layer', layer.name), ('sample', sample.name)))} {sample.errors}\n"
            for layer in layers
            for sample in layer.samples
        ]
        yield _ERRORS, "".join(errors)

    async def _keep_sampling(self, layer: _Layer) -> None:
        # CPU usage needs two samples of the host: the second comes soon
        pause = min(1.0, layer.interval) if layer.name == "system" else layer.interval
        while True:
            layer.due = time.monotonic() + pause
            await asyncio.sleep(pause)
            await self._cycle(layer)
            pause = layer.interval

    async def _cycle(self, layer: _Layer) -> None:
        began, before = time.perf_counter(), layer.cpu
        if layer.name == "system":
            self._sample_host(layer)
        if calls := [call for sample in layer.samples if (call := self._start(layer, sample))]:
            await asyncio.wait(calls, timeout=min(DEADLINE, layer.nominal))
        for sample in layer.samples:
            if (running := sample.running) and not running.done():
                self._failed(layer, sample, f"no end within {min(DEADLINE, layer.nominal):g} s")
                if inspect.iscoroutinefunction(sample.function):  # a thread can't be told to end
                    running.cancel()
        duration = time.perf_counter() - began
        layer.cycles += 1
        layer.seconds += duration
        layer.cost = max(layer.cpu - before, _FADING * layer.cost)
        self._durations.append((layer.name, duration))
        self._pace(layer)

    def _sample_host(self, layer: _Layer) -> None:
        began = time.thread_time()
        self._host.sample()
        layer.cpu += time.thread_time() - began
        self._process = self._process[1], (time.monotonic(), time.process_time())

    def _start(self, layer: _Layer, sample: _Sample) -> asyncio.Future[None] | None:
        if sample.running and not sample.running.done():
            return None
        if inspect.iscoroutinefunction(sample.function):
            sample.running = asyncio.ensure_future(self._awaited(layer, sample))
        else:
            sample.running = asyncio.ensure_future(self._threaded(layer, sample))
        return sample.running

    async def _threaded(self, layer: _Layer, sample: _Sample) -> None:
        cpu, error = await in_thread(partial(_timed, sample.function))
        layer.cpu += cpu
        self._ended(layer, sample, error)

    async def _awaited(self, layer: _Layer, sample: _Sample) -> None:
        metered = _Metered(sample.function())  # type: ignore[arg-type]  # seen to be a coroutine function
        error: BaseException | None = None
        try:
            await metered
        except asyncio.CancelledError:  # overdue, and counted as that
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever it raises, its layer goes on
            error = raised
        finally:
            layer.cpu += metered.seconds
        self._ended(layer, sample, error)

    def _ended(self, layer: _Layer, sample: _Sample, error: BaseException | None) -> None:
        if error is None:
            sample.failing = False
        else:
            self._failed(layer, sample, f"{type(error).__name__}: {error}")

    def _failed(self, layer: _Layer, sample: _Sample, reason: str) -> None:
        """Count it, and log the first of a row."""
        sample.errors += 1
        if not sample.failing:
            _log.warning("sample '%s' of layer '%s': %s", sample.name, layer.name, reason)
        sample.failing = True

    def _pace(self, layer: _Layer) -> None:
        layer.interval, layer.why = layer.nominal, "nominal"
        if layer.name == "system" and (factor := slowdown(self._host.cpu)) > 1:
            layer.interval, layer.why = layer.nominal * factor, "host busy"
        afforded = min(LONGEST, layer.cost / self._share)
        if afforded > layer.interval:
            layer.interval, layer.why = afforded, "budget"
        if layer.name == "system":
            self._host.interval = layer.interval


class _Metered:
    """Awaits a coroutine, and counts the CPU of its own steps: the loop does other work between them."""

    def __init__(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            began = time.thread_time()
            try:
                awaited = step()
            except StopIteration:
                return
            finally:
                self.seconds += time.thread_time() - began
            try:
                step = partial(self._coroutine.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - a cancellation is the coroutine's to hear
                step = partial(self._coroutine.throw, error)


def _timed(function: Callable[[], object]) -> tuple[float, BaseException | None]:
    """Seconds of CPU that *function* takes in this thread, and what it raises."""
    began = time.thread_time()
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - whatever it raises, its layer goes on
        return time.thread_time() - began, error
    return time.thread_time() - began, None


def _line(name: str, layer: _Layer, value: float) -> str:
    return f'{name}{{layer="{layer.name}"}} {value}\n'
