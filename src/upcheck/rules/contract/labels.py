"""Which labels the series have that an expression gives: which all of them have, and which some may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from upcheck.rules.contract.expression import (
    Aggregation,
    Binary,
    Call,
    Matcher,
    Negation,
    Node,
    Number,
    Selector,
    Subquery,
    Text,
)
from upcheck.rules.contract.produced import TARGET, Produced, Series
from upcheck.rules.contract.reading import VARIABLE, Rule

_KEEP_SERIES = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_SCALARS = frozenset({"time", "scalar", "pi"})
_NOTHING = frozenset[str]()


@dataclass(frozen=True, slots=True)
class Labels:
    """*always* are on every series, *possible* on some (None: any may be); *fixed* have one value."""

    always: frozenset[str] = _NOTHING
    possible: frozenset[str] | None = _NOTHING
    fixed: Mapping[str, str] = field(default_factory=dict)

    def can_have(self, label: str) -> bool:
        """Whether a series may have *label*."""
        return self.possible is None or label in self.possible or VARIABLE in label

    def only(self, labels: Iterable[str]) -> Labels:
        """What is left by `by (labels)`."""
        kept = frozenset(labels)
        possible = kept if self.possible is None else kept & self.possible
        return Labels(self.always & kept, possible, {k: v for k, v in self.fixed.items() if k in kept})

    def without(self, labels: Iterable[str]) -> Labels:
        """What is left by `without (labels)`."""
        gone = frozenset(labels)
        possible = None if self.possible is None else self.possible - gone
        return Labels(self.always - gone, possible, {k: v for k, v in self.fixed.items() if k not in gone})

    def plus(self, labels: Iterable[str], *, always: bool = False) -> Labels:
        """With further *labels*, whose values are not known."""
        added = frozenset(labels)
        possible = None if self.possible is None else self.possible | added
        fixed = {k: v for k, v in self.fixed.items() if k not in added}
        return Labels(self.always | added if always else self.always, possible, fixed)

    def either(self, other: Labels) -> Labels:
        """Those of series that are of the one kind or the other."""
        possible = None if self.possible is None or other.possible is None else self.possible | other.possible
        fixed = {k: v for k, v in self.fixed.items() if other.fixed.get(k) == v}
        return Labels(self.always & other.always, possible, fixed)


class World:
    """All that has a name: what is produced, and what *rules* record."""

    def __init__(self, produced: Produced, rules: Iterable[Rule]) -> None:
        self.produced = produced
        self.recorded: dict[str, list[Rule]] = {}
        for rule in rules:
            if not rule.is_alert:
                self.recorded.setdefault(rule.name, []).append(rule)
        self._known: dict[str, Labels] = {}
        self._asked: list[str] = []

    def exists(self, name: str) -> bool:
        """Whether something of this *name* is produced or recorded."""
        return name in self.recorded or self.produced.find(name) is not None

    def names(self) -> set[str]:
        """All names."""
        return {*self.produced.series, *self.recorded}

    def matching(self, selector: Selector) -> list[str]:
        """The names that *selector* can mean."""
        if selector.name:
            return [selector.name] if self.exists(selector.name) else []
        tests = [one for one in selector.matchers if one.name == "__name__"]
        return sorted(name for name in self.names() if all(may_match(one, name) for one in tests)) if tests else []

    def series(self, name: str) -> Series | None:
        """What an exporter has under *name*; None for what rules record."""
        return None if name in self.recorded else self.produced.find(name)

    def labels_of(self, name: str) -> Labels:
        """The labels of the series of this *name*."""
        if name in self._asked:  # a recording rule that reads itself
            return Labels(possible=None)
        if name not in self._known:
            self._asked.append(name)
            self._known[name] = self._recorded(name) if name in self.recorded else self._exported(name)
            self._asked.pop()
        return self._known[name]

    def _recorded(self, name: str) -> Labels:
        found: Labels | None = None
        for rule in self.recorded[name]:
            tree = rule.query.passage.tree
            one = self.of(tree) if tree is not None else Labels(possible=None)
            one = one.plus(rule.labels, always=True)
            one = replace(one, fixed={**one.fixed, **rule.labels})
            found = one if found is None else found.either(one)
        assert found is not None
        return found

    def _exported(self, name: str) -> Labels:
        series = self.produced.find(name)
        configuration = self.produced.configuration
        if series is None:
            return Labels(possible=None)
        target = frozenset(TARGET) if series.scraped else _NOTHING
        if series.labels is None:
            return Labels(target, None)
        own = frozenset(series.labels)
        added = target | configuration.labels
        renamed = {f"exported_{label}" for label in own & added}  # as Prometheus does with what it has itself
        possible = None if configuration.open else own | added | renamed
        return Labels((own - series.sparse) | target, possible)

    def of(self, node: Node) -> Labels:
        """The labels of what *node* gives."""
        if isinstance(node, Selector):
            return self._selected(node)
        if isinstance(node, Aggregation):
            return self._aggregated(node)
        if isinstance(node, Binary):
            return self._combined(node)
        if isinstance(node, Call):
            return self._called(node)
        if isinstance(node, Negation | Subquery):
            return self.of(node.parts[0])
        return Labels()

    def _selected(self, node: Selector) -> Labels:
        names = self.matching(node) or [node.name]
        found = self.labels_of(names[0])
        for name in names[1:]:
            found = found.either(self.labels_of(name))
        for one in node.matchers:
            if one.name == "__name__" or VARIABLE in one.value:
                continue
            if one.op == "=" and not one.value:
                found = found.without([one.name])
            elif not may_match(one, ""):
                found = found.plus([one.name], always=True)
                if one.op == "=":
                    found = replace(found, fixed={**found.fixed, one.name: one.value})
        return found

    def _aggregated(self, node: Aggregation) -> Labels:
        inside = self.of(node.parts[-1])
        if node.op in _KEEP_SERIES:
            return inside
        names = [label.name for label in node.labels]
        left = inside.without(names) if node.grouping == "without" else inside.only(names)
        if any(VARIABLE in name for name in names):
            left = replace(left, possible=None)
        if node.op == "count_values" and isinstance(node.parts[0], Text):
            return left.plus([node.parts[0].value], always=True)
        return left

    def _called(self, node: Call) -> Labels:
        if node.name in ("absent", "absent_over_time"):
            inside = node.parts[0]
            if not isinstance(inside, Selector):
                return Labels()
            equal = {one.name: one.value for one in inside.matchers if one.op == "=" and one.name != "__name__"}
            return Labels(frozenset(equal), frozenset(equal), equal)
        vectors = [part for part in node.parts if not is_scalar(part) and not isinstance(part, Text)]
        if node.name in _SCALARS or node.name == "vector" or not vectors:
            return Labels()
        found = self.of(vectors[-1] if node.name.startswith("histogram_") else vectors[0])
        if node.name.startswith("histogram_"):
            return found.without(["le"])
        if node.name in ("label_replace", "label_join") and isinstance(node.parts[1], Text):
            return found.plus([node.parts[1].value])
        return replace(found, possible=None) if node.name == "info" else found

    def _combined(self, node: Binary) -> Labels:
        left, right = node.parts
        if is_scalar(left) or is_scalar(right):
            return self.of(right if is_scalar(left) else left)
        if node.op == "or":
            return self.of(left).either(self.of(right))
        many = right if node.group == "group_right" else left
        found = self.of(many)
        names = [label.name for label in node.labels]
        if node.group:
            return found.plus(label.name for label in node.include)
        if node.op in ("and", "unless") or not node.matching:
            return found
        return found.only(names) if node.matching == "on" else found.without(names)


def is_scalar(node: Node) -> bool:
    """Whether *node* gives a number rather than series."""
    if isinstance(node, Call):
        return node.name in _SCALARS
    if isinstance(node, Binary | Negation):
        return all(map(is_scalar, node.parts))
    return isinstance(node, Number)


def selectors(node: Node) -> Iterator[Selector]:
    """All selectors in *node*."""
    return (one for one in node.walk() if isinstance(one, Selector))


def may_match(matcher: Matcher, value: str) -> bool:
    """Whether *matcher* can select *value*. It may where that can't be told: a variable, or a pattern of RE2 alone."""
    try:
        return VARIABLE in matcher.value or matcher.matches(value)
    except re.error:
        return True
