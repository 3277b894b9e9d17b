"""Limits of containers and services, v1 and v2, in miniature trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.hosts import DEBIAN, debian, tree, values

MIB = 1024 * 1024
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:27 {root} /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
    "32 23 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct\n"
)
V2 = {
    "memory.max": f"{200 * MIB}\n",
    "memory.current": f"{150 * MIB}\n",
    "memory.stat": f"anon {90 * MIB}\nfile {60 * MIB}\ninactive_file {50 * MIB}\n",
    "cpu.max": "50000 100000\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\nnr_periods 10\nnr_throttled 4\nthrottled_usec 300000\n",
}
V1 = {
    "memory/memory.limit_in_bytes": f"{200 * MIB}\n",
    "memory/memory.usage_in_bytes": f"{150 * MIB}\n",
    "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {50 * MIB}\n",
    "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
    "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "cpu,cpuacct/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 300000000\n",
    "cpu,cpuacct/cpuacct.usage": "2500000000\n",
}
LIMITED = {
    "container_memory_usage_bytes": 150 * MIB,
    "container_memory_working_set_bytes": 100 * MIB,
    "container_spec_memory_limit_bytes": 200 * MIB,
    "container_cpu_usage_seconds_total": 2.5,
    "container_spec_cpu_quota": 50_000,
    "container_spec_cpu_period": 100_000,
    "container_cpu_cfs_periods_total": 10,
    "container_cpu_cfs_throttled_periods_total": 4,
    "container_cpu_cfs_throttled_seconds_total": 0.3,
}


def host(folder: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    """A host at *folder* whose process is in *cgroup*; *files* are below /sys/fs/cgroup."""
    tree(folder / "proc", DEBIAN | {"self/cgroup": cgroup, "self/mountinfo": mounts})
    tree(folder / "sys/fs/cgroup", files)
    return folder


def containers(folder: Path) -> dict[str, float]:
    return {name: value for name, value in values(debian(folder)).items() if name.startswith("container_")}


def below(path: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{path}/{name}": text for name, text in files.items()}


def test_a_container_with_cgroup_v2(tmp_path: Path) -> None:
    assert containers(host(tmp_path, "0::/\n", V2_MOUNT.format(root="/"), V2)) == LIMITED


def test_a_container_with_cgroup_v1_sees_its_own_folder_at_the_mount(tmp_path: Path) -> None:
    cgroup = "9:memory:/docker/f00\n8:cpu,cpuacct:/docker/f00\n1:name=systemd:/docker/f00\n0::/system.slice\n"
    assert containers(host(tmp_path, cgroup, V1_MOUNTS.format(root="/docker/f00"), V1)) == LIMITED


def test_a_container_without_limits_has_usage_and_the_limit_zero(tmp_path: Path) -> None:
    files = V2 | {"memory.max": "max\n", "cpu.max": "max 100000\n"}
    assert containers(host(tmp_path, "0::/\n", V2_MOUNT.format(root="/"), files)) == {
        "container_memory_usage_bytes": 150 * MIB,
        "container_memory_working_set_bytes": 100 * MIB,
        "container_spec_memory_limit_bytes": 0,
        "container_cpu_usage_seconds_total": 2.5,
        "container_spec_cpu_period": 100_000,
    }
    assert debian(tmp_path).snapshot().memory_limit is None


def test_the_tightest_limit_of_those_above_holds(tmp_path: Path) -> None:
    pod, own = "/kubepods/pod1", "/kubepods/pod1/f00"
    loose = V2 | {"memory.max": "max\n", "cpu.max": "90000 100000\n"}
    files = below(pod.strip("/"), V2) | below(own.strip("/"), loose | {"memory.current": "1\n"})
    assert containers(host(tmp_path, f"0::{own}\n", V2_MOUNT.format(root="/"), files)) == LIMITED


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        pytest.param("0::/\n", V2_MOUNT, {"cpu.stat": "usage_usec 1\n"}, id="the real root of v2"),
        pytest.param(
            "0::/system.slice/upcheck.service\n",
            V2_MOUNT,
            below("system.slice/upcheck.service", V2 | {"memory.max": "max\n", "cpu.max": "max 100000\n"}),
            id="a service of v2 without limits",
        ),
        pytest.param(
            "9:memory:/\n8:cpu,cpuacct:/\n",
            V1_MOUNTS,
            V1 | {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n", "cpu,cpuacct/cpu.cfs_quota_us": "-1\n"},
            id="the root of v1",
        ),
        pytest.param("", "", {}, id="no cgroups"),
    ],
)
def test_a_host_has_no_such_families(tmp_path: Path, cgroup: str, mounts: str, files: dict[str, str]) -> None:
    system = debian(host(tmp_path, cgroup, mounts.format(root="/"), files))
    got = values(system)
    assert not [name for name in got if name.startswith("container_")]
    assert got["upcheck_collector_read_errors_total cgroup"] == 0
    assert system.usage().memory == pytest.approx(0.4), "the host's own"


def test_a_limit_that_is_fuller_than_the_host_is_what_health_judges(tmp_path: Path) -> None:
    host(tmp_path, "0::/\n", V2_MOUNT.format(root="/"), V2)
    system = debian(tmp_path)
    assert system.usage().memory == pytest.approx(0.5), "100 of 200 MiB; the host has 40% in use"
    assert system.snapshot().memory_limit == 200 * MIB
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{1000 * MIB}\n")
    assert system.usage().memory == pytest.approx(0.4), "10% of the limit: the host is fuller"


def test_limits_are_looked_for_anew_at_each_sample(tmp_path: Path) -> None:
    files = below("a", V2) | below("b", V2 | {"memory.max": f"{300 * MIB}\n"})
    host(tmp_path, "0::/a\n", V2_MOUNT.format(root="/"), files)
    system = debian(tmp_path)
    assert values(system)["container_spec_memory_limit_bytes"] == 200 * MIB
    (tmp_path / "proc/self/cgroup").write_text("0::/b\n")
    system.sample()
    assert values(system)["container_spec_memory_limit_bytes"] == 300 * MIB


def test_a_cgroup_that_is_gone_is_counted_and_loses_only_itself(tmp_path: Path) -> None:
    host(tmp_path, "0::/\n", V2_MOUNT.format(root="/"), V2)
    (tmp_path / "sys/fs/cgroup/memory.stat").unlink()
    got = values(debian(tmp_path))
    assert not [name for name in got if name.startswith("container_")]
    assert got["upcheck_collector_read_errors_total cgroup"] == 1
    assert got["node_load1"] == 0.1
