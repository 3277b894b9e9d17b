"""Metrics, labels and values that nothing produces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from upcheck.rules.contract.expression import Aggregation, Binary, Label, Matcher, Node, Selector
from upcheck.rules.contract.finding import Context, Finding, at, unknown
from upcheck.rules.contract.labels import is_scalar, may_match
from upcheck.rules.contract.produced import TARGET, Series, Values, prefix
from upcheck.rules.contract.reading import VARIABLE, Query
from upcheck.rules.contract.syntax import fault

_SHOWN = 4  # names in a list
_CLOSE = 0.85  # how like a name of an unknown prefix must be, to be taken for a mistake
_LITERALS = re.compile(r"\(?([\w|/.:-]*?)\)?")
_OWN_CHECK = frozenset({"__name__", "job", "instance"})  # of which an exporter tells nothing


def check(context: Context) -> Iterator[Finding]:
    """unknown-metric, unknown-label and unknown-label-value in every expression."""
    for query in context.found.queries:
        tree = query.passage.tree
        if tree is None:
            problem = query.passage.problem
            at_fault = fault(query.passage.text, problem)
            yield replace(unknown(query, problem, at_fault.span), fix=at_fault.fix)
            continue
        for node in tree.walk():
            if isinstance(node, Selector):
                yield from _selector(context, query, node)
            elif isinstance(node, Aggregation):
                yield from _grouping(context, query, node)
            elif isinstance(node, Binary):
                yield from _matching(context, query, node)


def _selector(context: Context, query: Query, node: Selector) -> Iterator[Finding]:
    if VARIABLE in node.name:
        return
    if node.name and not context.world.exists(node.name):
        yield _metric(context, query, node)
        return
    named = [one for one in node.matchers if one.name == "__name__"]
    if named and not context.world.matching(node) and not any(VARIABLE in one.value for one in named):
        yield at(query, named[0].value_span, "unknown-metric", "nothing that is known has a name like this")
        return
    if query.label and node is query.passage.tree and not context.world.of(node).can_have(query.label):
        yield _label(context, query, Label(query.label, node.span), node)
    for one in node.matchers:
        if one.name != "__name__" and VARIABLE not in one.name:
            yield from _matcher(context, query, node, one)


def _metric(context: Context, query: Query, node: Selector) -> Finding:
    names = context.world.names()
    begin = prefix(node.name)
    same = sorted(name for name in names if name.startswith(begin))
    recorded = ":" in node.name
    cutoff = 0.6 if same else _CLOSE
    slips = get_close_matches(begin, {prefix(name) for name in names})  # node_ is no slip of process_
    alike = same or [name for name in names if prefix(name) in slips]
    close = get_close_matches(node.name, alike, n=1, cutoff=cutoff)
    if not same and not close:
        whose = f"no rule was given that records names beginning with {begin}" if recorded else (
            f"no exporter was given that has metrics beginning with {begin}"
        )  # fmt: skip
        return unknown(query, whose, node.span)
    if close:
        fix = f"did you mean '{close[0]}'?"
    else:
        more = f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else ""
        fix = f"with {begin} there are {', '.join(same[:_SHOWN])}{more}"
    sentence = "no rule records this" if recorded else "no exporter has this metric"
    return at(query, node.span, "unknown-metric", sentence, fix)


def _matcher(context: Context, query: Query, node: Selector, one: Matcher) -> Iterator[Finding]:
    if one.op == "=" and not one.value:
        return  # asks for series without the label
    foreign = _without_configuration(context, node, one.name)
    if foreign == "target":
        yield unknown(query, f"no Prometheus configuration was given, whose targets may have {one.name}", one.span)
        return
    labels = context.world.labels_of(node.name) if node.name else context.world.of(node)
    if not labels.can_have(one.name) or foreign == "slip":
        if one.op != "=~" or not may_match(one, ""):
            yield _label(context, query, Label(one.name, one.span), node)
        return
    if VARIABLE in one.value or may_match(one, ""):
        return
    values = _values(context, query, node, one.name)
    if values is None or values.known is None:
        return
    known = values.known
    if one.name == "le":
        wrong = not any(may_match(one, value) for bound in known for value in _spellings(bound))
        missing = [one.value] if wrong else []
    else:
        missing = _never(one, known, values.closed)
    if missing:
        yield _value(query, node, one, missing[0], values)


def _without_configuration(context: Context, node: Selector, label: str) -> str:
    """What *label* is where nobody knows the labels of targets: a `slip` for one of the exporter's, or a `target`'s.

    Empty where there is a configuration, or where the exporter has the label.
    """
    series = context.world.series(node.name)
    if context.world.produced.configuration.given or series is None or series.labels is None:
        return ""
    if label in {*series.labels, *TARGET}:
        return ""
    return "slip" if get_close_matches(label, series.labels, n=1) else "target"


def _values(context: Context, query: Query, node: Selector, label: str) -> Values | None:
    """What is known of the values of *label*."""
    jobs = context.world.produced.configuration.jobs
    if label == "job" and jobs and query.kind != "series" and node.name not in context.world.recorded:
        return Values(frozenset(jobs), True)
    series = context.world.series(node.name)
    if label in _OWN_CHECK or series is None:
        fixed = context.world.labels_of(node.name).fixed if node.name in context.world.recorded else {}
        return Values(frozenset({fixed[label]}), True) if label in fixed else None
    values = (series.labels or {}).get(label)
    if values is None or (query.kind == "series" and not values.closed):
        return None  # a test may have any host, and any disk
    return values


def _never(one: Matcher, known: frozenset[str], closed: bool) -> list[str]:
    """The value that *one* asks for in vain; where all values are known, also a part of an alternation."""
    alternatives = _LITERALS.fullmatch(one.value) if one.op == "=~" and closed else None
    if alternatives and "|" in alternatives[1] and "." not in alternatives[1]:
        return [part for part in alternatives[1].split("|") if part not in known]
    return [] if any(may_match(one, value) for value in known) else [one.value]


def _spellings(bound: str) -> set[str]:
    """A bucket's bound as clients write it: 1, 1.0."""
    try:
        number = float(bound)
    except ValueError:
        return {bound}
    if number in (float("inf"), float("-inf")):
        return {bound, "+Inf"}
    return {bound, repr(number), f"{number:g}"}


def _value(query: Query, node: Selector, one: Matcher, missing: str, values: Values) -> Finding:
    span = one.value_span
    written = query.passage.word(span)
    if missing in written:
        span = span._replace(at=span.at + written.index(missing), length=max(1, len(missing)))
    known = sorted(values.known or ())
    listed = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    close = get_close_matches(missing, known, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    sentence = f"{one.name} never has this value" if values.closed else f"no sample has this {one.name}"
    return at(query, span, "unknown-label-value", sentence, f"{meant}{node.name}'s {one.name}: {listed}")


def _label(context: Context, query: Query, label: Label, node: Node) -> Finding:
    labels = context.world.of(node)
    if isinstance(node, Selector) and node.name:
        labels = context.world.labels_of(node.name)
        what, series = node.name, context.world.series(node.name)
    else:
        what, series = "it", None
    own = sorted(series.labels if isinstance(series, Series) and series.labels is not None else labels.possible or ())
    own = own or sorted(labels.possible or ())
    close = get_close_matches(label.name, own, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    has = f"{meant}{what} has {', '.join(own)}" if own else f"{what} has no labels"
    recorded = isinstance(node, Selector) and node.name in context.world.recorded
    sentence = "the recording rule does not keep this label" if recorded else "no exporter has this label"
    return at(query, label.span, "unknown-label", sentence, has)


def _grouping(context: Context, query: Query, node: Aggregation) -> Iterator[Finding]:
    inside = context.world.of(node.parts[-1])
    for label in node.labels:
        if inside.can_have(label.name):
            continue
        # `without` of what is not there is harmless, and common in rules for several exporters: only a slip is told
        if node.grouping == "by" or get_close_matches(label.name, inside.possible or (), n=1, cutoff=_CLOSE):
            yield _label(context, query, label, _only_selector(node.parts[-1]))


def _only_selector(node: Node) -> Node:
    """The one selector in *node*, whose labels are better to tell of; *node* where there are several."""
    selectors = [one for one in node.walk() if isinstance(one, Selector)]
    nested = any(isinstance(one, Aggregation) for one in node.walk())
    return selectors[0] if len(selectors) == 1 and not nested else node


def _matching(context: Context, query: Query, node: Binary) -> Iterator[Finding]:
    if any(map(is_scalar, node.parts)):
        return
    left, right = map(context.world.of, node.parts)
    for label in node.labels if node.matching == "on" else ():
        if not left.can_have(label.name) and not right.can_have(label.name):
            yield _label(context, query, label, _only_selector(node.parts[0]))
    one_side = node.parts[0] if node.group == "group_right" else node.parts[1]
    for label in node.include:
        if not context.world.of(one_side).can_have(label.name):
            yield _label(context, query, label, _only_selector(one_side))
