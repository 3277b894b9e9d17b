"""Linux: /proc read by descriptors that stay open, its numbers set into lines that were written beforehand."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path

from upcheck.exposition import Block, Family, escaped, labelled
from upcheck.system import families
from upcheck.system.cgroup import Cgroup
from upcheck.system.families import Column
from upcheck.system.files import Files
from upcheck.system.filesystems import Mount, counted
from upcheck.system.host import Memory

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT = families.CPU_MODES.index("idle"), families.CPU_MODES.index("iowait")
_MODES = len(families.CPU_MODES)
_CAME_BACK = 3 / _TICK  # ticks that a CPU's idle time steps back when it was offline; less is the kernel's rounding
_VMSTAT = re.compile(rb"oom_kill|pgpg.*|pswp.*|pg.*fault.*")  # node_exporter's default
_OCTAL = re.compile(r"\\([0-7]{3})")
_END = b"\n"  # of a line
_NO_PRESSURE = {errno.ENOENT, errno.EOPNOTSUPP}  # a kernel before 4.20, or one started with psi=0


class Linux:
    """The host as /proc and cgroups tell it. Every reading raises OSError or ValueError where they don't."""

    def __init__(self, proc: Path, sys: Path) -> None:
        self._proc = str(proc)
        self._files = Files()
        self._cpus: dict[str, list[int]] = {}
        self._cpu_lines = ("", "")
        self._cpu_names: list[str] = []
        self._memory_names: list[bytes] = []
        self._memory_families: list[tuple[Family, str, int]] = []
        self._vmstat: list[tuple[bytes, Family]] = []
        self._disk = _Devices(families.DISK, name=2, ignored=families.IGNORED_DEVICES)
        self._network = _Devices([Column(family) for family in families.NETWORK], name=0)
        self._uname: tuple[tuple[str, ...], Block] | None = None
        self._cgroup = Cgroup(proc, sys, self._files)
        self.find_limits, self.limited = self._cgroup.find, self._cgroup.memory
        self.reads: dict[str, Callable[[], Iterable[Block]]] = {
            "cpu": self._stat_blocks,
            "memory": self._memory_blocks,
            "load": self._load_blocks,
            "disk": lambda: self._disk.blocks(self._read("diskstats").decode()),
            "network": lambda: self._network.blocks(self._net_dev()),
            "filefd": self._filefd_blocks,
            "vmstat": self._vmstat_blocks,
            "pressure": self._pressure_blocks,
            "uname": self._uname_blocks,
            "cgroup": self._cgroup.blocks,
        }

    def cpus(self) -> dict[str, tuple[float, float]]:
        """Seconds idle, and in all, by CPU."""
        self._parse_cpus(self._read("stat").split(b"\n"))
        return {
            cpu: ((row[_IDLE] + row[_IOWAIT]) * _TICK, sum(row[:_MODES]) * _TICK) for cpu, row in self._cpus.items()
        }

    def memory(self) -> Memory:
        """As /proc/meminfo has it; kernels before 3.14 tell nothing available, then what is free or holds files."""
        words = self._read("meminfo").replace(b" kB", b"").split()
        found = {name: int(value) * 1024 for name, value in zip(words[::2], words[1::2], strict=True)}
        loose = sum(found.get(name, 0) for name in (b"MemFree:", b"Buffers:", b"Cached:"))
        return Memory(
            found[b"MemTotal:"],
            found.get(b"MemAvailable:", loose),
            found.get(b"SwapTotal:", 0),
            found.get(b"SwapFree:", 0),
        )

    def load(self) -> tuple[float, float, float]:
        """Over 1, 5 and 15 minutes."""
        one, five, fifteen, *_ = map(float, self._read("loadavg").split()[:3])
        return one, five, fifteen

    def network(self) -> tuple[int, int]:
        """Bytes that all interfaces but the loopback received and sent."""
        rows = [line.split() for line in self._net_dev().splitlines()]
        apart = [row for row in rows if row[0] != "lo"]
        return sum(int(row[1]) for row in apart), sum(int(row[9]) for row in apart)

    def boot_time(self) -> float:
        """In Unix seconds."""
        found = re.search(rb"^btime (\d+)$", self._read("stat"), re.MULTILINE)
        if found is None:
            raise ValueError("no btime in /proc/stat")
        return float(found[1])

    def pids(self) -> int:
        """How many processes there are."""
        return sum(name.isdigit() for name in os.listdir(self._proc))  # noqa: PTH208 - a path's own takes ten times as long

    def mounts(self) -> list[Mount]:
        """Filesystems on local devices, and the root."""
        kinds = self._read("filesystems").decode().splitlines()
        on_devices = {kind.strip() for kind in kinds if not kind.startswith("nodev")} | {"zfs"}
        every = [_mount(line.split(" ")) for line in os.fsdecode(self._read("self/mounts")).splitlines()]
        return counted((mount for mount in every if mount.fstype in on_devices), every)

    def _read(self, name: str) -> bytes:
        return self._files.read(f"{self._proc}/{name}")

    def _net_dev(self) -> str:
        _, names, rows = self._read("net/dev").decode().split("\n", 2)
        if "|bytes" not in names:
            raise ValueError("no heading in /proc/net/dev")
        return rows.replace(":", " ")

    def _parse_cpus(self, lines: Sequence[bytes]) -> None:
        """Take over the CPUs' rows. None steps back as long as the CPU stays: rates are made of them."""
        rows: dict[str, list[int]] = {}
        for line in lines[1:]:
            if not line.startswith(b"cpu"):
                break
            name, *ticks = line.split()
            row, cpu = [int(tick) for tick in ticks], name[3:].decode()
            before = self._cpus.get(cpu)
            if before and len(before) == len(row) and before[_IDLE] - row[_IDLE] < _CAME_BACK:
                row = list(map(max, before, row))
            rows[cpu] = row
        if not rows or any(len(row) < _MODES for row in rows.values()):
            raise ValueError("no CPUs in /proc/stat")
        self._cpus = rows

    def _stat_blocks(self) -> Iterator[Block]:
        lines = self._read("stat").split(b"\n")
        self._parse_cpus(lines)
        names = list(self._cpus)
        if names != self._cpu_names:
            self._cpu_lines = (
                _cpu_lines(families.CPU, families.CPU_MODES, names),
                _cpu_lines(families.CPU_GUEST, ("user", "nice"), names),
            )
            self._cpu_names = names
        rows = self._cpus.values()
        yield families.CPU, self._cpu_lines[0] % tuple([tick * _TICK for row in rows for tick in row[:_MODES]])
        if all(len(row) >= _MODES + 2 for row in rows):
            guests = [tick * _TICK for row in rows for tick in row[_MODES : _MODES + 2]]
            yield families.CPU_GUEST, self._cpu_lines[1] % tuple(guests)
        for line in lines[len(names) + 1 :]:
            name, _, rest = line.partition(b" ")
            if family := families.STAT.get(name):
                yield family, f"{family.name} {int(rest.partition(b' ')[0])}\n"

    def _memory_blocks(self) -> list[Block]:
        data = self._read("meminfo")
        words = data.replace(b" kB", b"").split()
        if words[::2] != self._memory_names:
            self._memory_families = [_memory_family(line) for line in data.splitlines()]
            self._memory_names = words[::2]
        if not words:
            raise ValueError("/proc/meminfo is empty")
        return [
            (family, f"{name} {int(value) * unit}\n")
            for (family, name, unit), value in zip(self._memory_families, words[1::2], strict=True)
        ]

    def _load_blocks(self) -> Iterator[Block]:
        *loads, threads, _ = self._read("loadavg").split()
        for family, load in zip(families.LOADS, loads, strict=True):
            yield family, f"{family.name} {float(load)}\n"
        yield families.THREADS, f"{families.THREADS.name} {int(threads.partition(b'/')[2])}\n"

    def _filefd_blocks(self) -> list[Block]:
        allocated, _, maximum = self._read("sys/fs/file-nr").split()
        return [
            (family, f"{family.name} {int(value)}\n")
            for family, value in zip(families.FILES, (allocated, maximum), strict=True)
        ]

    def _vmstat_blocks(self) -> list[Block]:
        data = b"\n" + self._read("vmstat")
        if not self._vmstat:
            names = [name for name in data.split()[::2] if _VMSTAT.fullmatch(name)]
            if not names:
                raise ValueError("nothing known in /proc/vmstat")
            self._vmstat = [(b"\n" + name + b" ", families.vmstat(name.decode())) for name in names]
        blocks: list[Block] = []
        for begin, family in self._vmstat:
            at = data.index(begin) + len(begin)
            blocks.append((family, f"{family.name} {int(data[at : data.index(_END, at)])}\n"))
        return blocks

    def _pressure_blocks(self) -> Iterator[Block]:
        for resource, known in families.PRESSURE.items():
            try:
                data = self._read(f"pressure/{resource}")
            except OSError as error:
                if error.errno in _NO_PRESSURE:
                    continue
                raise
            totals = [int(part.split(None, 1)[0]) for part in data.split(b"total=")[1:]]
            if not totals:
                raise ValueError(f"no totals in /proc/pressure/{resource}")
            for family, microseconds in zip(known, totals):  # noqa: B905 - older kernels have no `full` for the CPU
                yield family, f"{family.name} {microseconds / 1e6}\n"

    def _uname_blocks(self) -> list[Block]:
        uname = os.uname()
        values = (uname.sysname, uname.release, uname.version, uname.machine, uname.nodename, self._domain())
        if self._uname is None or self._uname[0] != values:
            line = labelled(families.UNAME.name, zip(families.UNAME.labels, values, strict=True))
            self._uname = values, (families.UNAME, f"{line} 1\n")
        return [self._uname[1]]

    def _domain(self) -> str:
        try:
            return self._read("sys/kernel/domainname").decode().strip()
        except FileNotFoundError:
            return "(none)"  # what uname says where none is set


class _Devices:
    """A table of the kernel's with a row for each device: *columns* begin after the device's name."""

    def __init__(self, columns: Sequence[Column], *, name: int, ignored: re.Pattern[str] | None = None) -> None:
        self._columns = columns
        self._name = name
        self._ignored = ignored
        self._names: list[str] | None = None
        self._shown: list[bool] = []
        self._lines: list[str] = []

    def blocks(self, table: str) -> Iterator[Block]:
        """The families of the columns that *table* has."""
        words = table.split()
        width = len(table.partition("\n")[0].split())
        if words and (len(words) % width or width <= self._name + 1):
            raise ValueError(f"rows of different lengths, or none: {table[:100]!r}")
        names = words[self._name :: width] if words else []
        if names != self._names:
            self._learn(names)
        for number, (column, lines) in enumerate(zip(self._columns, self._lines, strict=True), self._name + 1):
            if number >= width:
                break
            values = tuple(compress(words[number::width], self._shown))
            if values and not "".join(values).isdigit():
                raise ValueError(f"no number among {values}")
            if column.unit == 1:
                yield column.family, lines % values
            else:
                yield column.family, lines % tuple([int(value) * column.unit for value in values])

    def _learn(self, names: list[str]) -> None:
        self._shown = [self._ignored is None or not self._ignored.fullmatch(name) for name in names]
        labels = [escaped(name).replace("%", "%%") for name in compress(names, self._shown)]
        self._lines = [
            "".join(f'{family.name}{{device="{label}"}} {"%s" if unit >= 1 else "%.3f"}\n' for label in labels)
            for family, unit in self._columns
        ]
        self._names = names


def _cpu_lines(family: Family, modes: Sequence[str], cpus: Iterable[str]) -> str:
    return "".join(f'{family.name}{{cpu="{cpu}",mode="{mode}"}} %.2f\n' for cpu in cpus for mode in modes)


def _memory_family(line: bytes) -> tuple[Family, str, int]:
    field, colon, rest = line.decode().partition(":")
    if not colon:
        raise ValueError(f"no field of /proc/meminfo: {line[:100]!r}")
    in_bytes = rest.endswith(" kB")
    family = families.memory(field, in_bytes=in_bytes)
    return family, family.name, 1024 if in_bytes else 1


def _mount(fields: Sequence[str]) -> Mount:
    device, mountpoint, fstype, options = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), f) for f in fields[:4])
    return Mount(device, fstype, mountpoint, "ro" in options.split(","))
