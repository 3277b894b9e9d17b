"""Objectives, held against what was: the availability and the latency of checks over a window of time.

the history (rollups) ──────────────┐
                                    ├── Past: a Summary, when it last held ── Sla: policy, figures
a Prometheus-compatible HTTP API ───┘
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upcheck.declaration import seconds
from upcheck.history import BUCKETS, History, HistoryError, NoHistoryError, Summary
from upcheck.prometheus import Prometheus, PrometheusError, one
from upcheck.result import Outcome, Unknown
from upcheck.settings import nearest

POLICIES = ("exclude", "up", "down")
MANY = 1000  # checks, of which the nearest in name would take its time to find
_UNKNOWN = (Outcome.ERROR, Outcome.BLOCKED)


class NoDataError(Unknown):
    """Nothing is known of that time: neither a pass nor a failure."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a source knows: all runs of the window as one *summary*; *last_held* in unix seconds, None if never.

    *unknown* says so where there is no such check at all.
    """

    summary: Summary
    last_held: float | None
    unknown: str = ""


class Source(Protocol):
    """Where the past is kept."""

    def past(self, name: str, file: str, window: float) -> Past:
        """The runs of the last *window* seconds of what is called *name*, in *file* first.

        Raises NoDataError where the source can't be asked.
        """
        ...

    def query(self, expression: str) -> float:
        """What *expression* in PromQL comes to. Raises NoDataError."""
        ...


@dataclass(frozen=True, slots=True)
class Sla:
    """What the runs of a window come to. Each figure raises NoDataError where nothing tells it.

    *unknown* (errors, and what was blocked) and *maintenance* (what did not hold in a window of it) count as *exclude*,
    *up* or *down*. What was skipped never counts.
    """

    name: str
    window: str | float
    past: Past
    unknown: str = "exclude"
    maintenance: str = "exclude"

    def __repr__(self) -> str:
        counts = self.past.summary.counts
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count) or "no runs"
        return f"<Sla {self.name}, {self.window}: {told}>"

    @property
    def runs(self) -> int:
        """How many runs told something of their target, 0 where there is no such check: too few make no SLA."""
        counts = self.past.summary.counts
        return counts[Outcome.HELD] + counts[Outcome.FAILED]

    @property
    def availability(self) -> float:
        """The share of runs that held, 0 to 1."""
        counts = self.past.summary.counts
        up, down = counts[Outcome.HELD], counts[Outcome.FAILED]
        unknown = sum(counts[outcome] for outcome in _UNKNOWN)
        for policy, count in ((self.unknown, unknown), (self.maintenance, counts[Outcome.MAINTENANCE])):
            up += count if policy == "up" else 0
            down += count if policy == "down" else 0
        if not up + down:
            raise self._nothing("no run told how its target was")
        return up / (up + down)

    @property
    def error_rate(self) -> float:
        """The share of runs that did not hold, 0 to 1."""
        return 1.0 - self.availability

    def latency(self, quantile: float) -> float:
        """The *quantile* (0 to 1) of how long the runs that held or failed took, in seconds.

        Linear inside a bucket of the histogram; infinite where it lies above the highest bound, of which nothing is
        known but that.
        """
        if not 0 <= quantile <= 1:
            raise Unknown(f"latency({quantile}): expected a quantile from 0 to 1, such as 0.95")
        found = self.past.summary.quantile(quantile)
        if found is None:
            raise self._nothing("no run has a duration")
        beyond = self.past.summary.buckets[-1] / sum(self.past.summary.buckets)
        return math.inf if found >= BUCKETS[-1] and quantile > 1 - beyond else found

    @property
    def time_since_success(self) -> float:
        """Seconds since it last held, in the window or before it."""
        if self.past.last_held is None:
            raise self._nothing("it has never held")
        return max(0.0, time.time() - self.past.last_held)

    def _nothing(self, why: str) -> NoDataError:
        return NoDataError(self.past.unknown or f"{repr(self)[1:-1]}: {why}")


class HistorySource:
    """The history in *file*. A name is a check's, or a pattern with `*` for all that it fits, taken together."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def past(self, name: str, file: str, window: float) -> Past:
        """See `Source`."""
        try:
            with History(self._file, read_only=True) as history:
                checks = history.names(name) or history.names(f"{file}::{name}") or _named(name, history.names())
                unknown = "" if checks else f"no check called '{name}' has ever run{_hint(name, history.names())}"
                summary = Summary.total(name, [history.one(check, window) for check in checks])
                streaks = [history.streak(check) for check in checks]
        except NoHistoryError as error:
            return Past(Summary.total(name, []), None, f"no check has run yet: {error}")
        except HistoryError as error:
            raise NoDataError(str(error)) from None
        held = [streak.last_held if streak else None for streak in streaks]
        return Past(summary, min((one for one in held if one), default=None) if None not in held else None, unknown)

    def query(self, expression: str) -> float:  # noqa: ARG002 - a check's line shows it, and all are told as one
        """Always raises NoDataError: the history knows no PromQL."""
        raise NoDataError("the history knows no PromQL: name a Prometheus with --sla-source=URL")


def _hint(name: str, checks: list[str]) -> str:
    return nearest(name, {check.rpartition("::")[2] for check in checks}) if len(checks) < MANY else ""


def _named(name: str, checks: list[str]) -> list[str]:
    """Those of *checks* that are called *name* in any file, or that fit it as a pattern."""
    if "*" in name:
        fits = re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
        return [check for check in checks if fits.fullmatch(check)]
    return [check for check in checks if any(part.endswith(f"::{name}") for part in (check, check.partition("[")[0]))]


class PrometheusSource:
    """The API at *url* of what scrapes the collector: the same figures from its metrics of checks."""

    def __init__(self, url: str) -> None:
        self._api = Prometheus(url)

    def past(self, name: str, file: str, window: float) -> Past:  # noqa: ARG002 - a label has the whole name
        """See `Source`. Counters' growth is extrapolated to the ends of the window, as `increase` does it."""
        parts = [re.escape(part) for part in name.split("*")]
        which = ".*".join(parts) if len(parts) > 1 else rf"(.*::)?{parts[0]}(\[.*\])?"
        series = "check=~" + _quoted(which)
        span = f"[{int(window)}s]"
        try:
            runs = self._api.query(f"sum by (outcome) (increase(upcheck_check_runs_total{{{series}}}{span}))")
            took = self._api.query(f"sum by (le) (increase(upcheck_check_duration_seconds_bucket{{{series}}}{span}))")
            held = one(self._api.query(f"min(upcheck_last_success_timestamp_seconds{{{series}}})"))
        except PrometheusError as error:
            raise NoDataError(str(error)) from None
        unknown = "" if runs else f"no series of upcheck_check_runs_total has a check called '{name}'"
        counts = {sample.labels.get("outcome", ""): sample.value for sample in runs}
        cumulative = sorted((float(sample.labels["le"]), sample.value) for sample in took)
        buckets = [above - below for (_, below), (_, above) in zip([(0.0, 0.0), *cumulative], cumulative, strict=False)]
        row = [*(counts.get(outcome, 0.0) for outcome in Outcome), 0.0, *map(round, buckets)]
        return Past(Summary.of(name, map(round, row)), None if math.isnan(held) else held, unknown)

    def query(self, expression: str) -> float:
        """See `Source`."""
        try:
            value = one(self._api.query(expression))
        except PrometheusError as error:
            raise NoDataError(str(error)) from None
        if math.isnan(value):
            raise NoDataError(f"{expression}: no value")
        return value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Objectives:
    """What the fixture `sla` is: `sla("test_api", window="30d")`, or `sla.query("sum(rate(...))")`."""

    def __init__(self, source: Source, file: str, observe: Callable[[str, str], None]) -> None:
        """*file* is where names are looked for first; *observe* is told what was asked, and what came back."""
        self._source = source
        self._file = file
        self._observe = observe

    def __call__(
        self, name: str, window: str | float = "30d", *, unknown: str = "exclude", maintenance: str = "exclude"
    ) -> Sla:
        """The runs of the checks called *name* over the last *window*.

        Raises NoDataError where none can be had, Unknown for what can't be meant: no promise is broken by that.
        """
        for key, policy in (("unknown", unknown), ("maintenance", maintenance)):
            if policy not in POLICIES:
                raise Unknown(f"sla(): {key}={policy!r}: expected one of {', '.join(POLICIES)}")
        try:
            span = seconds(window)
        except ValueError as error:
            raise Unknown(f"sla(): window: {error}") from None
        found = Sla(name, window, self._source.past(name, self._file, span), unknown, maintenance)
        self._observe(f"{name} over {window}", repr(found)[1:-1])
        return found

    def query(self, expression: str) -> float:
        """What *expression* in PromQL comes to now; raises NoDataError where that is nothing, or NaN."""
        value = self._source.query(expression)
        self._observe(expression, f"{value:g}")
        return value

    def kept(self, slo: Mapping[str, Any]) -> float:
        """The share, 0 to 1, of what was good in the window of *slo*, an entry of `slos` in the service catalogue.

        Raises NoDataError where nothing at all was told in that window.
        """
        span = f"[{seconds(slo['window']):.0f}s]"
        good = f"(sum(increase({slo['good']}{span})) or vector(0))"  # no series of the good is none of them
        return self.query(f"{good} / sum(increase({slo['total']}{span}))")

    def used(self, resource: Mapping[str, Any]) -> float:
        """The share that is in use now of *resource*, an entry of `capacity` in the catalogue. Raises NoDataError."""
        limit = resource["limit"]
        return self.query(f"sum({resource['used']}) / {limit if isinstance(limit, int | float) else f'sum({limit})'}")
