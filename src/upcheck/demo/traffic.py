"""Made-up traffic of a service: its events, as its catalogue declares them, with values that they could have."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from upcheck.catalog import Event, Field, Metric
from upcheck.demo.scenario import Row, Scenario

RATE = 0.2  # of each kind of event, a second, where nothing else is said
_BAD = ("fail", "error", "denied", "timeout", "reject", "cancel")


class Traffic:
    """What a service tells from moment to moment, as `POST /api/events` takes it; the same for the same *seed*.

    What its scenario says nothing of is made up, and goes well.
    """

    def __init__(self, scenario: Scenario, seed: int = 1) -> None:
        self.scenario = scenario
        self.play = scenario.play()
        self._service = scenario.service
        self._random = random.Random(seed)  # noqa: S311 - it makes up, it keeps no secret
        self._owed: defaultdict[str, float] = defaultdict(lambda: 1.0)  # so that each is told at once
        reached = {record.metric for event in self._service.events.values() for record in event.records}
        self._others = [
            metric for metric in self._service.metrics.values()
            if metric.name not in reached and not (metric.source or metric.alias_of or metric.instead)
        ]  # fmt: skip
        self._makers: dict[str, Callable[[Field, Event], Any]] = {
            "text": self._text,
            "http_status": lambda field, event: self._random.choice((200, 200, 200, 201, 404)),
            "seconds": lambda field, event: self._seconds(),
            "boolean": lambda field, event: True,
            "bytes": lambda field, event: self._random.randrange(100, 50_000),
            "number": lambda field, event: round(self._random.uniform(1, 100), 3),
        }

    def batch(self, span: float) -> list[dict[str, Any]]:
        """What is told of *span* seconds."""
        if self.play.silent:
            return []
        told = []
        for event in self._service.events.values():
            for number, row in enumerate(self.play.events.get(event.name, ({},))):
                times = self._due(f"{event.name} {number}", float(row.get("rate", RATE)) * span)
                told += [self._event(event, row) for _ in range(times)]
        named = [self._service.metrics[name] for name in self.play.metrics]
        others = [metric for metric in self._others if metric.name not in self.play.metrics]
        return told + [self._record(metric, span) for metric in (*named, *others)]

    def _due(self, name: str, more: float) -> int:
        """How many whole ones there are of what is owed."""
        self._owed[name] += more
        times = int(self._owed[name])
        self._owed[name] -= times
        return times

    def _event(self, event: Event, row: Row) -> dict[str, Any]:
        fields = {
            field.name: self._taken(row[field.name]) if field.name in row else self._makers[field.type](field, event)
            for field in event.fields
        }
        return {"service": self._service.name, "event": event.name, **fields}

    def _taken(self, value: Any) -> Any:
        return self._random.choice(value) if isinstance(value, list) else value

    def _record(self, metric: Metric, span: float) -> dict[str, Any]:
        said = self.play.metrics.get(metric.name)
        action = {"counter": "add", "gauge": "set"}.get(metric.type, "observe")
        value = (
            (RATE if said is None else said) * span if action == "add" else self._seconds() if said is None else said
        )
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
        good = [value for value in values if not any(word in value.lower() for word in _BAD)]
        return self._random.choice(good or values or [f"some-{field.name}"])

    def _seconds(self) -> float:
        return round(self._random.lognormvariate(-2.7, 0.5), 6)  # 67 ms, give or take
