"""Dashboards as code: `monitoring/grafana/*.yml`, of which Grafana's JSON is made.

A panel that names an alert has its thresholds, its runbook and, unless it says otherwise, what it compares.

monitoring/grafana/*.yml ──┐
                           ├─ reading ──> Dashboard ──┬─ grafana ─> monitoring/grafana/dashboards/<folder>/<name>.json
monitoring/prometheus/rules ┴─ conditions ────────────┴─ pictures (asked of a Prometheus) ──> docs/dashboards/<name>.svg
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

COLUMNS = 24  # of Grafana's grid
HEIGHTS = {"lines": 8, "stat": 4, "bars": 8}  # rows of the grid, where no higher panel stands beside
WIDTHS = {"lines": 12, "stat": 6, "bars": 12}


class DashboardError(Exception):
    """Dashboards can't be made; the sentence says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a panel's numbers are: *grafana* is Grafana's name of it, *words* what single values are called.

    Each word has its colour. *most* is the largest value that there can be.
    """

    grafana: str
    words: tuple[tuple[float, str, str], ...] = ()
    most: float | None = None
    decimals: int | None = None


_DOWN_UP = ((0.0, "down", "red"), (1.0, "up", "green"))
_HEALTH = ((0.0, "unhealthy", "red"), (0.5, "degraded", "orange"), (1.0, "healthy", "green"))
UNITS = {
    "ratio": Unit("percentunit"),
    "share": Unit("percentunit", most=1.0),
    "seconds": Unit("s"),
    "bytes": Unit("bytes"),
    "bytes/s": Unit("Bps"),
    "count": Unit("short"),
    "integer": Unit("short", decimals=0),
    "requests/s": Unit("reqps"),
    "operations/s": Unit("ops"),
    "events/s": Unit("cps"),
    "times": Unit("suffix:x"),
    "up": Unit("none", _DOWN_UP, most=1.0),
    "health": Unit("none", _HEALTH, most=1.0),
}


class Threshold(NamedTuple):
    """From where on a value is bad: *op* is the alert's comparison, *value* what it compares with."""

    op: str
    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Condition:
    """What an alert says: the PromQL *query* that it compares, the *threshold*, and where its runbook is."""

    alert: str
    query: str
    threshold: Threshold
    runbook: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: *queries* are pairs of a legend and PromQL; *x*, *y*, *width* and *height* are places of the grid."""

    title: str
    about: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    conditions: tuple[Condition, ...] = ()
    x: int = 0
    y: int = 0
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels under a title, which stands at *y*."""

    title: str
    y: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard; *name* is its file's and, in Grafana, its uid. *variables* are pairs of a label and a metric."""

    name: str
    title: str
    folder: str
    about: str
    rows: tuple[Row, ...]
    variables: tuple[tuple[str, str], ...] = field(default=())

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels of all rows."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def with_all(self) -> Dashboard:
        """The same where each variable stands for all: its queries are PromQL that anybody can ask."""
        return replace(self, variables=(), rows=tuple(self._with_all(row) for row in self.rows))

    def _with_all(self, row: Row) -> Row:
        panels = [
            replace(panel, queries=tuple((legend, self._plain(text)) for legend, text in panel.queries))
            for panel in row.panels
        ]
        return replace(row, panels=tuple(panels))

    def _plain(self, text: str) -> str:
        for label, _ in self.variables:
            text = text.replace(f'"${label}"', '".*"')
        return text
