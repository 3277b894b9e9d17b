"""What the collector answers as shipped, over real sockets."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.collector.test_serving import Running, running
from tests.waiting import eventually
from upcheck import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METRICS = ["/metrics", "/api/metrics", "/health/metrics"]
PATHS = [
    "/",
    *METRICS,
    "/api/metrics/current",
    "/health",
    "/api/health",
    "/ready",
    "/live",
    "/health/ready",
    "/health/live",
]
WEBHOOK = "/api/monitoring/alerts"
POSTS = ["/api/events", "/v1/traces", "/v1/metrics"]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def collector() -> Iterator[Running]:
    with running() as started:
        yield started


@pytest.fixture
def client(collector: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=collector.url, timeout=30) as client:
        yield client


def samples(text: str) -> dict[str, float]:
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_small_health(client: httpx.Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"overall", "status", "version", "uptime"}
    assert body["overall"] == body["status"] in ("healthy", "degraded")
    assert body["version"] == __version__
    assert 0 < body["uptime"] < client.get("/health").json()["uptime"]


def test_full_health(client: httpx.Client) -> None:
    answer = client.get("/api/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"overall", "status", "version", "uptime", "timestamp", "checks", "summary"}
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)).total_seconds() < 60
    assert [check["name"] for check in body["checks"]] == ["system", "metrics"]
    for check in body["checks"]:
        assert check.keys() == {"name", "status", "responseTime", "circuit", "timestamp", "critical", "message"}
        assert check["status"] in ("healthy", "degraded")
        assert 0 <= check["responseTime"] < 5000
        assert ISO.fullmatch(check["timestamp"])
        assert check["critical"] is True


def test_ready_and_live(client: httpx.Client) -> None:
    assert (client.get("/ready").status_code, client.get("/ready").json()) == (200, {"status": "ready"})
    assert (client.get("/live").status_code, client.get("/live").json()) == (200, {"status": "alive"})


def test_the_index_names_every_path(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall('href="([^"]+)"', answer.text) == [*PATHS, WEBHOOK, "/probe", "/push/{name}"]
    assert re.findall("<li>(/[^:]+):", answer.text) == [*POSTS, WEBHOOK, "/push/{name}"]


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_nothing_is_to_be_stored_and_head_is_get_without_a_body(client: httpx.Client, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert get.headers["cache-control"] == head.headers["cache-control"] == "no-store"
    assert head.status_code == get.status_code
    assert head.content == b""
    assert "server" not in get.headers


@pytest.mark.parametrize("path", ["/nowhere", "/metrics/", "/api", "/%2e%2e/etc/passwd"])
def test_an_unknown_path_lists_the_known_ones(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["paths"] == [*PATHS, WEBHOOK, "/probe", "/push/{name}", *POSTS]
    assert answer.json()["error"].endswith(": no such path")


@pytest.mark.parametrize(("path", "methods"), [*((path, "POST") for path in POSTS), (WEBHOOK, "GET, HEAD, POST")])
def test_what_takes_in_says_how_it_is_asked(client: httpx.Client, path: str, methods: str) -> None:
    answer = client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    are = "are" if "," in methods else "is"
    assert answer.json()["error"] == f"PUT {path}: only {' and '.join(methods.split(', '))} {are} answered"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", PATHS)
def test_only_get_and_head(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert answer.json() == {"error": f"{method} {path}: only GET and HEAD are answered"}


@pytest.mark.parametrize("path", METRICS)
def test_metrics_are_this_machines(client: httpx.Client, collector: Running, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    got = samples(answer.text)
    assert got["node_memory_MemTotal_bytes"] == psutil.virtual_memory().total
    assert got["node_boot_time_seconds"] == pytest.approx(psutil.boot_time(), abs=2)
    assert got["node_time_seconds"] == pytest.approx(time.time(), abs=60)
    assert len([name for name in got if re.fullmatch(r"node_cpu_seconds_total \d+ idle", name)]) == psutil.cpu_count()
    assert got[f"upcheck_build_info {__version__}"] == 1
    assert got["upcheck_collector_last_sample_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    assert got["upcheck_health_status system"] in (0.5, 1)
    assert got["upcheck_health_status metrics"] == 1
    assert got["process_start_time_seconds"] == pytest.approx(
        psutil.Process(collector.process.pid).create_time(), abs=2
    )
    assert any(name.startswith("python_gc_collections_total") for name in got)
    assert not [name for name, value in got.items() if name.startswith("upcheck_collector_read_errors") and value]


def test_the_host_the_sampling_and_their_cost_as_json(client: httpx.Client, collector: Running) -> None:
    client.get("/metrics")
    answer = client.get("/api/metrics/current")
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"timestamp", "sampling", "performance", "system"}
    assert ISO.fullmatch(body["timestamp"])
    layers = body["sampling"]["layers"]
    assert {name: layer["nominal"] for name, layer in layers.items()} == {
        "system": 10,
        "application": 5,
        "business": 60,
    }
    assert 10 <= layers["system"]["interval"] <= 30
    assert 0 <= layers["system"]["next_in"] <= layers["system"]["interval"]
    assert layers["system"]["why"] in ("nominal", "host busy")
    assert layers["business"]["next_in"] is None, "nothing is sampled there"
    assert body["sampling"]["buffer"]["size"] == 1000
    performance = body["performance"]
    assert performance["rss_bytes"] == pytest.approx(psutil.Process(collector.process.pid).memory_info().rss, rel=0.1)
    assert performance["scrapes"] > 0
    assert performance["scrape_mean_ms"] > 0
    assert performance["cpu_percent"] >= 0
    system = body["system"]
    assert system["memory_total"] == psutil.virtual_memory().total
    assert system["uptime"] == pytest.approx(time.time() - psutil.boot_time(), abs=5)
    assert 0 < system["disk"] < 1


def test_metrics_are_read_at_the_scrape(client: httpx.Client) -> None:
    first, second = (samples(client.get("/metrics").text) for _ in range(2))
    assert second["node_time_seconds"] > first["node_time_seconds"]
    scrapes = "upcheck_collector_scrape_duration_seconds_count"
    assert second[scrapes] == first[scrapes] + 1
    assert second["upcheck_collector_scrape_duration_seconds_sum"] > 0


def test_cpu_usage_appears_soon(client: httpx.Client) -> None:
    def told() -> dict[str, float]:
        return samples(client.get("/metrics").text)

    eventually(lambda: "upcheck_cpu_usage_ratio total" in told())
    got = told()
    ratios = {name: value for name, value in got.items() if name.startswith("upcheck_cpu_usage_ratio ")}
    assert len(ratios) == 1 + (psutil.cpu_count() or 0)
    assert all(0 <= ratio <= 1 for ratio in ratios.values())


def test_openmetrics_and_gzip_when_asked(client: httpx.Client) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    answer = client.get("/metrics", headers=accept | {"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]  # the library has no types there
    assert "node_cpu_seconds" in {family.name for family in families}
    plain = client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_promtool_only_dislikes_what_it_dislikes_in_node_exporter(client: httpx.Client, promtool_path: Path) -> None:
    page = client.get("/metrics").content
    run = subprocess.run([promtool_path, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    complaints = (run.stdout + run.stderr).decode().splitlines()
    camel = "metric names should be written in 'snake_case' not 'camelCase'"
    assert all(line.startswith("node_memory_") and line.endswith(camel) for line in complaints), complaints


def test_parallel_scrapes(collector: Running) -> None:
    with ThreadPoolExecutor(32) as pool:
        pages = list(pool.map(lambda _: httpx.get(f"{collector.url}/metrics", timeout=30), range(96)))
    assert {page.status_code for page in pages} == {200}
    told = [[line.rpartition(" ")[0] for line in page.text.splitlines() if line[0] != "#"] for page in pages]
    assert all(len(set(series)) == len(series) for series in told), "one page has another's lines"
    stay = {frozenset(one for one in series if 'device="' not in one) for series in told}  # containers' come and go
    assert len(stay) <= 2, "a page lacks something"


def test_random_paths_do_not_become_metrics(client: httpx.Client) -> None:
    before = samples(client.get("/metrics").text).keys() - {"upcheck_cpu_usage_ratio"}
    for number in range(50):
        client.get(f"/{number}")
    after = samples(client.get("/metrics").text).keys()
    devices = ("node_network_", "node_filesystem_", "node_disk_")  # of containers beside us, which come and go
    assert {name for name in after - before if "cpu_usage" not in name and not name.startswith(devices)} == set()
