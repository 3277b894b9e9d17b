"""What is produced: the series of exporters, of the service catalogue and of Prometheus itself, with their labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import promql_parser
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from upcheck import documents
from upcheck.catalog import Metric as Declared
from upcheck.catalog import Service
from upcheck.declaration import SEVERITIES
from upcheck.documents import DocumentError, Map
from upcheck.exposition import Family
from upcheck.history import BUCKETS
from upcheck.result import Outcome
from upcheck.rules.contract.place import maps
from upcheck.state import State

TARGET = ("instance", "job")  # of every series that was scraped
SCRAPE_INTERVAL = 15.0  # seconds, where no configuration says otherwise
_PROMETHEUS_INTERVAL = 60.0  # seconds, Prometheus' own default
COLLECTOR = "upcheck's collector"
_OWN_LABELS = {"state": tuple(State), "outcome": tuple(Outcome), "severity": SEVERITIES}
_COUNTER = re.compile(r"^# TYPE (\S+) counter$", re.MULTILINE)
_SCRAPED = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
)


class ExporterError(Exception):
    """An exposition that can't be read: a sentence."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a label: all there can be if *closed*, else those that were seen; None where nothing is known."""

    known: frozenset[str] | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """What has one name. *labels* are its own, None where they are not known; *buckets* are finite bounds.

    *sparse* are the labels that only some of it have; *scraped* tells that it has its target's labels, too.
    """

    name: str
    type: str
    labels: Mapping[str, Values] | None
    source: str
    buckets: tuple[float, ...] = ()
    sparse: frozenset[str] = frozenset()
    scraped: bool = True


@dataclass(slots=True)
class Configuration:
    """What a Prometheus configuration says: intervals and retention in seconds, labels that targets may have.

    *jobs* are the values of `job`, None where relabelling makes others. *open* tells that targets may have any label,
    by a labelmap, by discovery, or because there is no configuration: then it is not *given*.
    """

    scrape_interval: float = SCRAPE_INTERVAL
    evaluation_interval: float = SCRAPE_INTERVAL
    retention: float | None = None
    labels: set[str] = field(default_factory=set)
    jobs: dict[str, float] | None = None
    open: bool = True
    given: bool = False


class Produced:
    """All series that are known, by name."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        self.configuration = configuration or Configuration()
        self.series: dict[str, Series] = {}
        for name in _SCRAPED:
            self.add(Series(name, "gauge", {}, "Prometheus"))
        for name in ("ALERTS", "ALERTS_FOR_STATE"):  # with the labels of any alert
            self.series[name] = Series(name, "gauge", None, "Prometheus", scraped=False)

    def add(self, series: Series) -> None:
        """Make *series* known; what several sources tell of one name is put together."""
        before = self.series.get(series.name)
        self.series[series.name] = series if before is None else _merged(before, series)

    def find(self, name: str) -> Series | None:
        """The series called *name*; of Prometheus' own, any that begins with prometheus_, if no exporter tells."""
        found = self.series.get(name)
        if found is None and name.startswith("prometheus_") and not self.knows_prefix(name):
            return Series(name, "unknown", None, "Prometheus")
        return found

    def knows_prefix(self, name: str) -> bool:
        """Whether anything known begins as *name* does, up to the first underscore (or colon)."""
        begin = prefix(name)
        return any(other.startswith(begin) for other in self.series)


def prefix(name: str) -> str:
    """The beginning of *name* that tells whose it is: `mysql_`, or a recording rule's level with its colon."""
    match = re.match(r"[^:]*:|[^_]*_|.*", name)
    return match[0] if match else name


def _merged(one: Series, other: Series) -> Series:
    labels: dict[str, Values] | None = None
    sparse = one.sparse | other.sparse
    if one.labels is not None and other.labels is not None:
        labels = dict(one.labels)
        sparse |= one.labels.keys() ^ other.labels.keys()
        for name, values in other.labels.items():
            labels[name] = _joined(labels[name], values) if name in labels else values
    kind = one.type if one.type != "unknown" else other.type
    sources = one.source if other.source in one.source else f"{one.source} and {other.source}"
    return replace(one, type=kind, labels=labels, source=sources, buckets=one.buckets or other.buckets, sparse=sparse)


def _joined(one: Values, other: Values) -> Values:
    """What two sources know: a list of all there can be counts for more than what was seen."""
    if one.closed != other.closed:
        return one if one.closed else other
    if one.known is None or other.known is None:
        return Values()
    return Values(one.known | other.known, one.closed)


def read_exposition(text: str, source: str) -> list[Series]:
    """The series in *text*, Prometheus' text format or OpenMetrics; raises ExporterError."""
    read = openmetrics if text.rstrip().endswith("# EOF") else text_format
    try:
        families = list(read(text))
    except (ValueError, KeyError, IndexError) as error:
        raise ExporterError(f"{source} is no exposition: {error}; expected Prometheus' text format") from None
    if not families:
        raise ExporterError(f"{source} has no metrics: is it the address of an exporter's /metrics?")
    found = [series for family in families for series in _series(family, source)]
    if read is text_format:  # whose parser calls each counter `..._total`, which that format does not ask for
        plain = {f"{name}_total" for name in _COUNTER.findall(text) if not name.endswith("_total")}
        return [replace(one, name=one.name.removesuffix("_total")) if one.name in plain else one for one in found]
    return found


def _series(family: Metric, source: str) -> list[Series]:
    seen: dict[str, dict[str, set[str]]] = {}
    everywhere: dict[str, set[str]] = {}
    for sample in family.samples:
        labels = seen.setdefault(sample.name, {})
        everywhere.setdefault(sample.name, set(sample.labels)).intersection_update(sample.labels)
        for name, value in sample.labels.items():
            labels.setdefault(name, set()).add(value)
    bounds = {float(le) for labels in seen.values() for le in labels.get("le", ())}
    buckets = tuple(sorted(bound for bound in bounds if bound != float("inf")))
    if not seen:
        ends = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count"), "counter": ("_total",)}
        return [
            Series(family.name.removesuffix("_total") + end, _type(family.type, end), None, source)
            for end in ends.get(family.type, ("",))
        ]
    return [
        Series(
            name,
            _type(family.type, name.removeprefix(family.name)),
            {label: Values(frozenset(values), label == "le") for label, values in labels.items()},
            source,
            buckets if name.endswith("_bucket") else (),
            frozenset(labels.keys() - everywhere[name]),
        )
        for name, labels in seen.items()
    ]


def _type(family: str, end: str) -> str:
    """The type of what a family's samples with this *end* are: all of a histogram only grows."""
    if end == "_created":
        return "gauge"
    if family in ("histogram", "summary"):
        return "counter" if end in ("_bucket", "_count", "_sum") else "gauge"
    return family


def of_service(service: Service) -> list[Series]:
    """The series of the metrics that *service* declares."""
    return [series for metric in service.metrics.values() for series in _declared(metric, service)]


def _declared(metric: Declared, service: Service) -> list[Series]:
    labels = {
        label.name: Values(frozenset({*label.values, "other"}), True) if label.values else Values()
        for label in metric.labels
    }
    source = f"service {service.name}"
    if metric.type != "histogram":
        return [Series(metric.name, metric.type, labels, source)]
    bounds = frozenset({*map(str, metric.buckets), "+Inf"})
    return [
        Series(f"{metric.name}_bucket", "counter", {**labels, "le": Values(bounds, True)}, source, metric.buckets),
        Series(f"{metric.name}_sum", "counter", labels, source),
        Series(f"{metric.name}_count", "counter", labels, source),
    ]


def of_collector() -> list[Series]:
    """The series that a collector of ours has of checks and services: one that is asked now may lack some of them."""
    from upcheck.metrics import FAMILIES  # prometheus_client's registry, which only this needs
    from upcheck.recording import LAST

    own = [family for family in (*FAMILIES, LAST) if family.name.startswith("upcheck_")]
    return [
        Series(family.name + end, "counter" if end else family.type, _labels_of(family, end), COLLECTOR)
        for family in own
        for end in (("_bucket", "_sum", "_count") if family.type == "histogram" else ("",))
    ]


def _labels_of(family: Family, end: str) -> dict[str, Values]:
    labels = {
        label: Values(frozenset(_OWN_LABELS[label]), True) if label in _OWN_LABELS else Values()
        for label in family.labels
    }
    return labels | ({"le": Values(frozenset({*map(str, BUCKETS), "+Inf"}), True)} if end == "_bucket" else {})


def read_configuration(path: Path) -> Configuration:
    """What the Prometheus configuration at *path* says; raises DocumentError."""
    document = documents.load(path)
    document = document if isinstance(document, Map) else Map()
    whole = document.get("global")
    whole = whole if isinstance(whole, Map) else Map()  # promtool is who refuses another thing
    made = Configuration(
        duration(whole.get("scrape_interval"), _PROMETHEUS_INTERVAL),
        duration(whole.get("evaluation_interval"), _PROMETHEUS_INTERVAL),
        labels=set(whole.get("external_labels") or {}),
        jobs={},
        open=False,
        given=True,
    )
    storage: Any = document
    for key in ("storage", "tsdb", "retention", "time"):
        storage = storage.get(key) if isinstance(storage, Map) else None
    made.retention = duration(storage, 0.0) or None
    for job in maps(document.get("scrape_configs")):
        _scrape(job, made, path.parent)
    if document.get("scrape_config_files"):
        made.jobs = None
    return made


def _scrape(job: Map, made: Configuration, folder: Path) -> None:
    """Add what a scrape configuration says, of a file in *folder*, to *made*."""
    relabelled = [*maps(job.get("relabel_configs")), *maps(job.get("metric_relabel_configs"))]
    added = {str(one["target_label"]) for one in relabelled if "target_label" in one}
    made.open = made.open or any(one.get("action") == "labelmap" for one in relabelled)
    for one in maps(job.get("static_configs")):
        added.update(one.get("labels") or {})
    listed = _listed(job, folder)
    if listed is None or job.get("http_sd_configs"):
        made.open = True  # what they list can have labels of its own
    added.update(listed or ())
    made.labels |= {label for label in added if not label.startswith("__")}
    if made.jobs is not None:
        made.jobs[str(job.get("job_name"))] = duration(job.get("scrape_interval"), made.scrape_interval)
    if "job" in added or job.get("honor_labels") or made.open:
        made.jobs = None


def _listed(job: Map, folder: Path) -> set[str] | None:
    """The labels in the files of targets of *job*; None where one is not there to be read."""
    labels: set[str] = set()
    for pattern in [str(one) for config in maps(job.get("file_sd_configs")) for one in config.get("files") or ()]:
        found = sorted(folder.glob(pattern)) if not Path(pattern).is_absolute() else []
        if not found:
            return None
        for file in found:
            try:
                groups = maps(documents.load(file))
            except DocumentError:
                return None
            labels.update(*(one.get("labels") or {} for one in groups))
    return labels


def duration(value: object, default: float = 0.0) -> float:
    """A duration of Prometheus in seconds; *default* for none and for what is none, which promtool refuses."""
    try:
        return promql_parser.parse_duration(str(value)).total_seconds() if value else default
    except ValueError:
        return default
