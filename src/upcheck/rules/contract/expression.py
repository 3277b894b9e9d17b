"""PromQL as a tree that knows where its parts stand in the text.

promql-parser makes the tree and refuses what is no PromQL, but tells no positions. A pass over the tokens finds these:
its landmarks come in the order in which the tree is walked, so that each node takes the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import promql_parser

AGGREGATIONS = frozenset(
    re.findall(
        r"\w+",
        "sum avg min max count group stddev stdvar topk bottomk count_values quantile limitk limit_ratio",
    )
)
_SET_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)|(?P<range>\[[^\]]*\])
    |(?P<number>0[xX][0-9a-fA-F_]+|(?:\d+(?:ms|[smhdwy]))+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<word>[a-zA-Z_:][\w:]*)|(?P<mark>=~|!~|==|!=|>=|<=|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)


class Span(NamedTuple):
    """A part of the text: its offset and length."""

    at: int
    length: int


class ExpressionError(ValueError):
    """Text that is no PromQL, and what the parser says of it."""


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
    """The tree of *text*; raises ExpressionError."""
    try:
        tree = promql_parser.parse(_plain(text))
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    try:
        return _Pairing(_Landmarks(text).found).node(tree)
    except (StopIteration, ValueError):
        raise ExpressionError("its parts can't be told apart: a syntax newer than this release knows") from None


def _plain(text: str) -> str:
    """*text* with its backquoted strings in double quotes: promql-parser sees escapes there, Prometheus none."""

    def requoted(match: re.Match[str]) -> str:
        token = match[0]
        if not token.startswith("`"):
            return token
        inside = token[1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{inside}"'

    return _TOKEN.sub(requoted, text) if "`" in text else text


class _Token(NamedTuple):
    kind: str
    text: str
    at: int

    @property
    def span(self) -> Span:
        return Span(self.at, len(self.text))


@dataclass(slots=True)
class _Landmark:
    kind: str
    span: Span
    matchers: list[tuple[Span, Span]] = field(default_factory=list)
    range: Span | None = None
    clause: str = ""
    labels: list[Label] = field(default_factory=list)
    include: list[Label] = field(default_factory=list)


_END = _Token("end", "", 0)


class _Landmarks:
    """One pass over the tokens: *found* has numbers, strings, selectors, calls, aggregations, operators, subqueries."""

    def __init__(self, text: str) -> None:
        matches = _TOKEN.finditer(text)
        self._tokens = [_Token(str(m.lastgroup), m[0], m.start()) for m in matches if m.lastgroup != "space"]
        self._next = 0
        self.found: list[_Landmark] = []
        opened: list[_Landmark | None] = []
        operand = True  # whether an operand comes next, or what follows one
        while self._peek() is not _END:
            operand = self._operand(opened) if operand else self._after(opened)

    def _peek(self, ahead: int = 0) -> _Token:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else _END

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _operand(self, opened: list[_Landmark | None]) -> bool:
        token = self._take()
        if token.text == "(":
            opened.append(None)
            return True
        if token.text in ("-", "+"):
            return True
        if token.text == ")":  # of a call without arguments
            opened.pop()
            return False
        if token.kind in ("number", "string") or token.text.lower() in ("inf", "nan"):
            self.found.append(_Landmark(token.kind, token.span))
            return False
        if token.text.lower() in AGGREGATIONS and self._peek().text in ("(", "by", "without"):
            landmark = _Landmark("aggregation", token.span)
            self._clause(landmark)
        elif self._peek().text == "(":
            landmark = _Landmark("call", token.span)
        else:
            self._selector(token)
            return False
        self.found.append(landmark)
        opened.append(landmark)
        self._take()
        return True

    def _selector(self, token: _Token) -> None:
        landmark = _Landmark("selector", token.span)
        self.found.append(landmark)
        if token.text != "{":
            if self._peek().text != "{":
                return
            self._take()
        while (name := self._take()).text != "}" and name is not _END:
            if name.kind == "string" and self._peek().text in (",", "}"):  # a metric's name in quotes
                landmark.matchers.append((name.span, Span(name.at + 1, len(name.text) - 2)))
            elif self._peek(1).kind == "string":
                self._take()
                value = self._take()
                span = Span(name.at + 1, len(name.text) - 2) if name.kind == "string" else name.span
                landmark.matchers.append((span, Span(value.at + 1, len(value.text) - 2)))

    def _after(self, opened: list[_Landmark | None]) -> bool:
        token = self._take()
        word = token.text.lower()
        if token.kind == "range":
            if ":" in token.text:
                self.found.append(_Landmark("subquery", token.span))
            else:
                self.found[-1].range = Span(token.at + 1, len(token.text) - 2)
        elif word in ("offset", "@"):
            self._modifier()
        elif word == ")":
            landmark = opened.pop() if opened else None
            if landmark is not None and landmark.kind == "aggregation" and not landmark.clause:
                self._clause(landmark)
        elif word == ",":
            return True
        elif token.kind == "mark" or word in _SET_OPERATORS:
            self._operator(token)
            return True
        return False

    def _modifier(self) -> None:
        """Pass over what follows `offset` or `@`."""
        if self._peek().text in ("-", "+"):
            self._take()
        if self._take().text.lower() in ("start", "end"):
            self._take()
            self._take()

    def _operator(self, token: _Token) -> None:
        landmark = _Landmark("operator", token.span)
        self.found.append(landmark)
        while (word := self._peek().text.lower()) in ("bool", "on", "ignoring", "group_left", "group_right"):
            self._take()
            labels = self._labels() if self._peek().text == "(" and word != "bool" else []
            if word in ("on", "ignoring"):
                landmark.labels = labels
            elif word != "bool":
                landmark.include = labels

    def _clause(self, landmark: _Landmark) -> None:
        if self._peek().text.lower() in ("by", "without"):
            landmark.clause = self._take().text.lower()
            landmark.labels = self._labels()

    def _labels(self) -> list[Label]:
        labels: list[Label] = []
        self._take()
        while (token := self._take()).text != ")" and token is not _END:
            if token.kind == "string":
                labels.append(Label(token.text[1:-1], Span(token.at + 1, len(token.text) - 2)))
            elif token.text != ",":
                labels.append(Label(token.text, token.span))
        return labels


_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


class _Pairing:
    """Gives each node of promql-parser's tree its landmark."""

    def __init__(self, landmarks: list[_Landmark]) -> None:
        self._landmarks = iter(landmarks)

    def node(self, tree: Any) -> Node:
        made: Node = getattr(self, f"_{type(tree).__name__}")(tree)
        return made

    def _NumberLiteral(self, tree: Any) -> Node:  # noqa: N802 - named after the parser's class, as are those below
        return Number(next(self._landmarks).span, tree.val)

    def _StringLiteral(self, tree: Any) -> Node:  # noqa: N802
        return Text(next(self._landmarks).span, tree.val)

    def _ParenExpr(self, tree: Any) -> Node:  # noqa: N802
        return self.node(tree.expr)

    def _UnaryExpr(self, tree: Any) -> Node:  # noqa: N802
        inside = self.node(tree.expr)
        return Negation(inside.span, [inside])

    def _Call(self, tree: Any) -> Node:  # noqa: N802
        landmark = next(self._landmarks)
        return Call(landmark.span, [self.node(one) for one in tree.args], tree.func.name)

    def _AggregateExpr(self, tree: Any) -> Node:  # noqa: N802
        landmark = next(self._landmarks)
        parts = [self.node(one) for one in (tree.param, tree.expr) if one is not None]
        return Aggregation(landmark.span, parts, str(tree.op), landmark.clause, landmark.labels)

    def _BinaryExpr(self, tree: Any) -> Node:  # noqa: N802
        left = self.node(tree.lhs)
        landmark = next(self._landmarks)
        made = Binary(landmark.span, [left, self.node(tree.rhs)], str(tree.op))
        if tree.modifier is not None:
            made.include = landmark.include
            card = str(tree.modifier.card).rpartition(".")[2]
            made.group = {"ManyToOne": "group_left", "OneToMany": "group_right"}.get(card, "")
            if tree.modifier.matching is not None:
                made.labels = landmark.labels
                included = tree.modifier.matching.type == promql_parser.LabelModifierType.Include
                made.matching = "on" if included else "ignoring"
        return made

    def _SubqueryExpr(self, tree: Any) -> Node:  # noqa: N802
        inside = self.node(tree.expr)
        return Subquery(next(self._landmarks).span, [inside], tree.range.total_seconds())

    def _MatrixSelector(self, tree: Any) -> Node:  # noqa: N802
        made = self.node(tree.vector_selector)
        assert isinstance(made, Selector)
        made.range = tree.range.total_seconds()
        return made

    def _VectorSelector(self, tree: Any) -> Node:  # noqa: N802
        landmark = next(self._landmarks)
        name, name_span = tree.name or "", landmark.span
        matchers: list[Matcher] = []
        given = [*tree.matchers.matchers, *(one for either in tree.matchers.or_matchers for one in either)]
        spans = landmark.matchers
        for one, (span, value_span) in zip(given, spans, strict=True):
            op = _OPERATORS[str(one.op).rpartition(".")[2]]
            if one.name == "__name__" and op == "=":
                name, name_span = one.value, value_span
            else:
                matchers.append(Matcher(one.name, op, one.value, span, value_span))
        offset = tree.offset.total_seconds() if tree.offset is not None else 0.0
        return Selector(name_span, name, matchers, None, landmark.range, offset)
