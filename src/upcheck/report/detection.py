"""Time to detect as a table, as CSV, and what of it has changed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from upcheck.rules.detection import SHAPES, Cell
from upcheck.rules.promql import duration

COLUMNS = ("file", "alert", "shape", "lasts", "every", "fires", "resolves", "why")
NEVER = "-"
BEGIN, END = "<!-- upcheck rules detect: begin -->", "<!-- upcheck rules detect: end -->"
_UNENDED = "not yet"
_KEY = 3  # of the columns: what a line is about

Row = tuple[str, ...]


class PageError(ValueError):
    """A page or a CSV file that can't be used, in a sentence."""


def rows(cells: Sequence[Cell]) -> list[Row]:
    """A line of CSV for each cell."""
    return [(one.file, one.alert, one.shape, duration(one.lasts), duration(one.every), *_said(one)) for one in cells]


def as_csv(cells: Sequence[Cell]) -> str:
    """The table for programs: COLUMNS, a line each cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([COLUMNS, *rows(cells)])
    return out.getvalue()


def lines(cells: Sequence[Cell]) -> Iterator[str]:
    """The table for people: a line each alert, `fires/resolves` for each shape."""
    table = [("alert", "fault", *SHAPES), *(row for _, found in _tables(cells) for row in found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
    yield "fires after the fault's beginning / resolves after its end; - never fires; blank: the fault means nothing"


def in_page(page: str, cells: Sequence[Cell]) -> str:
    """The text *page* with the tables between its marks; raises PageError where it has none."""
    before, begin, rest = page.partition(f"\n{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise PageError(f"there is no place for the table: write the lines {BEGIN} and {END} where it is to stand")
    written: list[str] = []
    for file, found in _tables(cells):
        written += [f"### {file}", "", _markdown(("alert", "fault", *SHAPES)), "|---" * (2 + len(SHAPES)) + "|"]
        written += [*map(_markdown, found), ""]
    return before + begin + "\n".join(["", *written, ""]) + end + after


def read(text: str) -> list[Row]:
    """The lines of a CSV file that `as_csv` wrote; raises PageError."""
    header, *found = [*csv.reader(io.StringIO(text))] or [[]]
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in found):
        raise PageError(f"expected the columns {', '.join(COLUMNS)}: write it anew with --write")
    return [tuple(row) for row in found]


def changes(before: Sequence[Row], cells: Sequence[Cell]) -> Iterator[str]:
    """A sentence for each cell that is not as it was *before*."""
    now = rows(cells)
    old, new = ({row[:_KEY]: row for row in each} for each in (before, now))
    named = {name: {key[:2] for key in each} for name, each in (("old", old), ("new", new))}
    for file, alert in dict.fromkeys(row[:2] for row in (*now, *before)):
        if (file, alert) not in named["old"]:
            yield f"{alert} of {file} is new"
        elif (file, alert) not in named["new"]:
            yield f"{alert} of {file} is gone"
    for key, row in new.items():
        if key[:2] in named["old"] and row != old.get(key):
            yield f"{key[1]}, {key[2]}: {'; '.join(_differences(_named(old.get(key, key + ('',) * 5)), _named(row)))}"


def _named(row: Row) -> Mapping[str, str]:
    return dict(zip(COLUMNS, row, strict=True))


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    fires = NEVER in (old["fires"], new["fires"])
    for name in ("fires",) if fires else ("fires", "resolves"):
        if old[name] != new[name]:
            now = f"{name} after {new[name]}" if new[name] != NEVER else "never fires"
            yield f"{now}, was {'never' if old[name] == NEVER else f'after {old[name]}'}"
    for name, words in (("lasts", "the fault lasts"), ("every", "evaluated each"), ("why", "blank because")):
        if old[name] != new[name]:
            yield f"{words} {new[name] or 'of nothing'}, was {old[name] or 'of nothing'}"


def _said(one: Cell) -> tuple[str, str, str]:
    if one.why:
        return "", "", one.why
    if one.fires is None or one.resolves is None:
        return NEVER, NEVER, ""
    return duration(one.fires), _UNENDED if math.isinf(one.resolves) else duration(one.resolves), ""


def _tables(cells: Sequence[Cell]) -> Iterator[tuple[str, list[Row]]]:
    """The alerts of each file: name, how long the fault lasts, and each shape."""
    for file, of_file in groupby(cells, key=lambda one: one.file):
        found = []
        for alert, of_alert in groupby(of_file, key=lambda one: one.alert):
            each = list(of_alert)
            found.append((alert, duration(each[0].lasts), *map(_short, each)))
        yield file, found


def _short(one: Cell) -> str:
    fires, resolves, why = _said(one)
    if why or fires == NEVER:
        return "" if why else NEVER
    return f"{fires} / {resolves}"


def _markdown(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"
