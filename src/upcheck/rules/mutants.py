"""What can be wrong with a rule: each mutant is a rule with one change, and what a test has to have to notice it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from upcheck.rules import promql
from upcheck.rules.promql import Aggregation, Binary, Call, Expr, Matcher, Negation, Number, Selector, Subquery
from upcheck.rules.suite import Rule, seconds

# Against one boundary these three tell every wrong comparison: one at the boundary, one beyond it, the opposite.
_COMPARISONS = {
    ">": (">=", "!=", "<="), ">=": (">", "==", "<"), "<": ("<=", "!=", ">="), "<=": ("<", "==", ">"),
    "==": ("!=", ">=", "<="), "!=": ("==", ">", "<"),
}  # fmt: skip
_BELOW_ZERO = {("==", "<="), ("!=", ">"), (">", "!=")}  # with zero they differ below it only, where counts never are
_ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "^": "*"}
_SETS = {"and": ("or", "unless"), "or": ("and",), "unless": ("and",)}
_SIDES = {"and": ("left", "right"), "or": ("left", "right"), "unless": ("left",)}
_AGGREGATIONS = {
    "sum": ("avg", "max"), "avg": ("sum", "max"), "max": ("min", "avg"), "min": ("max", "avg"), "count": ("sum",),
    "topk": ("bottomk",), "bottomk": ("topk",), "group": ("count",),
}  # fmt: skip
_FUNCTIONS = {
    "rate": ("irate", "increase"), "irate": ("rate",), "increase": ("rate",), "delta": ("idelta",),
    "idelta": ("delta",), "min_over_time": ("max_over_time",), "max_over_time": ("min_over_time",),
    "avg_over_time": ("max_over_time",), "sum_over_time": ("avg_over_time",), "count_over_time": ("sum_over_time",),
    "floor": ("ceil",), "ceil": ("floor",), "clamp_min": ("clamp_max",), "clamp_max": ("clamp_min",),
    "changes": ("resets",), "resets": ("changes",),
}  # fmt: skip
_OPPOSITES = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_SEVERITIES = {"critical": "warning", "warning": "critical"}
LEAST_STEP = Decimal("0.01")  # of a threshold


class Change(NamedTuple):
    """One change of an expression: its *kind*, the node as it becomes, and what no test does where it survives."""

    kind: str
    node: Expr
    hint: str


@dataclass(frozen=True, eq=False)
class Mutant:
    """*rule* with one change. *id* is the same for as long as the rule's name and what is changed are."""

    id: str
    rule: Rule
    kind: str
    before: str
    after: str
    hint: str
    value: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """Where the rule stands."""
        return self.rule.file

    @property
    def line(self) -> int:
        """Where the rule stands."""
        return self.rule.line

    @property
    def subject(self) -> str:
        """`alert` or `record`."""
        return self.rule.name.kind

    @property
    def title(self) -> str:
        """The rule's name."""
        return self.rule.name.text


def mutants(rule: Rule, interval: float) -> Iterator[Mutant]:
    """All mutants of *rule*, which is evaluated each *interval* seconds."""
    yield from _of_expression(rule)
    if rule.name.kind == "alert":
        yield from _of_for(rule, interval)
    yield from _of_labels(rule)
    for name in rule.value.get("annotations") or {}:
        annotations = {**rule.value["annotations"], name: ""}
        hint = f"no test compares the annotation {name}: add exp_annotations"
        yield _mutant(rule, "annotation", name, rule.value["annotations"][name], "", hint, annotations=annotations)


def step(written: str) -> Decimal:
    """How far a threshold moves: a unit of its last digit, but no less than a hundredth of it."""
    value = Decimal(written)
    exponent = value.as_tuple().exponent
    unit = Decimal(1).scaleb(min(int(exponent), 0))
    while unit < abs(value) * LEAST_STEP:
        unit *= 10
    return unit


def _mutant(rule: Rule, kind: str, place: str, before: str, after: str, hint: str, **changed: Any) -> Mutant:
    of = f"{rule.name.kind} {rule.name.text} {rule.number} {kind} {place} {after}"
    value = {key: one for key, one in {**rule.value, **changed}.items() if one is not None}
    return Mutant(hashlib.sha256(of.encode()).hexdigest()[:8], rule, kind, before, after, hint, value)


def _of_expression(rule: Rule) -> Iterator[Mutant]:
    tree = rule.tree
    if tree is None or (rule.name.kind == "alert" and not rule.selectors):  # one that fires always, whatever its number
        return
    seen = {str(tree)}
    nodes = dict(promql.walk(tree))
    for place, node in nodes.items():
        parent = nodes.get(place[:-1])
        for change in _of_threshold(node) if _compares(parent) and isinstance(node, Number) else _changes(node):
            text = str(promql.replaced(tree, place, change.node))
            try:
                promql.parse(text)
            except promql.PromQLError:
                continue  # of other types than the operation takes
            if text not in seen:
                seen.add(text)
                at = ".".join(map(str, place))
                yield _mutant(rule, change.kind, at, str(tree), text, change.hint, expr=text)


def _changes(node: Expr) -> Iterator[Change]:
    changes: Mapping[type, Callable[[Any], Iterator[Change]]] = {
        Binary: _of_binary, Number: _of_number, Selector: _of_selector, Subquery: _of_range,
        Aggregation: _of_aggregation, Call: _of_call, Negation: _of_negation,
    }  # fmt: skip
    return changes.get(type(node), lambda _: iter(()))(node)


def _of_binary(node: Binary) -> Iterator[Change]:
    at = f"{node.right}" if isinstance(node.right, Number) else f"{node.left} = {node.right}"
    zero = isinstance(node.right, Number) and node.right.value == 0
    for op in _COMPARISONS.get(node.op, ()):
        if not (zero and (node.op, op) in _BELOW_ZERO):
            yield Change("comparison", replace(node, op=op), f"no test stands {_difference(node.op, op)} {at}: add one")
    for op in (*_SETS.get(node.op, ()), *_ARITHMETIC.get(node.op, ())):
        if op in promql.SET_OPERATORS or node.left != node.right:
            yield Change("operator", replace(node, op=op), f"no test tells `{node.op}` from `{op}`")
    for side in _SIDES.get(node.op, ()):
        kept, dropped = (node.left, node.right) if side == "left" else (node.right, node.left)
        yield Change("side", kept, f"no test needs `{dropped}`: add one where only `{kept}` holds")
    for field, labels in (("labels", node.labels), ("group_labels", node.group_labels)):
        for label in labels:
            rest = tuple(one for one in labels if one != label)
            hint = f"no test has series that match but for {label}"
            yield Change("matching", replace(node, **{field: rest}), hint)  # type: ignore[arg-type]


def _compares(node: Expr | None) -> bool:
    return isinstance(node, Binary) and node.op in promql.COMPARISONS


def _of_threshold(node: Number) -> Iterator[Change]:
    for change in _of_number(node):
        middle = promql.number(float((Decimal(str(change.node)) + Decimal(repr(node.value))) / 2))
        yield change._replace(hint=f"{change.hint}: add one at {middle}")


def _difference(op: str, other: str) -> str:
    """Where the two comparisons differ."""
    signs = (("<", "below"), (">", "above"), ("=", "at exactly"))
    regions = [{sign for sign, _ in signs if (sign in one) != (one == "!=")} for one in (op, other)]
    return next(word for sign, word in signs if sign in regions[0] ^ regions[1])


def _of_number(node: Number) -> Iterator[Change]:
    text = node.written or str(node)
    try:
        value = Decimal(text)
    except ArithmeticError:  # Inf, NaN, hexadecimal, a duration: told by no digit
        value = Decimal(repr(node.value))
        text = promql.number(node.value)
    if not value.is_finite():
        return
    for sign in (1, -1):
        moved = value + sign * step(text)
        yield Change("number", Number(float(moved), f"{moved:f}"), f"no test tells {node} from {moved:f}")


def _of_selector(node: Selector) -> Iterator[Change]:
    for index, matcher in enumerate(node.matchers):
        rest = (*node.matchers[:index], *node.matchers[index + 1 :])
        told = f"{matcher.label}{matcher.op}{matcher.value!r}"
        if node.name or rest:
            hint = f"no test has a series of {node.name or 'its metrics'} that {told} keeps out: add one"
            yield Change("matcher", replace(node, matchers=rest), hint)
        opposite = Matcher(matcher.label, _OPPOSITES[matcher.op], matcher.value)
        negated = (*node.matchers[:index], opposite, *node.matchers[index + 1 :])
        yield Change("matcher", replace(node, matchers=negated), f"no test tells {told} from its opposite")
    yield from _of_range(node)


def _of_range(node: Selector | Subquery) -> Iterator[Change]:
    if node.range is not None:
        for window in (node.range / 2, node.range * 2):
            told = f"{promql.duration(node.range)} from {promql.duration(window)}"
            hint = f"no test tells a window of {told}: add one whose series bends within the longer"
            yield Change("window", replace(node, range=window), hint)
    if node.offset:
        for offset in (None, node.offset * 2):
            hint = f"no test tells an offset of {promql.duration(node.offset)} from {promql.duration(offset or 0)}"
            yield Change("offset", replace(node, offset=offset), hint)


def _of_aggregation(node: Aggregation) -> Iterator[Change]:
    for op in _AGGREGATIONS.get(node.op, ()):
        hint = f"no test tells {node.op} from {op}: add one with two unequal series in a group"
        yield Change("aggregation", replace(node, op=op), hint)
    for label in node.labels:
        rest = tuple(one for one in node.labels if one != label)
        hint = f"no test has series that differ in {label} alone: add one"
        yield Change("grouping", replace(node, labels=rest), hint)


def _of_call(node: Call) -> Iterator[Change]:
    for function in _FUNCTIONS.get(node.function, ()):
        hint = f"no test tells {node.function} from {function}: add one whose series bends within the window"
        yield Change("function", replace(node, function=function), hint)
    if node.function in ("absent", "abs"):
        yield Change("function", node.args[0], f"no test needs {node.function}()")


def _of_negation(node: Negation) -> Iterator[Change]:
    yield Change("operator", node.expr, "no test needs the minus")


def _of_for(rule: Rule, interval: float) -> Iterator[Mutant]:
    written = str(rule.value.get("for") or "0s")
    now = seconds(written)
    for moved in dict.fromkeys((now + interval, max(0.0, now - interval), 0.0)):
        if moved == now:
            continue
        text = promql.duration(moved)
        edge = "fires at the first round that it may" if moved > now else "is silent one round before it fires"
        hint = f"no test tells for: {written} from {text}: add one that {edge}"
        yield _mutant(rule, "for", "", f"for: {written}", f"for: {text}", hint, **{"for": text})
    if "keep_firing_for" in rule.value:
        before = f"keep_firing_for: {rule.value['keep_firing_for']}"
        hint = "no test looks at the alert after its condition has ended"
        yield _mutant(rule, "for", "keep", before, "", hint, keep_firing_for=None)


def _of_labels(rule: Rule) -> Iterator[Mutant]:
    labels: Mapping[str, str] = rule.value.get("labels") or {}
    for name, value in labels.items():
        hint = f"no test compares the label {name}: add exp_labels" if rule.name.kind == "alert" else (
            f"no test compares the label {name} of {rule.name.text}: add a promql_expr_test"
        )  # fmt: skip
        without = {other: one for other, one in labels.items() if other != name}
        yield _mutant(rule, "label", name, f"{name}: {value}", "", hint, labels=without)
        changed = _SEVERITIES.get(value, f"not {value}")
        yield _mutant(
            rule, "label", name, f"{name}: {value}", f"{name}: {changed}", hint, labels={**labels, name: changed}
        )
