"""Data points of OTLP as metrics of the catalogue: what each sender's streams have grown by is added up."""

from __future__ import annotations

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
        for name, points in list(batches):  # all is decoded before anything is recorded
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
        labels = _labels(family, point)
        child = self._recorder.child(family.metric.name, labels)
        key = (point.stream, point.name, tuple(sorted((name, str(value)) for name, value in point.attributes.items())))
        if isinstance(point.value, Buckets):
            counts, total = _fitted(point.value, family.metric.buckets)
            if point.cumulative:
                counts, total = self._grown(key, counts, total)
            child.merge(counts, total)
        elif not abs(point.value) < LIMIT:
            raise RecordingError(f"{point.name:.200}: expected a finite number, not {point.value!r}")
        elif point.kind == "gauge":
            child.action("set")(point.value)
        else:
            amount = point.value
            if point.cumulative:
                (amount,), _ = self._grown(key, [amount], 0.0, falls=not point.monotonic)
            if point.monotonic and amount < 0:
                raise RecordingError(f"{point.name:.200}: a counter only grows: {amount!r} can't be added")
            child.action("add")(amount)

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

    def _grown(self, key: Any, counts: list[float], total: float, *, falls: bool = False) -> tuple[list[float], float]:
        """By what a stream has grown since its last point; one that has begun anew, by all that it has.

        A stream seen for the first time counts whole: then a counter goes on where it was before the collector was
        restarted.
        """
        if key not in self._last and len(self._last) >= MAX_STREAMS:
            raise RecordingError(f"more than {MAX_STREAMS} cumulative streams: send deltas, or fewer attributes")
        before, before_total = self._last.get(key, ([0.0] * len(counts), 0.0))
        self._last[key] = (counts, total)
        growth = [now - then for now, then in zip(counts, before, strict=True)]
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


def _fitted(value: Buckets, bounds: tuple[float, ...]) -> tuple[list[float], float]:
    """*value* in the buckets of a family; what lay in one that spans two of them counts in the higher."""
    rising = all(low < high for low, high in pairwise(value.bounds))
    if not value.counts or len(value.counts) != len(value.bounds) + 1 or not rising or min(value.counts) < 0:
        raise RecordingError("a histogram needs rising bounds, and one count more than it has bounds")
    if not abs(value.total) < LIMIT or max(value.counts) > 2**63:
        raise RecordingError(f"a histogram's sum is {value.total!r}: expected a finite number")
    counts = [0.0] * (len(bounds) + 1)
    for bound, count in zip((*value.bounds, float("inf")), value.counts, strict=True):
        counts[bisect_left(bounds, bound)] += count
    return counts, float(value.total)
