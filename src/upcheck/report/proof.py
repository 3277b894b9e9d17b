"""What the rule tests prove, for a terminal and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from upcheck.rules.coverage import Coverage, Point
from upcheck.rules.mutation import Judged, Proof
from upcheck.rules.suite import short

Style = Callable[[str, str], str]


def mutation_lines(proof: Proof, seconds: float, style: Style) -> Iterator[str]:
    """Each survivor with what changed and what would notice it, then the counts and the score."""
    for one in proof.judged:
        if one.verdict == "survived":
            yield from _survivor(one, style)
    if proof.counts["survived"]:
        yield "where a change means the same, say so in the rule file: # upcheck: equivalent ID because ..."
    for note in proof.notes:
        yield f"{style('warning', 'yellow')}  {note}"
    counts = "   ".join(f"{verdict} {count:,}" for verdict, count in proof.counts.items())
    total = f"{len(proof.judged):,} mutants   {seconds:.1f} s   {counts}   score {proof.score:.3f}"
    yield style(total, "yellow" if proof.counts["survived"] else "green")


def mutation_facts(proof: Proof) -> dict[str, Any]:
    """The same for programs."""
    return {
        "score": round(proof.score, 4),
        **proof.counts,
        "notes": list(proof.notes),
        "mutants": [
            {
                "id": one.mutant.id,
                "file": str(one.mutant.rule.file),
                "line": one.mutant.rule.line,
                one.mutant.rule.name.kind: one.mutant.rule.name.text,
                "kind": one.mutant.kind,
                "before": one.mutant.before,
                "after": one.mutant.after,
                "verdict": one.verdict,
                "hint": one.mutant.hint,
                "tests": list(one.tests),
                "reason": one.reason,
            }
            for one in proof.judged
        ],
    }


def _survivor(one: Judged, style: Style) -> Iterator[str]:
    mutant = one.mutant
    rule = mutant.rule
    yield f"{style('SURVIVED', 'red')}  {short(rule.file)}:{rule.line}  {rule.name.text}  [{mutant.id}]"
    yield style(f"  - {mutant.before}", "red")
    yield style(f"  + {mutant.after or '(nothing)'}", "green")
    yield f"  {mutant.hint}, beside {one.tests[0]}" if one.tests else f"  no test looks at {rule.name.text}"


def coverage_lines(coverage: Coverage, style: Style) -> Iterator[str]:
    """A row for each rule of which something is not covered, and what that is; then the counts and the share."""
    rules = [list(points) for _, points in groupby(coverage.points, key=lambda point: point.rule.key)]
    gaps = [points for points in rules if not all(point.covered for point in points)]
    rows = [["rule", "", "fires", "silent", "pending", "sample", "templates", "branches"], *map(_row, gaps)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, points in zip(rows if gaps else (), [[], *gaps], strict=False):
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
        yield from (style(f"  {_missing(point)}", "yellow") for point in points if not point.covered)
    for note in coverage.notes:
        yield f"{style('note', 'yellow')}  {note}"
    covered = sum(point.covered for point in coverage.points)
    total = f"{len(rules):,} rules   {covered:,} of {len(coverage.points):,} covered   share {coverage.share:.3f}"
    yield style(total, "yellow" if gaps else "green")


def coverage_facts(coverage: Coverage) -> dict[str, Any]:
    """The same for programs."""
    return {
        "share": round(coverage.share, 4),
        "notes": list(coverage.notes),
        "points": [
            {
                "file": str(point.rule.file),
                "line": point.rule.line,
                point.rule.name.kind: point.rule.name.text,
                "kind": point.kind,
                "what": point.what,
                "state": point.state,
                "covered": point.covered,
            }
            for point in coverage.points
        ],
    }


def _row(points: Sequence[Point]) -> list[str]:
    rule = points[0].rule
    states = {point.kind: point.state for point in points}
    covered = Counter(point.kind for point in points if point.covered)
    every = Counter(point.kind for point in points)
    counts = [f"{covered[kind]} of {every[kind]}" if every[kind] else "" for kind in ("template", "branch")]
    return [
        rule.name.text,
        f"{short(rule.file)}:{rule.line}",
        *(states.get(kind, "") for kind in ("fires", "silent", "pending", "sample")),
        *counts,
    ]


def _missing(point: Point) -> str:
    if point.kind == "fires" and point.state == "exercised":
        return "it fires in a test, but none asserts that: add exp_alerts"
    return {
        "fires": "no test sees it fire",
        "silent": "no test asserts that it is silent where it has data",
        "pending": f"no test asserts that it is silent before for: {point.rule.value.get('for')} is over",
        "sample": "no test gives it a sample",
        "template": f"no test compares what becomes of the template {point.what}",
        "branch": f"no test has {point.what}",
    }[point.kind]
