"""Spans as events: which events of the catalogue a span is, and the alerts that it raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, NamedTuple

from upcheck.catalog import Field, Match, SpanAlert
from upcheck.recording import Recorder, RecordingError
from upcheck.recording.event import Recording
from upcheck.recording.otlp import Span, Taken

UNKNOWN = "unknown"  # the text of an attribute that a span lacks
_PLACE = re.compile(r"\{([^{}]*)\}")
_MAX_TEXT = 1000  # characters of a label or annotation

Getter = Callable[[Span], Any]


class Raised(NamedTuple):
    """An alert that a span has raised, for *resolve_after* seconds from now."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    resolve_after: float


class Spans:
    """Records spans as the events that match them, and hands the alerts that they raise to *alarm*."""

    def __init__(self, recorder: Recorder, alarm: Callable[[Raised], None]) -> None:
        self._recorder = recorder
        self._alarm = alarm
        self._services: dict[str, tuple[str, _Events, _Alerts]] = {}
        for service in recorder.services.values():
            events = [
                (_matcher(event.span), recorder.event(service.name, event.name), list(map(_getter, event.fields)))
                for event in service.events.values()
                if event.span is not None
            ]
            alerts = [(_matcher(alert.span), alert) for alert in service.span_alerts]
            for name in service.otel_names:
                self._services[name] = (service.name, events, alerts)

    def take(self, batches: Iterable[tuple[str, Sequence[Span]]]) -> Taken:
        """Record all spans of *batches*, each of one `service.name`. A span that is no event is taken, too."""
        taken = Taken()
        for name, spans in batches:
            if name not in self._services:
                taken.refuse(f"service.name {name!r:.80} is no otel_name in the catalogue", len(spans))
                continue
            service, events, alerts = self._services[name]
            for span in spans:
                try:
                    _record(span, events)
                except RecordingError as error:
                    taken.refuse(str(error))
                    continue
                taken.take(service)
                for matches, alert in alerts:
                    if matches(span):
                        self._alarm(_raised(alert, span))
        for service, count in taken.taken.items():
            self._recorder.took(service, count)
        return taken


_Events = list[tuple[Callable[[Span], bool], Recording, list[Getter]]]
_Alerts = list[tuple[Callable[[Span], bool], SpanAlert]]


def _record(span: Span, events: _Events) -> None:
    for matches, recording, getters in events:
        if matches(span):
            values = [get(span) for get in getters]
            if _Missing not in values:
                recording(*values)


class _Missing:
    """Stands for a number that the span does not tell: the event is none of its."""


def _matcher(match: Match) -> Callable[[Span], bool]:
    tests: list[Callable[[Span], bool]] = []
    if match.kind is not None:
        tests.append(lambda span: span.kind == match.kind)
    if match.error is not None:
        tests.append(lambda span: span.error is match.error)
    if match.has:
        tests.append(lambda span: any(name in span.attributes for name in match.has))
    if match.name is not None:
        pattern = re.compile(translate(match.name))
        tests.append(lambda span: pattern.match(span.name) is not None)
    if match.longer_than:
        tests.append(lambda span: span.seconds > match.longer_than)
    return lambda span: all(test(span) for test in tests)


def _getter(field: Field) -> Getter:
    """What tells *field* of a span."""
    if field.span in (("duration",), ("name",)):
        index = Span._fields.index("seconds" if field.span == ("duration",) else "name")
        return lambda span: span[index]
    if field.span == ("ok",):
        return lambda span: not span.error
    absent = None if field.optional else UNKNOWN if field.type == "text" else _Missing
    names = [tuple(part.strip() for part in one.split(" + ")) for one in field.span]

    def get(span: Span) -> Any:
        for parts in names:
            found = [span.attributes[name] for name in parts if name in span.attributes]
            if found:
                return _as(field.type, found, absent)
        return absent

    return get


def _as(kind: str, found: list[Any], absent: Any) -> Any:
    """The attributes in *found* as a field of that *kind*; several are added up."""
    if kind == "text":
        return str(found[0])
    if kind == "boolean":
        return found[0] is True or found[0] == "true"
    try:
        return int(found[0]) if kind == "http_status" else sum(map(float, found))
    except ValueError:
        return absent


def _raised(alert: SpanAlert, span: Span) -> Raised:
    by = {label: str(span.attributes.get(name, UNKNOWN))[:_MAX_TEXT] for label, name in alert.by.items()}
    known = {"name": span.name, "seconds": f"{span.seconds:.3g}"}

    def fill(text: str) -> str:
        return _PLACE.sub(lambda found: str(known.get(found[1], span.attributes.get(found[1], UNKNOWN))), text)[
            :_MAX_TEXT
        ]

    annotations = {name: fill(text) for name, text in alert.annotations.items()}
    return Raised({"alertname": alert.name, **alert.labels, **by}, annotations, alert.resolve_after)
