"""OTLP in protobuf. Needs opentelemetry-proto, of the extra `otlp`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from upcheck.recording.otlp import KINDS, Buckets, OtlpError, Point, Span, Taken
from upcheck.recording.otlp.exponential import buckets

_ERROR = 2  # STATUS_CODE_ERROR
_DELTA, _CUMULATIVE = 1, 2  # AGGREGATION_TEMPORALITY_*
_NO_VALUE = 1  # DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def spans(body: bytes) -> list[tuple[str, list[Span]]]:
    """The spans in *body*, by service; raises OtlpError."""
    found = []
    for part in _parsed(ExportTraceServiceRequest(), body).resource_spans:
        service = _attributes(part.resource.attributes).get("service.name", "")
        found.append((str(service), [_span(one) for scope in part.scope_spans for one in scope.spans]))
    return found


def points(body: bytes) -> list[tuple[str, list[Point]]]:
    """The data points in *body*, by service; raises OtlpError."""
    found = []
    for part in _parsed(ExportMetricsServiceRequest(), body).resource_metrics:
        service = _attributes(part.resource.attributes).get("service.name", "")
        stream = part.resource.SerializeToString(deterministic=True)
        metrics = (metric for scope in part.scope_metrics for metric in scope.metrics)
        found.append((str(service), [one for metric in metrics for one in _points(metric, stream)]))
    return found


def traces_answer(taken: Taken) -> bytes:
    """What the sender of spans is told."""
    answer = ExportTraceServiceResponse()
    if taken.refused:
        answer.partial_success.rejected_spans = taken.refused
        answer.partial_success.error_message = "; ".join(taken.messages)
    return bytes(answer.SerializeToString())


def metrics_answer(taken: Taken) -> bytes:
    """What the sender of metrics is told."""
    answer = ExportMetricsServiceResponse()
    if taken.refused:
        answer.partial_success.rejected_data_points = taken.refused
        answer.partial_success.error_message = "; ".join(taken.messages)
    return bytes(answer.SerializeToString())


def _parsed(message: Any, body: bytes) -> Any:
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise OtlpError(f"the body is no {type(message).__name__} in protobuf: {error}") from None
    return message


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        value = pair.value
        which = value.WhichOneof("value")
        if which in ("string_value", "int_value", "bool_value", "double_value"):
            found[pair.key] = getattr(value, which)
    return found


def _span(span: Any) -> Span:
    seconds = max(0.0, (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9)
    kind = KINDS[span.kind] if span.kind < len(KINDS) else KINDS[0]
    return Span(span.name, kind, seconds, span.status.code == _ERROR, _attributes(span.attributes))


def _points(metric: Any, stream: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    temporality = getattr(data, "aggregation_temporality", _DELTA)
    for point in data.data_points:
        if point.flags & _NO_VALUE:
            continue
        value: float | Buckets
        if kind in ("sum", "gauge"):
            value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        elif kind == "histogram":
            value = Buckets(tuple(point.explicit_bounds), tuple(point.bucket_counts), point.sum)
        elif kind == "exponential_histogram":
            positive, negative = point.positive, sum(point.negative.bucket_counts)
            value = buckets(
                point.scale, positive.offset, positive.bucket_counts, point.zero_count + negative, point.sum
            )
        else:
            value = 0.0  # a summary, which Points refuses by its kind
        yield Point(
            metric.name,
            metric.unit,
            "histogram" if kind == "exponential_histogram" else kind,
            getattr(data, "is_monotonic", False),
            temporality == _CUMULATIVE,
            value,
            _attributes(point.attributes),
            stream,
        )
