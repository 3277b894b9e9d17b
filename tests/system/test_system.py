"""What holds of every host: samples, usage, the snapshot, filesystems that hang, and psutil where there is no /proc."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.system.hosts import (
    DEBIAN,
    MOUNTS,
    NET_DEV,
    STAT,
    Hands,
    MacOS,
    Partition,
    Sizes,
    debian,
    statvfs,
    tree,
    values,
)
from upcheck.system import Snapshot, SystemCollector, Usage
from upcheck.system.filesystems import STUCK_AFTER


def macos(host: MacOS, folder: Path, clock: Hands | None = None) -> SystemCollector:
    return SystemCollector(source=host, proc=folder, statvfs=statvfs, clock=clock or Hands())


def test_without_proc_psutil_tells_the_same_families_as_far_as_it_can(tmp_path: Path) -> None:
    got = values(macos(MacOS(), tmp_path))
    root, other = "/dev/disk1s1 apfs /", "/dev/disk2 hfs /x"
    sizes = {"size_bytes": 10_000, "avail_bytes": 6_000, "free_bytes": 7_000, "files": 50, "files_free": 40}
    assert {n: v for n, v in got.items() if n.startswith("node_") and not n.startswith("node_uname")} == {
        "node_cpu_seconds_total 0 user": 10.0,
        "node_cpu_seconds_total 0 nice": 0.0,
        "node_cpu_seconds_total 0 system": 5.0,
        "node_cpu_seconds_total 0 idle": 85.0,
        "node_memory_MemTotal_bytes": 1000,
        "node_memory_MemAvailable_bytes": 600,
        "node_memory_MemFree_bytes": 300,
        "node_memory_SwapTotal_bytes": 200,
        "node_memory_SwapFree_bytes": 150,
        "node_load1": 0.1,
        "node_load5": 0.5,
        "node_load15": 1.5,
        "node_disk_read_bytes_total disk0": 1,
        "node_disk_written_bytes_total disk0": 2,
        "node_disk_reads_completed_total disk0": 3,
        "node_disk_writes_completed_total disk0": 4,
        "node_disk_read_time_seconds_total disk0": 5,
        **{f"node_network_receive_bytes_total {device}": 7 for device in ("en0", "lo0")},
        **{f"node_network_transmit_bytes_total {device}": 8 for device in ("en0", "lo0")},
        **{f"node_network_receive_packets_total {device}": 1 for device in ("en0", "lo0")},
        **{f"node_network_transmit_packets_total {device}": 2 for device in ("en0", "lo0")},
        **{f"node_network_receive_errs_total {device}": 9 for device in ("en0", "lo0")},
        **{f"node_network_transmit_errs_total {device}": 10 for device in ("en0", "lo0")},
        **{f"node_network_receive_drop_total {device}": 11 for device in ("en0", "lo0")},
        **{f"node_network_transmit_drop_total {device}": 12 for device in ("en0", "lo0")},
        **{f"node_filesystem_{name} {mount}": v for name, v in sizes.items() for mount in (root, other)},
        **{f"node_filesystem_device_error {mount}": 0 for mount in (root, other)},
        f"node_filesystem_readonly {root}": 1,
        f"node_filesystem_readonly {other}": 0,
        "node_time_seconds": 1_800_000_000.0,
        "node_boot_time_seconds": 1_700_000_000.0,
    }
    assert len([name for name in got if name.startswith("node_uname_info")]) == 1


@pytest.mark.parametrize(
    ("broken", "source", "lost"),
    [
        ("cpu_times", "cpu", ("node_cpu_", "node_boot_time_")),
        ("boot_time", "cpu", ("node_cpu_", "node_boot_time_")),
        ("virtual_memory", "memory", "node_memory_"),
        ("getloadavg", "load", "node_load"),
        ("disk_partitions", "filesystem", "node_filesystem_"),
        ("disk_io_counters", "disk", "node_disk_"),
        ("net_io_counters", "network", "node_network_"),
    ],
)
def test_a_source_that_raises_loses_only_itself(
    tmp_path: Path, broken: str, source: str, lost: str | tuple[str, ...]
) -> None:
    whole = values(macos(MacOS(), tmp_path))
    got = values(macos(MacOS(broken), tmp_path))
    assert got[f"upcheck_collector_read_errors_total {source}"] == 1
    assert whole.keys() - got.keys() == {name for name in whole if name.startswith(lost)} != set()


def test_a_containers_root_counts_although_it_is_an_overlay(tmp_path: Path) -> None:
    mounts = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n/dev/sda1 /etc/hosts ext4 rw 0 0\n"
    tree(tmp_path / "proc", DEBIAN | {"self/mounts": mounts})
    got = values(debian(tmp_path))
    shown = {name.split(maxsplit=1)[1] for name in got if name.startswith("node_filesystem_size_bytes")}
    assert shown == {"overlay overlay /", "/dev/sda1 ext4 /etc/hosts"}
    mac = MacOS()
    mac.partitions = [Partition("overlay", "/", "overlay", "rw")]
    assert "node_filesystem_size_bytes overlay overlay /" in values(macos(mac, tmp_path / "none"))


def test_filesystems_are_measured_beside_the_scrapes(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    sizes = [Sizes(f_blocks=2000), Sizes(f_blocks=1000)]
    system = SystemCollector(proc=tmp_path / "proc", statvfs=lambda _: sizes[-1])
    size = "node_filesystem_size_bytes /dev/sda1 ext4 /"
    assert values(system)[size] == 10_000, "never measured: then at the first scrape"
    sizes.pop()
    assert values(system)[size] == 10_000
    system.measure_filesystems()
    assert values(system)[size] == 20_000
    (tmp_path / "proc/self/mounts").write_text(MOUNTS.replace("/media", "/mnt"))
    system.measure_filesystems()
    shown = {name.split()[-2] for name in values(system) if name.startswith("node_filesystem_size_bytes")}
    assert "/mnt/a" in shown, "and what is mounted no more is gone"
    assert "/media/a" not in shown


def test_a_filesystem_that_hangs_is_an_error_after_five_seconds_and_holds_up_nothing(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    release, clock, hangs = threading.Event(), Hands(), [False]

    def hanging(path: str) -> Sizes:
        if hangs[0] and path.startswith("/media"):
            release.wait(30)
        return Sizes()

    system = SystemCollector(proc=tmp_path / "proc", statvfs=hanging, clock=clock)
    system.measure_filesystems()
    hangs[0] = True
    thread = threading.Thread(target=system.measure_filesystems)
    thread.start()
    stuck, root = "/dev/sdb1 vfat /media/a disk", "/dev/sda1 ext4 /"
    deadline = time.monotonic() + 20
    while f"node_filesystem_size_bytes {stuck}" in (got := values(system)):
        assert time.monotonic() < deadline
        clock.now += STUCK_AFTER / 2
    assert got[f"node_filesystem_device_error {stuck}"] == 1
    assert got[f"node_filesystem_size_bytes {root}"] == 10_000
    release.set()
    thread.join(20)
    assert values(system)[f"node_filesystem_device_error {stuck}"] == 0


def test_what_a_filesystem_does_not_tell_is_counted(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    system = debian(tmp_path)
    system.measure_filesystems()
    system.measure_filesystems()
    assert values(system)["upcheck_collector_read_errors_total filesystem"] == 2, "/secret, each time"


def test_cpu_usage_is_absent_until_two_samples_exist_then_says_what_was_not_idle(tmp_path: Path) -> None:
    host, clock = MacOS(), Hands()
    host.cpus = [SimpleNamespace(user=0.0, idle=0.0, iowait=0.0), SimpleNamespace(user=0.0, idle=0.0, iowait=0.0)]
    system = macos(host, tmp_path, clock)
    assert system.sample_age is None
    assert "upcheck_collector_last_sample_timestamp_seconds" not in values(system)
    system.sample()
    assert "upcheck_cpu_usage_ratio total" not in values(system)
    assert system.cpu is system.usage().cpu is None
    clock.now += 10
    host.cpus = [SimpleNamespace(user=9.0, idle=0.5, iowait=0.5), SimpleNamespace(user=1.0, idle=6.0, iowait=3.0)]
    system.sample()
    got = values(system)
    ratios = {cpu: got[f"upcheck_cpu_usage_ratio {cpu}"] for cpu in ("total", "0", "1")}
    assert ratios == pytest.approx({"total": 0.5, "0": 0.9, "1": 0.1})
    assert got["upcheck_collector_last_sample_timestamp_seconds"] == 1_800_000_010.0
    assert got["node_processes_pids"] == 3
    assert system.cpu == pytest.approx(0.5)
    clock.now += 7
    assert system.sample_age == 7


def test_samples_that_can_not_be_compared_give_no_ratio(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    system = debian(tmp_path, clock=Hands())
    system.sample()
    system.sample()  # no time has passed on this host
    assert "upcheck_cpu_usage_ratio total" not in values(system)
    (tmp_path / "proc/stat").write_text(STAT.replace("intr", "cpu2 9 9 9 9 9 9 9 9 9 9\nintr"))
    system.sample()
    assert "upcheck_cpu_usage_ratio total" not in values(system), "a CPU came"
    (tmp_path / "proc/stat").write_text(
        STAT.replace("cpu0 10", "cpu0 30").replace("intr", "cpu2 9 9 9 9 9 9 9 9 9 9\nintr")
    )
    system.sample()
    assert values(system)["upcheck_cpu_usage_ratio total"] == 1


def test_sampling_outlives_a_source_that_raises(tmp_path: Path) -> None:
    clock = Hands()
    system = macos(MacOS("cpu_times"), tmp_path, clock)
    system.sample()
    clock.now += 5
    system.sample()
    got = values(system)
    assert got["upcheck_collector_last_sample_timestamp_seconds"] == clock.now, "the loop is alive, and says so"
    assert got["upcheck_collector_read_errors_total cpu"] == 3, "two samples and one scrape"


def near(value: Any) -> Any:
    """approx, typed as what it stands for."""
    return pytest.approx(value)


def test_the_snapshot_is_the_host_in_numbers(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    clock = Hands()
    system = debian(tmp_path, clock=clock)
    assert system.snapshot().cpu is system.snapshot().network_received is system.snapshot().disk is None
    system.measure_filesystems()
    system.sample()
    clock.now += 10
    busy = STAT.replace("cpu0 10 5 20 300", "cpu0 60 5 20 350").replace("cpu1 15 0 10 100", "cpu1 15 0 10 200")
    network = NET_DEV.replace("eth0:       1      2", "eth0:    1001      2").replace("lo:     100", "lo:   99999")
    tree(tmp_path / "proc", {"stat": busy, "net/dev": network})
    system.sample()
    assert system.snapshot() == Snapshot(
        cpu=near(0.25),
        cpus=near({"0": 0.5, "1": 0.0}),
        load1=0.1,
        load5=0.5,
        load15=1.5,
        memory_total=102_400,
        memory_available=61_440,
        memory_used=40_960,
        memory_ratio=0.4,
        memory_limit=None,
        swap_total=20_480,
        swap_used=5_120,
        disk=near(1 / 3),  # as df: 300 of 900, root's reserve left out
        network_received=100.0,
        network_sent=0.0,
        uptime=clock.now - 1_700_000_000,
    )
    assert system.usage() == Usage(near(0.25), 0.4, near(1 / 3))


def test_a_snapshot_leaves_out_what_can_not_be_read(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN | {"meminfo": "", "loadavg": "no"})
    snapshot = debian(tmp_path).snapshot()
    assert snapshot.memory_total is snapshot.memory_ratio is snapshot.load1 is None
    assert snapshot.uptime is not None
