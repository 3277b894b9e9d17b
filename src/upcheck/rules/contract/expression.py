"""PromQL's tree, whose parts know where they stand in the text.

`promql` makes the tree and tells the words of the text. The tree is walked as the text was written, so that each node
finds its own words among those that are left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from upcheck.rules import promql
from upcheck.rules.promql import PromQLError, Token


class Span(NamedTuple):
    """A part of the text: its offset and length."""

    at: int
    length: int


class Label(NamedTuple):
    """A label's name, and where it stands."""

    name: str
    span: Span


class Matcher(NamedTuple):
    """What a selector asks of a label; *span* is the label's, *value_span* that of the value within its quotes."""

    name: str
    op: str
    value: str
    span: Span
    value_span: Span

    def matches(self, value: str) -> bool:
        """Whether a series with this *value* is selected; raises re.error for a pattern that Python can't read."""
        if self.op in ("=", "!="):
            return (value == self.value) == (self.op == "=")
        return bool(re.fullmatch(self.value, value, re.DOTALL)) == (self.op == "=~")


@dataclass(slots=True)
class Node:
    """A part of an expression; *span* is its first word, or its operator."""

    span: Span

    def children(self) -> list[Node]:
        """The parts that it is made of, in their order."""
        return []

    def walk(self) -> Iterator[Node]:
        """It, and all that is in it, in the order of the text's tree."""
        yield self
        for child in self.children():
            yield from child.walk()


@dataclass(slots=True)
class Number(Node):
    value: float


@dataclass(slots=True)
class Text(Node):
    value: str


@dataclass(slots=True)
class Selector(Node):
    """Series by name and matchers. *range* and *offset* are seconds; *range_span* is where the range stands."""

    name: str
    matchers: list[Matcher]
    range: float | None = None
    range_span: Span | None = None
    offset: float = 0.0


@dataclass(slots=True)
class Parent(Node):
    """A node with parts."""

    parts: list[Node]

    def children(self) -> list[Node]:
        return self.parts


@dataclass(slots=True)
class Call(Parent):
    name: str


@dataclass(slots=True)
class Negation(Parent):
    pass


@dataclass(slots=True)
class Subquery(Parent):
    """An expression over a range of *range* seconds."""

    range: float


@dataclass(slots=True)
class Aggregation(Parent):
    """*parts* ends with what is aggregated; *grouping* is `by`, `without` or empty."""

    op: str
    grouping: str
    labels: list[Label]


@dataclass(slots=True)
class Binary(Parent):
    """*matching* is `on`, `ignoring` or empty, with *labels*; *group* is `group_left` or `group_right`, or empty."""

    op: str
    matching: str = ""
    labels: list[Label] = field(default_factory=list)
    group: str = ""
    include: list[Label] = field(default_factory=list)


def parse(text: str) -> Node:
    """The tree of *text*; raises PromQLError."""
    tree = promql.parse(text)
    try:
        return _Places(text).node(tree)
    except IndexError:
        raise PromQLError("its parts can't be told apart: it has a syntax that this release does not know") from None


_MODIFIERS = ("bool", "on", "ignoring", "group_left", "group_right")


class _Places:
    """Goes through the words of a text, in the order in which its tree needs them."""

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in promql.positions(text) if token.kind != "blank"]
        self._text = text
        self._next = 0

    def node(self, expr: promql.Expr) -> Node:
        """The node of *expr*, which is what comes next."""
        if isinstance(expr, promql.Paren):
            return self.node(expr.expr)
        if isinstance(expr, promql.Number):
            return Number(_span(self._find(("number", "duration"))), expr.value)
        if isinstance(expr, promql.String):
            return Text(_span(self._find(("string",))), expr.value)
        if isinstance(expr, promql.Negation):
            inside = self.node(expr.expr)
            return Negation(inside.span, [inside])
        if isinstance(expr, promql.Call):
            span = _span(self._find(("function",)))
            return Call(span, [self.node(one) for one in expr.args], expr.function)
        return self._others(expr)

    def _others(self, expr: promql.Expr) -> Node:
        if isinstance(expr, promql.Selector):
            return self._selector(expr)
        if isinstance(expr, promql.Subquery):
            inside = self.node(expr.expr)
            span = self._range()
            self._pass_modifiers()
            return Subquery(span, [inside], expr.range)
        if isinstance(expr, promql.Aggregation):
            return self._aggregation(expr)
        assert isinstance(expr, promql.Binary)
        return self._binary(expr)

    def _selector(self, expr: promql.Selector) -> Selector:
        token = self._find(("metric",), ("{",))
        name_span = _span(token)
        places = self._matchers() if token.text == "{" or self._comes("{") else []
        if len(places) > len(expr.matchers):  # one of them is the name
            name = next(one for one in places if self._word(one[0]) in ("__name__", expr.name))
            places.remove(name)
            name_span = name[1]
        matchers = [
            Matcher(one.label, one.op, one.value, *place) for one, place in zip(expr.matchers, places, strict=True)
        ]
        ranged = self._range() if expr.range is not None else None
        self._pass_modifiers()
        within = Span(ranged.at + 1, ranged.length - 2) if ranged else None
        return Selector(name_span, expr.name, matchers, expr.range, within, expr.offset or 0.0)

    def _word(self, span: Span) -> str:
        return self._text[span.at : span.at + span.length]

    def _matchers(self) -> list[tuple[Span, Span]]:
        """The places of each label and its value; of a name in quotes, twice its own."""
        found: list[tuple[Span, Span]] = []
        label: Span | None = None
        while (token := self._take()).text != "}":
            if token.kind == "label":
                label = _within(token)
            elif token.kind == "string":
                found.append((label or _within(token), _within(token)))
                label = None
        return found

    def _aggregation(self, expr: promql.Aggregation) -> Aggregation:
        span = _span(self._find(("function",)))
        first = self._peek() in ("by", "without")
        labels = self._labels() if first else []
        parts = [self.node(one) for one in (expr.param, expr.expr) if one is not None]
        if expr.grouping and not first:
            self._find((), ("by", "without"))
            labels = self._labels()
        return Aggregation(span, parts, expr.op, expr.grouping, labels)

    def _binary(self, expr: promql.Binary) -> Binary:
        left = self.node(expr.left)
        made = Binary(_span(self._find((), (expr.op,))), [left], expr.op, expr.matching, [], expr.group)
        while (word := self._peek()) in _MODIFIERS:
            self._take()
            labels = self._labels() if word != "bool" and self._peek() == "(" else []
            if word in ("on", "ignoring"):
                made.labels = labels
            elif word != "bool":
                made.include = labels
        made.parts.append(self.node(expr.right))
        return made

    def _labels(self) -> list[Label]:
        found: list[Label] = []
        while (token := self._take()).text != ")":
            if token.kind in ("label", "string"):
                found.append(Label(token.text.strip("\"'`"), _within(token)))
        return found

    def _range(self) -> Span:
        """From a bracket to its other."""
        begin = self._find((), ("[",)).offset
        return Span(begin, self._find((), ("]",)).offset + 1 - begin)

    def _pass_modifiers(self) -> None:
        """Pass over `offset` and `@` with what follows them: a minus there is no operator."""
        while self._peek() in ("offset", "@"):
            if self._find(("number", "duration"), ("start", "end")).kind == "function":
                self._find((), (")",))

    def _peek(self) -> str:
        return self._tokens[self._next].text.lower() if self._next < len(self._tokens) else ""

    def _comes(self, text: str) -> bool:
        """Whether *text* is next; it is passed over then."""
        self._next += (comes := self._peek() == text)
        return comes

    def _take(self) -> Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _find(self, kinds: Collection[str], texts: Collection[str] = ()) -> Token:
        """The next word of one of *kinds* or *texts*."""
        while True:
            token = self._take()
            if token.kind in kinds or token.text.lower() in texts:
                return token


def _span(token: Token) -> Span:
    return Span(token.offset, len(token.text))


def _within(token: Token) -> Span:
    """The place of a word without its quotes."""
    quoted = token.text[0] in "\"'`"
    return Span(token.offset + quoted, len(token.text) - 2 * quoted)
