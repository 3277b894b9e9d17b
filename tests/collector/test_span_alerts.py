"""Alerts that spans raise: what a real Alertmanager gets of them, and when it can't be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.test_shipped_monitoring import serving
from upcheck.alertmanager import push
from upcheck.collector import span_alerts
from upcheck.collector.span_alerts import SpanAlerts
from upcheck.exposition import page
from upcheck.recording.otlp.spans import Raised
from upcheck.servers import free_port

CONFIG = "route: {receiver: none}\nreceivers: [{name: none}]\n"


def raised(region: str = "eu", after: float = 300.0) -> Raised:
    labels = {"alertname": "SaleFailed", "severity": "high", "region": region}
    return Raised(labels, {"summary": "a sale failed"}, after)


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


class Sink:
    """Stands for Alertmanager where it has to fail on time, which the real one can't be made to do."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.failure: str | None = None

    def __call__(self, url: str, alerts: Sequence[dict[str, Any]]) -> str | None:
        assert url == "http://alertmanager"
        if self.failure is None:
            self.batches.append(list(alerts))
        return self.failure

    def last(self) -> set[str]:
        return {one["labels"]["region"] for one in self.batches[-1]}


@contextlib.asynccontextmanager
async def told(alerts: SpanAlerts) -> AsyncIterator[None]:
    """While *alerts* are being sent."""
    task = asyncio.create_task(alerts.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_alerts, "GATHER", 0.01)
    monkeypatch.setattr(span_alerts, "RETRY", (0.01, 0.05))
    monkeypatch.setattr(span_alerts, "RESEND", 0.1)


@pytest.fixture(scope="module")
def alertmanager(tool_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "alertmanager.yml").write_text(CONFIG)
    address = f"127.0.0.1:{free_port()}"
    argv: list[str | Path] = [
        tool_paths["alertmanager"], f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    with serving(argv, f"http://{address}", folder / "log") as url:
        yield url


def test_the_real_alertmanager_takes_an_alert(alertmanager: str) -> None:
    alerts = SpanAlerts(alertmanager, most=10, push=push)

    def there() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{alertmanager}/api/v2/alerts", trust_env=False).json()
        return found

    async def send() -> None:
        async with told(alerts):
            alerts.raise_(raised())
            await until(there)

    asyncio.run(send())
    (alert,) = there()
    assert alert["labels"] == {"alertname": "SaleFailed", "severity": "high", "region": "eu"}
    assert alert["annotations"] == {"summary": "a sale failed"}
    assert alert["status"]["state"] == "active"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("http://127.0.0.1:1", "refused"), ("nonsense", "nonsense"), ("ALERTMANAGER/none", "404")],
)
def test_why_a_push_failed_is_said(alertmanager: str, url: str, sentence: str) -> None:
    assert sentence in str(push(url.replace("ALERTMANAGER", alertmanager), []))


def test_one_alert_for_each_set_of_labels_and_again_while_it_lasts() -> None:
    sink, now = Sink(), Now()
    alerts = SpanAlerts("http://alertmanager", most=10, push=sink, clock=now)

    async def send() -> None:
        async with told(alerts):
            for _ in range(3):
                alerts.raise_(raised("eu"))
            alerts.raise_(raised("us"))
            await until(lambda: len(sink.batches) >= 2)

    asyncio.run(send())
    assert {len(batch) for batch in sink.batches} == {2}
    first = sink.batches[0][0]
    assert first["startsAt"] == "2023-11-14T22:13:20.000+00:00"
    assert first["endsAt"] == "2023-11-14T22:18:20.000+00:00"


def test_a_further_span_prolongs_and_silence_ends() -> None:
    sink, now = Sink(), Now()
    alerts = SpanAlerts("http://alertmanager", most=10, push=sink, clock=now)

    async def send() -> None:
        async with told(alerts):
            alerts.raise_(raised())
            await until(lambda: sink.batches)
            now.time += 200
            alerts.raise_(raised())
            await until(lambda: sink.batches[-1][0]["endsAt"] == "2023-11-14T22:21:40.000+00:00")
            assert sink.batches[-1][0]["startsAt"] == "2023-11-14T22:13:20.000+00:00"
            assert b"upcheck_span_alerts_active 1\n" in page(alerts.blocks())
            now.time += 301
            count = len(sink.batches)
            await asyncio.sleep(0.3)
            assert len(sink.batches) == count
            assert b"upcheck_span_alerts_active 0\n" in page(alerts.blocks())
            alerts.raise_(raised())
            await until(lambda: len(sink.batches) > count)
            assert sink.batches[-1][0]["startsAt"] == "2023-11-14T22:21:41.000+00:00"

    asyncio.run(send())


def test_what_alertmanager_did_not_hear_of_is_told_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    sink, now = Sink(), Now()
    sink.failure = "connection refused"
    alerts = SpanAlerts("http://alertmanager", most=10, push=sink, clock=now)

    async def send() -> None:
        async with told(alerts):
            alerts.raise_(raised("eu", after=60))
            await until(lambda: b'outcome="failed"} 0' not in page(alerts.blocks()))
            now.time += 3600
            alerts.raise_(raised("us"))
            sink.failure = None
            await until(lambda: sink.batches)

    with caplog.at_level(logging.WARNING):
        asyncio.run(send())
    assert sink.last() == {"eu", "us"}
    ends = {one["labels"]["region"]: one["endsAt"] for one in sink.batches[-1]}
    assert ends["eu"] == "2023-11-14T23:14:20.000+00:00", "it has its time, late as it is"
    assert "could not be sent to Alertmanager" in caplog.text


def test_the_memory_for_alerts_is_bounded() -> None:
    async def fill() -> bytes:
        alerts = SpanAlerts("http://alertmanager", most=10, push=Sink(), clock=Now())
        for number in range(1000):
            alerts.raise_(raised(f"region {number}"))
        return page(alerts.blocks())

    text = asyncio.run(fill())
    assert b"upcheck_span_alerts_active 10\n" in text
    assert b"upcheck_span_alerts_dropped_total 990\n" in text


def test_without_an_alertmanager_nothing_is_sent() -> None:
    sink = Sink()

    async def send() -> None:
        alerts = SpanAlerts(None, most=10, push=sink)
        alerts.raise_(raised())
        await asyncio.wait_for(alerts.run(), 5)

    asyncio.run(send())
    assert sink.batches == []
