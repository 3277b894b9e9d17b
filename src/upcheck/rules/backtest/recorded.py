"""Expressions over raw series alone: what is read of a recording rule is put in its place, exactly as it was recorded.

Rules are evaluated at multiples of their interval, in the order of files, groups and rules. A recorded series has a
sample at each evaluation of its rule and is stale where it has none, so an instant selector reads the last one
before, and a range those of the evaluations in it. A subquery at the same steps is that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

from upcheck.rules import promql, suite
from upcheck.rules.promql import Binary, Call, Expr, Matcher, Number, Paren, Place, Selector, String, Subquery
from upcheck.rules.suite import Rule

LOOKBACK = 300.0  # seconds for which a sample without a successor counts
_TICK = 0.001  # seconds: Prometheus counts in milliseconds
_MARK = "upcheck_kept"
_OWN = ("ALERTS", "ALERTS_FOR_STATE")
_SCALARS = ("time", "scalar", "pi")


class NotPlayedError(ValueError):
    """Why a rule can't be played over history, in a part of a sentence."""


class Recorded:
    """The recording rules among *rules*; *interval* is that of a group without its own, in seconds."""

    def __init__(self, rules: Sequence[Rule], interval: float) -> None:
        self._interval = interval
        self._rules = [rule for rule in rules if rule.name.kind == "record"]
        self._order = {rule.key: number for number, rule in enumerate(rules)}

    def interval(self, rule: Rule) -> float:
        """How often *rule* is evaluated: seconds."""
        return suite.seconds(str(rule.group_settings.get("interval") or "")) or self._interval

    def expression(self, rule: Rule) -> Expr:
        """What *rule* evaluates, over raw series alone; raises NotPlayedError."""
        return self._expression(rule, (rule,))

    def _expression(self, rule: Rule, way: tuple[Rule, ...]) -> Expr:
        """*way* leads from the rule that is asked for to this one."""
        for setting in ("limit", "query_offset"):
            if rule.group_settings.get(setting):
                raise NotPlayedError(f"the group of {rule.name.text} has {setting}, which is not played")
        tree = rule.tree
        if tree is None:
            raise NotPlayedError(f"the expression of {rule.name.text} is PromQL that is not known here")
        for place, node in list(promql.walk(tree)):
            if isinstance(node, Selector | Subquery) and node.at:
                raise NotPlayedError(f"{node} has @, whose time would be another in each evaluation")
            if isinstance(node, Subquery) and node.step is None:
                tree = promql.replaced(tree, place, replace(_at(tree, place), step=self._interval))
            elif isinstance(node, Selector):
                tree = promql.replaced(tree, place, self._read(node, way, within=_in_a_subquery(tree, place)))
        return tree

    def _read(self, node: Selector, way: tuple[Rule, ...], *, within: bool) -> Expr:
        """*node* itself, or what it selects of recording rules."""
        if any(promql.reads(node, name) for name in _OWN):
            raise NotPlayedError(f"it reads {node.name or node}, which is no history but what rules make")
        made = [rule for rule in self._rules if promql.reads(node, rule.name.text)]
        if not made:
            return node
        if not node.name:
            raise NotPlayedError(f"{node} selects recorded series by a pattern: name them")
        parts = [self._evaluated(node, rule, way, within=within) for rule in made]
        if node.range is not None and len(parts) > 1:
            raise NotPlayedError(f"{node} reads a range of {len(made)} recording rules of one name")
        whole = reduce(lambda left, right: Binary("or", left, right), parts)
        return whole if len(parts) == 1 else Paren(whole)

    def _evaluated(self, node: Selector, rule: Rule, way: tuple[Rule, ...], *, within: bool) -> Expr:
        """What *node* selects of one recording rule."""
        if rule in way:
            raise NotPlayedError(f"{rule.name.text} is recorded from itself")
        offset, step, reader = node.offset or 0.0, self.interval(rule), way[-1]
        if offset < 0:
            raise NotPlayedError(f"{node} looks ahead")
        vector = Paren(_selected(_labelled(self._expression(rule, (*way, rule)), rule), node.matchers))
        before = not offset and self._order[rule.key] > self._order[reader.key]  # it is evaluated after it is read
        offset += _TICK if before else 0.0
        if node.range is not None:
            return Subquery(vector, node.range - (_TICK if before else 0.0), step, offset or None)
        if not offset and not within and step == self.interval(reader):
            return vector
        return Call("last_over_time", (Subquery(vector, min(step, LOOKBACK) - _TICK, step, offset or None),))


def _labelled(tree: Expr, rule: Rule) -> Expr:
    """*tree* with the labels that the recording rule sets."""
    tree = Call("vector", (tree,)) if _is_scalar(tree) else tree
    for name, value in (rule.value.get("labels") or {}).items():
        tree = _set(tree, str(name), str(value).replace("$", "$$"))
    return tree


def _selected(tree: Expr, matchers: Sequence[Matcher]) -> Expr:
    """What the matchers keep: series are marked where one fits, and then kept or left out by the mark."""
    for one in matchers:
        pattern = one.value if one.op.endswith("~") else re.escape(one.value)
        marked = Paren(_set(tree, _MARK, "1", one.label, pattern))
        mark = _set(Call("vector", (Number(1),)), _MARK, "1")
        kept = Binary("and" if one.op.startswith("=") else "unless", marked, mark, matching="on", labels=(_MARK,))
        tree = _set(kept, _MARK, "")
    return tree


def _set(tree: Expr, label: str, value: str, source: str = "", pattern: str = "") -> Expr:
    return Call("label_replace", (tree, *map(String, (label, value, source, pattern))))


def _is_scalar(tree: Expr) -> bool:
    if isinstance(tree, Number) or (isinstance(tree, Call) and tree.function in _SCALARS):
        return True
    if isinstance(tree, Binary):
        return _is_scalar(tree.left) and _is_scalar(tree.right)
    return isinstance(tree, Paren | promql.Negation) and _is_scalar(tree.expr)


def _above(tree: Expr, place: Place) -> Iterator[Expr]:
    """The nodes on the way from the root to *place*, which is the last."""
    yield tree
    steps = iter(place)
    for step in steps:
        tree = tree.args[int(next(steps))] if isinstance(tree, Call) else getattr(tree, str(step))
        yield tree


def _at(tree: Expr, place: Place) -> Subquery:
    *_, node = _above(tree, place)
    assert isinstance(node, Subquery)
    return node


def _in_a_subquery(tree: Expr, place: Place) -> bool:
    *above, _ = _above(tree, place)
    return any(isinstance(one, Subquery) for one in above)
