"""Hosts with known values: a macOS as psutil tells it, and miniature trees of /proc and /sys."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from upcheck.exposition import Source, page
from upcheck.system import SystemCollector

Partition = namedtuple("Partition", "device mountpoint fstype opts")


class Sizes(NamedTuple):
    """What statvfs says: 1000 blocks of 10 bytes, 300 in use, 100 in root's reserve."""

    f_frsize: int = 10
    f_blocks: int = 1000
    f_bfree: int = 700
    f_bavail: int = 600
    f_files: int = 50
    f_ffree: int = 40


def statvfs(path: str) -> Sizes:
    if path == "/secret":
        raise PermissionError(13, "Permission denied", path)
    return Sizes()


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_800_000_000.0


class MacOS:
    """A host with known values; no real one has them twice. What *broken* names raises."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.cpus = [SimpleNamespace(user=10.0, system=5.0, idle=85.0, nice=0.0)]
        self.partitions = [
            Partition("/dev/disk1s1", "/", "apfs", "ro,local"),
            Partition("/dev/disk2", "/x", "hfs", "rw"),
        ]

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "broken"):
            raise RuntimeError(f"{name} is broken")
        return object.__getattribute__(self, name)

    def cpu_times(self, percpu: bool) -> list[Any]:
        assert percpu
        return self.cpus

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=1000, available=600, free=300)

    def swap_memory(self) -> Any:
        return SimpleNamespace(total=200, free=150)

    def getloadavg(self) -> tuple[float, float, float]:
        return (0.1, 0.5, 1.5)

    def disk_partitions(self, all: bool = False) -> list[Any]:  # noqa: A002, ARG002 - psutil's own name
        return self.partitions

    def disk_io_counters(self, perdisk: bool) -> dict[str, Any]:
        assert perdisk
        return {"disk0": SimpleNamespace(read_bytes=1, write_bytes=2, read_count=3, write_count=4, read_time=5000)}

    def net_io_counters(self, pernic: bool) -> dict[str, Any]:
        assert pernic
        values = {"bytes_recv": 7, "bytes_sent": 8, "packets_recv": 1, "packets_sent": 2}
        errors = {"errin": 9, "errout": 10, "dropin": 11, "dropout": 12}
        return dict.fromkeys(["en0", "lo0"], SimpleNamespace(**values, **errors))

    def boot_time(self) -> float:
        return 1_700_000_000.0

    def pids(self) -> list[int]:
        return [1, 2, 3]


STAT = """\
cpu  25 5 30 400 10 3 2 1 4 2
cpu0 10 5 20 300 10 3 2 1 4 2
cpu1 15 0 10 100 0 0 0 0 0 0
intr 12345 0 1 2
ctxt 678
btime 1700000000
processes 90
procs_running 2
procs_blocked 1
softirq 5 1 2
"""
MEMINFO = """\
MemTotal:          100 kB
MemFree:            10 kB
MemAvailable:       60 kB
Buffers:             5 kB
Cached:             40 kB
Active(anon):        7 kB
SwapTotal:          20 kB
SwapFree:           15 kB
HugePages_Total:       3
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     100      1    0    0    0     0          0         0      100      1    0    0    0     0       0          0
  eth0:       1      2    3    4    5     6          7         8        9     10   11   12   13    14      15         16
"""
DISKSTATS = """\
   7       0 loop0 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
 253       0 zram0 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
   8       1 sda1 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
 259       0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
 259       1 nvme0n1p2 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9
"""
MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
/dev/sdb1 /media/a\\040disk vfat ro,nosuid 0 0
/dev/sdc1 /secret ext4 rw 0 0
/dev/loop3 /snap/core squashfs ro 0 0
/dev/sda1 /var/lib/docker/volumes ext4 rw 0 0
server:/export /net nfs4 rw 0 0
"""
DEBIAN = {
    "stat": STAT,
    "meminfo": MEMINFO,
    "loadavg": "0.10 0.50 1.50 2/345 678\n",
    "net/dev": NET_DEV,
    "diskstats": DISKSTATS,
    "sys/fs/file-nr": "1234\t0\t99999\n",
    "sys/kernel/domainname": "example.org\n",
    "vmstat": "nr_free_pages 1\npgpgin 2\npswpin 3\npgfault 4\npgmajfault 5\noom_kill 6\npgsteal_kswapd 7\n",
    "pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 total=0\n",
    "pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 total=500000\n",
    "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=3000000\nfull avg10=0.00 total=4\n",
    "filesystems": "nodev\tproc\nnodev\ttmpfs\nnodev\tnfs4\n\text4\n\tvfat\n\tsquashfs\n",
    "self/mounts": MOUNTS,
    "1/comm": "init\n",
    "17/comm": "sshd\n",
}


def tree(folder: Path, files: dict[str, str]) -> Path:
    """*files* below *folder*."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def values(source: Source) -> dict[str, float]:
    """Every sample, by its name and its label values: {'node_load1': 0.1, 'node_..._total sda': 3.0}."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(page(source.blocks()).decode())
        for sample in family.samples
    }


def debian(folder: Path, **arguments: Any) -> SystemCollector:
    """A collector of the miniature host at *folder*."""
    return SystemCollector(proc=folder / "proc", sys=folder / "sys", statvfs=statvfs, **arguments)
