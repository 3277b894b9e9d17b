"""A dashboard's YAML, read and laid out; what is wrong with it, at its line and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from upcheck import documents, schema
from upcheck.dashboards import COLUMNS, HEIGHTS, UNITS, WIDTHS, Condition, Dashboard, Panel, Row
from upcheck.dashboards.conditions import Conditions
from upcheck.documents import DocumentError
from upcheck.rules.promql import PromQLError, parse
from upcheck.settings import nearest

Place = tuple[str | int, ...]


def load_all(monitoring: Path) -> list[Dashboard]:
    """The dashboards of the files in `grafana` of the folder *monitoring*; raises DocumentError."""
    conditions = Conditions(monitoring / "prometheus/rules")
    return [load(path, conditions) for path in sorted((monitoring / "grafana").glob("*.yml"))]


def load(path: Path, conditions: Conditions) -> Dashboard:
    """The dashboard in the file *path*, whose alerts are among *conditions*; raises DocumentError."""
    return _Reader(path, conditions).dashboard()


class _Reader:
    def __init__(self, path: Path, conditions: Conditions) -> None:
        self._path = path
        self._conditions = conditions
        self._document = documents.load(path)
        self._titles: set[str] = set()

    def dashboard(self) -> Dashboard:
        schema.validate(self._path, self._document, "dashboard")
        told: Mapping[str, Any] = self._document
        rows: list[Row] = []
        y = 0
        for number, row in enumerate(told["rows"]):
            panels, end = self._laid_out(("rows", number, "panels"), row["panels"], y + 1)
            rows.append(Row(row["title"], y, tuple(panels)))
            y = end
        variables = tuple(told.get("variables", {}).items())
        return Dashboard(self._path.stem, told["title"], told["folder"], told["about"], tuple(rows), variables)

    def _laid_out(self, place: Place, panels: Sequence[Mapping[str, Any]], y: int) -> tuple[list[Panel], int]:
        """The panels side by side from *y* on, those of a line equally high, and where the next row begins."""
        lines: list[list[Panel]] = [[]]
        x = 0
        for number, told in enumerate(panels):
            panel = self._panel((*place, number), told)
            if x + panel.width > COLUMNS:
                x = 0
                lines.append([])
            lines[-1].append(replace(panel, x=x))
            x += panel.width
        made: list[Panel] = []
        for line in lines:
            height = max(panel.height for panel in line)
            made += [replace(panel, y=y, height=height) for panel in line]
            y += height
        return made, y

    def _panel(self, place: Place, told: Mapping[str, Any]) -> Panel:
        title, kind = told["title"], told.get("kind", "lines")
        if title in self._titles:
            raise self._error((*place, "title"), f"a second panel is called '{title}': give it a name of its own")
        self._titles.add(title)
        if told["unit"] not in UNITS:
            raise self._error((*place, "unit"), f"there is no unit '{told['unit']}'{nearest(told['unit'], UNITS)}")
        conditions = self._alerts((*place, "alert"), told.get("alert", ()))
        queries = tuple(self._queries(place, told, conditions))
        width = told.get("width", WIDTHS[kind])
        return Panel(title, told["about"], kind, told["unit"], queries, conditions, width=width, height=HEIGHTS[kind])

    def _alerts(self, place: Place, told: str | Sequence[str]) -> tuple[Condition, ...]:
        found: list[Condition] = []
        for number, name in enumerate([told] if isinstance(told, str) else told):
            at = place if isinstance(told, str) else (*place, number)
            try:
                found.append(self._conditions.of(name))
            except ValueError as error:
                raise self._error(at, str(error)) from None
            first, last = found[0], found[-1]
            if first.threshold.op[0] != last.threshold.op[0]:
                raise self._error(
                    at,
                    f"'{first.alert}' fires at {first.threshold.op} and '{last.alert}' at {last.threshold.op}: "
                    f"give each a panel of its own",
                )
        return tuple(found)

    def _queries(self, place: Place, told: Mapping[str, Any], conditions: Sequence[Condition]) -> list[tuple[str, str]]:
        if ("query" in told) + ("queries" in told) > 1:
            raise self._error((*place, "queries"), "there is a query, too: name it here with the others")
        if "queries" in told:
            if "legend" in told:
                raise self._error((*place, "legend"), "the keys of queries are the legends: leave it out")
            return [
                (legend, self._promql((*place, "queries", legend), text)) for legend, text in told["queries"].items()
            ]
        legend = told.get("legend", told["title"])
        if "query" in told:
            return [(legend, self._promql((*place, "query"), told["query"]))]
        if not conditions:
            message = f"'{told['title']}' shows nothing: give it a query, queries or an alert"
            raise DocumentError(self._path, message, *documents.where(self._document, place))
        return [(legend, conditions[0].query)]

    def _promql(self, place: Place, text: str) -> str:
        try:
            parse(text)
        except PromQLError as error:
            raise self._error(place, str(error)) from None
        return text.strip()

    def _error(self, place: Place, message: str) -> DocumentError:
        key = place[-1] if isinstance(place[-1], str) else place[-2]
        return DocumentError(self._path, f"{key}: {message}", *documents.where(self._document, place))
