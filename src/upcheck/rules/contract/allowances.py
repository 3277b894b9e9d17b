"""Comments that allow a finding: `# upcheck: allow NAME because ...` or `... until ...`, and whether they still do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from upcheck.documents import Mark
from upcheck.rules.contract.finding import CHECKS, Finding, at_mark
from upcheck.rules.contract.place import File

_COMMENT = re.compile(r"#[ \t]*upcheck:[ \t]*allow[ \t]+(?:contract/)?([a-z-]+)[ \t]*(.*)")
_DESCRIBED = re.compile(r"upcheck:[ \t]*allow[ \t]+(?:contract/)?([a-z-]+)[ \t]+(?:until|because)[ \t]+\S")
_CLOSE = 0.85  # how like a check's name a word must be, to be taken for a mistake
_REASON = re.compile(r"(?:until|because)[ \t]+\S")


@dataclass(frozen=True, slots=True)
class Allowance:
    """A comment at *mark* that allows *check* on the *lines*."""

    file: File
    mark: Mark
    check: str
    lines: frozenset[int]
    length: int


def read(files: Iterable[File]) -> tuple[list[Allowance], list[Finding]]:
    """The allowances in *files*, and the comments that are none: without a reason, or for a check that there is not."""
    allowances: list[Allowance] = []
    problems: list[Finding] = []
    for file in files:
        for number, line in enumerate(file.lines, 1):
            match = _COMMENT.search(line)
            if match is None:
                continue
            mark, length = (number, match.start() + 1), len(line) - match.start()
            name = match[1]
            if name not in CHECKS:
                close = get_close_matches(name, CHECKS, n=1, cutoff=_CLOSE)
                if close:  # other commands have names of their own, which are not ours to judge
                    fix = f"did you mean '{close[0]}'?"
                    problems.append(at_mark(file, mark, length, "allowance", "no check is called this", fix))
            elif not _REASON.match(match[2]):
                fix = f"# upcheck: allow {name} because ... (or: until ...)"
                problems.append(at_mark(file, mark, length, "allowance", "it gives no reason", fix))
            else:
                allowances.append(Allowance(file, mark, name, _lines(file, number, match.start()), length))
    return allowances, problems


def _lines(file: File, number: int, column: int) -> frozenset[int]:
    """The line that a comment stands at the end of, or the next with more than a comment."""
    if file.lines[number - 1][:column].strip():
        return frozenset({number})
    rest = enumerate(file.lines[number:], number + 1)
    after = (one for one, line in rest if line.strip() and not line.strip().startswith("#"))
    return frozenset({next(after, number)})


def apply(
    findings: Iterable[Finding], allowances: Collection[Allowance], judged: Collection[str]
) -> Iterator[tuple[Finding, bool]]:
    """Each finding, and whether it is allowed; then a finding for each allowance of a *judged* check that allows none.

    An allowance of what could not be checked is left alone.
    """
    used: set[Allowance] = set()
    for finding in findings:
        allowing = [one for one in allowances if _allows(one, finding)]
        used.update(allowing)
        described = any(finding.check == name for line in finding.allows for name in _DESCRIBED.findall(line))
        yield finding, bool(allowing) or described
    for one in allowances:
        if one not in used and one.check in judged:
            fix = f"remove it: contract/{one.check} finds nothing here"
            yield at_mark(one.file, one.mark, one.length, "allowance", "it allows nothing", fix), False


def _allows(allowance: Allowance, finding: Finding) -> bool:
    if allowance.file.path != finding.file or not allowance.lines & finding.covers:
        return False
    return allowance.check == finding.check or (finding.unknown and allowance.check.startswith("unknown-"))
