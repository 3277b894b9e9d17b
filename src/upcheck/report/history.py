"""What `upcheck history` prints: availability and latency of each check, or its results, in four formats."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from upcheck.history import DAY, HOUR, History, Streak, Summary
from upcheck.report.verdict import Style, clock, plain
from upcheck.result import Outcome, Result

FORMATS = ("table", "json", "csv", "openmetrics")
LIMIT = 100  # results that --raw lists
_COLOURS = {
    Outcome.HELD: "green", Outcome.FAILED: "red", Outcome.ERROR: "magenta", Outcome.SKIPPED: "yellow",
    Outcome.BLOCKED: "magenta", Outcome.MAINTENANCE: "yellow",
}  # fmt: skip
_RIGHT = ("runs", "held", "failed", "error", "availability", "p50", "p95", "duration")
Cell = tuple[str, str]  # a text and its colour


class NothingError(Exception):
    """There is nothing to show; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """A check's runs in the window, and how it is now."""

    summary: Summary
    streak: Streak


def lines(
    history: History, pattern: str, window: float, kind: str, *, raw: bool, limit: int | None, style: Style = plain
) -> Iterator[str]:
    """The lines of the report on the last *window* seconds, as one of FORMATS. Raises NothingError, HistoryError.

    With *raw* each result is a line, newest last, *limit* of them; OpenMetrics has every result as samples, always.
    """
    rows = _rows(history, pattern, window)
    if kind == "openmetrics":
        yield from _openmetrics(history, [row.summary.check for row in rows], window)
    elif raw:
        listed = history.listed(pattern, window, limit=LIMIT if limit is None else limit)
        if not listed:
            raise NothingError("the results of that time are deleted (see `retention`); leave out --raw for their sums")
        yield from _RAW[kind](listed, style)
    else:
        yield from _SUMMED[kind](rows[:limit], style)


def _rows(history: History, pattern: str, window: float) -> list[Row]:
    summaries = history.summaries(pattern, window)
    if not summaries:
        raise NothingError(
            f"no check in {history.file} matches '{pattern}': `upcheck history` lists all, and a part of the name is "
            f"enough" if pattern else f"{history.file} has no results yet: `upcheck check` writes some"
        )  # fmt: skip
    streaks = {one.result.check: one.streak for one in history.latest()}
    rows = [Row(one, streaks[one.check]) for one in summaries if one.runs and one.check in streaks]
    if not rows:
        span = next((f"{window / unit:g}{name}" for unit, name in _UNITS if window >= unit), f"{window:g}s")
        raise NothingError(f"no run in the last {span}: ask for more, as in `upcheck history --window 30d`")
    return rows


_UNITS = ((DAY, "d"), (HOUR, "h"), (60, "m"))


def _values(row: Row) -> dict[str, object]:
    """The summary as JSON and CSV have it; times in seconds."""
    one = row.summary
    counts = {outcome.value: one.counts[outcome] for outcome in Outcome}
    return {
        "check": one.check, "runs": one.runs, **counts, "availability": one.availability,
        "p50_seconds": one.quantile(0.5), "p95_seconds": one.quantile(0.95),
        "last": row.streak.outcome.value, "since": row.streak.since, "last_held": row.streak.last_held,
    }  # fmt: skip


def _raw_values(result: Result) -> dict[str, object]:
    return {
        "check": result.check, "started": result.started, "outcome": result.outcome.value,
        "duration_seconds": None if math.isnan(result.duration) else result.duration, "reason": result.reason,
    }  # fmt: skip


def _table(rows: Sequence[Row], style: Style) -> Iterator[str]:
    heads = ("check", "runs", "held", "failed", "error", "availability", "p50", "p95", "last", "since")
    yield from _aligned(heads, [_summed_cells(row) for row in rows], style)


def _summed_cells(row: Row) -> list[Cell]:
    one, counts = row.summary, row.summary.counts
    available = one.availability
    return [
        (_printable(one.check), ""),
        (f"{one.runs:,}", ""),
        (f"{counts[Outcome.HELD]:,}", ""),
        (f"{counts[Outcome.FAILED]:,}", "red" if counts[Outcome.FAILED] else ""),
        (f"{counts[Outcome.ERROR]:,}", "magenta" if counts[Outcome.ERROR] else ""),
        (percent(available), "" if available is None else "green" if available == 1 else "red"),
        (duration(one.quantile(0.5)), ""),
        (duration(one.quantile(0.95)), ""),
        (row.streak.outcome.value, _COLOURS[row.streak.outcome]),
        (clock(row.streak.since), ""),
    ]


def _raw_table(results: Sequence[Result], style: Style) -> Iterator[str]:
    cells = [
        [
            (clock(one.started), ""),
            (one.outcome.value, _COLOURS[one.outcome]),
            (duration(None if math.isnan(one.duration) else one.duration), ""),
            (_printable(one.check), ""),
            (_printable(one.reason), ""),
        ]
        for one in results
    ]
    yield from _aligned(("started", "outcome", "duration", "check", "reason"), cells, style)


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[Cell]], style: Style) -> Iterator[str]:
    widths = [max(len(head), *(len(row[at][0]) for row in rows)) for at, head in enumerate(heads)]
    for row in ([(head, "") for head in heads], *rows):
        padded = (_padded(cell, width, head, style) for cell, width, head in zip(row, widths, heads, strict=True))
        yield "  ".join(padded).rstrip()


def _padded(cell: Cell, width: int, head: str, style: Style) -> str:
    text, colour = cell
    space = " " * (width - len(text))
    shown = style(text, colour) if colour else text
    return space + shown if head in _RIGHT else shown + space


def _printable(text: str) -> str:
    """*text* on one line, without what would move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def percent(ratio: float | None) -> str:
    """`99.97%`, rounded down, because 100% means every one; `-` for no data."""
    return "-" if ratio is None else f"{math.floor(ratio * 100_000 + 1e-6) / 1000:g}%"


def duration(seconds: float | None) -> str:
    """`31 ms`, `1.20 s`; `-` for no data."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _json(values: Iterable[dict[str, object]]) -> Iterator[str]:
    return (json.dumps(one) for one in values)


def _csv(values: Sequence[dict[str, object]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(values[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    yield text.getvalue().removesuffix("\n")


def _openmetrics(history: History, checks: Sequence[str], window: float) -> Iterator[str]:
    """Each result as samples with its time, check by check, for `promtool tsdb create-blocks-from openmetrics`."""
    from upcheck.metrics import timed  # prometheus_client is 90 ms that the other formats need not pay

    since = time.time() - window
    for heading, sample in timed():
        yield from heading
        for check in checks:
            before = -math.inf
            for result in history.results(check, since=since):
                at = round(result.started, 3)
                if at > before and (line := sample(result)):
                    before = at
                    yield f"{line} {at:.3f}"
    yield "# EOF"


_SUMMED: dict[str, Callable[[Sequence[Row], Style], Iterator[str]]] = {
    "table": _table,
    "json": lambda rows, _: _json(map(_values, rows)),
    "csv": lambda rows, _: _csv([_values(row) for row in rows]),
}
_RAW: dict[str, Callable[[Sequence[Result], Style], Iterator[str]]] = {
    "table": _raw_table,
    "json": lambda results, _: _json({**_raw_values(one), "facts": dict(one.facts)} for one in results),
    "csv": lambda results, _: _csv([_raw_values(one) for one in results]),
}
