"""Results as metric families, in blackbox_exporter's words where it has them. docs/metrics.md lists them."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, Metric, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from upcheck.exposition import Family, escaped, head
from upcheck.history import BUCKETS, Engine, History, HistoryError, Latest, NoHistoryError
from upcheck.probes.families import FAMILIES as OF_PROBES
from upcheck.result import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LABEL = 120  # characters; pytest IDs can be of any length
MAX_CHECKS = 20_000  # on one page; some 30 series each
FORGOTTEN = 7 * 86400.0  # seconds after its last run that a check (or an engine) is taken to be no more
FRESH = 1.0  # seconds that a page serves further scrapes
PHASES = ("resolve", "connect", "tls", "processing", "transfer")
MAX_SAMPLES = 40  # of one check's probe
_SAMPLE = re.compile(
    r'([a-z_]+)(?:\{([a-z0-9_]+="(?:[^"\\\n]|\\[n"\\])*"(?:,[a-z0-9_]+="(?:[^"\\\n]|\\[n"\\])*")*)\})?'
)
_CODE = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_TOLD = (Outcome.HELD, Outcome.FAILED)
_BOUNDS = (*map(repr, BUCKETS), "+Inf")

_log = logging.getLogger("upcheck.metrics")


FAMILIES = (
    Family("probe_success", "gauge", ("check", "severity"), "Whether the check held (1) or failed (0)."),
    Family("probe_duration_seconds", "gauge", ("check",), "How long the check took."),
    Family("probe_ssl_earliest_cert_expiry", "gauge", ("check",), "When the first certificate expires, in unix time."),
    Family("probe_http_duration_seconds", "gauge", ("check", "phase"), "How long each phase of the request took."),
    Family("probe_http_status_code", "gauge", ("check",), "The status code of the response."),
    *(family._replace(labels=("check", *family.labels)) for family in OF_PROBES),
    Family("upcheck_check_outcome", "gauge", ("check", "outcome"), "1 for the outcome of the last run."),
    Family("upcheck_check_state", "gauge", ("check", "state"), "1 for how the check stands after all of its runs."),
    Family("upcheck_check_alerting", "gauge", ("check", "severity"), "Whether the check is down and not yet up (1)."),
    Family("upcheck_check_blocked", "gauge", ("by", "check"), "1 where the check waits for what it depends on."),
    Family("upcheck_check_failure_info", "gauge", ("check", "code"), "1 for why the last run did not hold."),
    Family("upcheck_last_run_timestamp_seconds", "gauge", ("check",), "When the check last ran."),
    Family("upcheck_last_success_timestamp_seconds", "gauge", ("check",), "When the check last held."),
    Family("upcheck_check_runs_total", "counter", ("check", "outcome"), "How many runs had this outcome."),
    Family("upcheck_check_duration_seconds", "histogram", ("check",), "How long the runs that held or failed took."),
    Family("upcheck_scheduled_checks", "gauge", ("shard",), "How many checks the engine runs."),
    Family("upcheck_checks_in_flight", "gauge", ("shard",), "How many checks were running."),
    Family("upcheck_schedule_lag_seconds", "histogram", ("shard",), "How much later than planned runs began."),
    Family("upcheck_schedule_missed_total", "counter", ("shard",), "Runs left out: the one before was not done."),
    Family("upcheck_engine_last_update_timestamp_seconds", "gauge", ("shard",), "When the engine last wrote."),
    Family("upcheck_engine_reloads_total", "counter", ("shard",), "How often the engine has read its checks anew."),
    Family(
        "upcheck_engine_stale_files", "gauge", ("shard",), "Files that can't be read: their last good version runs."
    ),
    Family("upcheck_history_write_errors_total", "counter", ("shard",), "Batches that could not be written at once."),
    Family("upcheck_history_read_errors_total", "counter", (), "Scrapes for which the history could not be read."),
    Family("upcheck_checks_dropped", "gauge", (), "Checks left out of this page: too many, or two with one name."),
)
_HELP = {family.name: family.help for family in FAMILIES}
_OF_PROBES = {family.name for family in OF_PROBES}
Lines = dict[str, list[str]]


def label(text: str) -> str:
    """*text* as a label value: as it is, or cut and made unique by a hash of the whole; always valid UTF-8."""
    raw = text.encode(errors="surrogatepass")
    if len(text) > MAX_LABEL:
        text = f"{text[: MAX_LABEL - 13]}#{hashlib.sha256(raw).hexdigest()[:12]}"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def families(results: Iterable[Result]) -> CollectorRegistry:
    """A registry with the state of each check at its last run.

    `probe_success` is absent where a check could not tell (`error`) or was skipped: that is not "down".
    """
    registry = CollectorRegistry()

    def gauge(name: str, *labels: str) -> Gauge:
        return Gauge(name, _HELP[name], labels, registry=registry)

    success = gauge("probe_success", "check", "severity")
    duration = gauge("probe_duration_seconds", "check")
    last = gauge("upcheck_last_run_timestamp_seconds", "check")
    outcomes = gauge("upcheck_check_outcome", "check", "outcome")
    for result in results:
        check = label(result.check)
        last.labels(check).set(result.started)
        for outcome in Outcome:
            outcomes.labels(check, outcome.value).set(outcome is result.outcome)
        if result.outcome in _TOLD:
            success.labels(check, label(str(result.facts.get("severity", "")))).set(result.outcome is Outcome.HELD)
            if _number(result.duration) is not None:
                duration.labels(check).set(result.duration)
    return registry


def write_textfile(path: Path, results: Iterable[Result]) -> None:
    """Write *results* for node_exporter's textfile collector: the whole file at once or not at all."""
    write_to_textfile(str(path), families(results))


def timed() -> Iterator[tuple[list[str], Callable[[Result], str]]]:
    """For each family of which each result is a sample: its heading in OpenMetrics, and the sample without its time.

    A result that has none gives an empty text.
    """

    def success(result: Result) -> str:
        labels = f'check="{_escaped(result.check)}",severity="{_escaped(str(result.facts.get("severity", "")))}"'
        return f"probe_success{{{labels}}} {int(result.outcome is Outcome.HELD)}" if result.outcome in _TOLD else ""

    def duration(result: Result) -> str:
        told = result.outcome in _TOLD and not math.isnan(result.duration)
        return f'probe_duration_seconds{{check="{_escaped(result.check)}"}} {result.duration}' if told else ""

    for name, sample in (("probe_success", success), ("probe_duration_seconds", duration)):
        yield [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"], sample


class CheckMetrics:
    """What a history knows, as text for a scrape, and as a custom collector of prometheus_client.

    Written by hand: 10,000 checks are 300,000 samples, for which prometheus_client takes seconds.
    """

    def __init__(self, history: Path, *, fresh: float = FRESH, time: Callable[[], float] = time.time) -> None:
        """*history* is read at a scrape, once in *fresh* seconds, and may come and go; *time* tells unix seconds."""
        self._history = history
        self._fresh = fresh
        self._time = time
        self._lock = threading.Lock()
        self._read_errors = 0
        self._pages: dict[bool, tuple[float, bytes]] = {}

    @property
    def instant(self) -> bool:
        """Whether a page takes no time, because there is no history to be read."""
        return not self._history.exists()

    def page(self, *, openmetrics: bool = False) -> bytes:
        """All families, in Prometheus' text format or as OpenMetrics without its `# EOF`; never raises."""
        with self._lock:  # parallel scrapes wait for one page
            made, page = self._pages.get(openmetrics, (-math.inf, b""))
            if not 0 <= time.monotonic() - made < self._fresh:
                page = self._render(openmetrics)
                self._pages[openmetrics] = (time.monotonic(), page)
            return page

    def collect(self) -> Iterator[Metric]:
        """The same, for a registry of prometheus_client."""
        yield from text_string_to_metric_families(self.page().decode())

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that a registry knows the names."""
        return (Metric(family.name.removesuffix("_total"), family.help, family.type) for family in FAMILIES)

    def _render(self, openmetrics: bool) -> bytes:
        lines: Lines = {family.name: [] for family in FAMILIES}
        try:
            self._read(lines)
        except Exception as error:  # noqa: BLE001 - whatever is in the file, the rest of /metrics is served
            self._read_errors += 1
            _log.warning("no metrics of checks: %s", error if isinstance(error, HistoryError) else repr(error))
            lines = {family.name: [] for family in FAMILIES}
        lines["upcheck_history_read_errors_total"].append(f" {self._read_errors}\n")
        return b"".join(_written(family, lines[family.name], openmetrics) for family in FAMILIES)

    def _read(self, lines: Lines) -> None:
        try:
            with History(self._history, read_only=True) as history:
                latest, engines = history.latest(), history.engines()
        except NoHistoryError:
            lines["upcheck_checks_dropped"].append(" 0\n")
            return
        since = self._time() - FORGOTTEN
        seen: set[str] = set()
        dropped = 0
        for one in latest:
            if one.result.started < since:
                continue
            check = f'check="{_escaped(one.result.check)}"'
            if check in seen or len(seen) == MAX_CHECKS:
                dropped += 1
                continue
            seen.add(check)
            _state(lines, check, one)
            _facts(lines, check, one.result)
            _totals(lines, check, one)
        for engine in engines:
            if engine.updated >= since:
                _engine(lines, f'shard="{_escaped(engine.shard)}"', engine)
        lines["upcheck_checks_dropped"].append(f" {dropped}\n")


def _state(lines: Lines, check: str, one: Latest) -> None:
    result = one.result
    for outcome in Outcome:
        lines["upcheck_check_outcome"].append(f'{{{check},outcome="{outcome}"}} {int(outcome is result.outcome)}\n')
    lines["upcheck_last_run_timestamp_seconds"].append(f"{{{check}}} {result.started}\n")
    if one.streak.last_held is not None:
        lines["upcheck_last_success_timestamp_seconds"].append(f"{{{check}}} {one.streak.last_held}\n")
    severity = _escaped(str(result.facts.get("severity", "")))
    if result.outcome in _TOLD:
        lines["probe_success"].append(f'{{{check},severity="{severity}"}} {int(result.outcome is Outcome.HELD)}\n')
        if not math.isnan(result.duration):
            lines["probe_duration_seconds"].append(f"{{{check}}} {result.duration}\n")
    if one.condition.since:  # what was only ever skipped stands nowhere, and has nothing to tell
        lines["upcheck_check_state"].append(f'{{{check},state="{one.condition.state}"}} 1\n')
    lines["upcheck_check_alerting"].append(f'{{{check},severity="{severity}"}} {int(one.condition.alerting)}\n')
    if result.outcome is Outcome.BLOCKED:
        lines["upcheck_check_blocked"].append(f'{{by="{_escaped(one.condition.because)}",{check}}} 1\n')
    if result.outcome.bad:
        code = str(result.facts.get("code", ""))
        code = code if _CODE.fullmatch(code) else "other"
        lines["upcheck_check_failure_info"].append(f'{{{check},code="{code}"}} 1\n')


def _facts(lines: Lines, check: str, result: Result) -> None:
    """What a prober has found out; what is no number is left out, because NaN meets no threshold and alerts nobody."""
    facts = result.facts
    if (expiry := _number(facts.get("certificate_expiry"))) is not None:
        lines["probe_ssl_earliest_cert_expiry"].append(f"{{{check}}} {expiry}\n")
    if (status := _number(facts.get("status"))) is not None:
        lines["probe_http_status_code"].append(f"{{{check}}} {status}\n")
    metrics = facts.get("metrics")
    if isinstance(metrics, dict):
        _of_a_probe(lines, check, metrics)
    phases = facts.get("phases")
    if isinstance(phases, dict):
        for phase in PHASES:
            if (seconds := _number(phases.get(phase))) is not None:
                lines["probe_http_duration_seconds"].append(f'{{{check},phase="{phase}"}} {seconds}\n')


def _of_a_probe(lines: Lines, check: str, metrics: dict[str, object]) -> None:
    """The samples that a probe has left, where they are of its families: a history may hold anything."""
    for sample, told in list(metrics.items())[:MAX_SAMPLES]:
        found, value = _SAMPLE.fullmatch(sample), _number(told)
        if found is not None and value is not None and found[1] in _OF_PROBES:
            more = f",{found[2]}" if found[2] else ""
            lines[found[1]].append(f"{{{check}{more}}} {value}\n")


def _totals(lines: Lines, check: str, one: Latest) -> None:
    runs = lines["upcheck_check_runs_total"]
    for outcome, count in one.totals.counts.items():
        runs.append(f'{{{check},outcome="{outcome}"}} {count}\n')
    _histogram(lines, "upcheck_check_duration_seconds", check, one.totals.buckets, one.totals.seconds)


def _engine(lines: Lines, shard: str, engine: Engine) -> None:
    for name, value in (
        ("upcheck_scheduled_checks", engine.checks),
        ("upcheck_checks_in_flight", engine.in_flight),
        ("upcheck_schedule_missed_total", engine.missed),
        ("upcheck_engine_last_update_timestamp_seconds", engine.updated),
        ("upcheck_engine_reloads_total", engine.reloads),
        ("upcheck_engine_stale_files", len(engine.stale)),
        ("upcheck_history_write_errors_total", engine.write_errors),
    ):
        lines[name].append(f"{{{shard}}} {value}\n")
    _histogram(lines, "upcheck_schedule_lag_seconds", shard, engine.lag_buckets, engine.lag_sum)


def _histogram(lines: Lines, name: str, labels: str, buckets: Sequence[int], total: float) -> None:
    """One text for all 14 samples: as many small ones take three times the memory."""
    cumulative = list(accumulate(buckets))
    values = [value for pair in zip(repeat(labels), cumulative) for value in pair]
    lines[name].append(_HISTOGRAM[name] % (*values, labels, total, labels, cumulative[-1]))


def _template(name: str) -> str:
    buckets = [f'_bucket{{%s,le="{bound}"}} %d\n' for bound in _BOUNDS]
    return name.join([*buckets, "_sum{%s} %r\n", "_count{%s} %d\n"])


_HISTOGRAM = {family.name: _template(family.name) for family in FAMILIES if family.type == "histogram"}


def _written(family: Family, samples: list[str], openmetrics: bool) -> bytes:
    """The family as text. *samples* go without its name; they are given up here, because all at once are many."""
    if not samples:
        return b""
    text = head(family, openmetrics) + family.name + family.name.join(samples)
    samples.clear()
    return text.encode()


def _escaped(text: str) -> str:
    return escaped(label(text))


def _number(value: object) -> float | None:
    """*value* where it is a number that a sample can have: finite, not negative, no bool."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e300:
        return value
    return None
