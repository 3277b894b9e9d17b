"""A dashboard as an SVG: its panels in their grid, with what a Prometheus answered to their queries.

It is written by hand: pygal draws one chart a file and knows no panels, matplotlib is heavy for lines and bars.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from upcheck.dashboards import COLUMNS, UNITS, Dashboard, Panel
from upcheck.dashboards.numbers import ticks, written
from upcheck.prometheus import Series

Ask = Callable[[str], Sequence[Series]]  # what a query comes to over the time that is shown

_CELL, _LINE, _GAP, _TOP = 50, 32, 6, 54  # pixels: a column, a row of the grid, between panels, the title
_COLOURS = {"blue": "#5794f2", "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c"}
_PALETTE = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#a352cc",
    "#37872d",
    "#fa6400",
)
_STYLE = (
    "text{font-family:Inter,'Segoe UI',Helvetica,Arial,sans-serif;fill:#ccccdc;font-size:12px}"
    ".dim{fill:#8e8e9b;font-size:11px}.title{font-size:13px;font-weight:500}.row{font-size:14px;font-weight:600}"
    ".head{font-size:20px;font-weight:600}.panel{fill:#181b1f;stroke:#2a2d33}.grid{stroke:#2a2d33}"
    ".line{fill:none;stroke-width:1.5;stroke-linejoin:round}.limit{stroke-dasharray:6 4;stroke-opacity:.8}"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is shown, in unix seconds, with a point every *step*; *factor* seconds of it pass in one."""

    start: float
    end: float
    step: float
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return next((value for _, value in reversed(self.points) if math.isfinite(value)), math.nan)


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def svg(dashboard: Dashboard, ask: Ask, span: Span) -> str:
    """The picture of *dashboard*, of what *ask* answers over *span*. Raises what *ask* raises."""
    bottom = max(panel.y + panel.height for panel in dashboard.panels)
    width, height = COLUMNS * _CELL + 2 * _GAP, _TOP + bottom * _LINE + 2 * _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#111217"/>',
        _text(2 * _GAP, 34, f"{dashboard.folder} / {dashboard.title}", "head"),
    ]
    for row in dashboard.rows:
        parts.append(_text(2 * _GAP, _TOP + row.y * _LINE + 22, row.title, "row"))
        for panel in row.panels:
            parts += _panel(panel, _answers(panel, ask, span), span)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _answers(panel: Panel, ask: Ask, span: Span) -> list[_Named]:
    """What the queries of *panel* come to; where it shows single values, of the series that are there at the end."""
    since = span.start if panel.kind == "lines" else span.end - span.step
    found = [
        _Named(_name(legend, one.labels), one.points)
        for legend, text in panel.queries
        for one in ask(text)
        if one.points[-1][0] >= since
    ]
    return sorted(found, key=lambda one: one.name) if len(panel.queries) == 1 else found


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda match: labels.get(match[1], ""), legend)


def _panel(panel: Panel, series: Sequence[_Named], span: Span) -> list[str]:
    outer = _Box(
        panel.x * _CELL + _GAP + _GAP / 2,
        _TOP + panel.y * _LINE + _GAP / 2,
        panel.width * _CELL - _GAP,
        panel.height * _LINE - _GAP,
    )
    inner = _Box(outer.x + 12, outer.y + 30, outer.width - 24, outer.height - 38)
    parts = [
        f'<rect class="panel" x="{outer.x}" y="{outer.y}" width="{outer.width}" height="{outer.height}" rx="2"/>',
        _text(outer.x + 10, outer.y + 20, panel.title, "title"),
    ]
    if not any(math.isfinite(one.last) for one in series):
        return [*parts, _text(inner.x + inner.width / 2, inner.y + inner.height / 2, "No data", "dim", "middle")]
    if panel.kind == "stat":
        return parts + _stat(panel, series, inner)
    if panel.kind == "bars":
        return parts + _bars(panel, series, inner)
    return parts + _lines(panel, series, inner, span)


def _stat(panel: Panel, series: Sequence[_Named], box: _Box) -> list[str]:
    wide = box.width / len(series)
    parts = []
    for number, one in enumerate(series):
        text = written(one.last, panel.unit)
        size = min(40.0, box.height * 0.62, wide / (0.75 * len(text)))
        x, y = box.x + wide * (number + 0.5), box.y + box.height / 2 + size * 0.36 - (8 if len(series) > 1 else 4)
        fill = _colour(panel, one.last)
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" style="fill:{fill};font-size:{size:.0f}px;'
            f'font-weight:600">{escape(text)}</text>'
        )
        if len(series) > 1:
            parts.append(_text(x, box.y + box.height, _cut(one.name, wide / 6.5), "dim", "middle"))
    return parts


def _bars(panel: Panel, series: Sequence[_Named], box: _Box) -> list[str]:
    shown = sorted(series, key=lambda one: -one.last)[:10]
    most = UNITS[panel.unit].most or max(max(one.last for one in shown), 1e-12)
    names = min(box.width * 0.4, 8 + 6.7 * max(len(one.name) for one in shown))
    length = box.width - names - 90
    tall = min(26.0, box.height / len(shown))
    parts = []
    for number, one in enumerate(shown):
        y = box.y + number * tall
        fill = _colour(panel, one.last)
        share = max(0.0, min(1.0, one.last / most))
        x, middle = box.x + names, y + tall / 2 + 4
        parts += [
            _text(x - 8, middle, _cut(one.name, names / 6.7), "dim", "end"),
            f'<rect x="{x:.1f}" y="{y + 2:.1f}" width="{length:.1f}" height="{tall - 4:.1f}" fill="#22252b"/>',
            f'<rect x="{x:.1f}" y="{y + 2:.1f}" width="{length * share:.1f}" height="{tall - 4:.1f}" fill="{fill}"/>',
        ]
        value = escape(written(one.last, panel.unit))
        at = f'x="{box.x + box.width:.1f}" y="{middle:.1f}"'
        parts.append(f'<text {at} text-anchor="end" style="fill:{fill}">{value}</text>')
    return parts


def _lines(panel: Panel, series: Sequence[_Named], box: _Box, span: Span) -> list[str]:
    limits = [one.threshold for one in panel.conditions if one.threshold.op != "=="]
    values = [value for one in series for _, value in one.points if math.isfinite(value)]
    high = max(values)
    reached = [one.value for one in limits if one.value <= 2.5 * high]  # one far above would flatten the lines
    marks = ticks(min(0.0, *values), UNITS[panel.unit].most or max([high, *reached]), panel.unit)
    plot = _Box(box.x + 58, box.y + 4, box.width - 62, box.height - 44)
    low, top = marks[0], marks[-1]

    def x(at: float) -> float:
        return plot.x + plot.width * (at - span.start) / (span.end - span.start)

    def y(value: float) -> float:
        return plot.y + plot.height * (top - value) / (top - low)

    parts = _axes(panel, plot, [(y(mark), mark) for mark in marks], (span.end - span.start) * span.factor)
    for number, one in enumerate(series):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in one.points if math.isfinite(value))
        colour = _PALETTE[number % len(_PALETTE)]
        parts.append(f'<polyline class="line" points="{points}" stroke="{colour}"/>')
    for limit in limits:
        if low <= limit.value <= top:
            parts.append(
                f'<line class="limit" x1="{plot.x:.1f}" x2="{plot.x + plot.width:.1f}" y1="{y(limit.value):.1f}" '
                f'y2="{y(limit.value):.1f}" stroke="{_COLOURS[limit.colour]}"/>'
            )
    return parts + _legend(series, box)


def _axes(panel: Panel, plot: _Box, marks: Sequence[tuple[float, float]], seconds: float) -> list[str]:
    parts = []
    for at, value in marks:
        parts.append(
            f'<line class="grid" x1="{plot.x:.1f}" x2="{plot.x + plot.width:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        text = f"{value:g}" if UNITS[panel.unit].words else written(value, panel.unit)
        parts.append(_text(plot.x - 8, at + 4, text, "dim", "end"))
    for quarter in range(5):
        ago = seconds * (4 - quarter) / 4 / 60
        parts.append(
            _text(
                plot.x + plot.width * quarter / 4, plot.y + plot.height + 16,
                "now" if not ago else f"-{ago:.0f} min", "dim", "end" if quarter == 4 else "middle",
            )
        )  # fmt: skip
    return parts


def _legend(series: Sequence[_Named], box: _Box) -> list[str]:
    parts, x, y = [], box.x, box.y + box.height - 2
    for number, one in enumerate(series):
        name = _cut(one.name, 44)
        wide = 26 + 6.4 * len(name)
        rest = 80 if number + 1 < len(series) else 0  # for what says how many there are beside
        if x + wide + rest > box.x + box.width:
            parts.append(_text(x, y, f"and {len(series) - number} more", "dim"))
            break
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="14" height="4" fill="{_PALETTE[number % len(_PALETTE)]}"/>'
        )
        parts.append(_text(x + 18, y, name, "dim"))
        x += wide
    return parts


def _colour(panel: Panel, value: float) -> str:
    """The colour of a single value: that of the unit's word, else of the worst alert that it would raise."""
    known = {
        ">": lambda limit: value > limit, ">=": lambda limit: value >= limit, "<": lambda limit: value < limit,
        "<=": lambda limit: value <= limit, "==": lambda limit: value == limit, "!=": lambda limit: value != limit,
    }  # fmt: skip
    raised = [one.threshold for one in panel.conditions if known[one.threshold.op](one.threshold.value)]
    words = [colour for at, _, colour in UNITS[panel.unit].words if at == value]
    found = [one.colour for one in raised] or words or ["green" if panel.conditions else "blue"]
    return _COLOURS[max(found, key=list(_COLOURS).index)]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(text: str, most: float) -> str:
    return text if len(text) <= most else text[: max(1, int(most) - 1)] + "…"
