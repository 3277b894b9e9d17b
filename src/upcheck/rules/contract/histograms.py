"""Thresholds that a histogram's quantile can't reach: it never exceeds the highest finite bucket."""

from __future__ import annotations

import math
from collections.abc import Iterator

from upcheck.rules.contract.expression import Aggregation, Binary, Call, Node, Number, Selector, Subquery
from upcheck.rules.contract.finding import Context, Finding, at
from upcheck.rules.contract.labels import selectors
from upcheck.rules.contract.reading import Query

_MIRRORED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
_AT_MOST = frozenset({"min", "max", "avg", "topk", "bottomk", "quantile"})
_AT_MOST_OVER_TIME = frozenset(
    {"min_over_time", "max_over_time", "avg_over_time", "last_over_time", "quantile_over_time"}
)
_SCALED = frozenset({"*", "/"})


def check(context: Context) -> Iterator[Finding]:
    """unreachable-threshold."""
    for query in context.found.queries:
        for node in query.passage.tree.walk() if query.passage.tree is not None else ():
            if isinstance(node, Binary) and node.op in _MIRRORED:
                yield from _threshold(context, query, node)


def _threshold(context: Context, query: Query, node: Binary) -> Iterator[Finding]:
    left, right = node.parts
    op = node.op
    if isinstance(left, Number):
        left, right, op = right, left, _MIRRORED[op]
    if not isinstance(right, Number):
        return
    top = _top(context, left, frozenset())
    if top < math.inf and (right.value > top or (op == ">" and right.value == top)) and op in (">", ">=", "=="):
        fix = f"the highest finite bucket is {top:g}, which no quantile exceeds: add buckets, or lower the threshold"
        yield at(query, right.span, "unreachable-threshold", f"it can't be {op} {right.value:g}", fix)


def _top(context: Context, node: Node, seen: frozenset[str]) -> float:
    """The most that *node* can be, if it is made of a histogram's quantile; else infinite."""
    if isinstance(node, Call):
        return _top_of_call(context, node, seen)
    if isinstance(node, Selector) and node.name in context.world.recorded and node.name not in seen:
        trees = [rule.query.passage.tree for rule in context.world.recorded[node.name]]
        return max(_top(context, tree, seen | {node.name}) if tree is not None else math.inf for tree in trees)
    if isinstance(node, Subquery) or (isinstance(node, Aggregation) and node.op in _AT_MOST):
        return _top(context, node.parts[-1], seen)
    if isinstance(node, Binary):
        return _top_of_binary(context, node, seen)
    return math.inf


def _top_of_call(context: Context, node: Call, seen: frozenset[str]) -> float:
    if node.name in _AT_MOST_OVER_TIME:
        return _top(context, node.parts[-1], seen)
    if node.name != "histogram_quantile":
        return math.inf
    tops = [_highest(context, selector, seen) for selector in selectors(node.parts[-1])]
    return max(tops, default=math.inf)


def _highest(context: Context, selector: Selector, seen: frozenset[str]) -> float:
    """The highest finite bucket of what *selector* selects, also where a rule records its rate."""
    rules = context.world.recorded.get(selector.name, ())
    if rules and selector.name not in seen:
        inside = [one for rule in rules if rule.query.passage.tree for one in selectors(rule.query.passage.tree)]
        return max((_highest(context, one, seen | {selector.name}) for one in inside), default=math.inf)
    series = context.world.series(selector.name)
    return max(series.buckets) if series is not None and series.buckets else math.inf


def _top_of_binary(context: Context, node: Binary, seen: frozenset[str]) -> float:
    left, right = node.parts
    if node.op in _SCALED and isinstance(right, Number) and right.value > 0:
        top = _top(context, left, seen)
        return top * right.value if node.op == "*" else top / right.value
    if node.op == "*" and isinstance(left, Number) and left.value > 0:
        return left.value * _top(context, right, seen)
    return _top(context, left, seen) if node.op in ("and", "unless") or node.op in _MIRRORED else math.inf
