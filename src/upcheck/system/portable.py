"""macOS, and whatever has no /proc: psutil's readings, in the same words as far as they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from upcheck.exposition import Block, Family, labelled, number
from upcheck.system import families
from upcheck.system.filesystems import Mount, counted
from upcheck.system.host import Memory

# family: psutil's field, and its unit in ours
_DISK = {
    families.READ_BYTES: ("read_bytes", 1),
    families.WRITTEN_BYTES: ("write_bytes", 1),
    families.READS: ("read_count", 1),
    families.WRITES: ("write_count", 1),
    families.READ_TIME: ("read_time", 0.001),
    families.WRITE_TIME: ("write_time", 0.001),
    families.READS_MERGED: ("read_merged_count", 1),
    families.WRITES_MERGED: ("write_merged_count", 1),
    families.IO_TIME: ("busy_time", 0.001),
}
_NETWORK = {
    families.RECEIVE_BYTES: ("bytes_recv", 1),
    families.RECEIVE_PACKETS: ("packets_recv", 1),
    families.RECEIVE_ERRS: ("errin", 1),
    families.RECEIVE_DROP: ("dropin", 1),
    families.TRANSMIT_BYTES: ("bytes_sent", 1),
    families.TRANSMIT_PACKETS: ("packets_sent", 1),
    families.TRANSMIT_ERRS: ("errout", 1),
    families.TRANSMIT_DROP: ("dropout", 1),
}
_LOOPBACK = ("lo", "lo0")


class Source(Protocol):
    """The part of psutil that is read. The `psutil` module is one."""

    def cpu_times(self, percpu: Literal[True]) -> Sequence[Any]: ...
    def virtual_memory(self) -> Any: ...
    def swap_memory(self) -> Any: ...
    def getloadavg(self) -> tuple[float, float, float]: ...
    def disk_partitions(self, all: bool = ...) -> Sequence[Any]: ...  # noqa: A002 - psutil's own name
    def disk_io_counters(self, perdisk: Literal[True]) -> Mapping[str, Any] | None: ...
    def net_io_counters(self, pernic: Literal[True]) -> Mapping[str, Any] | None: ...
    def boot_time(self) -> float: ...
    def pids(self) -> list[int]: ...


class Portable:
    """The host as psutil tells it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.reads: dict[str, Callable[[], Iterable[Block]]] = {
            "cpu": self._cpu_blocks,
            "memory": self._memory_blocks,
            "load": self._load_blocks,
            "disk": self._disk_blocks,
            "network": lambda: _devices(_NETWORK, source.net_io_counters(pernic=True) or {}),
            "uname": _uname_blocks,
        }

    def cpus(self) -> dict[str, tuple[float, float]]:
        """Seconds idle, and in all, by CPU."""
        told: dict[str, tuple[float, float]] = {}
        for cpu, times in enumerate(self._source.cpu_times(percpu=True)):
            modes = {mode: getattr(times, mode, 0.0) for mode in families.CPU_MODES}
            told[str(cpu)] = modes["idle"] + modes["iowait"], sum(modes.values())
        return told

    def memory(self) -> Memory:
        """As it is now."""
        memory, swap = self._source.virtual_memory(), self._source.swap_memory()
        return Memory(memory.total, memory.available, swap.total, swap.free)

    def load(self) -> tuple[float, float, float]:
        """Over 1, 5 and 15 minutes."""
        return self._source.getloadavg()

    def network(self) -> tuple[int, int]:
        """Bytes that all interfaces but the loopback received and sent."""
        counters = self._source.net_io_counters(pernic=True) or {}
        apart = [one for name, one in counters.items() if name not in _LOOPBACK]
        return sum(one.bytes_recv for one in apart), sum(one.bytes_sent for one in apart)

    def boot_time(self) -> float:
        """In Unix seconds."""
        return self._source.boot_time()

    def pids(self) -> int:
        """How many processes there are."""
        return len(self._source.pids())

    def mounts(self) -> list[Mount]:
        """Filesystems on local devices, and the root."""

        def mounted(*, every: bool) -> list[Mount]:
            return [
                Mount(part.device, part.fstype, part.mountpoint, "ro" in part.opts.split(","))
                for part in self._source.disk_partitions(all=every)
            ]

        local = mounted(every=False)
        return counted(local, local if any(mount.mountpoint == "/" for mount in local) else mounted(every=True))

    def find_limits(self) -> None:
        """There are none: cgroups are Linux's."""

    def limited(self) -> None:
        """As above."""

    def _cpu_blocks(self) -> Iterator[Block]:
        lines = [
            f"{labelled(families.CPU.name, (('cpu', str(cpu)), ('mode', mode)))} {number(getattr(times, mode))}\n"
            for cpu, times in enumerate(self._source.cpu_times(percpu=True))
            for mode in families.CPU_MODES
            if hasattr(times, mode)  # macOS knows four of them
        ]
        yield families.CPU, "".join(lines)
        yield _alone(families.BOOT_TIME, self._source.boot_time())

    def _memory_blocks(self) -> Iterator[Block]:
        memory, swap = self._source.virtual_memory(), self._source.swap_memory()
        fields = {"MemTotal": memory.total, "MemAvailable": memory.available, "MemFree": memory.free}
        for field, value in (fields | {"SwapTotal": swap.total, "SwapFree": swap.free}).items():
            yield _alone(families.memory(field), value)

    def _load_blocks(self) -> Iterator[Block]:
        for family, load in zip(families.LOADS, self._source.getloadavg(), strict=True):
            yield _alone(family, load)

    def _disk_blocks(self) -> Iterator[Block]:
        counters = self._source.disk_io_counters(perdisk=True) or {}
        disks = {name: value for name, value in counters.items() if not families.IGNORED_DEVICES.fullmatch(name)}
        return _devices(_DISK, disks)


def _devices(table: Mapping[Family, tuple[str, float]], devices: Mapping[str, Any]) -> Iterator[Block]:
    for family, (field, unit) in table.items():
        lines = [
            f"{labelled(family.name, (('device', device),))} {number(getattr(counters, field) * unit)}\n"
            for device, counters in devices.items()
            if hasattr(counters, field)
        ]
        yield family, "".join(lines)


def _uname_blocks() -> Iterator[Block]:
    uname = os.uname()
    values = (uname.sysname, uname.release, uname.version, uname.machine, uname.nodename, "(none)")
    yield families.UNAME, f"{labelled(families.UNAME.name, zip(families.UNAME.labels, values, strict=True))} 1\n"


def _alone(family: Family, value: float) -> Block:
    return family, f"{family.name} {number(value)}\n"
