"""What a component or a metric of the user's own raises shows no secret: not in answers, not in the log."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.collector.test_serving import running, script

OWN = """
import logging, os
from prometheus_client import Gauge
from upcheck.collector import Collector

{logging}
URL = "postgres://app:" + os.environ["DB_PASSWORD"] + "@db/shop"
collector = Collector()

@collector.health("database", critical=False)
def database():
    raise ConnectionError("can't reach " + URL + " with " + os.environ["DB_PASSWORD"])

@collector.health("queue", critical=False)
async def queue():
    return "degraded", "waits for " + URL

@collector.health("odd", critical=False)
def odd():
    return os.environ["DB_PASSWORD"]

def depth():
    raise ConnectionError("can't reach " + URL + " with " + os.environ["DB_PASSWORD"])

Gauge("queue_jobs", "Jobs that wait.", registry=collector.registry).set_function(depth)
collector.serve()
"""


@pytest.mark.parametrize(
    ("configured", "says"),
    [
        ("", "/metrics: a collector in the registry raised\n"),
        ("logging.basicConfig(format='LOG %(message)s')", "LOG /metrics: "),
    ],
)
def test_no_secret_shows(configured: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2-of-the-database")
    own = OWN.format(logging=configured)
    with running(script(tmp_path, own)) as collector, httpx.Client(base_url=collector.url) as client:
        failed = client.get("/metrics")
        assert failed.status_code == 500
        health = client.get("/api/health").text
        time.sleep(0.1)
        collector.process.terminate()
        code, stderr = collector.ended(20)
    assert "***" in failed.text
    assert health.count("***") >= 4
    assert says in stderr
    assert "Traceback" in stderr
    assert (code, stderr.count("hunter2"), failed.text.count("hunter2"), health.count("hunter2")) == (0, 0, 0, 0)
