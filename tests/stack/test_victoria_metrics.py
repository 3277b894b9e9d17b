"""Debian's VictoriaMetrics takes what docs/stack.md has Prometheus send, and answers what asks a Prometheus API."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.databases import packages
from tests.databases.servers import Server, folder, listens
from tests.rules.test_backtest import API, INCIDENTS, backtest, openmetrics, two_days
from tests.stack.test_more_than_one import SHIPPED, example, wait_for
from tests.test_sla import history, now, objectives, scraped, sla
from upcheck import tools
from upcheck.servers import free_port, prometheus
from upcheck.settings import Settings
from upcheck.sla import Objectives, PrometheusSource

__all__ = ["history", "now", "sla"]  # fixtures of the other tests of objectives

SENT = re.compile(r"^prometheus_remote_storage_queue_highest_sent_timestamp_seconds\{.*\} (\S+)$", re.MULTILINE)
SECONDS = re.compile(r" (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def victoria() -> Iterator[str]:
    programs, port = packages.programs("victoria-metrics"), free_port()
    with folder("victoria") as home:
        argv = [programs["victoria-metrics"], f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={home}/data"]
        argv += ["-retentionPeriod=100y", "-search.latencyOffset=1s"]  # 30 s else until it shows a sample
        server = Server(programs, argv, port, home)
        try:
            server.start(lambda: listens(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()


def remembered(url: str, page: str) -> None:
    """Have the VictoriaMetrics at *url* keep an OpenMetrics *page*: it wants milliseconds."""
    text = SECONDS.sub(r" \g<1>000", page.removesuffix("# EOF\n"))
    assert httpx.post(f"{url}/api/v1/import/prometheus", content=text, trust_env=False).status_code == 204
    flushed(url)


def flushed(url: str) -> None:
    """Have the VictoriaMetrics at *url* find what it was given: a moment later it would by itself."""
    assert httpx.get(f"{url}/internal/force_flush", trust_env=False).status_code == 200


def sent_until(url: str, timestamp: float) -> None:
    """Wait until the Prometheus at *url* has sent what it knew at *timestamp*, Unix seconds."""
    end, sent = time.monotonic() + 60, 0.0
    while sent < timestamp:
        assert time.monotonic() < end, f"{url} has sent what it knew at {sent}, not yet at {timestamp}"
        time.sleep(0.2)
        sent = max(map(float, SENT.findall(httpx.get(f"{url}/metrics", trust_env=False).text)), default=0.0)


def test_it_has_all_samples_that_are_sent(victoria: str, tmp_path: Path) -> None:
    settings = Settings.load(ROOT, {})
    tools.ensure(["prometheus"], settings)
    text = (SHIPPED / "prometheus.yml").read_text().replace("_interval: 15s", "_interval: 1s")
    text = text.replace("rules/*.yml", f"{SHIPPED}/rules/*.yml")
    sends = example("remote_write:").replace("http://127.0.0.1:9091", victoria)
    (tmp_path / "sends.yml").write_text(f"{text}\n{sends}")
    with prometheus(settings, tmp_path / "sends.yml", tmp_path / "sends") as below:
        (sample,) = wait_for(below, 'min_over_time(timestamp(ALERTS{alertname="TargetDown", job="collector"})[1m:1s])')
        sent_until(below, sample.value)
    # Asked before that, VictoriaMetrics goes on for ten seconds to find no series.
    flushed(victoria)
    (sample,) = wait_for(victoria, 'scrape_duration_seconds{job="collector"}')
    assert (sample.labels["cluster"], sample.labels["instance"]) == ("default", "127.0.0.1:9909")
    assert wait_for(victoria, 'ALERTS{alertname="TargetDown"}')


def test_a_backtest_of_it_is_that_of_the_same_history_in_a_file(victoria: str, tmp_path: Path) -> None:
    file, rules, incidents = (tmp_path / name for name in ("h.om", "rules.yml", "incidents.yml"))
    openmetrics(file, two_days(), 60)
    rules.write_text(API.format(threshold="0.05"))
    incidents.write_text(INCIDENTS)
    remembered(victoria, file.read_text())
    part = ("--start=2023-11-14T23:00:00Z", "--end=2023-11-16T22:59:00Z", "--incidents", incidents)
    of_file, of_api = (backtest(one, rules, *part).output for one in (file, victoria))
    assert of_api == of_file.replace(str(file), victoria)
    assert "3 pages, 10.5 a week, precision 0.67, recall 1.00" in of_api


def test_objectives_are_what_the_history_says(victoria: str, sla: Objectives, now: float) -> None:
    remembered(victoria, scraped(int(now)))
    there, here = objectives(PrometheusSource(victoria))("test_api"), sla("test_api")
    assert there.availability == pytest.approx(here.availability, abs=0.002)
    assert there.latency(0.99) == pytest.approx(here.latency(0.99), rel=0.05)
    assert there.time_since_success == pytest.approx(here.time_since_success, abs=10)
    assert there.runs == pytest.approx(980, abs=5)
