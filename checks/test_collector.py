"""What must hold of a collector, and of the host that it runs on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric

from upcheck import check
from upcheck.promtool import check_metrics

FAMILIES = [
    "node_cpu_seconds",
    "node_memory_MemTotal_bytes",
    "node_memory_MemAvailable_bytes",
    "node_load1",
    "node_load5",
    "node_load15",
    "node_filesystem_size_bytes",
    "node_filesystem_avail_bytes",
    "node_network_receive_bytes",
    "node_network_transmit_bytes",
    "node_boot_time_seconds",
    "node_time_seconds",
    "upcheck_health_status",
    "upcheck_build_info",
    "upcheck_collector_last_sample_timestamp_seconds",
    "upcheck_collector_sample_duration_seconds",
]


def value(metrics: Mapping[str, Metric], name: str) -> float:
    """The value of the one series that *name* has."""
    (sample,) = metrics[name].samples
    return float(sample.value)


@check(every="15s", timeout="2s")
def test_collector_is_alive(http: httpx.Client) -> None:
    assert http.get("/live").status_code == 200


@check(every="15s", timeout="2s")
def test_collector_is_ready(http: httpx.Client) -> None:
    assert http.get("/ready").status_code == 200


@check(every="30s", timeout="5s")
def test_every_component_is_healthy(http: httpx.Client) -> None:
    report = http.get("/api/health").json()
    assert {one["name"]: one["status"] for one in report["checks"] if one["status"] == "unhealthy"} == {}


@check(every="1m", timeout="5s", severity="warning")
def test_scrape_is_quick(http: httpx.Client) -> None:
    began = time.monotonic()
    http.get("/metrics")
    assert time.monotonic() - began <= 0.5


@check(every="1m", timeout="5s")
@pytest.mark.parametrize("family", FAMILIES)
def test_metric_is_there(metrics: Mapping[str, Metric], family: str) -> None:
    assert family in metrics
    assert metrics[family].samples


@check(every="30s", timeout="5s")
def test_sample_is_fresh(metrics: Mapping[str, Metric]) -> None:
    age = value(metrics, "node_time_seconds") - value(metrics, "upcheck_collector_last_sample_timestamp_seconds")
    assert age <= 30


@check(every="1m", timeout="5s", severity="warning")
def test_clock_is_right(metrics: Mapping[str, Metric]) -> None:
    assert abs(value(metrics, "node_time_seconds") - time.time()) <= 5


@check(every="1m", timeout="5s")
def test_memory_has_headroom(metrics: Mapping[str, Metric]) -> None:
    available = value(metrics, "node_memory_MemAvailable_bytes") / value(metrics, "node_memory_MemTotal_bytes")
    assert available >= 0.05


@check(every="5m", timeout="5s")
def test_disks_have_headroom(metrics: Mapping[str, Metric]) -> None:
    sizes = {one.labels["mountpoint"]: one.value for one in metrics["node_filesystem_size_bytes"].samples}
    left = {one.labels["mountpoint"]: one.value for one in metrics["node_filesystem_avail_bytes"].samples}
    assert {mount: left[mount] / size for mount, size in sizes.items() if size and left[mount] / size < 0.05} == {}


@check(every="1m", timeout="5s", severity="warning")
def test_collector_is_cheap(metrics: Mapping[str, Metric]) -> None:
    assert value(metrics, "upcheck_collector_sample_duration_seconds") <= 0.1
    assert value(metrics, "process_resident_memory_bytes") <= 64 * 1024 * 1024


@check(every="1h", timeout="10s", severity="warning")
def test_exposition_passes_promtool(promtool: Path, exposition: str) -> None:
    lints = check_metrics(promtool, exposition).text.splitlines()
    assert [lint for lint in lints if "camelCase" not in lint] == []  # node_exporter's names for memory are such
