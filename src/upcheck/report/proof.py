"""What the rule tests prove, for a terminal and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
