"""OTLP in JSON, as the specification has it: camelCase, 64-bit integers as text, enums as numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from upcheck.recording.otlp import KINDS, Buckets, OtlpError, Point, Span, Taken
from upcheck.recording.otlp.exponential import buckets

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


def spans(body: bytes) -> Iterator[tuple[str, Iterable[Span]]]:
    """The spans in *body*, by service; raises OtlpError."""
    for part in _parts(body, "resourceSpans"):
        resource = _attributes(part.get("resource", {}))
        scopes = part.get("scopeSpans", [])
        found = _made(_span, [one for scope in scopes for one in scope.get("spans", [])])
        yield str(resource.get("service.name", "")), found


def points(body: bytes) -> Iterator[tuple[str, Iterable[Point]]]:
    """The data points in *body*, by service; raises OtlpError."""
    for part in _parts(body, "resourceMetrics"):
        resource = _attributes(part.get("resource", {}))
        stream = tuple(sorted((key, str(value)) for key, value in resource.items()))
        metrics = [one for scope in part.get("scopeMetrics", []) for one in scope.get("metrics", [])]
        found = _made(partial(_points, stream=stream), metrics)
        yield str(resource.get("service.name", "")), [one for some in found for one in some]


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


def _parts(body: bytes, key: str) -> list[Any]:
    """The list under *key* of the document, of which everything may be of a wrong type: see `_made`."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise OtlpError(f"the body is no JSON: {reason}") from None
    parts = document.get(key) if isinstance(document, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise OtlpError(f"expected an object with a list of objects under {key}")
    return parts


def _made(make: Any, entries: list[Any]) -> list[Any]:
    """Each entry made by *make*; what raises because something has a wrong type is no OTLP."""
    try:
        return [make(entry) for entry in entries]
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, IndexError) as error:
        raise OtlpError(f"a field has a wrong type, or is missing: {type(error).__name__}: {error}") from None


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
