"""Data points of OTLP as metrics of the catalogue: what each sender's streams have grown by is added up."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from upcheck.recording import Recorder, RecordingError
from upcheck.recording.family import LIMIT, Recorded
from upcheck.recording.otlp import Buckets, Point, Taken

MAX_STREAMS = 100_000  # of which the last value is remembered
_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio", "ms": "milliseconds", "%": "percent"}
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_:]+")


class Points:
    """Records data points under the name that they have, or that Prometheus would give them, or that `otel` tells."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._services = {name: service.name for service in recorder.services.values() for name in service.otel_names}
        self._otel = {
            metric.otel: metric.name
            for service in recorder.services.values()
            for metric in service.metrics.values()
            if metric.otel
        }
        self._last: dict[Any, Any] = {}

    def take(self, batches: Iterable[tuple[str, Iterable[Point]]]) -> Taken:
        """Record all points of *batches*, each of one `service.name`; what the catalogue does not have is refused."""
        taken = Taken()
        for name, points in batches:
            service = self._services.get(name)
            for point in points:
                if service is None:
                    taken.refuse(f"service.name {name!r:.80} is no otel_name in the catalogue")
                    continue
                try:
                    self._record(point)
                except RecordingError as error:
                    taken.refuse(str(error))
                else:
                    taken.take(service)
        for service, count in taken.taken.items():
            self._recorder.took(service, count)
        return taken

    def _record(self, point: Point) -> None:
        family = self._family(point)
        kind = family.metric.type
        wanted = {"sum": "counter" if point.monotonic else "gauge", "gauge": "gauge", "histogram": "histogram"}
        if wanted.get(point.kind) != kind:
            raise RecordingError(f"{point.name:.200} comes as a {point.kind}, and {family.metric.name} is a {kind}")
        value = _checked(point, family)
        child = self._recorder.child(family.metric.name, _labels(family, point))
        if isinstance(value, tuple):
            counts, total = self._grown(point, *value) if point.cumulative else value
            child.merge(counts, total)
        elif point.kind == "gauge":
            child.action("set")(value)
        else:
            child.action("add")(self._grown(point, [value], 0.0)[0][0] if point.cumulative else value)

    def _family(self, point: Point) -> Recorded:
        name = self._otel.get(point.name) or _NOT_A_NAME.sub("_", point.name)
        unit = _UNITS.get(point.unit, point.unit)
        total = "_total" if point.monotonic else ""
        for candidate in (name, f"{name}{total}", f"{name}_{unit}", f"{name}_{unit}{total}"):
            try:
                return self._recorder.family(candidate)
            except RecordingError:
                continue
        raise RecordingError(f"metric '{point.name:.200}' is in no file of the catalogue")

    def _grown(self, point: Point, counts: list[float], total: float) -> tuple[list[float], float]:
        """By what a stream has grown since its last point; one that has begun anew, by all that it has.

        A stream seen for the first time counts whole: then a counter goes on where it was before the collector was
        restarted.
        """
        attributes = tuple(sorted((name, str(one)) for name, one in point.attributes.items()))
        key = (point.stream, point.name, attributes)
        if key not in self._last and len(self._last) >= MAX_STREAMS:
            raise RecordingError(f"more than {MAX_STREAMS} cumulative streams: send deltas, or fewer attributes")
        before, before_total = self._last.get(key, ([0.0] * len(counts), 0.0))
        self._last[key] = (counts, total)
        growth = [now - then for now, then in zip(counts, before, strict=True)]
        falls = point.kind == "sum" and not point.monotonic
        if not falls and min(growth) < 0:
            return counts, total
        return growth, total - before_total


def _labels(family: Recorded, point: Point) -> dict[str, str]:
    """The attributes that are labels of *family*, by their own names or with dots for underscores; no others."""
    attributes = {_NOT_A_NAME.sub("_", name): value for name, value in point.attributes.items()} | dict(
        point.attributes
    )
    labels = {}
    for label in family.metric.labels:
        value = attributes.get(family.metric.otel_labels.get(label.name, label.name))
        if value is not None:
            labels[label.name] = str(value).lower() if isinstance(value, bool) else str(value)
    return labels


def _checked(point: Point, family: Recorded) -> float | tuple[list[float], float]:
    """The value of *point*, a histogram's as counts for the family's buckets and a sum; raises RecordingError.

    What lay in a bucket that spans two of the family's counts in the higher.
    """
    value = point.value
    total = value.total if isinstance(value, Buckets) else value
    if not abs(total) < LIMIT:
        raise RecordingError(f"{point.name:.200}: expected a finite number, not {total!r}")
    if not isinstance(value, Buckets):
        if point.monotonic and value < 0:
            raise RecordingError(f"{point.name:.200}: a counter only grows: {value!r} can't be added")
        return value
    if max(value.counts, default=0) > 2**63:
        raise RecordingError(f"{point.name:.200}: a bucket's count is beyond 64 bits")
    rising = all(low < high for low, high in pairwise(value.bounds))
    if not value.counts or len(value.counts) != len(value.bounds) + 1 or not rising or min(value.counts) < 0:
        raise RecordingError(f"{point.name:.200}: expected rising bounds, and one count more than it has bounds")
    counts = [0.0] * (len(family.metric.buckets) + 1)
    for bound, count in zip((*value.bounds, math.inf), value.counts, strict=True):
        counts[bisect_left(family.metric.buckets, bound)] += float(count)
    return counts, float(total)
