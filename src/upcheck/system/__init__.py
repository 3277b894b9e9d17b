"""What the host says of itself, in node_exporter's own words: existing rules and dashboards read it unchanged."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from upcheck.exposition import Block, labelled, number
from upcheck.system import families
from upcheck.system.families import counter, gauge
from upcheck.system.filesystems import Filesystems, Sizes
from upcheck.system.host import Clock, Host
from upcheck.system.linux import Linux

if TYPE_CHECKING:
    from upcheck.system.portable import Source

__all__ = ["Clock", "Snapshot", "SystemCollector", "Usage"]

T = TypeVar("T")

_READ_ERRORS = counter(
    "upcheck_collector_read_errors_total", "Reads of the host that failed and were left out.", "source"
)
_LAST_SAMPLE = gauge(
    "upcheck_collector_last_sample_timestamp_seconds",
    "Unix time of the last background sample; it ages when the loop is dead.",
)
_SAMPLE_DURATION = gauge("upcheck_collector_sample_duration_seconds", "Seconds the last background sample took.")
_CPU_USAGE = gauge(
    "upcheck_cpu_usage_ratio",
    "Share of the time between the two last background samples in which the CPU was not idle (0 to 1).",
    "cpu",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the host is, as ratios (0..1). *cpu* is None until two samples exist."""

    cpu: float | None
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The host in numbers: bytes, seconds, bytes a second, and ratios from 0 to 1.

    What is measured between two background samples (*cpu*, *cpus*, *network_...*) is None or empty until there are
    two; *disk* is that of the root, None until it was measured. *memory_limit* is that of the container or
    cgroup, if one is set. A source that can't be read gives None.
    """

    cpu: float | None = None
    cpus: Mapping[str, float] = field(default_factory=dict)
    load1: float | None = None
    load5: float | None = None
    load15: float | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    memory_used: int | None = None
    memory_ratio: float | None = None
    memory_limit: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    disk: float | None = None
    network_received: float | None = None
    network_sent: float | None = None
    uptime: float | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    timestamp: float
    taken: float
    duration: float = 0.0
    cpus: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # seconds idle and in all; empty: not known
    ratios: Mapping[str, float] = field(default_factory=dict)
    network: tuple[int, int] | None = None
    rates: tuple[float, float] | None = None
    pids: int | None = None


class SystemCollector:
    """The host's metric families, read anew at every scrape.

    A source that fails is left out of that scrape and counted in `upcheck_collector_read_errors_total{source}`;
    the others go on. CPU usage needs two points in time, so it comes from background samples: `sample()`
    every *interval* seconds. Filesystems can hang, so they are asked by `measure_filesystems()` in a thread.
    """

    def __init__(
        self,
        *,
        source: Source | None = None,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        statvfs: Callable[[str], Sizes] = os.statvfs,
        clock: Clock = time,
        interval: float = 10.0,
    ) -> None:
        """*source* is asked where *proc* has no `stat`; default: psutil."""
        self.interval = interval
        self._clock = clock
        self._last: _Sample | None = None
        self._lock = threading.Lock()  # of the errors: what fails may do so in any thread
        self._host = _host(source, proc, sys)
        self._filesystems = Filesystems(self._host.mounts, statvfs, monotonic=clock.monotonic)
        self._reads: dict[str, Callable[[], Iterable[Block]]] = {
            **self._host.reads,
            "filesystem": self._filesystems.blocks,
            "time": lambda: [(families.TIME, f"{families.TIME.name} {number(clock.time())}\n")],
        }
        self._errors = dict.fromkeys([*self._reads, "processes"], 0)

    def blocks(self) -> Iterator[Block]:
        """Every family that can be read now."""
        for name, read in self._reads.items():
            try:
                yield from list(read())
            except Exception:  # noqa: BLE001 - whatever a source raises, the other sources are still to be had
                self._failed(name)
        yield from self._own()

    def sample(self) -> None:
        """Take one background sample, in less than a millisecond. Never raises: what can't be read is counted."""
        started = self._clock.monotonic()
        cpus: Mapping[str, tuple[float, float]] = self._try("cpu", self._host.cpus) or {}
        network = self._try("network", self._host.network)
        pids = self._try("processes", self._host.pids)
        self._try("cgroup", self._host.find_limits)
        before, now = self._last or _Sample(0, started), self._clock.monotonic()
        rates = _rates(before.network, network, now - before.taken)
        ratios = _busy(before.cpus, cpus)
        self._last = _Sample(self._clock.time(), now, now - started, cpus, ratios, network, rates, pids)

    def measure_filesystems(self) -> None:
        """Ask each filesystem how full it is; it hangs where one does, so call it in a thread. Never raises."""
        for _ in range(self._try("filesystem", self._filesystems.measure) or 0):
            self._failed("filesystem")

    @property
    def sample_age(self) -> float | None:
        """Seconds since the last background sample; None when there is none."""
        return self._clock.monotonic() - self._last.taken if self._last else None

    @property
    def sample_duration(self) -> float | None:
        """Seconds that the last background sample took; None when there is none."""
        return self._last.duration if self._last else None

    @property
    def cpu(self) -> float | None:
        """The share (0 to 1) of all CPUs that was busy between the two last samples; None until there are two."""
        return self._last.ratios.get("total") if self._last else None

    def usage(self) -> Usage:
        """CPU between the two last samples; memory and the root disk as they are now. May hang, as the disk may.

        Where a container or cgroup limits memory, it counts if it is fuller than the host.
        """
        memory, limited = self._host.memory().used, self._host.limited()
        return Usage(self.cpu, max(memory, limited.used) if limited else memory, self._filesystems.used())

    def snapshot(self) -> Snapshot:
        """The host in numbers; never hangs, never raises."""
        last = self._last or _Sample(0.0, 0.0)
        cpus = {cpu: ratio for cpu, ratio in last.ratios.items() if cpu != "total"}
        load1, load5, load15 = self._try("load", self._host.load) or (None, None, None)
        booted = self._try("cpu", self._host.boot_time)
        limited = self._try("cgroup", self._host.limited)
        memory = self._try("memory", self._host.memory)
        return Snapshot(
            cpu=self.cpu,
            cpus=cpus,
            load1=load1,
            load5=load5,
            load15=load15,
            memory_total=memory and memory.total,
            memory_available=memory and memory.available,
            memory_used=memory and memory.total - memory.available,
            memory_ratio=memory and memory.used,
            memory_limit=limited and limited.total,
            swap_total=memory and memory.swap_total,
            swap_used=memory and memory.swap_total - memory.swap_free,
            disk=self._filesystems.known_used(),
            network_received=last.rates and last.rates[0],
            network_sent=last.rates and last.rates[1],
            uptime=booted and self._clock.time() - booted,
        )

    def _try(self, source: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception:  # noqa: BLE001 - whatever a source raises: the loop that samples must outlive it
            self._failed(source)
            return None

    def _failed(self, source: str) -> None:
        with self._lock:
            self._errors[source] += 1

    def _own(self) -> Iterator[Block]:
        lines = [
            f"{labelled(_READ_ERRORS.name, (('source', source),))} {count}\n" for source, count in self._errors.items()
        ]
        yield _READ_ERRORS, "".join(lines)
        last = self._last
        yield _LAST_SAMPLE, f"{_LAST_SAMPLE.name} {number(last.timestamp)}\n" if last else ""
        yield _SAMPLE_DURATION, f"{_SAMPLE_DURATION.name} {number(last.duration)}\n" if last else ""
        ratios = last.ratios if last else {}
        yield _CPU_USAGE, "".join([f'{_CPU_USAGE.name}{{cpu="{cpu}"}} {ratio}\n' for cpu, ratio in ratios.items()])
        pids = last.pids if last else None
        yield families.PIDS, f"{families.PIDS.name} {pids}\n" if pids is not None else ""


def _host(source: Source | None, proc: Path, sys: Path) -> Host:
    if (proc / "stat").exists():
        return Linux(proc, sys)
    # Here, not above: psutil costs a megabyte, and Linux does without.
    from upcheck.system.portable import Portable

    if source is None:
        import psutil

        source = psutil
    return Portable(source)


def _rates(before: tuple[int, int] | None, after: tuple[int, int] | None, seconds: float) -> tuple[float, float] | None:
    if not before or not after or seconds <= 0:
        return None
    # an interface that went took its bytes along
    return max(0, after[0] - before[0]) / seconds, max(0, after[1] - before[1]) / seconds


def _busy(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Ratios in total and by CPU; empty when there is nothing to compare, as when a CPU came or went."""
    if not before or before.keys() != after.keys():
        return {}
    spans = {cpu: (idle - before[cpu][0], total - before[cpu][1]) for cpu, (idle, total) in after.items()}
    spans = {"total": (sum(idle for idle, _ in spans.values()), sum(total for _, total in spans.values()))} | spans
    # the kernel's iowait can step back, so a share is held inside 0..1
    return {cpu: min(1.0, max(0.0, 1 - idle / total)) for cpu, (idle, total) in spans.items() if total > 0}
