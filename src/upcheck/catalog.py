"""The service catalogue: what each service measures, records, promises and needs. `monitoring/services/<name>.yml`."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upcheck import documents, schema
from upcheck.declaration import seconds
from upcheck.documents import DocumentError
from upcheck.exposition import Family
from upcheck.settings import nearest

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; prom-client's and client_python's
MAX_SERIES = 1000  # of a metric, unless it says otherwise
OTHER = "other"  # the value of a label where its own is not listed, or is one too many
ACTIONS = {"counter": ("add",), "gauge": ("set", "add"), "histogram": ("observe",)}
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
SOURCES = ("host.cpu", "host.cpu_ratio", "host.memory", "host.memory_ratio", "host.load", "host.uptime")
_RESERVED_FIELDS = ("service", "event", "metric", "labels")  # they are keys of an event in JSON


@dataclass(frozen=True, slots=True)
class Label:
    """A label: the *values* it can have, or, where these are not known, how many at most."""

    name: str
    values: tuple[str, ...] | None
    max: int
    about: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family. *alias_of* has the same series under a name that keeps to the conventions; *why* says which.

    *otel* is the OpenTelemetry metric that it is, *otel_labels* the attributes of labels with other names.
    """

    name: str
    layer: str
    type: str
    help: str
    unit: str = ""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    max_series: int = MAX_SERIES
    source: str | None = None
    alias_of: str | None = None
    instead: str | None = None
    why: str = ""
    otel: str | None = None
    otel_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """Its name, type, labels and HELP."""
        return Family(self.name, self.type, tuple(label.name for label in self.labels), self.help)


@dataclass(frozen=True, slots=True)
class Match:
    """Which spans: of a *kind*, with a *name* (`*` stands for anything), one of the attributes in *has*, *error*."""

    kind: str | None = None
    name: str | None = None
    has: tuple[str, ...] = ()
    error: bool | None = None
    longer_than: float = 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """What an event tells. *span*: attributes of which the first counts, or duration, name, ok."""

    name: str
    type: str
    about: str = ""
    words: tuple[str, str] = ("true", "false")
    optional: bool = False
    span: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What an event does to a metric: *action* is add, set or observe; *value* a number, or the name of a field.

    *labels* has, for each label of the metric, text or `$field`; *when*, for a field, the values for which it is done.
    """

    metric: str
    action: str
    value: float | str
    labels: Mapping[str, str]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """What can happen to a service, and what is recorded then."""

    name: str
    help: str
    fields: tuple[Field, ...]
    records: tuple[Record, ...]
    span: Match | None = None


@dataclass(frozen=True, slots=True)
class SpanAlert:
    """An alert that a span raises, for *resolve_after* seconds; one for each set of values of *by*'s attributes."""

    name: str
    span: Match
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    by: Mapping[str, str]
    resolve_after: float


@dataclass(frozen=True, slots=True)
class Service:
    """One file of the catalogue. *health*, *capacity* and *slos* are as they stand in it.

    *scrape* are the URLs of its pages of metrics that Prometheus scrapes.
    """

    name: str
    about: str
    path: Path
    metrics: Mapping[str, Metric]
    events: Mapping[str, Event]
    span_alerts: tuple[SpanAlert, ...]
    otel_names: tuple[str, ...]
    url: str | None
    endpoints: Mapping[str, str]
    health: Mapping[str, Any]
    capacity: Mapping[str, Any]
    slos: Mapping[str, Any]
    scrape: tuple[str, ...] = ()


def load(path: Path) -> Service:
    """The service in *path*; raises DocumentError at the line and column of what is wrong."""
    document = documents.load(path)
    schema.validate(path, document, "service")
    return _Reader(path, document).service()


def load_all(folder: Path) -> list[Service]:
    """The services in *folder*'s YAML files, by name; none where there is no such folder.

    Raises DocumentError, also where two files have one service, or one metric with two meanings.
    """
    services: dict[str, Service] = {}
    metrics: dict[str, tuple[Service, Metric]] = {}
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        service = load(path)
        if service.name in services:
            taken = f"service '{service.name}' is in {services[service.name].path.name}, too"
            raise DocumentError(path, taken, *documents.where(documents.load(path), ["service"]))
        services[service.name] = service
        for name, metric in service.metrics.items():
            other, before = metrics.setdefault(name, (service, metric))
            if _shape(before) != _shape(metric):
                raise DocumentError(
                    path, f"metric '{name}' is also in {other.path.name}, with another type, labels or buckets"
                )
    return [services[name] for name in sorted(services)]


def _shape(metric: Metric) -> tuple[object, ...]:
    return metric.type, metric.buckets, [label.name for label in metric.labels], metric.alias_of


class _Reader:
    """Makes a Service of a document that fits the schema; what the schema can't say is refused here."""

    def __init__(self, path: Path, document: Any) -> None:
        self._path = path
        self._document = document
        self._metrics: dict[str, Metric] = {}

    def service(self) -> Service:
        entry = self._document
        for name in entry["metrics"]:
            self._metrics[name] = self._metric(name)
        self._follow_aliases()
        events = {name: self._event(name) for name in entry.get("events", {})}
        alerts = tuple(self._span_alert(name) for name in entry.get("span_alerts", {}))
        for section, key in (("health", "interval"), ("health", "timeout"), ("slos", "window")):
            for name, one in entry.get(section, {}).items():
                if key in one:
                    self._seconds([section, name, key])
        return Service(
            name=entry["service"],
            about=entry["about"],
            path=self._path,
            metrics=self._metrics,
            events=events,
            span_alerts=alerts,
            otel_names=tuple(entry.get("otel_names", [entry["service"]])),
            url=entry.get("url"),
            endpoints=entry.get("endpoints", {}),
            health=entry.get("health", {}),
            capacity=entry.get("capacity", {}),
            slos=entry.get("slos", {}),
            scrape=tuple(entry.get("scrape", ())),
        )

    def _metric(self, name: str) -> Metric:
        entry = self._document["metrics"][name]
        place = ["metrics", name]
        instead = entry.get("instead", {})
        if set(entry) == {"layer", "instead"}:
            return Metric(
                name, entry["layer"], "", "", alias_of=instead["use"], instead=instead["use"], why=instead["why"]
            )
        for key in ("type", "help"):
            if key not in entry:
                raise self._error(place, f"lacks '{key}' (an alias has layer and instead alone)")
        if not instead and (entry["type"] == "counter") != name.endswith("_total"):
            fix = f"call it {name}_total" if entry["type"] == "counter" else f"call it {name.removesuffix('_total')}"
            raise self._error(place, f"_total is the end of a counter's name, and of no other: {fix}", key=True)
        if "buckets" in entry and entry["type"] != "histogram":
            raise self._error([*place, "buckets"], f"a {entry['type']} has none; only a histogram has", key=True)
        buckets = tuple(map(float, entry.get("buckets", BUCKETS)))
        if sorted(set(buckets)) != list(buckets) or not all(map(math.isfinite, buckets)):
            raise self._error([*place, "buckets"], "expected finite bounds in rising order, each once")
        source = entry.get("source")
        if source is not None and source not in SOURCES:
            raise self._error([*place, "source"], f"unknown source '{source}'{nearest(source, SOURCES)}")
        return Metric(
            name=name,
            layer=entry["layer"],
            type=entry["type"],
            help=entry["help"],
            unit=entry.get("unit", ""),
            labels=tuple(self._label(place, label, value) for label, value in entry.get("labels", {}).items()),
            buckets=buckets if entry["type"] == "histogram" else (),
            max_series=entry.get("max_series", MAX_SERIES),
            source=source,
            instead=instead.get("use"),
            why=instead.get("why", ""),
            otel=entry.get("otel", {}).get("name"),
            otel_labels=entry.get("otel", {}).get("labels", {}),
        )

    def _label(self, place: list[str], name: str, value: Any) -> Label:
        if name in ("le", "quantile"):
            raise self._error([*place, "labels", name], f"'{name}' is a label that Prometheus itself makes", key=True)
        if isinstance(value, list):
            return Label(name, tuple(value), len(value))
        return Label(name, None, value["max"], value["any"])

    def _follow_aliases(self) -> None:
        for name, metric in self._metrics.items():
            if metric.instead is None:
                continue
            meant = self._metrics.get(metric.instead)
            if meant is None or meant.alias_of or metric.instead == name:
                known = [one for one, other in self._metrics.items() if not other.alias_of]
                raise self._error(
                    ["metrics", name, "instead", "use"],
                    f"'{metric.instead}' is no metric of this file{nearest(metric.instead, known)}",
                )
            if metric.alias_of:
                self._metrics[name] = Metric(
                    name, metric.layer, meant.type, meant.help, meant.unit, meant.labels, meant.buckets,
                    meant.max_series, None, meant.name, meant.name, metric.why,
                )  # fmt: skip

    def _event(self, name: str) -> Event:
        entry = self._document["events"][name]
        place = ["events", name]
        fields: dict[str, Field] = {}
        for key, one in entry.get("fields", {}).items():
            if keyword.iskeyword(key) or key in _RESERVED_FIELDS:
                raise self._error([*place, "fields", key], f"'{key}' can't be a field's name: choose another", key=True)
            if fields and not one.get("optional") and list(fields.values())[-1].optional:
                raise self._error([*place, "fields", key], "follows an optional one, and is not optional", key=True)
            span = one.get("span", ())
            fields[key] = Field(
                key, one["type"], one.get("about", ""), tuple(one.get("words", ("true", "false"))),
                one.get("optional", False), (span,) if isinstance(span, str) else tuple(span),
            )  # fmt: skip
        records = tuple(
            self._record([*place, "records", index], one, fields) for index, one in enumerate(entry["records"])
        )
        match = self._match([*place, "span"], entry["span"]) if "span" in entry else None
        return Event(name, entry["help"], tuple(fields.values()), records, match)

    def _record(self, place: list[Any], entry: Mapping[str, Any], fields: Mapping[str, Field]) -> Record:
        known = [name for name, one in self._metrics.items() if not one.alias_of]
        if entry["metric"] not in known:
            fix = nearest(entry["metric"], known)
            raise self._error([*place, "metric"], f"'{entry['metric']}' is no metric of this file{fix}")
        metric = self._metrics[entry["metric"]]
        given = [action for action in ("add", "set", "observe") if action in entry]
        if len(given) != 1 or given[0] not in ACTIONS[metric.type]:
            wanted = " or ".join(ACTIONS[metric.type])
            raise self._error(place, f"a {metric.type} takes {wanted}, not {' and '.join(given) or 'nothing'}")
        action = given[0]
        value = entry[action]
        if isinstance(value, str) and (value not in fields or fields[value].type == "text"):
            numbers = [name for name, one in fields.items() if one.type != "text"]
            fix = nearest(value, numbers) or ": write a number, such as 1"
            raise self._error([*place, action], f"'{value}' is no field with a number{fix}")
        labels = self._labels([*place, "labels"], entry.get("labels", {}), metric, fields)
        when = entry.get("when", {})
        for key in when:
            if key not in fields:
                raise self._error([*place, "when", key], f"'{key}' is no field{nearest(key, fields)}", key=True)
        values = {key: (one,) if isinstance(one, str) else tuple(one) for key, one in when.items()}
        return Record(metric.name, action, value if isinstance(value, str) else float(value), labels, values)

    def _labels(
        self, place: list[Any], given: Mapping[str, str], metric: Metric, fields: Mapping[str, Field]
    ) -> dict[str, str]:
        """For each label of *metric* what it is filled with: what is given, the field of its name, its only value."""
        labels: dict[str, str] = {}
        names = [label.name for label in metric.labels]
        for name in given:
            if name not in names:
                raise self._error(
                    [*place, name], f"{metric.name} has no label '{name}'{nearest(name, names)}", key=True
                )
        for label in metric.labels:
            if label.name in given:
                labels[label.name] = given[label.name]
            elif label.name in fields:
                labels[label.name] = f"${label.name}"
            elif label.values and len(label.values) == 1:
                labels[label.name] = label.values[0]
            else:
                raise self._error(place[:-1], f"says nothing of {metric.name}'s label '{label.name}'")
            text = labels[label.name]
            if text.startswith("$") and text[1:] not in fields:
                raise self._error([*place, label.name], f"'{text}' is no field{nearest(text[1:], fields)}")
            if not text.startswith("$") and label.values and text not in label.values:
                raise self._error([*place, label.name], f"'{text}' is no value of it{nearest(text, label.values)}")
        return labels

    def _match(self, place: list[Any], entry: Mapping[str, Any]) -> Match:
        longer = self._seconds([*place, "longer_than"]) if "longer_than" in entry else 0.0
        return Match(entry.get("kind"), entry.get("name"), tuple(entry.get("has", ())), entry.get("error"), longer)

    def _span_alert(self, name: str) -> SpanAlert:
        entry = self._document["span_alerts"][name]
        place = ["span_alerts", name]
        labels = {"severity": entry["severity"], "service": self._document["service"], **entry.get("labels", {})}
        after = self._seconds([*place, "resolve_after"]) if "resolve_after" in entry else 300.0
        annotations = {"summary": entry["summary"], **entry.get("annotations", {})}
        match = self._match([*place, "span"], entry["span"])
        return SpanAlert(name, match, labels, annotations, entry.get("by", {}), after)

    def _seconds(self, place: list[Any]) -> float:
        value = self._document
        for key in place:
            value = value[key]
        try:
            return seconds(value)
        except ValueError as error:
            raise self._error(place, str(error)) from None

    def _error(self, place: Iterable[Any], message: str, *, key: bool = False) -> DocumentError:
        place = list(place)
        name = ".".join(str(one) for one in place[-2:] if isinstance(one, str))
        return DocumentError(self._path, f"{name}: {message}", *documents.where(self._document, place, key=key))
