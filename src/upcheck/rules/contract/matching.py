"""Two sides that never meet: of an operator, because of their labels; of two groups, because of their time."""

from __future__ import annotations

from collections.abc import Iterator

from upcheck.rules.contract.expression import Binary
from upcheck.rules.contract.finding import Context, Finding, at
from upcheck.rules.contract.labels import is_scalar, selectors
from upcheck.rules.contract.reading import Query, Rule


def check(context: Context) -> Iterator[Finding]:
    """vanished-labels in every expression, group-race in alerts."""
    for query in context.found.queries:
        tree = query.passage.tree
        if tree is None:
            continue
        for node in tree.walk():
            if isinstance(node, Binary) and not any(map(is_scalar, node.parts)):
                yield from _sides(context, query, node)
    for rule in context.found.rules:
        if rule.is_alert:
            yield from _race(context, rule)


def _sides(context: Context, query: Query, node: Binary) -> Iterator[Finding]:
    if node.op == "or":
        return  # which is a union, of whatever labels
    left, right = map(context.world.of, node.parts)
    named = {label.name for label in node.labels}
    for here, there, which in ((left, right, "left"), (right, left, "right")):
        for label in sorted(here.always):
            if (label in named) == (node.matching == "on") and not there.can_have(label):
                other = "right" if which == "left" else "left"
                fix = f"{label} is on the {which} side only: {_cure(node, label, other)}"
                yield at(query, node.span, "vanished-labels", "the sides have different labels: nothing matches", fix)
                return
    for label in sorted(left.fixed.keys() & right.fixed.keys()):
        if (label in named) == (node.matching == "on") and left.fixed[label] != right.fixed[label]:
            both = f"{label} is {left.fixed[label]} on the left and {right.fixed[label]} on the right"
            fix = f"{both}: ignoring ({label}), or sum both sides"
            yield at(query, node.span, "vanished-labels", "the sides have different labels: nothing matches", fix)
            return


def _cure(node: Binary, label: str, other: str) -> str:
    if node.matching == "on":
        return f"leave it out of on(), or keep it on the {other}"
    return f"sum both sides by the same labels, or say on (...), or ignoring ({label}, ...)"


def _race(context: Context, rule: Rule) -> Iterator[Finding]:
    tree = rule.query.passage.tree
    for selector in selectors(tree) if tree is not None else ():
        recorded = context.world.recorded.get(selector.name, [])
        groups = {(one.file.path, one.group) for one in recorded}
        if groups and (rule.file.path, rule.group) not in groups:
            there = recorded[0]
            fix = (
                f"group {there.group} ({there.file.path.name}) records it, this is group {rule.group}: keep both in one"
            )
            yield at(rule.query, selector.span, "group-race", "it may see the value of a round ago", fix)
