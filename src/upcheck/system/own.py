"""The collector itself: its process in prometheus_client's words, its event loop and its pauses."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from upcheck.exposition import Block, Family, labelled, number
from upcheck.system.families import counter, gauge
from upcheck.system.files import Files

TICK = 1.0  # seconds between two measurements of the event loop
_REMEMBERED = 60  # measurements

_CPU = counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
_VIRTUAL = gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
_RESIDENT = gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
_HEAP = gauge(
    "process_heap_bytes", "Data segment in bytes: heap, stack and private maps (field 6 of /proc/self/statm)."
)
_START = gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
_OPEN_FDS = gauge("process_open_fds", "Number of open file descriptors.")
_MAX_FDS = gauge("process_max_fds", "Maximum number of open file descriptors.")
_PYTHON = gauge(
    "python_info",
    "Python platform information",
    *("implementation", "major", "minor", "patchlevel", "version"),
)
_GC = (  # by the keys of gc.get_stats()
    ("collected", counter("python_gc_objects_collected_total", "Objects collected during gc", "generation")),
    (
        "uncollectable",
        counter("python_gc_objects_uncollectable_total", "Uncollectable objects found during GC", "generation"),
    ),
    (
        "collections",
        counter("python_gc_collections_total", "Number of times this generation was collected", "generation"),
    ),
)
_PAUSE = counter(
    "upcheck_gc_pause_seconds_total", "Seconds for which Python's garbage collection stopped everything.", "generation"
)
_LAG = gauge("upcheck_event_loop_lag_seconds", "How late the event loop's last timer was; there is one a second.")
_LAG_MAX = gauge("upcheck_event_loop_lag_max_seconds", "How late the latest of the last 60 timers was.")


class OwnProcess:
    """What this process costs. `watch()` measures its event loop and its garbage collection."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files = Files()
        self._page = resource.getpagesize()
        self._started = self._start_time()
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)
        self._pauses = [0.0, 0.0, 0.0]
        self._paused = 0.0
        version = platform.python_version_tuple()
        values = (platform.python_implementation(), *version, platform.python_version())
        self._python = f"{labelled(_PYTHON.name, zip(_PYTHON.labels, values, strict=True))} 1.0\n"

    @property
    def lag(self) -> float | None:
        """Seconds that the event loop's last timer was late; None before the first."""
        return self._lags[-1] if self._lags else None

    def resident(self) -> int | None:
        """Bytes of memory; None where there is no /proc."""
        memory = self._memory()
        return memory[1] if memory else None

    async def watch(self) -> None:
        """Measure until cancelled."""
        gc.callbacks.append(self._collected)
        try:
            while True:
                due = time.perf_counter() + TICK
                await asyncio.sleep(TICK)
                self._lags.append(max(0.0, time.perf_counter() - due))
        finally:
            gc.callbacks.remove(self._collected)

    def blocks(self) -> Iterator[Block]:
        """The families; those of memory and descriptors on Linux alone, as prometheus_client has them."""
        yield _alone(_CPU, time.process_time())
        memory = self._memory()
        for family, value in zip((_VIRTUAL, _RESIDENT, _HEAP), memory or (None,) * 3, strict=True):
            yield _alone(family, value)
        yield _alone(_START, self._started)
        yield _alone(_OPEN_FDS, self._open_files())
        yield _alone(_MAX_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield _PYTHON, self._python
        stats = gc.get_stats()
        for key, family in _GC:
            yield family, _by_generation(family.name, [generation[key] for generation in stats])
        yield _PAUSE, _by_generation(_PAUSE.name, self._pauses)
        yield _alone(_LAG, self.lag)
        yield _alone(_LAG_MAX, max(self._lags, default=None))

    def _collected(self, phase: Literal["start", "stop"], info: Mapping[str, int]) -> None:
        if phase == "start":
            self._paused = time.perf_counter()
        else:
            self._pauses[info["generation"]] += time.perf_counter() - self._paused

    def _own(self, name: str) -> str:
        return f"{self._proc}/{os.getpid()}/{name}"  # not /proc/self: that stays the parent's after a fork

    def _memory(self) -> tuple[int, int, int] | None:
        try:
            pages = self._files.read(self._own("statm")).split()
        except FileNotFoundError:  # no Linux
            return None
        return int(pages[0]) * self._page, int(pages[1]) * self._page, int(pages[5]) * self._page

    def _open_files(self) -> int | None:
        folder = self._own("fd")
        try:
            # Linux 6.2 and newer tell the number as the folder's size
            return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 - paths take ten times as long
        except FileNotFoundError:  # no Linux
            return None

    def _start_time(self) -> float | None:
        try:
            ticks = Path(self._own("stat")).read_bytes().rpartition(b")")[2].split()[19]
            booted = (self._proc / "stat").read_bytes().partition(b"\nbtime ")[2].split()[0]
        except (OSError, IndexError):  # no Linux
            return None
        return float(booted) + float(ticks) / os.sysconf("SC_CLK_TCK")


def _alone(family: Family, value: float | None) -> Block:
    return family, "" if value is None else f"{family.name} {number(value)}\n"


def _by_generation(name: str, values: Sequence[float]) -> str:
    return "".join([f'{name}{{generation="{generation}"}} {value}\n' for generation, value in enumerate(values)])
