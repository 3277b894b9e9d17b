"""What rules would have done over history, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from upcheck.rules.backtest import Episode, History, Played
from upcheck.rules.backtest.incidents import Incident, Judgement
from upcheck.rules.promql import duration
from upcheck.rules.suite import short

Style = Callable[[str, str], str]
DAY = 86400.0  # seconds; what is shorter says nothing of a week
WEEK = 7 * DAY
FALSE_SHOWN = 20
_NONE = "-"


@dataclass(frozen=True)
class Version:
    """A version of the rules: all of its alerts, and the judgement where there are incidents."""

    alerts: Sequence[Played]
    judgement: Judgement | None


@dataclass(frozen=True)
class Backtest:
    """*versions* are the rules that are asked about and, where there are others, those that they are held against.

    *outside* are the incidents that are not in the history.
    """

    history: History
    versions: Sequence[Version]
    outside: Sequence[Incident]


def lines(told: Backtest, style: Style) -> Iterator[str]:
    """All of it; *style* colours a text."""
    history = told.history
    yield f"history     {_when(history.start)} to {_when(history.end)} UTC ({_span(history.span)}), {history.name}"
    yield ""
    yield from _table(told)
    version = told.versions[0]
    if silent := [one.name for one in version.alerts if not (one.pages or one.lacks or one.problem)]:
        yield f"silent      {', '.join(silent)}"
    for one in version.alerts:
        if one.lacks:
            yield f"{style('no data', 'yellow')}     {one.name} reads {', '.join(one.lacks)}: not in this history"
    for one in [each for version in told.versions for each in version.alerts if each.problem]:
        yield f"{style('not played', 'red')}  {one.name} ({short(one.rule.file)}:{one.rule.line}): {one.problem}"
    yield from _incidents(told, style)
    yield from _total(told)


def facts(told: Backtest) -> dict[str, Any]:
    """All of it, times in seconds since 1970 and spans in seconds."""
    return {
        "start": told.history.start,
        "end": told.history.end,
        "versions": [_version(one, told.history) for one in told.versions],
        "outside": [one.name for one in told.outside],
    }


def _version(version: Version, history: History) -> dict[str, Any]:
    found: dict[str, Any] = {
        "alerts": [
            {
                "name": one.name,
                "file": str(one.rule.file),
                "line": one.rule.line,
                "pages": len(one.pages),
                "firing": sum(_firing(page, history) for page in one.pages),
                "lacks": list(one.lacks),
                "problem": one.problem or None,
                "episodes": [
                    {"labels": dict(each.labels), "since": each.since, "fired": each.fired, "over": each.over}
                    for each in one.episodes
                ],
            }
            for one in version.alerts
        ]
    }
    if (judged := version.judgement) is not None:
        found |= {"precision": judged.precision, "recall": judged.recall, "incidents": []}
        for incident in judged.incidents:
            first = judged.first(incident)
            lead = None if first is None or first.episode.fired is None else first.episode.fired - incident.start
            alert = None if first is None else first.played.name
            found["incidents"].append({"name": incident.name, "first": alert, "lead": lead})
        found["false_pages"] = [
            {"alert": one.played.name, "labels": dict(one.episode.labels), "fired": one.episode.fired}
            for one in judged.false
        ]
    return found


def _table(told: Backtest) -> Iterator[str]:
    """A line for each alert that fired in a version: what differs first, then what pages most."""
    figures = [{one.name: _figures(one, version, told.history) for one in version.alerts} for version in told.versions]
    names = list(dict.fromkeys(name for each in figures for name in each))
    compared = len(figures) > 1
    empty = (_NONE,) * len(_columns(told))
    rows = []
    for name in names:
        each = [one.get(name, empty) for one in figures]
        if any(one[0] not in ("0", _NONE) for one in each):
            rows.append((each[0] != each[-1], name, each))
    if not rows:
        yield "nothing fired"
        yield ""
        return
    heads = [each for column in _columns(told) for each in ((column, "was") if compared else (column,))]
    table = [("alert", *heads)]
    for _, name, each in sorted(
        rows, key=lambda row: (not row[0], -max(int(one[0]) for one in row[2] if one != empty))
    ):
        table.append((name, *(one for cell in zip(*each, strict=True) for one in cell)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
    yield ""


def _columns(told: Backtest) -> tuple[str, ...]:
    judged = told.versions[0].judgement is not None
    return ("pages", "a week", "firing", *(("precision",) if judged else ()))


def _figures(one: Played, version: Version, history: History) -> tuple[str, ...]:
    pages = one.pages
    found = (
        str(len(pages)),
        _a_week(len(pages), history),
        _span(sum(_firing(page, history) for page in pages)),
    )
    if version.judgement is None:
        return found
    own = [page for page in version.judgement.pages if page.played is one]
    return (*found, f"{sum(bool(page.incidents) for page in own) / len(own):.2f}" if own else _NONE)


def _incidents(told: Backtest, style: Style) -> Iterator[str]:
    judged = [version.judgement for version in told.versions if version.judgement is not None]
    if not judged:
        return
    yield ""
    for incident in judged[0].incidents:
        each = [_first(one, incident) for one in judged]
        word = style("missed    ", "red") if each[0] == "missed" else style("found     ", "green")
        was = f", was {each[1]}" if len(each) > 1 and each[1] != each[0] else ""
        told_of = "" if each[0] == "missed" else f": {each[0]}"
        yield f"{word}  {incident.name}, {_when(incident.start)}{told_of}{was}"
    for incident in told.outside:
        yield f"outside     {incident.name}, {_when(incident.start)}: not in this history"
    false = judged[0].false
    for page in false[:FALSE_SHOWN]:
        fired = page.episode.fired or 0.0
        labels = ", ".join(f'{key}="{value}"' for key, value in page.episode.labels.items() if key != "alertname")
        firing = _span(_firing(page.episode, told.history))
        yield f"{style('false', 'yellow')}       {_when(fired)}, {firing}: {page.played.name} {{{labels}}}"
    if len(false) > FALSE_SHOWN:
        yield f"            and {len(false) - FALSE_SHOWN} more, all of them in --json"


def _first(judged: Judgement, incident: Incident) -> str:
    page = judged.first(incident)
    if page is None or page.episode.fired is None:
        return "missed"
    lead = page.episode.fired - incident.start
    return f"{page.played.name} {f'after {_span(lead)}' if lead >= 0 else f'{_span(-lead)} before'}"


def _total(told: Backtest) -> Iterator[str]:
    """The last line: counts."""
    parts: list[list[str]] = [[] for _ in told.versions]
    for version, words in zip(told.versions, parts, strict=True):
        count = sum(len(one.pages) for one in version.alerts)
        words.append(f"{count} page{'s' if count != 1 else ''}, {_a_week(count, told.history)} a week")
        if (judged := version.judgement) is not None:
            words.append(f"precision {_share(judged.precision)}")
            words.append(f"recall {_share(judged.recall)}")
    yield "; was ".join(", ".join(words) for words in parts)


def _a_week(pages: int, history: History) -> str:
    return f"{pages * WEEK / history.span:.1f}" if history.span >= DAY else _NONE


def _share(share: float | None) -> str:
    return _NONE if share is None else f"{share:.2f}"


def _firing(page: Episode, history: History) -> float:
    """How long it fired, seconds; to the end of the history where it was not over."""
    return 0.0 if page.fired is None else (history.end if page.over is None else page.over) - page.fired


def _when(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    return duration(round(seconds))
