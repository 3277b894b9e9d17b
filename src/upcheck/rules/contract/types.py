"""Counters taken for gauges, and gauges for counters."""

from __future__ import annotations

from collections.abc import Iterator

from upcheck.rules.contract.expression import Aggregation, Binary, Call, Node, Selector
from upcheck.rules.contract.finding import Context, Finding, at
from upcheck.rules.contract.labels import is_scalar
from upcheck.rules.contract.reading import Query

_OF_COUNTERS = frozenset({"rate", "irate", "increase"})
_COMPARISONS = frozenset({">", ">=", "<", "<=", "==", "!="})
_SAME_SCALE = frozenset({"sum", "min", "max", "avg", "topk", "bottomk", "quantile"})


def check(context: Context) -> Iterator[Finding]:
    """rate-of-gauge and gauge-of-counter."""
    for query in context.found.queries:
        tree = query.passage.tree
        if tree is None:
            continue
        for node in tree.walk():
            if isinstance(node, Call) and node.name in _OF_COUNTERS:
                yield from _rate(context, query, node)
            elif isinstance(node, Binary) and node.op in _COMPARISONS:
                yield from _threshold(context, query, node)


def _rate(context: Context, query: Query, node: Call) -> Iterator[Finding]:
    inside = node.parts[0]
    if isinstance(inside, Selector) and _type(context, inside) == "gauge":
        fix = f"{inside.name} is a gauge: use {'delta' if node.name == 'increase' else 'deriv'}, or compare it as it is"
        yield at(query, node.span, "rate-of-gauge", f"{node.name} of a gauge takes each fall for a restart", fix)


def _threshold(context: Context, query: Query, node: Binary) -> Iterator[Finding]:
    left, right = node.parts
    if is_scalar(left) == is_scalar(right):
        return
    inside: Node = right if is_scalar(left) else left
    while isinstance(inside, Aggregation) and inside.op in _SAME_SCALE:
        inside = inside.parts[-1]
    if isinstance(inside, Selector) and _type(context, inside) == "counter":
        fix = f"{inside.name} is a counter, which only grows: compare rate({inside.name}[...]) or increase(...)"
        yield at(query, inside.span, "gauge-of-counter", "a counter's value says how long it has run", fix)


def _type(context: Context, selector: Selector) -> str:
    series = context.world.series(selector.name) if selector.name else None
    return "" if series is None else series.type
