"""What a demonstration plays: traffic when all is well, and what can go wrong. `monitoring/demo/<service>.yml`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upcheck import documents, schema
from upcheck.catalog import Service
from upcheck.documents import DocumentError
from upcheck.settings import nearest

Row = Mapping[str, Any]  # the fields of an event; a list is what one is taken of each time


@dataclass(frozen=True, slots=True)
class Play:
    """What is told: rows of *events*, *metrics* of no event, series of *exporters*, shares of the *host* in use.

    *growing* are the series of exporters that grow, and by how much in a second.
    """

    events: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    exporters: Mapping[str, float] = field(default_factory=dict)
    host: Mapping[str, float] = field(default_factory=dict)
    silent: bool = False
    growing: Mapping[str, float] = field(default_factory=dict)

    def but(self, other: Play) -> Play:
        """The same, where *other* says nothing else."""
        events = dict(self.events)
        for name, rows in other.events.items():
            before = events.get(name, ())
            merged = len(rows) == 1 and len(before) == 1  # else all is said anew
            events[name] = ({**before[0], **rows[0]},) if merged else rows
        return Play(
            events,
            {**self.metrics, **other.metrics},
            {**self.exporters, **other.exporters},
            {**self.host, **other.host},
            self.silent or other.silent,
            {**self.growing, **other.growing},
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, in a sentence; the *alerts* that fire then, and no others."""

    name: str
    about: str
    alerts: tuple[str, ...]
    play: Play


@dataclass(frozen=True, slots=True)
class Scenario:
    """The demonstration of *service*."""

    service: Service
    healthy: Play
    faults: Mapping[str, Fault]

    def play(self, faults: Iterable[str] = ()) -> Play:
        """What is told when those of *faults* that it has go wrong."""
        made = self.healthy
        for name in faults:
            if name in self.faults:
                made = made.but(self.faults[name].play)
        return made


def load(service: Service, folder: Path) -> Scenario:
    """The scenario of *service*, of the file with its name in *folder*; without one, all is made up and nothing fails.

    Raises DocumentError.
    """
    path = folder / f"{service.name}.yml"
    if not path.is_file():
        return Scenario(service, Play(), {})
    document = documents.load(path)
    schema.validate(path, document, "demo")
    told: Mapping[str, Any] = document
    for place, play in [(("healthy",), told["healthy"]), *((("faults", n), f) for n, f in told["faults"].items())]:
        _known(path, document, service, place, play)
    faults = {name: Fault(name, one["about"], tuple(one["alerts"]), _play(one)) for name, one in told["faults"].items()}
    return Scenario(service, _play(told["healthy"]), faults)


def _play(told: Mapping[str, Any]) -> Play:
    events = {name: tuple(rows) if isinstance(rows, list) else (rows,) for name, rows in told.get("events", {}).items()}
    exporters = told.get("exporters", {})
    return Play(
        events,
        told.get("metrics", {}),
        {series: value for series, value in exporters.items() if not isinstance(value, dict)},
        told.get("host", {}),
        bool(told.get("silent")),
        {series: value["rate"] for series, value in exporters.items() if isinstance(value, dict)},
    )


def _known(path: Path, document: Any, service: Service, place: tuple[str, ...], told: Mapping[str, Any]) -> None:
    """Raises DocumentError for an event, a field or a metric that *service* has not."""

    def lacking(what: str, word: str, valid: Iterable[str], *below: str | int) -> DocumentError:
        mark = documents.where(document, [*place, *below, word], key=True)
        return DocumentError(path, f"{service.name} has no {what} '{word}'{nearest(word, valid)}", *mark)

    for name, rows in told.get("events", {}).items():
        if name not in service.events:
            raise lacking("event", name, service.events, "events")
        fields = {"rate", *(one.name for one in service.events[name].fields)}
        for index, row in enumerate(rows if isinstance(rows, list) else [rows]):
            for word in row.keys() - fields:
                raise lacking(
                    f"field of {name}", word, fields, "events", name, *([index] if isinstance(rows, list) else [])
                )
    for name in told.get("metrics", {}):
        if name not in service.metrics:
            raise lacking("metric", name, service.metrics, "metrics")
