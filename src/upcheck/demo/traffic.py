"""Made-up traffic of a service: its events, as its catalogue declares them, with values that they could have."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from upcheck.catalog import Event, Field, Metric, Service

# What can go wrong: how a field's type is told then. Whatever has such a field shows it.
FAULTS: Mapping[str, str] = {
    "error-rate": "three of ten requests are answered with 500, and as many of all else fails",
    "latency": "everything takes forty times as long",
}
SLOW = 40.0
FAILING = 0.3
_BAD = ("fail", "error", "denied", "timeout", "reject")


class Traffic:
    """What *service* tells from moment to moment, as `POST /api/events` takes it; the same for the same *seed*."""

    def __init__(self, service: Service, faults: Iterable[str] = (), seed: int = 1) -> None:
        """*faults* are among FAULTS. Raises ValueError for another."""
        self._service = service
        self.faults = set(faults)
        for fault in self.faults - FAULTS.keys():
            raise ValueError(f"there is no fault '{fault}'; there are {', '.join(FAULTS)}")
        self._random = random.Random(seed)  # noqa: S311 - it makes up, it keeps no secret
        reached = {record.metric for event in service.events.values() for record in event.records}
        self._others = [
            metric for metric in service.metrics.values()
            if metric.name not in reached and not (metric.source or metric.alias_of or metric.instead)
        ]  # fmt: skip
        self._makers: dict[str, Callable[[Field, Event], Any]] = {
            "text": self._text,
            "http_status": lambda field, event: self._status(),
            "seconds": lambda field, event: self._seconds(),
            "boolean": lambda field, event: not self._fails(),
            "bytes": lambda field, event: self._random.randrange(100, 50_000),
            "number": lambda field, event: round(self._random.uniform(1, 100), 3),
        }

    def batch(self, times: int = 3) -> list[dict[str, Any]]:
        """Some moments of traffic: each kind of event so many *times*, and each metric of no event once."""
        told = [self._event(event) for event in self._service.events.values() for _ in range(times)]
        return told + [self._record(metric) for metric in self._others]

    def _event(self, event: Event) -> dict[str, Any]:
        fields = {field.name: self._makers[field.type](field, event) for field in event.fields}
        return {"service": self._service.name, "event": event.name, **fields}

    def _record(self, metric: Metric) -> dict[str, Any]:
        action = {"counter": "add", "gauge": "set"}.get(metric.type, "observe")
        value = 1 if action == "add" else self._seconds()
        labels = {label.name: self._random.choice(label.values or (f"some-{label.name}",)) for label in metric.labels}
        return {"service": self._service.name, "metric": metric.name, action: value, "labels": labels}

    def _text(self, field: Field, event: Event) -> str:
        """One of the values that a label which shows *field* can have, or for which something is recorded."""
        values = [
            value
            for record in event.records
            for label in self._service.metrics[record.metric].labels
            if record.labels.get(label.name) == f"${field.name}"
            for value in label.values or ()
        ]
        values += [value for record in event.records for value in record.when.get(field.name, ())]
        bad = [value for value in values if any(word in value.lower() for word in _BAD)]
        good = [value for value in values if value not in bad] or values or [f"some-{field.name}"]
        return self._random.choice(bad if bad and self._fails() else good)

    def _fails(self) -> bool:
        return self._random.random() < (FAILING if "error-rate" in self.faults else 0.01)

    def _status(self) -> int:
        return 500 if self._fails() else self._random.choice((200, 200, 200, 201, 404))

    def _seconds(self) -> float:
        slower = SLOW if "latency" in self.faults else 1.0
        return round(self._random.lognormvariate(-2.7, 0.5) * slower, 6)  # 67 ms, give or take
