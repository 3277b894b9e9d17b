"""PromQL as a tree that can be walked, changed and printed, and where its words stand in the text.

The parser is promql-parser's, which is that of Prometheus 2.45. Its tree can't be changed and knows no positions, so
ours is made from it. Times are seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import promql_parser

COMPARISONS = (">", ">=", "<", "<=", "==", "!=")
SET_OPERATORS = ("and", "or", "unless")
_AGGREGATIONS = "sum avg min max count group stddev stdvar topk bottomk quantile count_values limitk limit_ratio"
_GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_KEYWORDS = {*SET_OPERATORS, *_GROUPINGS, "atan2", "bool", "offset"}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_RE_DURATION = r"(?:[0-9]+(?:ms|[smhdwy]))+"
_TOKEN = re.compile(
    rf"""(?P<blank>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<duration>{_RE_DURATION}(?![a-zA-Z0-9_:.]))
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|(?i:inf|nan)(?![a-zA-Z0-9_:(]))
    |(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<sign>=~|!~|[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)


class PromQLError(ValueError):
    """A text that is no PromQL: why, in a sentence."""


class Token(NamedTuple):
    """A word of the text. *kind*: metric, label, number, duration, string, function, keyword or sign.

    *offset* counts characters from 0.
    """

    kind: str
    text: str
    offset: int


class Matcher(NamedTuple):
    """A label matcher; *op* is `=`, `!=`, `=~` or `!~`."""

    label: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Expr:
    """A node of the tree; `str` is its PromQL."""


@dataclass(frozen=True, slots=True)
class Number(Expr):
    """A number, and how it was written."""

    value: float
    written: str = ""

    def __str__(self) -> str:
        return self.written or number(self.value)


@dataclass(frozen=True, slots=True)
class String(Expr):
    """A string."""

    value: str

    def __str__(self) -> str:
        return _quoted(self.value)


@dataclass(frozen=True, slots=True)
class Selector(Expr):
    """A vector selector, or with *range* a matrix selector. *at* is a time, `start()` or `end()`."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    range: float | None = None
    offset: float | None = None
    at: str = ""

    def __str__(self) -> str:
        plain = _NAME.fullmatch(self.name) is not None
        matchers = self.matchers if plain or not self.name else (Matcher("__name__", "=", self.name), *self.matchers)
        inside = ", ".join(f"{one.label}{one.op}{_quoted(one.value)}" for one in matchers)
        text = (self.name if plain else "") + (f"{{{inside}}}" if inside or not plain else "")
        return text + ("" if self.range is None else f"[{duration(self.range)}]") + _when(self.at, self.offset)


@dataclass(frozen=True, slots=True)
class Subquery(Expr):
    """A subquery; without *step*, the evaluation interval's."""

    expr: Expr
    range: float
    step: float | None = None
    offset: float | None = None
    at: str = ""

    def __str__(self) -> str:
        step = "" if self.step is None else duration(self.step)
        return f"{self.expr}[{duration(self.range)}:{step}]{_when(self.at, self.offset)}"


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function with its arguments."""

    function: str
    args: tuple[Expr, ...] = ()

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True)
class Aggregation(Expr):
    """An aggregation; *grouping* is `by`, `without`, or empty, where all becomes one."""

    op: str
    param: Expr | None
    expr: Expr
    grouping: str = ""
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        grouping = f" {self.grouping} ({', '.join(self.labels)}) " if self.grouping else ""
        return f"{self.op}{grouping}({'' if self.param is None else f'{self.param}, '}{self.expr})"


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """A binary operation. *matching* is `on`, `ignoring` or empty; *group* `group_left`, `group_right` or empty."""

    op: str
    left: Expr
    right: Expr
    is_bool: bool = False
    matching: str = ""
    labels: tuple[str, ...] = ()
    group: str = ""
    group_labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [str(self.left), self.op]
        words += ["bool"] if self.is_bool else []
        words += [f"{self.matching} ({', '.join(self.labels)})"] if self.matching else []
        words += [f"{self.group} ({', '.join(self.group_labels)})"] if self.group else []
        return " ".join([*words, str(self.right)])


@dataclass(frozen=True, slots=True)
class Negation(Expr):
    """A unary minus."""

    expr: Expr

    def __str__(self) -> str:
        return f"-{self.expr}"


@dataclass(frozen=True, slots=True)
class Paren(Expr):
    """An expression in parentheses."""

    expr: Expr

    def __str__(self) -> str:
        return f"({self.expr})"


Place = tuple[str | int, ...]  # the way from the root to a node: fields, and places in `args`


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """The tree of *text*; raises PromQLError."""
    tokens = positions(text)
    words = [token for token in tokens if token.kind != "blank"]
    if any((one.text, other.text) == ("@", "-") for one, other in pairwise(words)):  # at which the parser panics
        raise PromQLError("not read here: a time before 1970 after @")
    try:
        # The parser sees escapes in raw strings, where there are none.
        parsed = promql_parser.parse("".join(_plain(token) for token in tokens))
        return _as_written(_converted(parsed), words)
    except PromQLError:
        raise
    except ValueError as error:
        raise PromQLError(f"not PromQL: {error}") from None


def lookback(expr: Expr) -> float:
    """How far back *expr* looks: ranges, subqueries around them and offsets, in seconds."""
    found = 0.0
    for _, node in walk(expr):
        if isinstance(node, Selector | Subquery):
            own = (node.range or 0.0) + (node.offset or 0.0)
            found = max(found, own + (lookback(node.expr) if isinstance(node, Subquery) else 0.0))
    return found


def walk(expr: Expr, place: Place = ()) -> Iterator[tuple[Place, Expr]]:
    """*expr* and all nodes below it, each with its place, in the order of the text."""
    yield place, expr
    for field in fields(expr):
        value = getattr(expr, field.name)
        if isinstance(value, Expr):
            yield from walk(value, (*place, field.name))
        elif field.name == "args":
            for index, one in enumerate(value):
                yield from walk(one, (*place, field.name, index))


def replaced(expr: Expr, place: Place, node: Expr) -> Expr:
    """*expr* with *node* at *place*. What would bind otherwise than it stands is put into parentheses."""
    if not place:
        return node
    name, *rest = place
    if isinstance(expr, Call):
        index = int(rest[0])
        inner = replaced(expr.args[index], tuple(rest[1:]), node)
        return replace(expr, args=(*expr.args[:index], inner, *expr.args[index + 1 :]))
    inner = replaced(getattr(expr, str(name)), tuple(rest), node)
    new = replace(expr, **{str(name): inner})
    if rest or not isinstance(inner, Binary | Negation) or parse(str(new)) == new:
        return new
    return replace(expr, **{str(name): Paren(inner)})


def selectors(expr: Expr) -> list[Selector]:
    """All selectors of *expr*, in the order of the text."""
    return [node for _, node in walk(expr) if isinstance(node, Selector)]


def reads(selector: Selector, metric: str) -> bool:
    """Whether *selector* can select series of *metric*, as far as its name tells."""
    if selector.name:
        return selector.name == metric
    tests: Mapping[str, Callable[[str], bool]] = {
        "=": lambda value: metric == value,
        "!=": lambda value: metric != value,
        "=~": lambda value: re.fullmatch(value, metric) is not None,
        "!~": lambda value: re.fullmatch(value, metric) is None,
    }
    try:
        return all(tests[one.op](one.value) for one in selector.matchers if one.label == "__name__")
    except re.error:
        return True  # a regular expression of RE2 that Python has not: it may match


def positions(text: str) -> list[Token]:
    """All words of *text*, blanks and comments too (`blank`), with what each is."""
    found = [(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(text)]
    words = [one for one in found if one[0] != "blank"]
    kinds: dict[int, str] = {}
    braces = grouping = False
    for index, (kind, word, offset) in enumerate(words):
        before = words[index - 1][1].lower() if index else ""
        after = words[index + 1][1].lower() if index + 1 < len(words) else ""
        if kind == "sign":
            braces = word == "{" or (braces and word != "}")
            grouping = (word == "(" and before in _GROUPINGS) or (grouping and word != ")")
        kinds[offset] = _kind(kind, word, after, braces=braces, grouping=grouping)
    return [Token(kinds.get(offset, kind), word, offset) for kind, word, offset in found]


def _kind(kind: str, word: str, after: str, *, braces: bool, grouping: bool) -> str:
    if braces and kind == "string":
        return kind if after not in ("=", "!=", "=~", "!~") else "label"
    if (braces or grouping) and (kind == "word" or (kind == "number" and word.isalpha())):
        return "label"
    if kind != "word":
        return kind
    if word.lower() in _KEYWORDS:
        return "keyword"
    grouped = word.lower() in _AGGREGATIONS.split() and after in ("by", "without")
    return "function" if after == "(" or grouped else "metric"


def number(value: float) -> str:
    """*value* as PromQL, in as few digits as tell it."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else repr(value)


def duration(seconds: float) -> str:
    """*seconds* as Prometheus writes them: `1h30m`."""
    left = round(abs(seconds) * 1000)
    text = "-" if seconds < 0 else ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text if text.strip("-") else "0s"


def _plain(token: Token) -> str:
    return _quoted(token.text[1:-1]) if token.text.startswith("`") and token.kind != "blank" else token.text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _when(at: str, offset: float | None) -> str:
    return (f" @ {at}" if at else "") + ("" if offset is None else f" offset {duration(offset)}")


def _as_written(expr: Expr, tokens: list[Token]) -> Expr:
    """The tree with each number as the text has it, where the two agree on how many numbers there are."""
    written = [
        token.text
        for index, token in enumerate(tokens)
        if token.kind in ("number", "duration")
        and (index == 0 or tokens[index - 1].text.lower() not in ("@", "offset", "[", ":"))
        and not (tokens[index - 1].text == "-" and index > 1 and tokens[index - 2].text.lower() in ("@", "offset"))
    ]
    numbers = [(place, node) for place, node in walk(expr) if isinstance(node, Number)]
    if len(written) != len(numbers):
        return expr
    for (place, node), text in zip(numbers, written, strict=True):
        expr = replaced(expr, place, Number(node.value, f"-{text}" if node.value < 0 else text))
    return expr


def _seconds(delta: timedelta | None) -> float | None:
    return None if delta is None else delta.total_seconds()


def _at(modifier: Any) -> str:
    if modifier is None:
        return ""
    if modifier.at is not None:
        return number(modifier.at.timestamp())
    return "start()" if modifier.type == promql_parser.AtModifierType.Start else "end()"


def _converted(node: Any) -> Expr:
    return _CONVERSIONS[type(node)](node)


def _selector(node: Any) -> Selector:
    if node.matchers.or_matchers:
        raise PromQLError("not PromQL: `or` between matchers is not Prometheus's")
    signs = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    matchers = [Matcher(one.name, signs[str(one.op).rpartition(".")[2]], one.value) for one in node.matchers.matchers]
    name = node.name or next((one.value for one in matchers if one.label == "__name__" and one.op == "="), "")
    kept = tuple(one for one in matchers if one != ("__name__", "=", name))
    return Selector(name, kept, None, _seconds(node.offset), _at(node.at))


def _aggregation(node: Any) -> Aggregation:
    param = None if node.param is None else _converted(node.param)
    if node.modifier is None:
        return Aggregation(str(node.op), param, _converted(node.expr))
    grouping = "by" if node.modifier.type == promql_parser.AggModifierType.By else "without"
    return Aggregation(str(node.op), param, _converted(node.expr), grouping, tuple(node.modifier.labels))


def _binary(node: Any) -> Binary:
    plain = Binary(str(node.op), _converted(node.lhs), _converted(node.rhs))
    modifier = node.modifier
    if modifier is None:
        return plain
    if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
        raise PromQLError("not PromQL as Prometheus has it: `fill` is an experiment of later releases")
    matching = modifier.matching
    cards = {"ManyToOne": "group_left", "OneToMany": "group_right"}
    return replace(
        plain,
        is_bool=modifier.return_bool,
        matching="" if matching is None else str(matching).partition(" ")[0],
        labels=() if matching is None else tuple(matching.labels),
        group=cards.get(str(modifier.card).rpartition(".")[2], ""),
        group_labels=tuple(modifier.group_labels or ()),
    )


_CONVERSIONS: dict[type, Callable[[Any], Expr]] = {
    promql_parser.NumberLiteral: lambda node: Number(node.val),
    promql_parser.StringLiteral: lambda node: String(node.val),
    promql_parser.VectorSelector: _selector,
    promql_parser.MatrixSelector: lambda node: replace(_selector(node.vector_selector), range=_seconds(node.range)),
    promql_parser.SubqueryExpr: lambda node: Subquery(
        _converted(node.expr), node.range.total_seconds(), _seconds(node.step), _seconds(node.offset), _at(node.at)
    ),
    promql_parser.Call: lambda node: Call(node.func.name, tuple(map(_converted, node.args))),
    promql_parser.AggregateExpr: _aggregation,
    promql_parser.BinaryExpr: _binary,
    promql_parser.UnaryExpr: lambda node: Negation(_converted(node.expr)),
    promql_parser.ParenExpr: lambda node: Paren(_converted(node.expr)),
}
