"""One metric family that is recorded: prometheus_client's metric, under a cap, and written fast.

client_python's `generate_latest` makes a Sample and a line of each child anew, 15 us each. Here the part of a line
before its value is made once, when its child is. `_value`, `_buckets` and `_sum` of a child are read for that;
tests/recording/test_family.py holds what is written against what client_python writes.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import add, attrgetter
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from upcheck.catalog import OTHER, Label, Metric
from upcheck.exposition import Block, Family, labelled, number

LIMIT = 1e300  # numbers beyond are refused, so that sums stay finite
MAX_VALUE = 120  # characters of a label's value
Action = Callable[[float], None]


class RecordingError(ValueError):
    """What was told can't be recorded, in a sentence that says what was expected."""


class Overflow(Exception):
    """A label's value has given way to `other`: what was found for it is not to be remembered under the value."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self.child = child


class Child:
    """One series of a counter or gauge, or the series of one histogram."""

    __slots__ = ("_metric",)

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def action(self, name: str) -> Action:
        """The action `add`, `set` or `observe`, which takes the number as it is: who calls has checked it."""
        if name == "observe":
            return _observing(self._metric)
        action: Action = self._metric._value.set if name == "set" else self._metric._value.inc
        return action

    def many(self, name: str) -> Callable[[Sequence[float]], None]:
        """The same for several numbers at once, which costs little more than one."""
        if name == "set":
            return lambda values: self._metric._value.set(values[-1])
        if name == "add":
            return lambda values: self._metric._value.inc(sum(values))
        bounds = self._metric._upper_bounds[:-1]

        def observe(values: Sequence[float]) -> None:
            counts = [0] * (len(bounds) + 1)
            for value in values:
                counts[bisect_left(bounds, value)] += 1
            self.merge(counts, sum(values))

        return observe

    def merge(self, counts: Sequence[float], total: float) -> None:
        """Add to a histogram's buckets, one count each, and to its sum."""
        for bucket, count in zip(self._metric._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._metric._sum.inc(total)


def _observing(child: Any) -> Action:
    """As `Histogram.observe`, which looks at each bucket in turn, and without its exemplars."""
    bounds = child._upper_bounds[:-1]
    increase = [bucket.inc for bucket in child._buckets]
    increase_sum = child._sum.inc

    def observe(value: float) -> None:
        increase_sum(value)
        increase[bisect_left(bounds, value)](1)

    return observe


class Recorded:
    """The series of one metric. At most `metric.max_series` sets of labels; beyond, open labels become `other`.

    So sums stay true whatever comes: what is lost is which label it had. *room* says whether the whole has room for
    one more series; `replaced` counts, by label, the values that have given way.
    """

    def __init__(self, metric: Metric, room: Callable[[], bool]) -> None:
        self.metric = metric
        self.aliases: list[Family] = []
        self.replaced = dict.fromkeys((label.name for label in metric.labels), 0)
        self.parent = _parent(metric)
        self._room = room
        self._lock = threading.Lock()
        self._children: dict[tuple[str, ...], Child] = {}
        self._seen: list[set[str]] = [set(label.values or ()) for label in metric.labels]
        self._heads: list[Any] = []  # of each child, what is before its value; of a histogram's, a template
        self._values: list[Any] = []  # of each child, what holds its value; of a histogram's, all that do
        if not metric.labels and metric.type != "gauge":  # nothing has been counted, but who knows what is there?
            self.child(())

    def __len__(self) -> int:
        """How many sets of labels there are."""
        return len(self._children)

    def child(self, values: tuple[str, ...]) -> Child:
        """The child with these label *values*; raises Overflow with another child where one of them gives way."""
        child = self._children.get(values)
        if child is not None:
            return child
        with self._lock:
            return self._children.get(values) or self._admit(values)

    def widen(self, metric: Metric) -> None:
        """Let the labels have the values of *metric*'s, too: the same family in another service's file."""
        labels = tuple(
            replace(mine, values=tuple(dict.fromkeys((*mine.values, *theirs.values))))
            if mine.values is not None and theirs.values is not None
            else mine
            for mine, theirs in zip(self.metric.labels, metric.labels, strict=True)
        )
        self.metric = replace(self.metric, labels=labels)
        for seen, label in zip(self._seen, labels, strict=True):
            seen.update(label.values or ())

    def blocks(self) -> Iterator[Block]:
        """The family as text, once under each of its names."""
        text = self._text()
        family = self.metric.family
        yield family, text
        for alias in self.aliases:
            yield alias, f"\n{text}".replace(f"\n{family.name}", f"\n{alias.name}")[1:]

    def _admit(self, values: tuple[str, ...]) -> Child:
        full = len(self._children) >= self.metric.max_series or not self._room()
        kept = tuple(
            value[:MAX_VALUE] if self._known(value[:MAX_VALUE], label, seen, full) else OTHER
            for value, label, seen in zip(values, self.metric.labels, self._seen, strict=True)
        )
        for label, value, now in zip(self.metric.labels, values, kept, strict=True):
            self.replaced[label.name] += value != now
        child = self._children.get(kept) or self._make(kept)
        if kept != values:
            raise Overflow(child)
        return child

    @staticmethod
    def _known(value: str, label: Label, seen: set[str], full: bool) -> bool:
        if label.values is None and not full and len(seen) < label.max:
            seen.add(value)
        return value in seen and not (full and label.values is None)

    def _make(self, values: tuple[str, ...]) -> Child:
        made: Any = self.parent.labels(*values) if values else self.parent
        names = [label.name for label in self.metric.labels]
        pairs = list(zip(names, values, strict=True))
        if isinstance(made, Histogram):
            self._heads.append(_template(self.metric, pairs))
            self._values.append([*made._buckets, made._sum])
        else:
            self._heads.append(labelled(self.metric.name, pairs) + " ")
            self._values.append(made._value)
        child = self._children[values] = Child(made)
        return child

    def _text(self) -> str:
        """The lines. Values are read without their locks, because to read a float is one step."""
        if not self._values:
            return ""
        if self.metric.type == "histogram":
            return "".join(
                [_filled(head, list(map(_read, held))) for head, held in zip(self._heads, self._values, strict=False)]
            )
        values = list(map(_read, self._values))
        shown = map(repr if math.isfinite(sum(values)) else number, values)
        return "\n".join(map(add, self._heads, shown)) + "\n"


_read = attrgetter("_value")


def _parent(metric: Metric) -> Counter | Gauge | Histogram:
    names = [label.name for label in metric.labels]
    if metric.type == "counter":
        return Counter(metric.name, metric.help, names, registry=None)
    if metric.type == "gauge":
        return Gauge(metric.name, metric.help, names, registry=None)
    return Histogram(metric.name, metric.help, names, registry=None, buckets=metric.buckets)


def _template(metric: Metric, labels: list[tuple[str, str]]) -> str:
    bounds = [*map(number, metric.buckets), "+Inf"]
    lines = [
        labelled(f"{metric.name}_bucket", [*labels, ("le", bound)]).replace("%", "%%") + " %d\n" for bound in bounds
    ]
    ends = [labelled(f"{metric.name}_{end}", labels).replace("%", "%%") for end in ("sum", "count")]
    return "".join([*lines, f"{ends[0]} %s\n", f"{ends[1]} %d\n"])


def _filled(template: str, values: list[float]) -> str:
    total = values.pop()
    cumulative = list(accumulate(values))
    return template % (*cumulative, number(total), cumulative[-1])
