"""Linux: fixed values from miniature trees, files that are broken, and this machine's against psutil's."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.system.hosts import DEBIAN, DISKSTATS, MEMINFO, NET_DEV, STAT, Hands, debian, tree, values
from upcheck.exposition import page
from upcheck.system import SystemCollector
from upcheck.system.files import Files

# node_exporter's names: its authors took them from /proc/meminfo, and promtool's linter dislikes them there too
CAMEL_CASE = "metric names should be written in 'snake_case' not 'camelCase'"
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
DISK = {
    "reads_completed_total": 1,
    "reads_merged_total": 2,
    "read_bytes_total": 3 * 512,
    "read_time_seconds_total": 0.004,
    "writes_completed_total": 5,
    "writes_merged_total": 6,
    "written_bytes_total": 7 * 512,
    "write_time_seconds_total": 0.008,
    "io_now": 9,
    "io_time_seconds_total": 0.01,
    "io_time_weighted_seconds_total": 0.011,
    "discards_completed_total": 12,
    "discards_merged_total": 13,
    "discarded_sectors_total": 14,
    "discard_time_seconds_total": 0.015,
    "flush_requests_total": 16,
    "flush_requests_time_seconds_total": 0.017,
}
RECEIVED = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
SENT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")


paired = partial(zip, strict=True)


def test_fixed_values_come_out_in_node_exporters_words(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    got = values(debian(tmp_path, clock=Hands()))
    uname = os.uname()
    mounts = ("/dev/sda1 ext4 /", "/dev/sdb1 vfat /media/a disk")
    whose = f"{uname.sysname} {uname.release} {uname.version} {uname.machine} {uname.nodename} example.org"
    assert {name: value for name, value in got.items() if name.startswith("node_")} == {
        **{f"node_cpu_seconds_total 0 {m}": v for m, v in paired(MODES, (0.1, 0.05, 0.2, 3, 0.1, 0.03, 0.02, 0.01))},
        **{f"node_cpu_seconds_total 1 {m}": v for m, v in paired(MODES, (0.15, 0, 0.1, 1, 0, 0, 0, 0))},
        "node_cpu_guest_seconds_total 0 user": 0.04,
        "node_cpu_guest_seconds_total 0 nice": 0.02,
        "node_cpu_guest_seconds_total 1 user": 0,
        "node_cpu_guest_seconds_total 1 nice": 0,
        "node_intr_total": 12345,
        "node_context_switches_total": 678,
        "node_boot_time_seconds": 1_700_000_000,
        "node_forks_total": 90,
        "node_procs_running": 2,
        "node_procs_blocked": 1,
        "node_memory_MemTotal_bytes": 102_400,
        "node_memory_MemAvailable_bytes": 61_440,
        "node_memory_MemFree_bytes": 10_240,
        "node_memory_Buffers_bytes": 5_120,
        "node_memory_Cached_bytes": 40_960,
        "node_memory_Active_anon_bytes": 7_168,
        "node_memory_SwapTotal_bytes": 20_480,
        "node_memory_SwapFree_bytes": 15_360,
        "node_memory_HugePages_Total": 3,
        "node_load1": 0.1,
        "node_load5": 0.5,
        "node_load15": 1.5,
        "node_processes_threads": 345,
        **{f"node_disk_{name} {disk}": value for name, value in DISK.items() for disk in ("sda", "nvme0n1")},
        **{f"node_network_receive_{name}_total eth0": value for value, name in enumerate(RECEIVED, 1)},
        **{f"node_network_transmit_{name}_total eth0": value for value, name in enumerate(SENT, 9)},
        **{f"node_network_receive_{name}_total lo": v for name, v in paired(RECEIVED, (100, 1, 0, 0, 0, 0, 0, 0))},
        **{f"node_network_transmit_{name}_total lo": v for name, v in paired(SENT, (100, 1, 0, 0, 0, 0, 0, 0))},
        "node_filefd_allocated": 1234,
        "node_filefd_maximum": 99999,
        "node_vmstat_pgpgin": 2,
        "node_vmstat_pswpin": 3,
        "node_vmstat_pgfault": 4,
        "node_vmstat_pgmajfault": 5,
        "node_vmstat_oom_kill": 6,
        "node_pressure_cpu_waiting_seconds_total": 1,
        "node_pressure_io_waiting_seconds_total": 2,
        "node_pressure_io_stalled_seconds_total": 0.5,
        "node_pressure_memory_waiting_seconds_total": 3,
        "node_pressure_memory_stalled_seconds_total": 0.000004,
        f"node_uname_info {whose}": 1,
        "node_time_seconds": 1_800_000_000.0,
        "node_filesystem_device_error /dev/sdc1 ext4 /secret": 1,
        **{f"node_filesystem_device_error {mount}": 0 for mount in mounts},
        **{f"node_filesystem_size_bytes {mount}": 10_000 for mount in mounts},
        **{f"node_filesystem_avail_bytes {mount}": 6_000 for mount in mounts},
        **{f"node_filesystem_free_bytes {mount}": 7_000 for mount in mounts},
        **{f"node_filesystem_files {mount}": 50 for mount in mounts},
        **{f"node_filesystem_files_free {mount}": 40 for mount in mounts},
        f"node_filesystem_readonly {mounts[0]}": 0,
        f"node_filesystem_readonly {mounts[1]}": 1,
    }
    assert not any(value for name, value in got.items() if name.startswith("upcheck_collector_read_errors_total"))


def test_an_old_kernel_has_fewer_columns_and_no_pressure(tmp_path: Path) -> None:
    tree(tmp_path / "proc", {name: text for name, text in DEBIAN.items() if not name.startswith("pressure/")})
    tree(
        tmp_path / "proc",
        {
            "stat": "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\nctxt 9\nbtime 1\n",
            "diskstats": "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n",
            "meminfo": "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 25 kB\n",
            "net/dev": NET_DEV.replace(":  ", ":"),
        },
    )
    (tmp_path / "proc/sys/kernel/domainname").unlink()
    system = debian(tmp_path)
    got = values(system)
    assert got["node_cpu_seconds_total 0 steal"] == 0.08
    assert got["node_disk_io_time_weighted_seconds_total sda"] == 0.011
    assert got["node_network_receive_bytes_total eth0"] == 1
    assert not [name for name in got if name.startswith(("node_pressure", "node_cpu_guest", "node_disk_discard"))]
    assert any(name.startswith("node_uname_info") and name.endswith(" (none)") for name in got)
    assert not any(value for name, value in got.items() if name.startswith("upcheck_collector_read_errors_total"))
    assert system.usage().memory == 0.6, "without MemAvailable: what is free, and what holds files"


LOST: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "stat": ("cpu", ("node_cpu_", "node_intr", "node_context", "node_boot", "node_forks", "node_procs_")),
    "meminfo": ("memory", "node_memory_"),
    "loadavg": ("load", ("node_load", "node_processes_threads")),
    "diskstats": ("disk", "node_disk_"),
    "net/dev": ("network", "node_network_"),
    "sys/fs/file-nr": ("filefd", "node_filefd_"),
    "vmstat": ("vmstat", "node_vmstat_"),
    "pressure/io": ("pressure", "node_pressure_"),
    "self/mounts": ("filesystem", "node_filesystem_"),
}


@pytest.mark.parametrize(
    "garbage", ["here be dragons\n", "cpu0 a b c d e f g h\nMemTotal: many kB\n", "a\nb\nx: y z\n"]
)
@pytest.mark.parametrize("name", LOST)
def test_a_garbled_file_loses_only_itself(tmp_path: Path, name: str, garbage: str) -> None:
    tree(tmp_path / "proc", DEBIAN)
    whole = values(debian(tmp_path))
    source, lost = LOST[name]
    (tmp_path / "proc" / name).write_text(garbage)
    got = values(debian(tmp_path))
    assert got[f"upcheck_collector_read_errors_total {source}"] == 1
    assert whole.keys() - got.keys() == {series for series in whole if series.startswith(lost)} != set()
    assert got.keys() <= whole.keys()


@pytest.mark.parametrize("name", [name for name in LOST if name != "pressure/io"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_missing_or_empty_file_loses_only_itself(tmp_path: Path, name: str, how: str) -> None:
    tree(tmp_path / "proc", DEBIAN)
    system = debian(tmp_path)
    if how == "missing":
        (tmp_path / "proc" / name).unlink()
    else:
        (tmp_path / "proc" / name).write_text("")
    got = values(system)
    source, lost = LOST[name]
    if (name, how) == ("self/mounts", "empty"):
        assert "node_filesystem_size_bytes rootfs rootfs /" in got, "as in a chroot: the root counts all the same"
    else:
        assert not [series for series in got if series.startswith(lost)]
        # a host without disks is none that is broken
        assert got[f"upcheck_collector_read_errors_total {source}"] == ((name, how) != ("diskstats", "empty"))
    assert got["node_time_seconds"] > 0


@pytest.mark.parametrize(
    ("name", "before", "after", "source"),
    [("net/dev", " 16\n", " x\n", "network"), ("diskstats", "sda 1 ", "sda -1 ", "disk")],
)
def test_what_is_no_number_never_reaches_the_page(
    tmp_path: Path, name: str, before: str, after: str, source: str
) -> None:
    assert before in DEBIAN[name]
    tree(tmp_path / "proc", DEBIAN | {name: DEBIAN[name].replace(before, after)})
    got = values(debian(tmp_path))
    assert got[f"upcheck_collector_read_errors_total {source}"] == 1
    assert not [series for series in got if series.startswith(f"node_{source}_")]


def test_a_file_that_went_stale_is_opened_anew(tmp_path: Path) -> None:
    files, link = Files(), tmp_path / "stat"
    with subprocess.Popen(["sleep", "60"]) as first, subprocess.Popen(["sleep", "60"]) as second:
        link.symlink_to(f"/proc/{first.pid}/stat")
        assert files.read(str(link)).startswith(f"{first.pid} ".encode())
        first.kill()
        first.wait()
        link.unlink()
        link.symlink_to(f"/proc/{second.pid}/stat")
        assert files.read(str(link)).startswith(f"{second.pid} ".encode())
        second.kill()
    with pytest.raises(OSError, match="stat"):
        files.read(str(link))


def test_devices_and_cpus_come_and_go(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    system = debian(tmp_path)
    before = values(system)
    tree(
        tmp_path / "proc",
        {
            "diskstats": DISKSTATS.replace(" sda ", " sdz "),
            "net/dev": NET_DEV.replace("  eth0:", "wlan%0:"),
            "stat": STAT.replace("cpu1", "cpu7"),
            "meminfo": MEMINFO + "Zswap: 4 kB\n",
        },
    )
    got = values(system)
    assert "node_disk_read_bytes_total sda" in before
    assert {name.split()[1] for name in got if name.startswith("node_disk_")} == {"sdz", "nvme0n1"}
    assert got["node_network_receive_bytes_total wlan%0"] == 1
    assert {name.split()[1] for name in got if name.startswith("node_cpu_seconds")} == {"0", "7"}
    assert got["node_memory_Zswap_bytes"] == 4096


def test_256_cpus(tmp_path: Path) -> None:
    lines = ["cpu 0 0 0 0 0 0 0 0 0 0", *(f"cpu{cpu} {cpu} 1 2 3 4 5 6 7 8 9" for cpu in range(256)), "btime 5", ""]
    tree(tmp_path / "proc", DEBIAN | {"stat": "\n".join(lines)})
    system = debian(tmp_path)
    system.sample()
    got = values(system)
    assert len([name for name in got if name.startswith("node_cpu_seconds_total")]) == 256 * 8
    assert got["node_cpu_seconds_total 255 user"] == 2.55


def test_no_cpu_time_steps_back_unless_the_cpu_was_offline(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    system = debian(tmp_path)
    values(system)
    (tmp_path / "proc/stat").write_text(STAT.replace("cpu0 10 5 20 300 10", "cpu0 11 5 20 299 8"))
    got = values(system)
    assert got["node_cpu_seconds_total 0 iowait"] == 0.1, "the kernel rounds: 8 ticks now, 10 before"
    assert got["node_cpu_seconds_total 0 idle"] == 3
    assert got["node_cpu_seconds_total 0 user"] == 0.11
    (tmp_path / "proc/stat").write_text(STAT.replace("cpu0 10 5 20 300 10", "cpu0 1 0 0 0 0"))
    assert values(system)["node_cpu_seconds_total 0 iowait"] == 0, "three seconds of idle time less: it was offline"


def test_a_file_of_many_pages_is_read_to_its_end(tmp_path: Path) -> None:
    rows = "".join(f"  veth{number}: {'1 ' * 16}\n" for number in range(5000))
    tree(tmp_path / "proc", DEBIAN | {"net/dev": "".join(NET_DEV.splitlines(keepends=True)[:2]) + rows})
    got = values(debian(tmp_path))
    assert len([name for name in got if name.startswith("node_network_receive_bytes_total")]) == 5000


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_stay_open_and_are_closed_with_the_collector(tmp_path: Path) -> None:
    tree(tmp_path / "proc", DEBIAN)
    gc.collect()
    before = open_files()
    system = debian(tmp_path)
    for _ in range(3):
        values(system)
    assert 5 < open_files() - before <= len(DEBIAN)
    del system
    gc.collect()
    assert open_files() == before


def test_this_machine_agrees_with_psutil() -> None:
    got = values(SystemCollector())
    assert got["node_memory_MemTotal_bytes"] == psutil.virtual_memory().total
    assert got["node_memory_SwapTotal_bytes"] == psutil.swap_memory().total
    assert got["node_boot_time_seconds"] == pytest.approx(psutil.boot_time(), abs=2)
    cpus = {name.split()[1] for name in got if name.startswith("node_cpu_seconds_total")}
    assert len(cpus) == psutil.cpu_count()
    interfaces = {name.split()[1] for name in got if name.startswith("node_network_receive_bytes_total")}
    assert interfaces == set(psutil.net_io_counters(pernic=True))
    assert any(name.startswith("node_uname_info") and socket.gethostname() in name for name in got)
    assert all(value >= 0 for value in got.values())


def test_promtool_only_dislikes_what_it_dislikes_in_node_exporter(promtool_path: Path) -> None:
    text = page(SystemCollector().blocks())
    run = subprocess.run([promtool_path, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    complaints = (run.stdout + run.stderr).decode().splitlines()
    assert all(line.startswith("node_memory_") and line.endswith(CAMEL_CASE) for line in complaints), complaints
