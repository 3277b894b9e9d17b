"""The host's metrics: fixed values from a small host of our own, and this machine's against psutil's."""

from __future__ import annotations

import subprocess
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from upcheck.system import SystemCollector

# node_exporter's names: its authors took them from /proc/meminfo, and promtool's linter dislikes them there too
CAMEL_CASE = "metric names should be written in 'snake_case' not 'camelCase'"

Partition = namedtuple("Partition", "device mountpoint fstype")
Usage = namedtuple("Usage", "total used free percent")


class Host:
    """A host with known values; no real one has them twice. What *broken* names raises."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.cpus = [SimpleNamespace(user=10.0, system=5.0, idle=80.0, iowait=5.0, nice=0.0)]

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "broken"):
            raise RuntimeError(f"{name} is broken")
        return object.__getattribute__(self, name)

    def cpu_times(self, percpu: bool) -> list[Any]:
        assert percpu
        return self.cpus

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=1000, available=600, free=300, percent=40.0)

    def swap_memory(self) -> Any:
        return SimpleNamespace(total=200, free=150)

    def getloadavg(self) -> tuple[float, float, float]:
        return (0.1, 0.5, 1.5)

    def disk_partitions(self, all: bool = False) -> list[Partition]:  # noqa: A002 - psutil's own name
        assert not all
        return [
            Partition("/dev/sda1", "/", "ext4"),
            Partition("/dev/sda1", "/", "ext4"),
            Partition("/dev/sdb1", "/secret", "ext4"),
            Partition("/dev/loop3", "/snap/core", "squashfs"),
            Partition("/dev/sda1", "/var/lib/docker/volumes", "ext4"),
        ]

    def disk_usage(self, path: str) -> Usage:
        if path == "/secret":
            raise PermissionError(13, "Permission denied", path)
        return Usage(total=1000, used=300, free=600, percent=33.3)

    def disk_io_counters(self, perdisk: bool) -> dict[str, Any]:
        assert perdisk
        values = SimpleNamespace(read_bytes=1, write_bytes=2, read_count=3, write_count=4, busy_time=5000)
        return dict.fromkeys(["sda", "sda1", "nvme0n1", "nvme0n1p2", "loop0", "zram0", "dm-0"], values)

    def net_io_counters(self, pernic: bool) -> dict[str, Any]:
        assert pernic
        return {"eth0": SimpleNamespace(bytes_recv=7, bytes_sent=8, errin=9, errout=10)}

    def boot_time(self) -> float:
        return 1_700_000_000.0


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_800_000_000.0


def proc(folder: Path) -> Path:
    (folder / "sys/fs").mkdir(parents=True)
    (folder / "sys/fs/file-nr").write_text("1234\t0\t99999\n")
    (folder / "meminfo").write_text(
        "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\nBuffers: 5 kB\nCached: 40 kB\nSReclaimable: 7 kB\n"
        "SwapTotal: 20 kB\nSwapFree: 15 kB\nHugePages_Total: 0\n"
    )
    return folder


def values(collector: SystemCollector) -> dict[str, float]:
    """Every sample, by its name and its label values: {'node_load1': 0.1, 'node_..._total sda': 3.0}."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_fixed_values_come_out_in_node_exporters_words(tmp_path: Path) -> None:
    got = values(SystemCollector(source=Host(), proc=proc(tmp_path), clock=Hands()))
    assert {name: value for name, value in got.items() if name.startswith("node_")} == {
        "node_cpu_seconds_total 0 user": 10.0,
        "node_cpu_seconds_total 0 nice": 0.0,
        "node_cpu_seconds_total 0 system": 5.0,
        "node_cpu_seconds_total 0 idle": 80.0,
        "node_cpu_seconds_total 0 iowait": 5.0,
        "node_memory_MemTotal_bytes": 102_400,
        "node_memory_MemAvailable_bytes": 61_440,
        "node_memory_MemFree_bytes": 10_240,
        "node_memory_Buffers_bytes": 5_120,
        "node_memory_Cached_bytes": 40_960,
        "node_memory_SwapTotal_bytes": 20_480,
        "node_memory_SwapFree_bytes": 15_360,
        "node_load1": 0.1,
        "node_load5": 0.5,
        "node_load15": 1.5,
        "node_filesystem_size_bytes /dev/sda1 ext4 /": 1000,
        "node_filesystem_avail_bytes /dev/sda1 ext4 /": 600,
        "node_filesystem_free_bytes /dev/sda1 ext4 /": 700,
        **{f"node_disk_read_bytes_total {disk}": 1 for disk in ("sda", "nvme0n1", "dm-0")},
        **{f"node_disk_written_bytes_total {disk}": 2 for disk in ("sda", "nvme0n1", "dm-0")},
        **{f"node_disk_reads_completed_total {disk}": 3 for disk in ("sda", "nvme0n1", "dm-0")},
        **{f"node_disk_writes_completed_total {disk}": 4 for disk in ("sda", "nvme0n1", "dm-0")},
        **{f"node_disk_io_time_seconds_total {disk}": 5.0 for disk in ("sda", "nvme0n1", "dm-0")},
        "node_network_receive_bytes_total eth0": 7,
        "node_network_transmit_bytes_total eth0": 8,
        "node_network_receive_errs_total eth0": 9,
        "node_network_transmit_errs_total eth0": 10,
        "node_time_seconds": 1_800_000_000.0,
        "node_boot_time_seconds": 1_700_000_000.0,
        "node_filefd_allocated": 1234,
        "node_filefd_maximum": 99999,
    }
    assert got["upcheck_collector_read_errors_total filesystem"] == 1, "/secret can't be read, and that is counted"


def test_without_proc_memory_comes_from_psutil_and_linux_only_metrics_are_absent(tmp_path: Path) -> None:
    got = values(SystemCollector(source=Host(), proc=tmp_path))
    memory = {name: value for name, value in got.items() if name.startswith(("node_memory", "node_filefd"))}
    assert memory == {
        "node_memory_MemTotal_bytes": 1000,
        "node_memory_MemAvailable_bytes": 600,
        "node_memory_MemFree_bytes": 300,
        "node_memory_SwapTotal_bytes": 200,
        "node_memory_SwapFree_bytes": 150,
    }


class Container(Host):
    """A host whose root is an overlay and that has one file bound from a disk."""

    def disk_partitions(self, all: bool = False) -> list[Partition]:  # noqa: A002 - psutil's own name
        bound = Partition("/dev/sda1", "/etc/hosts", "ext4")
        return [Partition("overlay", "/", "overlay"), Partition("proc", "/proc", "proc"), bound] if all else [bound]


def test_a_containers_root_counts_although_it_is_an_overlay(tmp_path: Path) -> None:
    got = values(SystemCollector(source=Container(), proc=proc(tmp_path)))
    mounts = {name.split(maxsplit=1)[1] for name in got if name.startswith("node_filesystem_size_bytes")}
    assert mounts == {"overlay overlay /", "/dev/sda1 ext4 /etc/hosts"}


class Chroot(Host):
    """A host whose list of mounts has no root."""

    def disk_partitions(self, all: bool = False) -> list[Partition]:  # noqa: A002, ARG002 - psutil's own name
        return []


def test_a_root_that_is_no_mount_counts_all_the_same(tmp_path: Path) -> None:
    got = values(SystemCollector(source=Chroot(), proc=proc(tmp_path)))
    assert "node_filesystem_size_bytes rootfs rootfs /" in got


@pytest.mark.parametrize(
    ("broken", "source", "lost"),
    [
        ("cpu_times", "cpu", "node_cpu_"),
        ("getloadavg", "load", "node_load"),
        ("disk_partitions", "filesystem", "node_filesystem_"),
        ("disk_io_counters", "disk", "node_disk_"),
        ("net_io_counters", "network", "node_network_"),
        ("boot_time", "time", ("node_boot_time_", "node_time_")),
    ],
)
def test_a_source_that_raises_loses_only_itself(
    tmp_path: Path, broken: str, source: str, lost: str | tuple[str, ...]
) -> None:
    whole = values(SystemCollector(source=Host(), proc=proc(tmp_path)))
    got = values(SystemCollector(source=Host(broken), proc=tmp_path))
    assert got[f"upcheck_collector_read_errors_total {source}"] == 1
    assert whole.keys() - got.keys() == {name for name in whole if name.startswith(lost)} != set()


def test_cpu_usage_is_absent_until_two_samples_exist_then_says_what_was_not_idle(tmp_path: Path) -> None:
    host, clock = Host(), Hands()
    host.cpus = [SimpleNamespace(user=0.0, idle=0.0, iowait=0.0), SimpleNamespace(user=0.0, idle=0.0, iowait=0.0)]
    system = SystemCollector(source=host, proc=tmp_path, clock=clock)
    assert system.sample_age is None
    assert "upcheck_collector_last_sample_timestamp_seconds" not in values(system)
    system.sample()
    assert "upcheck_cpu_usage_ratio total" not in values(system)
    assert system.usage().cpu is None
    clock.now += 10
    host.cpus = [SimpleNamespace(user=9.0, idle=0.5, iowait=0.5), SimpleNamespace(user=1.0, idle=6.0, iowait=3.0)]
    system.sample()
    got = values(system)
    ratios = {cpu: got[f"upcheck_cpu_usage_ratio {cpu}"] for cpu in ("total", "0", "1")}
    assert ratios == pytest.approx({"total": 0.5, "0": 0.9, "1": 0.1})
    assert got["upcheck_collector_last_sample_timestamp_seconds"] == 1_800_000_010.0
    assert system.usage().cpu == pytest.approx(0.5)
    clock.now += 7
    assert system.sample_age == 7


def test_samples_that_can_not_be_compared_give_no_ratio(tmp_path: Path) -> None:
    host = Host()
    system = SystemCollector(source=host, proc=tmp_path)
    system.sample()
    system.sample()  # no time has passed on this host
    assert "upcheck_cpu_usage_ratio total" not in values(system)
    host.cpus = host.cpus * 2  # a CPU came
    system.sample()
    assert "upcheck_cpu_usage_ratio total" not in values(system)
    # iowait stepped back, as the kernel's may: a share is never outside 0..1
    host.cpus = [SimpleNamespace(user=11.0, idle=80.0, iowait=4.5, system=5.0, nice=0.0)] * 2
    system.sample()
    assert values(system)["upcheck_cpu_usage_ratio total"] == 1.0


def test_sampling_outlives_a_source_that_raises(tmp_path: Path) -> None:
    clock = Hands()
    system = SystemCollector(source=Host("cpu_times"), proc=tmp_path, clock=clock)
    system.sample()
    clock.now += 5
    system.sample()
    got = values(system)
    assert got["upcheck_collector_last_sample_timestamp_seconds"] == clock.now, "the loop is alive, and says so"
    assert got["upcheck_collector_read_errors_total cpu"] == 3, "two samples and one scrape"


def test_this_machine_agrees_with_psutil() -> None:
    got = values(SystemCollector())
    assert got["node_memory_MemTotal_bytes"] == psutil.virtual_memory().total
    assert got["node_memory_SwapTotal_bytes"] == psutil.swap_memory().total
    assert got["node_boot_time_seconds"] == pytest.approx(psutil.boot_time(), abs=2)
    cpus = {name.split()[1] for name in got if name.startswith("node_cpu_seconds_total")}
    assert len(cpus) == psutil.cpu_count()
    interfaces = {name.split()[1] for name in got if name.startswith("node_network_receive_bytes_total")}
    assert interfaces == set(psutil.net_io_counters(pernic=True))
    assert all(value >= 0 for value in got.values())


def test_a_registry_refuses_a_second_metric_of_the_same_name() -> None:
    registry = CollectorRegistry()
    registry.register(SystemCollector())
    with pytest.raises(ValueError, match="node_load1"):
        Gauge("node_load1", "A load of one's own.", registry=registry)


def test_promtool_only_dislikes_what_it_dislikes_in_node_exporter(promtool_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(SystemCollector())
    run = subprocess.run(
        [promtool_path, "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        timeout=60,
        check=False,
    )
    complaints = (run.stdout + run.stderr).decode().splitlines()
    assert all(line.startswith("node_memory_") and line.endswith(CAMEL_CASE) for line in complaints), complaints
