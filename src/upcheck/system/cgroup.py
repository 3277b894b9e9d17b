"""What limits this process: its cgroups, v1 or v2, in cAdvisor's words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from upcheck.system.families import counter, gauge
from upcheck.system.host import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from upcheck.exposition import Block
    from upcheck.system.files import Files

USAGE = gauge("container_memory_usage_bytes", "Memory of the container, with the files it keeps in memory.")
WORKING_SET = gauge("container_memory_working_set_bytes", "Memory of the container that can't be freed at once.")
MEMORY_LIMIT = gauge("container_spec_memory_limit_bytes", "The most memory the container can have; 0: no limit.")
CPU_USAGE = counter("container_cpu_usage_seconds_total", "Seconds of CPU the container used.")
CPU_QUOTA = gauge("container_spec_cpu_quota", "Microseconds of CPU the container can have in a period.")
CPU_PERIOD = gauge("container_spec_cpu_period", "Length of a period in microseconds.")
PERIODS = counter("container_cpu_cfs_periods_total", "Periods in which the container could run.")
THROTTLED_PERIODS = counter("container_cpu_cfs_throttled_periods_total", "Periods in which it used up its quota.")
THROTTLED = counter("container_cpu_cfs_throttled_seconds_total", "Seconds it had to wait for the next period.")
FAMILIES = (
    *(USAGE, WORKING_SET, MEMORY_LIMIT),
    *(CPU_USAGE, CPU_QUOTA, CPU_PERIOD, PERIODS, THROTTLED_PERIODS, THROTTLED),
)

_UNLIMITED = 1 << 60  # v1 writes a number of about 2**63 where there is no limit


class _Place(NamedTuple):
    """Where a controller keeps this process: its own folder, and that of each cgroup it is in, to the topmost seen."""

    v2: bool
    levels: tuple[str, ...]
    contained: bool  # the topmost folder seen is the process's own: the sight of a container


class Cgroup:
    """The limits that hold for this process, wherever above it they are set."""

    def __init__(self, proc: Path, sys: Path, files: Files) -> None:
        self._proc = proc
        self._sys = sys
        self._files = files
        self._found = False
        self._memberships = b""
        self._places: dict[str, _Place] = {}
        self._memory: tuple[_Place, str] | None = None
        self._cpu: tuple[_Place, str] | None = None
        self._accounts: str | None = None

    def find(self) -> None:
        """Look anew for the tightest limits: they can be set and moved at any time."""
        try:
            memberships = self._files.read(f"{self._proc}/self/cgroup")
        except FileNotFoundError:  # a kernel without cgroups
            memberships = b""
        if memberships != self._memberships:
            mounts = self._files.read(f"{self._proc}/self/mountinfo")
            self._places = _places(os.fsdecode(memberships), os.fsdecode(mounts), self._sys)
            self._memberships = memberships
        places = self._places
        self._memory = self._tightest(places.get("memory"), self._memory_limit)
        self._cpu = self._tightest(places.get("cpu"), self._cpu_limit)
        accounts = places.get("cpuacct")
        self._accounts = accounts.levels[0] if accounts else None
        self._found = True

    def memory(self) -> Memory | None:
        """The limit and what is left of it; None where there is no limit."""
        if not self._found:
            self.find()
        if self._memory is None:
            return None
        _, working_set, limit = self._memory_now(*self._memory)
        return Memory(int(limit), max(0, int(limit) - working_set), 0, 0) if limit < _UNLIMITED else None

    def blocks(self) -> Iterator[Block]:
        """The families; without samples where nothing limits this process and it is in no container."""
        if not self._found:
            self.find()
        values: dict[str, float] = {}
        if self._memory:
            usage, working_set, limit = self._memory_now(*self._memory)
            limit = limit if limit < _UNLIMITED else 0
            values = {USAGE.name: usage, WORKING_SET.name: working_set, MEMORY_LIMIT.name: limit}
        if self._cpu:
            values |= self._cpu_now(*self._cpu)
        for family in FAMILIES:
            yield family, f"{family.name} {values[family.name]}\n" if family.name in values else ""

    def _tightest(self, place: _Place | None, limit: Callable[[_Place, str], float]) -> tuple[_Place, str] | None:
        if place is None:
            return None
        limits = []
        for level in place.levels:
            try:
                limits.append((limit(place, level), level))
            except FileNotFoundError:  # the real root has no limits
                continue
        lowest = min(limits, key=lambda pair: pair[0], default=None)
        if lowest is None or (lowest[0] >= _UNLIMITED and not place.contained):
            return None
        return place, lowest[1]

    def _memory_limit(self, place: _Place, level: str) -> float:
        return self._number(level, "memory.max" if place.v2 else "memory.limit_in_bytes")

    def _memory_now(self, place: _Place, level: str) -> tuple[int, int, float]:
        usage = int(self._number(level, "memory.current" if place.v2 else "memory.usage_in_bytes"))
        inactive = self._table(level, "memory.stat").get("inactive_file" if place.v2 else "total_inactive_file", 0)
        return usage, max(0, usage - inactive), self._memory_limit(place, level)

    def _cpu_limit(self, place: _Place, level: str) -> float:
        quota, period = self._quota(place, level)
        return quota / period if quota < _UNLIMITED else _UNLIMITED

    def _quota(self, place: _Place, level: str) -> tuple[float, float]:
        if place.v2:
            quota, period = self._files.read(f"{level}/cpu.max").split()
            return _bound(quota), int(period)
        return self._number(level, "cpu.cfs_quota_us"), self._number(level, "cpu.cfs_period_us")

    def _cpu_now(self, place: _Place, level: str) -> dict[str, float]:
        stat = self._table(level, "cpu.stat")
        values: dict[str, float] = {}
        if place.v2:
            values[CPU_USAGE.name] = stat["usage_usec"] / 1e6
        elif self._accounts:
            values[CPU_USAGE.name] = self._number(self._accounts, "cpuacct.usage") / 1e9
        quota, period = self._quota(place, level)
        values[CPU_PERIOD.name] = period
        if quota < _UNLIMITED:  # cAdvisor, too, tells of throttling only where something throttles
            values |= {
                CPU_QUOTA.name: quota,
                PERIODS.name: stat["nr_periods"],
                THROTTLED_PERIODS.name: stat["nr_throttled"],
                THROTTLED.name: stat["throttled_usec"] / 1e6 if place.v2 else stat["throttled_time"] / 1e9,
            }
        return values

    def _number(self, level: str, name: str) -> float:
        return _bound(self._files.read(f"{level}/{name}").strip())

    def _table(self, level: str, name: str) -> dict[str, int]:
        words = self._files.read(f"{level}/{name}").decode().split()
        return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=True)}


def _bound(word: bytes) -> float:
    """Infinite where there is none: v2 says max, v1 -1 for the CPU."""
    if word in (b"max", b"-1"):
        return float("inf")
    return int(word)


def _places(memberships: str, mounts: str, sys: Path) -> dict[str, _Place]:
    """By controller, from /proc/self/cgroup and /proc/self/mountinfo."""
    tops: dict[str, tuple[bool, str, Path]] = {}
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        _, _, _, root, mountpoint, *_ = left.split(" ")
        kind, _, options = right.split(" ")[:3]
        where = sys / mountpoint.removeprefix("/sys/") if mountpoint.startswith("/sys/") else Path(mountpoint)
        if kind == "cgroup2":
            tops.setdefault("", (True, root, where))
        elif kind == "cgroup":
            tops.update((option, (False, root, where)) for option in options.split(","))
    places: dict[str, _Place] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        # v2 has one line, with no controllers in it, for all that v1 has not taken
        for controller in controllers.split(",") if controllers else ("memory", "cpu"):
            top = tops.get(controller if controllers else "")
            if top and (controllers or controller not in places):
                places[controller] = _place(*top, path)
    return places


def _place(v2: bool, root: str, top: Path, path: str) -> _Place:
    inner = path.removeprefix(root.rstrip("/")).strip("/") if path.startswith(root) else ""
    folder = top / inner
    if ".." in Path(inner).parts or not folder.is_dir():
        folder = top  # another namespace's path: what is seen here is ours
    levels = [str(folder), *(str(above) for above in folder.parents if above.is_relative_to(top))]
    return _Place(v2, tuple(levels), contained=folder == top and (v2 or root != "/"))
