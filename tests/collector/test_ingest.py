"""Events and OTLP over HTTP: what is answered, what is bounded, and that nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.routing import Route

from tests.conftest import ROOT
from tests.recording.conftest import SHOP
from tests.recording.test_otlp import REQUEST, counter, metrics, span, traces
from upcheck.collector import ingest
from upcheck.collector.ingest import Ingest
from upcheck.collector.limits import RateLimit
from upcheck.exposition import page
from upcheck.recording import Recorder
from upcheck.recording.otlp.spans import Raised

EVENT = {"service": "shop", "event": "request", "method": "GET", "route": "/x", "status": 200, "seconds": 0.5}
JSON = "application/json"
PROTOBUF = "application/x-protobuf"


class Service:
    """The endpoints, and what they have recorded."""

    def __init__(self, folder: Path) -> None:
        (folder / "shop.yml").write_text(SHOP)
        self.recorder = Recorder.load(folder)
        self.raised: list[Raised] = []
        self.ingest = Ingest(self.recorder, self.raised.append)
        routes = [Route(path, take, methods=["POST"]) for path, take in self.ingest.routes.items()]
        self.app = Starlette(routes=routes)

    def send(self, path: str, body: bytes, content_type: str = JSON, **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app)) as client:
                sent = {
                    "Content-Type": content_type,
                    **{name.replace("_", "-"): text for name, text in headers.items()},
                }
                return await client.post(f"http://collector{path}", content=body, headers=sent)

        return asyncio.run(ask())

    def tell(self, told: Any) -> httpx.Response:
        return self.send("/api/events", json.dumps(told).encode())

    def said(self, name: str) -> float:
        sources = (*self.recorder.blocks(), *self.ingest.blocks())
        lines = page(sources).decode().splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(name + " ")), 0))

    @property
    def requests(self) -> float:
        return self.said('shop_requests_total{method="GET",route="/x",status="2xx"}')


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.mark.parametrize("told", [EVENT, [EVENT], {"events": [EVENT]}], ids=["one", "list", "events"])
def test_an_event_is_recorded_however_it_is_wrapped(service: Service, told: Any) -> None:
    answer = service.tell(told)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0, "errors": []})
    assert service.requests == 1
    assert service.said('upcheck_recorded_total{service="shop"}') == 1
    assert service.said('upcheck_last_recorded_timestamp_seconds{service="shop"}') > 1e9


def test_a_large_batch_is_recorded_whole(service: Service) -> None:
    assert service.tell([EVENT] * 20_000).json()["accepted"] == 20_000
    assert service.requests == 20_000


def test_the_good_are_taken_and_each_of_the_others_is_named(service: Service) -> None:
    answer = service.tell([EVENT, EVENT | {"status": "x"}, 7, EVENT])
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["rejected"]) == (200, 2, 2)
    assert told["errors"] == [
        {"index": 1, "error": "request: status: expected a status from 100 to 599, not 'x'"},
        {"index": 2, "error": "expected an object"},
    ]
    assert service.requests == 2
    assert service.said('upcheck_ingest_refused_total{source="events"}') == 2


def test_what_is_told_of_errors_is_bounded(service: Service) -> None:
    answer = service.tell([{"service": "x" * 100_000}] * 30)
    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == ingest.MAX_ERRORS
    assert len(answer.content) < 10_000


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"", 400, "the body is no JSON"),
        (b"{", 400, "the body is no JSON"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        (b"[" * 200_000, 400, "the body is no JSON: nested too deeply"),
        (b"9" * 10_000, 400, "the body is no JSON"),
        (b'"text"', 400, "expected an event or a list of events, not"),
        (b" " * (ingest.MAX_BODY + 1), 413, "at most 4194304 are taken"),
    ],
    ids=["empty", "cut", "bytes", "deep", "number", "text", "large"],
)
def test_what_is_no_event_is_refused_with_a_sentence(service: Service, body: bytes, code: int, sentence: str) -> None:
    answer = service.send("/api/events", body)
    assert answer.status_code == code
    assert sentence in answer.json()["error"]
    assert service.said('upcheck_ingest_refused_total{source="events"}') == 1


def test_a_compressed_body_is_read_and_a_bomb_is_not(service: Service) -> None:
    good = gzip.compress(json.dumps([EVENT]).encode())
    assert service.send("/api/events", good, Content_Encoding="gzip").status_code == 200
    bomb = gzip.compress(b" " * 50_000_000)
    assert service.send("/api/events", bomb, Content_Encoding="gzip").status_code == 413
    assert service.send("/api/events", good, Content_Encoding="br").status_code == 415


def test_a_client_beyond_its_rate_is_told_when_to_come_again(service: Service) -> None:
    service.ingest._limit = RateLimit(10, 100)
    assert service.tell([EVENT] * 100).status_code == 200
    answer = service.tell([EVENT] * 100)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert service.requests == 100, "what is refused is not recorded: it will come again"


@pytest.mark.parametrize("content_type", [JSON, PROTOBUF, "application/json; charset=utf-8"])
def test_spans_are_recorded_and_raise_alerts(service: Service, content_type: str) -> None:
    document = traces(span(**REQUEST), span("sell shoes", error=True))
    body = json.dumps(document).encode()
    if content_type == PROTOBUF:
        from google.protobuf import json_format

        body = json_format.ParseDict(document, ExportTraceServiceRequest()).SerializeToString()
    answer = service.send("/v1/traces", body, content_type)
    assert (answer.status_code, answer.content) == (200, b"" if content_type == PROTOBUF else b"{}")
    assert answer.headers["content-type"] == content_type.partition(";")[0]
    assert service.requests == 1
    assert [one.labels["alertname"] for one in service.raised] == ["SaleFailed"]


def test_points_are_recorded_and_what_is_refused_is_told(service: Service) -> None:
    body = json.dumps(metrics(counter("shop.errors", 3), counter("who", 1))).encode()
    answer = service.send("/v1/metrics", body)
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1"
    assert service.said("shop_errors_total") == 3
    assert service.said('upcheck_ingest_refused_total{source="metrics"}') == 1


@pytest.mark.parametrize(
    ("body", "content_type", "code", "sentence"),
    [
        (b"{}", "text/plain", 415, "Content-Type: expected application/x-protobuf or application/json"),
        (b"{", JSON, 400, "the body is no JSON"),
        (b"\xff\xff", PROTOBUF, 400, "the body is no ExportTraceServiceRequest in protobuf"),
    ],
)
def test_what_is_no_otlp_is_refused_with_a_sentence(
    service: Service, body: bytes, content_type: str, code: int, sentence: str
) -> None:
    answer = service.send("/v1/traces", body, content_type)
    assert answer.status_code == code
    assert sentence in answer.json()["error"]


def test_protobuf_without_its_extra_names_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("upcheck.recording.otlp.from_protobuf", raising=False)
    monkeypatch.delitem(sys.modules, "upcheck.recording.otlp.from_protobuf", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", None)
    answer = service.send("/v1/traces", b"", PROTOBUF)
    assert answer.status_code == 501
    assert "pip install 'upcheck[otlp]'" in answer.json()["error"]


def test_a_batch_of_which_a_part_can_not_be_read_is_refused_whole(service: Service) -> None:
    document = traces(span(**REQUEST))
    document["resourceSpans"].append({"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]})
    assert service.send("/v1/traces", json.dumps(document).encode()).status_code == 400
    assert service.requests == 0


def test_the_page_s_examples_are_taken(tmp_path: Path) -> None:
    page_text = (ROOT / "docs/services.md").read_text()
    curl = r"curl http://127\.0\.0\.1:9909(/\S+)[^']*(?:'Content-Type[^']*' )?-d '(.*?)'\n"
    sent = re.findall(curl, page_text, re.DOTALL)
    service = Service(tmp_path)
    service.recorder = Recorder.load(ROOT / "monitoring/services")
    service.ingest = Ingest(service.recorder, service.raised.append)
    routes = [Route(path, take, methods=["POST"]) for path, take in service.ingest.routes.items()]
    service.app = Starlette(routes=routes)
    assert [path for path, _ in sent] == ["/api/events"] * 3 + ["/v1/traces"]
    for path, body in sent:
        answer = service.send(path, body.encode())
        assert (answer.status_code, answer.json().get("rejected", 0), answer.json().get("partialSuccess")) == (
            200,
            0,
            None,
        )
    assert service.said('codex_http_requests_total{method="GET",route="/users",status_code="200"}') == 1
    assert service.said('ws_messages_total{direction="sent"}') == 3
    assert service.said("sessions_active") == 42
