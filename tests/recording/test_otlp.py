"""OTLP: spans as events and alerts, data points as metrics, in protobuf and in JSON alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from upcheck.recording import Recorder
from upcheck.recording.otlp import OtlpError, Taken, from_json, from_protobuf
from upcheck.recording.otlp.points import Points
from upcheck.recording.otlp.spans import Raised, Spans

Samples = Callable[[Recorder], dict[str, float]]
START = 1_700_000_000_000_000_000
CUMULATIVE, DELTA = 2, 1


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return [
        {"key": key.replace("__", "."), "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for key, value in values.items()
    ]


def span(name: str = "GET", seconds: float = 0.5, kind: int = 2, error: bool = False, **values: Any) -> dict[str, Any]:
    end = START + int(seconds * 1e9)
    told = {"name": name, "kind": kind, "startTimeUnixNano": str(START), "endTimeUnixNano": str(end)}
    return told | {"status": {"code": 2} if error else {}, "attributes": attributes(**values)}


def traces(*spans: dict[str, Any], service: str = "shop") -> dict[str, Any]:
    resource = {"attributes": attributes(service__name=service, host__name="a")}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def metrics(*found: dict[str, Any], service: str = "shop", instance: str = "a") -> dict[str, Any]:
    resource = {"attributes": attributes(service__name=service, service__instance__id=instance)}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": list(found)}]}]}


def counter(name: str, value: float, temporality: int = CUMULATIVE, **values: Any) -> dict[str, Any]:
    point = {"asDouble": value, "attributes": attributes(**values)}
    return {"name": name, "sum": {"dataPoints": [point], "isMonotonic": True, "aggregationTemporality": temporality}}


def histogram(counts: list[int], total: float, temporality: int = CUMULATIVE, **rest: Any) -> dict[str, Any]:
    point = {"bucketCounts": [str(one) for one in counts], "explicitBounds": [0.1, 1.0], "sum": total}
    point["attributes"] = attributes(http__request__method="GET", http__route="/x")
    data = {"dataPoints": [point | rest], "aggregationTemporality": temporality}
    return {"name": "http.server.request.duration", "unit": "s", "histogram": data}


@pytest.fixture(params=["json", "protobuf"])
def encoded(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], tuple[ModuleType, bytes]]:
    """Makes of a document what a sender of this encoding sends."""

    def encode(document: dict[str, Any]) -> tuple[ModuleType, bytes]:
        if request.param == "json":
            return from_json, json.dumps(document).encode()
        message = ExportTraceServiceRequest() if "resourceSpans" in document else ExportMetricsServiceRequest()
        return from_protobuf, json_format.ParseDict(document, message).SerializeToString()

    return encode


Encoded = Callable[[dict[str, Any]], tuple[ModuleType, bytes]]


@pytest.fixture
def take(shop: Recorder, encoded: Encoded) -> Callable[[dict[str, Any]], Taken]:
    """Takes in a document of either kind; the alerts are in `take.raised`."""
    raised: list[Raised] = []
    spans, points = Spans(shop, raised.append), Points(shop)

    def taking(document: dict[str, Any]) -> Taken:
        decoder, body = encoded(document)
        return spans.take(decoder.spans(body)) if "resourceSpans" in document else points.take(decoder.points(body))

    taking.raised = raised  # type: ignore[attr-defined]
    return taking


REQUEST: dict[str, Any] = {"http__request__method": "GET", "http__route": "/x", "http__response__status_code": 200}


def test_a_span_of_a_server_is_a_request(take: Any, shop: Recorder, samples: Samples) -> None:
    taken = take(traces(span(**REQUEST), span(seconds=2, **{**REQUEST, "http__response__status_code": 500})))
    told = samples(shop)
    assert (taken.taken, taken.refused) == ({"shop": 2}, 0)
    assert told['shop_requests_total{method="GET",route="/x",status="2xx"}'] == 1
    assert told['shop_request_duration_seconds_bucket{method="GET",route="/x",le="1.0"}'] == 1
    assert told['shop_request_duration_seconds_sum{method="GET",route="/x"}'] == 2.5
    assert told["shop_errors_total"] == 1
    assert told['upcheck_recorded_total{service="shop"}'] == 2


def test_a_span_is_only_the_events_that_match_it(take: Any, shop: Recorder, samples: Samples) -> None:
    taken = take(traces(span(kind=3, **REQUEST), span("other", kind=2), span("sell shoes", shop__paid=True)))
    assert taken.taken == {"shop": 3}
    assert not [name for name in samples(shop) if name.startswith(("shop_requests", "shop_sold"))]


def test_a_route_that_is_not_told_is_unknown(take: Any, shop: Recorder, samples: Samples) -> None:
    take(traces(span(http__request__method="GET", http__response__status_code=404)))
    assert samples(shop)['shop_requests_total{method="GET",route="unknown",status="4xx"}'] == 1


def test_attributes_can_be_added_up_and_have_second_names(take: Any, shop: Recorder, samples: Samples) -> None:
    take(traces(span("sell shoes", shop__paid=True, shop__price=9.5, shop__tax=1), span("sell hats", shop__price=2)))
    take(traces(span("sell bags", shop__paid="false", shop__price="7")))
    told = samples(shop)
    assert told['shop_sold_total{paid="yes"}'] == 10.5
    assert told['shop_sold_total{paid="no"}'] == 7


def test_a_span_that_ends_before_it_began_took_no_time(take: Any, shop: Recorder, samples: Samples) -> None:
    take(traces(span(seconds=-5, **REQUEST)))
    assert samples(shop)['shop_request_duration_seconds_sum{method="GET",route="/x"}'] == 0


def test_a_service_that_is_not_in_the_catalogue_is_refused(take: Any) -> None:
    taken = take(traces(span(**REQUEST), span(**REQUEST), service="shpo"))
    assert (taken.taken, taken.refused) == ({}, 2)
    assert taken.messages == ["service.name 'shpo' is no otel_name in the catalogue"]


def test_a_second_otel_name_is_the_same_service(take: Any) -> None:
    assert take(traces(span(**REQUEST), service="shop-api")).taken == {"shop": 1}


def test_a_span_raises_its_alerts(take: Any) -> None:
    take(traces(span("sell shoes", 7, error=True, shop__region="eu"), span("sell hats", 1), span("buy", 9, error=True)))
    failed, slow = take.raised
    assert failed.labels == {
        "alertname": "SaleFailed",
        "severity": "high",
        "service": "shop",
        "category": "sales",
        "region": "eu",
    }
    assert failed.annotations == {"summary": "sell shoes failed after 7 s in eu"}
    assert failed.resolve_after == 120
    assert slow.labels["alertname"] == "SlowSale"


def test_a_cumulative_counter_grows_by_what_it_has_grown(take: Any, shop: Recorder, samples: Samples) -> None:
    for value in (5, 5, 8):
        take(metrics(counter("shop.errors", value)))
    take(metrics(counter("shop.errors", 100), instance="b"))
    assert samples(shop)["shop_errors_total"] == 108


def test_a_counter_that_began_anew_counts_what_it_has(take: Any, shop: Recorder, samples: Samples) -> None:
    for value in (5, 2, 3):
        take(metrics(counter("shop.errors", value)))
    assert samples(shop)["shop_errors_total"] == 8


def test_deltas_are_added(take: Any, shop: Recorder, samples: Samples) -> None:
    for value in (5, 2):
        take(metrics(counter("shop.errors", value, DELTA)))
    assert samples(shop)["shop_errors_total"] == 7


def test_what_the_catalogue_does_not_label_is_added_up(take: Any, shop: Recorder, samples: Samples) -> None:
    take(metrics(counter("shop.errors", 5, colour="red")))
    take(metrics(counter("shop.errors", 3, colour="blue")))
    take(metrics(counter("shop.errors", 6, colour="red")))
    assert samples(shop)["shop_errors_total"] == 9


def test_a_gauge_is_set_and_a_sum_that_falls_follows(take: Any, shop: Recorder, samples: Samples) -> None:
    gauge = {"name": "shop.visitors", "gauge": {"dataPoints": [{"asInt": "7"}]}}
    assert take(metrics(gauge)).taken == {"shop": 1}
    assert samples(shop)["shop_visitors"] == 7
    for value in (4, 1):
        point = {"asInt": str(value), "attributes": attributes(state="open")}
        take(metrics({"name": "shop.carts", "sum": {"dataPoints": [point], "aggregationTemporality": CUMULATIVE}}))
    assert samples(shop)['shop_carts{state="open"}'] == 1


def test_a_histogram_is_put_into_the_buckets_of_the_catalogue(take: Any, shop: Recorder, samples: Samples) -> None:
    take(metrics(histogram([1, 2, 3], 9.5)))
    take(metrics(histogram([1, 4, 3], 10.5)))
    wider = {"explicitBounds": [0.05, 0.5, 20], "bucketCounts": ["1", "1", "1", "1"], "sum": 3}
    take(metrics(histogram([], 0, DELTA, **wider)))
    told = samples(shop)
    start = 'shop_request_duration_seconds_bucket{method="GET",route="/x",le='
    assert [told[f'{start}"{bound}"}}'] for bound in ("0.1", "1.0", "+Inf")] == [2, 7, 12]
    assert told['shop_request_duration_seconds_sum{method="GET",route="/x"}'] == 13.5


def test_an_exponential_histogram_is_one_too(take: Any, shop: Recorder, samples: Samples) -> None:
    point = {
        "scale": 0, "zeroCount": "2", "sum": 7, "attributes": attributes(http__request__method="GET", http__route="/x"),
        "positive": {"offset": -2, "bucketCounts": ["1", "1", "3"]},  # up to 0.5, 1 and 2
    }  # fmt: skip
    data = {"dataPoints": [point], "aggregationTemporality": DELTA}
    take(metrics({"name": "http.server.request.duration", "exponentialHistogram": data}))
    told = samples(shop)
    start = 'shop_request_duration_seconds_bucket{method="GET",route="/x",le='
    assert [told[f'{start}"{bound}"}}'] for bound in ("0.1", "1.0", "+Inf")] == [2, 4, 7]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (counter("who.knows", 1), "metric 'who.knows' is in no file of the catalogue"),
        (counter("shop.visitors", 1), "shop.visitors comes as a sum, and shop_visitors is a gauge"),
        (counter("shop.errors", -1, DELTA), "a counter only grows: -1.0 can't be added"),
        (counter("shop.carts", 1), "shop.carts comes as a sum, and shop_carts is a gauge"),
        ({"name": "shop.visitors", "summary": {"dataPoints": [{"count": "1"}]}}, "comes as a summary"),
        ({"name": "shop.visitors", "gauge": {"dataPoints": [{"asDouble": "NaN"}]}}, "a finite number, not nan"),
        (
            {"name": "shop.carts", "gauge": {"dataPoints": [{"asInt": "1"}]}},
            "label 'state': expected text, not nothing",
        ),
        (histogram([1, 2], 3), "one count more than it has bounds"),
        (histogram([1, 2, 3], 3, explicitBounds=[1.0, 0.1]), "rising bounds"),
    ],
)
def test_a_point_that_can_not_be_recorded_is_refused(
    take: Any, shop: Recorder, samples: Samples, metric: dict[str, Any], sentence: str
) -> None:
    before = samples(shop)
    taken = take(metrics(metric, counter("shop.errors", 1)))
    assert (taken.refused, taken.taken) == (1, {"shop": 1})
    assert sentence in taken.messages[0]
    changed = {name for name, value in samples(shop).items() if before.get(name) != value}
    assert {name for name in changed if name.startswith("shop_")} == {"shop_errors_total"}


def test_a_point_without_a_value_is_none(take: Any) -> None:
    gauge = {"name": "shop.visitors", "gauge": {"dataPoints": [{"flags": 1}]}}
    assert take(metrics(gauge)) == Taken()


def test_the_sender_is_told_what_was_refused(encoded: Encoded) -> None:
    taken = Taken()
    taken.refuse("one reason", 2)
    taken.refuse("one reason")
    taken.refuse("another")
    decoder, _ = encoded(traces())
    if decoder is from_json:
        told = json.loads(decoder.traces_answer(taken))["partialSuccess"]
        assert told == {"rejectedSpans": "4", "errorMessage": "one reason; another"}
        assert json.loads(decoder.metrics_answer(taken))["partialSuccess"]["rejectedDataPoints"] == "4"
    else:
        answer = ExportTraceServiceResponse.FromString(decoder.traces_answer(taken)).partial_success
        assert (answer.rejected_spans, answer.error_message) == (4, "one reason; another")
        points = ExportMetricsServiceResponse.FromString(decoder.metrics_answer(taken)).partial_success
        assert points.rejected_data_points == 4


def test_nothing_refused_is_an_empty_answer(encoded: Encoded) -> None:
    decoder, _ = encoded(traces())
    assert decoder.traces_answer(Taken()) == decoder.metrics_answer(Taken()) == (b"{}" if decoder is from_json else b"")


BAD = [
    b"", b"nonsense", b"[]", b'{"resourceSpans": 1}', b'{"resourceSpans": [1]}', b"[" * 100_000,
    b'{"resourceSpans": [{"scopeSpans": 1}]}', b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": {}}]}]}]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": "soon"}]}]}]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"value": {"intValue": "x"}}]}]}]}]}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=lambda body: body[:40].decode())
def test_what_is_no_otlp_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(OtlpError):
        from_json.spans(body)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for decode in (from_json.spans, from_json.points, from_protobuf.spans, from_protobuf.points):
        try:
            assert isinstance(decode(body), list)
        except OtlpError:
            continue
