"""Beside the real node_exporter, on this host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.databases.servers import listens
from tests.waiting import eventually
from upcheck.exposition import page
from upcheck.servers import free_port
from upcheck.system import SystemCollector

COLLECTORS = (
    *("cpu", "meminfo", "vmstat", "filesystem", "diskstats", "netdev", "loadavg"),
    *("time", "stat", "filefd", "pressure", "uname", "processes"),
)
# Debian 12's 1.5.0 still shows zram, and its reader of interfaces leaves out the loopback.
ODD = ("zram", "lo")
# Of itself, of udev, of settings, of each process, and what only netlink tells.
THEIRS_ALONE = (
    *("node_scrape_collector_", "node_exporter_", "node_disk_info", "node_time_clocksource", "node_time_zone"),
    *("node_processes_max_", "node_processes_state", "node_processes_threads_state", "node_network_receive_nohandler"),
)
RESTLESS = ("node_procs_", "node_load", "node_disk_io_now", "node_memory_", "node_processes_", "node_filefd_allocated")


@pytest.fixture
def scraped(node_exporter_path: Path) -> Iterator[tuple[dict[str, Metric], ...]]:
    """Ours, node_exporter's, and ours again: what only grows must lie between."""
    port = free_port()
    chosen = [f"--collector.{name}" for name in COLLECTORS]
    argv = [str(node_exporter_path), "--collector.disable-defaults", *chosen, f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: listens(port))
            before = ours()
            theirs = families(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text)
            yield before, theirs, ours()
        finally:
            process.terminate()


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text) if family.name.startswith("node_")}


def samples(family: Metric) -> dict[frozenset[tuple[str, str]], float]:
    return {
        frozenset(sample.labels.items()): sample.value
        for sample in family.samples
        if not sample.labels.get("device", "").startswith(ODD)
    }


def ours() -> dict[str, Metric]:
    system = SystemCollector()
    system.sample()
    return families(page(system.blocks()).decode())


def test_every_family_that_both_have_is_the_same(scraped: tuple[dict[str, Metric], ...]) -> None:
    before, theirs, after = scraped
    assert {name for name in theirs.keys() - before.keys() if not name.startswith(THEIRS_ALONE)} == set()
    assert before.keys() - theirs.keys() == set()
    assert len(before) > 100
    for name, family in before.items():
        assert family.type == theirs[name].type, name
        low, middle, high = samples(family), samples(theirs[name]), samples(after[name])
        stay = low.keys() & high.keys()  # containers beside us take their network devices with them
        assert stay <= middle.keys() <= low.keys() | high.keys(), name
        for series in stay:
            value = middle[series]
            if family.type in ("counter", "unknown"):
                assert low[series] - 0.05 <= value <= high[series] + 0.05, (name, series)  # a tick or two
            elif not name.startswith(RESTLESS):
                assert value == pytest.approx(high[series], rel=0.1, abs=3), (name, series)
    for name in ("node_memory_MemTotal_bytes", "node_memory_CommitLimit_bytes", "node_memory_HugePages_Total"):
        assert samples(before[name]) == samples(theirs[name])
