"""OTLP in JSON, as the specification has it: camelCase, 64-bit integers as text, enums as numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from upcheck.recording.otlp import KINDS, Buckets, OtlpError, Point, Span, Taken
from upcheck.recording.otlp.exponential import buckets

T = TypeVar("T")

_ERRORS = (2, "STATUS_CODE_ERROR")
_CUMULATIVE = (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")
_KINDS: dict[Any, str] = dict(enumerate(KINDS)) | {f"SPAN_KIND_{word.upper()}": word for word in KINDS}
_VALUES = {"stringValue": str, "boolValue": bool, "intValue": int, "doubleValue": float}
_DATA = {
    "sum": "sum",
    "gauge": "gauge",
    "histogram": "histogram",
    "exponentialHistogram": "histogram",
    "summary": "summary",
}
_NO_VALUE = 1  # DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def spans(body: bytes) -> list[tuple[str, list[Span]]]:
    """The spans in *body*, by service; raises OtlpError."""
    return _made(_service_spans, body, "resourceSpans")


def points(body: bytes) -> list[tuple[str, list[Point]]]:
    """The data points in *body*, by service; raises OtlpError."""
    return _made(_service_points, body, "resourceMetrics")


def traces_answer(taken: Taken) -> bytes:
    """What the sender of spans is told."""
    return _answer(taken, "rejectedSpans")


def metrics_answer(taken: Taken) -> bytes:
    """What the sender of metrics is told."""
    return _answer(taken, "rejectedDataPoints")


def _answer(taken: Taken, count: str) -> bytes:
    if not taken.refused:
        return b"{}"
    told = {count: str(taken.refused), "errorMessage": "; ".join(taken.messages)}
    return json.dumps({"partialSuccess": told}).encode()


def _made(make: Callable[[Any], T], body: bytes, key: str) -> list[T]:
    """What *make* makes of each entry under *key*, of which everything may be of a wrong type."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise OtlpError(f"the body is no JSON: {reason}") from None
    parts = document.get(key) if isinstance(document, dict) else None
    if not isinstance(parts, list):
        raise OtlpError(f"expected an object with a list under {key}")
    try:
        return [make(part) for part in parts]
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise OtlpError(f"a field has a wrong type, or is missing: {type(error).__name__}: {error}") from None


def _service_spans(part: Mapping[str, Any]) -> tuple[str, list[Span]]:
    service = _attributes(part.get("resource", {})).get("service.name", "")
    return str(service), [_span(one) for scope in part.get("scopeSpans", []) for one in scope.get("spans", [])]


def _service_points(part: Mapping[str, Any]) -> tuple[str, list[Point]]:
    resource = _attributes(part.get("resource", {}))
    stream = tuple(sorted((key, str(value)) for key, value in resource.items()))
    metrics = [one for scope in part.get("scopeMetrics", []) for one in scope.get("metrics", [])]
    return str(resource.get("service.name", "")), [point for one in metrics for point in _points(one, stream)]


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in owner.get("attributes", []):
        for key, value in pair.get("value", {}).items():
            if key in _VALUES:
                found[pair["key"]] = _VALUES[key](value)
    return found


def _span(span: Mapping[str, Any]) -> Span:
    seconds = (int(span.get("endTimeUnixNano", 0)) - int(span.get("startTimeUnixNano", 0))) / 1e9
    error = span.get("status", {}).get("code") in _ERRORS
    kind = _KINDS.get(span.get("kind", 0), KINDS[0])
    return Span(str(span.get("name", "")), kind, max(0.0, seconds), error, _attributes(span))


def _points(metric: Mapping[str, Any], stream: Any) -> list[Point]:
    found = []
    for key, kind in _DATA.items():
        data = metric.get(key) or {}
        for point in data.get("dataPoints", []):
            if point.get("flags", 0) & _NO_VALUE:
                continue
            one = Point(
                str(metric["name"]),
                str(metric.get("unit", "")),
                kind,
                bool(data.get("isMonotonic", False)),
                data.get("aggregationTemporality") in _CUMULATIVE,
                _value(key, point),
                _attributes(point),
                stream,
            )
            found.append(one)
    return found


def _value(key: str, point: Mapping[str, Any]) -> float | Buckets:
    if key in ("sum", "gauge"):
        return int(point["asInt"]) if "asInt" in point else float(point["asDouble"])
    if key == "histogram":
        bounds = tuple(map(float, point.get("explicitBounds", [])))
        return Buckets(bounds, tuple(map(int, point.get("bucketCounts", []))), float(point.get("sum", 0)))
    if key == "exponentialHistogram":
        positive, negative = point.get("positive", {}), point.get("negative", {})
        lowest = int(point.get("zeroCount", 0)) + sum(map(int, negative.get("bucketCounts", [])))
        counts = list(map(int, positive.get("bucketCounts", [])))
        return buckets(int(point["scale"]), int(positive.get("offset", 0)), counts, lowest, float(point.get("sum", 0)))
    return 0.0
