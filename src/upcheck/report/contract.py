"""The contract's findings as lines: the place, a sentence, the text with a caret under it, how to be rid of it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from upcheck.rules.contract import Finding, Report

Style = Callable[[str, str], str]
_WIDEST = 160  # characters of a line that is shown; of a longer one, what is around the caret
_UNKNOWN_SHOWN = 10


def lines(report: Report, style: Style) -> Iterator[str]:
    """All that *report* has to say; *style* colours a text."""
    for finding in report.findings:
        yield from _finding(finding, style)
        yield ""
    for finding in [one for one in report.unknown if one.fix][:_UNKNOWN_SHOWN]:
        where = f"{_short(finding.file)}:{finding.line}:{finding.column}"
        yield style("could not check", "yellow") + f"  {where}  {finding.sentence}; {finding.fix}"
    unknown = Counter(finding.sentence for finding in report.unknown if not finding.fix)
    for sentence, count in itertools.islice(unknown.items(), _UNKNOWN_SHOWN):
        yield style("could not check", "yellow") + f"  {_times(count, 'place')}: {sentence}"
    if len(unknown) > _UNKNOWN_SHOWN:
        yield f"                 and for {len(unknown) - _UNKNOWN_SHOWN} more reasons, all of them in --json"
    for error in report.unreadable:
        yield style("could not read", "yellow") + f"   {error}"
    yield total(report, style)


def total(report: Report, style: Style) -> str:
    """The last line: counts."""
    parts = [style(_times(len(report.findings), "finding"), "red" if report.findings else "green")]
    parts += [f"{len(report.allowed)} allowed"] if report.allowed else []
    could_not = len(report.unknown) + len(report.unreadable)
    parts += [style(f"{could_not} could not be checked", "yellow")] if could_not else []
    held = f"{_times(report.rules, 'rule')}, {_times(report.queries, 'expression')}"
    return f"{', '.join(parts)}: {held} held against {_times(report.series, 'known metric')}"


def as_json(report: Report) -> str:
    """All of it as one line of JSON."""
    return json.dumps(
        {
            "findings": [one.to_dict() for one in report.findings],
            "allowed": [one.to_dict() for one in report.allowed],
            "unknown": [one.to_dict() for one in report.unknown],
            "unreadable": [str(one) for one in report.unreadable],
            "rules": report.rules,
            "expressions": report.queries,
            "metrics": report.series,
        }
    )


def _finding(finding: Finding, style: Style) -> Iterator[str]:
    where = f"{_short(finding.file)}:{finding.line}:{finding.column}"
    yield f"{style(where, 'cyan')}  {style(finding.sentence, 'red')}"
    if finding.place:
        yield f"  {finding.place}"
    text, caret = _shown(finding)
    yield f"  {text}"
    under = " " * caret + "^" * max(1, min(finding.length, len(text) - caret))
    yield f"  {style(under, 'red')} {finding.fix}".rstrip()
    name = finding.check
    comment = f"upcheck: allow {name} because ..."
    silence = f"# {comment}" if finding.file.suffix != ".json" else f"{comment} (in the panel's description)"
    known = f"{finding.id} · docs/contract.md#{name}"
    yield f"  {known}" if name == "allowance" else f"  {known} · silence with: {silence}"


def _shown(finding: Finding) -> tuple[str, int]:
    """The excerpt and the place of its caret, cut where it is too long."""
    if len(finding.excerpt) <= _WIDEST:
        return finding.excerpt, finding.caret
    begin = max(0, finding.caret - _WIDEST // 2)
    return finding.excerpt[begin : begin + _WIDEST], finding.caret - begin


def _short(path: Path) -> Path:
    here = Path.cwd()
    absolute = path.absolute()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else path


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
