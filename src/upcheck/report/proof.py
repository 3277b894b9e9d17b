"""What the rule tests prove, for a terminal and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from upcheck.routes.coverage import Point as RoutingPoint
from upcheck.routes.coverage import Routing
from upcheck.rules.coverage import Coverage, Point
from upcheck.rules.mutation import Changed, Judged, Proof
from upcheck.rules.suite import short

Style = Callable[[str, str], str]


def mutation_lines(proof: Proof[Changed], seconds: float, style: Style) -> Iterator[str]:
    """Each survivor with what changed and what would notice it, then the counts and the score."""
    survived = [one for one in proof.judged if one.verdict == "survived"]
    untested = Counter((one.mutant.file, one.mutant.title) for one in survived if not one.tests)
    for one in survived:
        if one.tests:
            yield from _survivor(one, style)
        elif count := untested.pop((one.mutant.file, one.mutant.title), 0):
            noun = "mutant" if count == 1 else "mutants"
            yield f"{_place(one, style)}  {count} {noun}: no test looks at it"
    if any(one.tests for one in survived):
        yield "where a change means the same, say so in the file it is of: # upcheck: equivalent ID because ..."
    for note in proof.notes:
        yield f"{style('warning', 'yellow')}  {note}"
    counts = "   ".join(f"{verdict} {count:,}" for verdict, count in proof.counts.items())
    total = f"{len(proof.judged):,} mutants   {seconds:.1f} s   {counts}   score {proof.score:.3f}"
    yield style(total, "yellow" if proof.counts["survived"] else "green")


def mutation_facts(proof: Proof[Changed]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "score": round(proof.score, 4),
        **proof.counts,
        "notes": list(proof.notes),
        "mutants": [
            {
                "id": one.mutant.id,
                "file": str(one.mutant.file),
                "line": one.mutant.line,
                one.mutant.subject: one.mutant.title,
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


def _survivor(one: Judged[Changed], style: Style) -> Iterator[str]:
    mutant = one.mutant
    yield f"{_place(one, style)}  [{mutant.id}]"
    yield style(f"  - {mutant.before}", "red")
    yield style(f"  + {mutant.after or '(nothing)'}", "green")
    yield f"  {mutant.hint}, beside {one.tests[0]}"


def _place(one: Judged[Changed], style: Style) -> str:
    mutant = one.mutant
    return f"{style('SURVIVED', 'red')}  {short(mutant.file)}:{mutant.line}  {mutant.title}"


def coverage_lines(coverage: Coverage, routing: Routing, style: Style) -> Iterator[str]:
    """A row for each part of which something is not covered, and what that is; then the counts and the share."""
    rules = [list(points) for _, points in groupby(coverage.points, key=lambda point: point.rule.key)]
    gaps = [points for points in rules if not all(point.covered for point in points)]
    rows = [["rule", "", "fires", "silent", "pending", "sample", "templates", "branches"], *map(_row, gaps)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, points in zip(rows if gaps else (), [[], *gaps], strict=False):
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
        yield from (style(f"  {_missing(point)}", "yellow") for point in points if not point.covered)
    for (subject, title, file, line), some in groupby(routing.points, key=_part):
        if missing := [point.missing for point in some if not point.covered]:
            yield f"{title if subject != 'alert' else f'alert {title}'}  {short(file)}:{line}"
            yield from (style(f"  {one}", "yellow") for one in missing)
    for note in (*coverage.notes, *routing.notes):
        yield f"{style('note', 'yellow')}  {note}"
    covered, every = _counts(coverage, routing)
    routes = sum(point.kind == "taken" for point in routing.points)
    counted = f"{len(rules):,} rules" + (f", {routes:,} routes" if routes else "")
    total = f"{counted}   {covered:,} of {every:,} covered   share {share(coverage, routing):.3f}"
    yield style(total, "yellow" if covered < every else "green")


def coverage_facts(coverage: Coverage, routing: Routing) -> dict[str, Any]:
    """The same for programs."""
    rules = [
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
    ]
    routes = [
        {
            "file": str(point.file),
            "line": point.line,
            point.subject: point.title,
            "kind": point.kind,
            "what": "",
            "state": "asserted" if point.covered else "never",
            "covered": point.covered,
        }
        for point in routing.points
    ]
    return {
        "share": round(share(coverage, routing), 4),
        "notes": [*coverage.notes, *routing.notes],
        "points": rules + routes,
    }


def share(coverage: Coverage, routing: Routing) -> float:
    """The share of all points that are covered; 1 where there are none."""
    covered, every = _counts(coverage, routing)
    return covered / every if every else 1.0


def _counts(coverage: Coverage, routing: Routing) -> tuple[int, int]:
    """How many points are covered, and how many there are."""
    covered = [point.covered for point in coverage.points] + [point.covered for point in routing.points]
    return sum(covered), len(covered)


def _part(point: RoutingPoint) -> tuple[str, str, Path, int]:
    return point.subject, point.title, point.file, point.line


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
