"""Recording: what services tell becomes the metrics of the catalogue, under caps, in one call or one JSON object."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from upcheck import catalog
from upcheck.catalog import Metric, Service
from upcheck.exposition import Block, Family, labelled
from upcheck.recording.event import Recording
from upcheck.recording.family import LIMIT, Child, Overflow, Recorded, RecordingError
from upcheck.settings import nearest

__all__ = ["Recorder", "RecordingError"]

MAX_SERIES = 100_000  # of all metrics together
REPLACED = Family(
    "upcheck_label_values_dropped_total",
    "counter",
    ("metric", "label"),
    "Samples whose label became `other`: its value is not listed, or one too many.",
)
EVENTS = Family("upcheck_recorded_total", "counter", ("service",), "Events and samples that came in over HTTP.")
LAST = Family(
    "upcheck_last_recorded_timestamp_seconds", "gauge", ("service",), "When the service last told something, unix time."
)


class Recorder:
    """The metrics of *services*, ready to be recorded; a source of /metrics.

    A sample is never lost to a cap: beyond it, label values become `other`, and are counted.
    """

    def __init__(self, services: Iterable[Service], *, clock: Callable[[], float] = time.time) -> None:
        self.services = {service.name: service for service in services}
        self._clock = clock
        self._families: dict[str, Recorded] = {}
        self._aliases: dict[str, str] = {}
        self._taken = {name: [0, 0.0] for name in self.services}
        self._lock = threading.Lock()
        self._before: list[Callable[[], None]] = []
        metrics = [metric for service in self.services.values() for metric in service.metrics.values()]
        for metric in sorted(metrics, key=lambda one: one.alias_of is not None):
            self._add(metric)
        self._recordings = {
            (service.name, event.name): Recording(event, self._families, self._before)
            for service in self.services.values()
            for event in service.events.values()
        }

    @classmethod
    def load(cls, path: Path | str) -> Recorder:
        """A recorder of the service in the file *path*, or of all in the folder *path*; raises DocumentError."""
        path = Path(path)
        return cls(catalog.load_all(path) if path.is_dir() else [catalog.load(path)])

    def event(self, service: str, event: str) -> Recording:
        """The recording of an *event*, to be called with the values of its fields; raises RecordingError if unknown."""
        found = self._recordings.get((service, event))
        if found is None:
            raise self._unknown(service, event)
        return found

    def family(self, name: str) -> Recorded:
        """The family of that *name*, or of which that is another name. Raises RecordingError if there is none."""
        found = self._families.get(self._aliases.get(name, name))
        if found is None:
            known = nearest(name, [*self._families, *self._aliases]) if len(name) < 200 else ""
            raise RecordingError(f"metric '{name:.200}' is in no file of the catalogue{known}")
        return found

    def child(self, name: str, labels: Mapping[str, str]) -> Child:
        """The series of a metric with *labels*, of which none may be left out; raises RecordingError."""
        family = self.family(name)
        values = []
        for label in family.metric.labels:
            value: Any = labels.get(label.name)
            if value is None and label.values and len(label.values) == 1:
                value = label.values[0]
            if not isinstance(value, str):
                got = "nothing" if value is None else f"{value!r:.80}"
                raise RecordingError(f"{name}: label '{label.name}': expected text, not {got}")
            values.append(value)
        for label_name in labels:
            if label_name not in family.replaced:
                raise RecordingError(f"{name} has no label '{label_name}'{nearest(label_name, family.replaced)}")
        try:
            return family.child(tuple(values))
        except Overflow as overflow:
            return overflow.child

    def record(self, name: str, action: str, value: Any, labels: Mapping[str, str]) -> None:
        """Do *action* (`add`, `set`, `observe`) with *value* to the series of a metric; raises RecordingError."""
        kind = self.family(name).metric.type
        if action not in catalog.ACTIONS[kind]:
            raise RecordingError(f"{name} is a {kind}, which takes {' or '.join(catalog.ACTIONS[kind])}, not {action}")
        if not isinstance(value, int | float) or not abs(value) < LIMIT or (kind == "counter" and value < 0):
            wanted = "a number that is not negative" if kind == "counter" else "a finite number"
            raise RecordingError(f"{name}: {action}: expected {wanted}, not {value!r:.80}")
        self.child(name, labels).action(action)(value)

    def tell(self, told: Mapping[str, Any]) -> str:
        """Record what one JSON object tells; the service it is of. Raises RecordingError, and records nothing then.

        `{"service": "shop", "event": "order", ...its fields}` or
        `{"service": "shop", "metric": "shop_carts", "set": 7, "labels": {...}}` with add, set or observe.
        """
        fields = dict(told)
        service, event = fields.pop("service", None), fields.pop("event", None)
        if not isinstance(service, str) or not isinstance(event, str | None) or service not in self.services:
            raise self._unknown(service, event)
        if event is None:
            self._tell_metric(fields)
        else:
            self.event(service, event).of(fields)
        return service

    def took(self, service: str, count: int) -> None:
        """Note that *count* events or samples of a *service* came in now."""
        with self._lock:
            taken = self._taken[service]
            taken[0] += count
            taken[1] = self._clock()

    def blocks(self) -> Iterator[Block]:
        """Every family that has series, as text."""
        for settle in self._before:
            settle()
        for family in self._families.values():
            yield from family.blocks()
        yield (
            REPLACED,
            "".join(
                f"{labelled(REPLACED.name, [('metric', name), ('label', label)])} {count}\n"
                for name, family in self._families.items()
                for label, count in family.replaced.items()
                if count
            ),
        )
        told = [(labelled("", [("service", name)]), count, last) for name, (count, last) in self._taken.items()]
        yield EVENTS, "".join(f"{EVENTS.name}{labels} {count}\n" for labels, count, _ in told)
        yield LAST, "".join(f"{LAST.name}{labels} {last}\n" for labels, _, last in told if last)

    def _add(self, metric: Metric) -> None:
        if metric.alias_of:
            self._aliases[metric.name] = metric.alias_of
            known = self._families[metric.alias_of].aliases
            if metric.family not in known:
                known.append(metric.family)
        elif metric.name not in self._families:
            self._families[metric.name] = Recorded(metric, self._room)
        else:
            self._families[metric.name].widen(metric)

    def _room(self) -> bool:
        return sum(map(len, self._families.values())) < MAX_SERIES

    def _tell_metric(self, fields: dict[str, Any]) -> None:
        name, labels = fields.pop("metric", None), fields.pop("labels", {})
        if not isinstance(name, str) or not isinstance(labels, dict) or len(fields) != 1:
            raise RecordingError(
                "expected an event with its fields, or a metric with add, set or observe, and its labels under 'labels'"
            )
        ((action, value),) = fields.items()
        self.record(name, action, value, labels)

    def _unknown(self, service: object, event: object) -> RecordingError:
        if not isinstance(service, str) or service not in self.services:
            fix = nearest(service, self.services) if isinstance(service, str) and len(service) < 200 else ""
            if service is None:
                return RecordingError("service: expected the name of one, not nothing")
            return RecordingError(f"service: {service!r:.80} is in no file of the catalogue{fix}")
        events = self.services[service].events
        fix = nearest(event, events) if isinstance(event, str) and len(event) < 200 else ""
        return RecordingError(f"event: {event!r:.80} is none of {service}'s{fix}")
