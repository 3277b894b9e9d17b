"""What the host says of itself, in node_exporter's own words: existing rules and dashboards read it unchanged."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# node_exporter's defaults (its --collector.*.exclude flags): squashfs images are always full, layers are no disks.
_IGNORED_DEVICES = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
_IGNORED_FILESYSTEMS = re.compile(r"autofs|devtmpfs|iso9660|overlay|squashfs")
_IGNORED_MOUNTPOINTS = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)(/.*)?"
)

_CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_MEMORY = {
    "MemTotal": "Memory the kernel can use, in bytes.",
    "MemAvailable": "Memory that new work could have without swapping, in bytes.",
    "MemFree": "Memory that nothing uses, in bytes.",
    "Buffers": "Memory holding raw disk blocks, in bytes.",
    "Cached": "Memory holding pages of files, in bytes.",
    "SwapTotal": "Swap space in all, in bytes.",
    "SwapFree": "Swap space that nothing uses, in bytes.",
}
# metric: (psutil's field, its unit in ours, HELP)
_DISK = {
    "node_disk_read_bytes_total": ("read_bytes", 1, "Bytes read from the device."),
    "node_disk_written_bytes_total": ("write_bytes", 1, "Bytes written to the device."),
    "node_disk_reads_completed_total": ("read_count", 1, "Reads the device completed."),
    "node_disk_writes_completed_total": ("write_count", 1, "Writes the device completed."),
    "node_disk_io_time_seconds_total": ("busy_time", 0.001, "Seconds in which the device had work to do."),
}
_NETWORK = {
    "node_network_receive_bytes_total": ("bytes_recv", 1, "Bytes the interface received."),
    "node_network_transmit_bytes_total": ("bytes_sent", 1, "Bytes the interface sent."),
    "node_network_receive_errs_total": ("errin", 1, "Errors of the interface while receiving."),
    "node_network_transmit_errs_total": ("errout", 1, "Errors of the interface while sending."),
}


class Clock(Protocol):
    """Wall time for what is shown, monotonic time for every age and duration. The `time` module is one."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...


class Source(Protocol):
    """The part of psutil that is read. The `psutil` module is one."""

    def cpu_times(self, percpu: Literal[True]) -> Sequence[Any]: ...
    def virtual_memory(self) -> Any: ...
    def swap_memory(self) -> Any: ...
    def getloadavg(self) -> tuple[float, float, float]: ...
    def disk_partitions(self, all: bool = ...) -> Sequence[Any]: ...  # noqa: A002 - psutil's own name
    def disk_usage(self, path: str) -> Any: ...
    def disk_io_counters(self, perdisk: Literal[True]) -> Mapping[str, Any]: ...
    def net_io_counters(self, pernic: Literal[True]) -> Mapping[str, Any]: ...
    def boot_time(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the host is, as ratios (0..1). *cpu* is None until two samples exist."""

    cpu: float | None
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class _Sample:
    timestamp: float
    taken: float
    duration: float
    cpus: tuple[tuple[float, float], ...]  # (idle, all) seconds of each CPU; empty where they can't be read
    ratios: Mapping[str, float]


class SystemCollector:
    """A prometheus_client collector of the host's metrics, read anew at every scrape.

    A source that fails is left out of that scrape and counted in `upcheck_collector_read_errors_total{source}`;
    the others go on. CPU usage needs two points in time, so it comes from background samples: `sample()`
    every *interval* seconds.
    """

    def __init__(
        self,
        *,
        source: Source = psutil,
        proc: Path = Path("/proc"),
        clock: Clock = time,
        interval: float = 10.0,
    ) -> None:
        self.interval = interval
        self._source = source
        self._proc = proc
        self._clock = clock
        self._last: _Sample | None = None
        self._lock = threading.Lock()  # scrapes run in parallel threads
        self._reads = {
            "cpu": self._cpu,
            "memory": self._memory,
            "load": self._load,
            "filesystem": self._filesystems,
            "disk": self._disks,
            "network": self._networks,
            "time": self._times,
            "filefd": self._files,
        }
        self._errors = dict.fromkeys(self._reads, 0)

    def collect(self) -> Iterator[Metric]:
        """Every family that can be read now."""
        for name, read in self._reads.items():
            try:
                yield from list(read())
            except Exception:  # noqa: BLE001 - whatever a source raises, the other sources are still to be had
                self._failed(name)
        yield from self._own()

    def describe(self) -> Iterable[Metric]:
        """What a registry asks at registration, so that a second collector of these names is refused."""
        return self.collect()

    def sample(self) -> None:
        """Take one background sample of the CPU times. Never raises: what can't be read is counted."""
        started = self._clock.monotonic()
        cpus: tuple[tuple[float, float], ...] = ()
        try:
            cpus = tuple(_idle_and_all(times) for times in self._source.cpu_times(percpu=True))
        except Exception:  # noqa: BLE001 - as in collect(): the loop that samples must outlive its source
            self._failed("cpu")
        before = self._last.cpus if self._last else ()
        now = self._clock.monotonic()
        self._last = _Sample(self._clock.time(), now, now - started, cpus, _busy(before, cpus))

    @property
    def sample_age(self) -> float | None:
        """Seconds since the last background sample; None when there is none."""
        return self._clock.monotonic() - self._last.taken if self._last else None

    @property
    def sample_duration(self) -> float | None:
        """Seconds that the last background sample took; None when there is none."""
        return self._last.duration if self._last else None

    def usage(self) -> Usage:
        """CPU between the two last samples; memory and the root disk as they are now."""
        memory, disk = self._source.virtual_memory(), self._source.disk_usage("/")
        cpu = self._last.ratios.get("total") if self._last else None
        return Usage(cpu, memory.percent / 100, disk.percent / 100)

    def _failed(self, source: str) -> None:
        with self._lock:
            self._errors[source] += 1

    def _own(self) -> Iterator[Metric]:
        errors = CounterMetricFamily(
            "upcheck_collector_read_errors_total", "Reads of the host that failed and were left out.", labels=["source"]
        )
        for source, count in self._errors.items():
            errors.add_metric([source], count)
        yield errors
        if (last := self._last) is None:
            return
        yield GaugeMetricFamily(
            "upcheck_collector_last_sample_timestamp_seconds",
            "Unix time of the last background sample; it ages when the loop is dead.",
            last.timestamp,
        )
        yield GaugeMetricFamily(
            "upcheck_collector_sample_duration_seconds", "Seconds the last background sample took.", last.duration
        )
        if last.ratios:
            usage = GaugeMetricFamily(
                "upcheck_cpu_usage_ratio",
                "Share of the time between the two last background samples in which the CPU was not idle (0 to 1).",
                labels=["cpu"],
            )
            for cpu, ratio in last.ratios.items():
                usage.add_metric([cpu], ratio)
            yield usage

    def _cpu(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "node_cpu_seconds_total", "Seconds each CPU spent in each mode.", labels=["cpu", "mode"]
        )
        for number, times in enumerate(self._source.cpu_times(percpu=True)):
            for mode in _CPU_MODES:
                if hasattr(times, mode):  # macOS knows four of them
                    family.add_metric([str(number), mode], getattr(times, mode))
        yield family

    def _memory(self) -> Iterator[Metric]:
        meminfo = self._proc / "meminfo"
        if meminfo.exists():  # not psutil's: its `cached` has SReclaimable in it, node_exporter's has not
            lines = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
            values = {name.rstrip(":"): int(value) * 1024 for name, value, *_ in lines}
        else:
            memory, swap = self._source.virtual_memory(), self._source.swap_memory()
            values = {"MemTotal": memory.total, "MemAvailable": memory.available, "MemFree": memory.free}
            values |= {"SwapTotal": swap.total, "SwapFree": swap.free}
        for name, sentence in _MEMORY.items():
            if name in values:
                yield GaugeMetricFamily(f"node_memory_{name}_bytes", sentence, values[name])

    def _load(self) -> Iterator[Metric]:
        for minutes, load in zip((1, 5, 15), self._source.getloadavg(), strict=True):
            yield GaugeMetricFamily(f"node_load{minutes}", f"Load average over {minutes} min.", load)

    def _filesystems(self) -> Iterator[Metric]:
        labels = ["device", "fstype", "mountpoint"]
        size = GaugeMetricFamily("node_filesystem_size_bytes", "Size of the filesystem in bytes.", labels=labels)
        avail = GaugeMetricFamily("node_filesystem_avail_bytes", "Bytes that users can still write.", labels=labels)
        free = GaugeMetricFamily("node_filesystem_free_bytes", "Bytes that root can still write.", labels=labels)
        # all=False: only what has a device; so neither pseudo filesystems nor network mounts that could hang a scrape
        mounts = {(part.device, part.mountpoint): part.fstype for part in self._source.disk_partitions(all=False)}
        if not any(mountpoint == "/" for _, mountpoint in mounts):  # a container's is an overlay, a chroot's no mount
            roots = {
                part.device: part.fstype for part in self._source.disk_partitions(all=True) if part.mountpoint == "/"
            }
            device, fstype = next(reversed(roots.items()), ("rootfs", "rootfs"))
            mounts[device, "/"] = fstype
        for (device, mountpoint), fstype in mounts.items():
            ignored = _IGNORED_FILESYSTEMS.fullmatch(fstype) or _IGNORED_MOUNTPOINTS.fullmatch(mountpoint)
            if ignored and mountpoint != "/":
                continue
            try:
                usage = self._source.disk_usage(mountpoint)
            except OSError:
                self._failed("filesystem")
                continue
            values = [device, fstype, mountpoint]
            size.add_metric(values, usage.total)
            avail.add_metric(values, usage.free)  # psutil's free is what users have; its used leaves root's reserve out
            free.add_metric(values, usage.total - usage.used)
        yield from (size, avail, free)

    def _disks(self) -> Iterator[Metric]:
        counters = self._source.disk_io_counters(perdisk=True) or {}
        devices = {name: value for name, value in counters.items() if not _IGNORED_DEVICES.fullmatch(name)}
        return _per_device(_DISK, devices)

    def _networks(self) -> Iterator[Metric]:
        return _per_device(_NETWORK, self._source.net_io_counters(pernic=True) or {})

    def _times(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("node_time_seconds", "Unix time of this host.", self._clock.time())
        yield GaugeMetricFamily("node_boot_time_seconds", "Unix time of the last boot.", self._source.boot_time())

    def _files(self) -> Iterator[Metric]:
        file = self._proc / "sys/fs/file-nr"
        if file.exists():  # Linux only
            allocated, _, maximum = file.read_text(encoding="ascii").split()
            yield GaugeMetricFamily("node_filefd_allocated", "File descriptors in use on the host.", float(allocated))
            yield GaugeMetricFamily("node_filefd_maximum", "File descriptors the host can have.", float(maximum))


def _per_device(table: Mapping[str, tuple[str, float, str]], devices: Mapping[str, Any]) -> Iterator[Metric]:
    for metric, (field, unit, sentence) in table.items():
        family = CounterMetricFamily(metric, sentence, labels=["device"])
        for device, counters in devices.items():
            if hasattr(counters, field):
                family.add_metric([device], getattr(counters, field) * unit)
        yield family


def _idle_and_all(times: Any) -> tuple[float, float]:
    modes = {mode: getattr(times, mode, 0.0) for mode in _CPU_MODES}
    return modes["idle"] + modes["iowait"], sum(modes.values())


def _busy(before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Ratios by CPU and in total; empty when there is nothing to compare, as when a CPU came or went."""
    if not before or len(before) != len(after):
        return {}
    names = ["total", *map(str, range(len(after)))]
    spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
    spans.insert(0, (sum(idle for idle, _ in spans), sum(total for _, total in spans)))
    # the kernel's iowait can step back, so a share is held inside 0..1
    return {
        name: min(1.0, max(0.0, 1 - idle / total))
        for name, (idle, total) in zip(names, spans, strict=True)
        if total > 0
    }
