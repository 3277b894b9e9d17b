"""What a check finds, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from upcheck.documents import Mark
from upcheck.rules.contract.expression import Span
from upcheck.rules.contract.labels import World
from upcheck.rules.contract.place import File
from upcheck.rules.contract.reading import Found, Query

CHECKS: Mapping[str, str] = {
    "unknown-metric": "nothing that is known has a metric of this name",
    "unknown-label": "the metric has no such label",
    "unknown-label-value": "the label never has this value",
    "dead-recording-rule": "nobody reads what it records",
    "dead-metric": "nobody reads it",
    "unreachable-threshold": "a histogram's quantile never exceeds its highest finite bucket",
    "short-range": "a range under two scrapes seldom has the two samples that a rate needs",
    "short-for": "`for` is over before the rule is evaluated again",
    "long-window": "it looks further back than samples are kept",
    "rate-of-gauge": "each fall of a gauge counts as a counter that began anew",
    "gauge-of-counter": "a counter says how long it has run, not how it goes",
    "vanished-labels": "the two sides have different labels, so nothing ever matches",
    "group-race": "rules of another group run at another time",
    "naming": "a name that does not say what it is",
    "annotations": "who is woken needs to know what, and what to do",
    "template": "the text would come out empty or wrong",
    "severity": "routes need to know how bad it is",
    "duplicate": "two alerts can't be told apart",
    "allowance": "a comment that allows nothing, or has no reason",
}
"""The checks by name, and why each is made."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What is wrong at *line* and *column* (from 1), for *length* characters.

    *sentence* says what it is, *fix* what is there instead or would help. *excerpt* is the text that it stands in, with
    the place at *caret* (from 0). *place* names a dashboard's panel and JSON path. *covers* are the lines whose comment
    can allow it, *allows* the lines of its panel's description; *unknown* tells that it could not be checked.
    """

    file: Path
    line: int
    column: int
    id: str
    sentence: str
    fix: str = ""
    length: int = 1
    excerpt: str = ""
    caret: int = 0
    place: str = ""
    covers: frozenset[int] = field(default=frozenset(), compare=False)
    allows: tuple[str, ...] = field(default=(), compare=False)
    unknown: bool = False

    @property
    def check(self) -> str:
        """Its check's name without `contract/`."""
        return self.id.removeprefix("contract/")

    def to_dict(self) -> dict[str, Any]:
        """It as plain JSON values."""
        values = asdict(self)
        del values["covers"], values["allows"], values["unknown"]
        return {**values, "file": str(self.file), "docs": f"docs/contract.md#{self.check}"}


@dataclass(frozen=True, slots=True)
class Context:
    """What the checks look at."""

    found: Found
    world: World
    dead_metrics: bool = False


def at(query: Query, span: Span, check: str, sentence: str, fix: str = "") -> Finding:
    """A finding in an expression."""
    passage = query.passage
    line, column = passage.mark(span.at)
    row = passage.file.lines[line - 1]
    end = passage.mark(span.at + max(1, span.length) - 1)
    length = end[1] - column + 1 if end[0] == line and end[1] >= column else 1
    if query.place:  # JSON has all on one line, in quotes: the expression itself is easier to read
        text, (place, length) = (passage.written or passage).text, passage.as_written(span)
        begin = text.rfind("\n", 0, place) + 1
        excerpt, caret, length = text[begin:].split("\n")[0], place - begin, max(1, length)
    else:
        excerpt, caret = row.strip(), column - 1 - (len(row) - len(row.lstrip()))
    covers = frozenset({line, query.key_line or line})
    file, name = passage.file.path, f"contract/{check}"
    return Finding(file, line, column, name, sentence, fix, length, excerpt, caret, query.place, covers, query.allows)


def unknown(query: Query, sentence: str, span: Span | None = None) -> Finding:
    """What could not be checked."""
    return replace(at(query, span or Span(0, 1), "unknown-metric", sentence), unknown=True)


def at_mark(file: File, mark: Mark, length: int, check: str, sentence: str, fix: str = "") -> Finding:
    """A finding at a key or a value."""
    row = file.lines[mark[0] - 1]
    caret = max(0, mark[1] - 1 - (len(row) - len(row.lstrip())))
    covers = frozenset({mark[0]})
    return Finding(file.path, *mark, f"contract/{check}", sentence, fix, length, row.strip(), caret, covers=covers)
