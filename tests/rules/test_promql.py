"""PromQL as a tree: what was parsed is printed, changed, and found again in the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.rules import promql
from upcheck.rules.evaluate import Question, evaluate
from upcheck.rules.promql import Aggregation, Binary, Number, Paren, PromQLError, Selector, parse

ROUND = [
    "-foo ^ 2",
    "- 3",
    "2 * -3",
    "Inf",
    "1e3 + 0.80 + .5 + 0x1F",
    "sum by (a, b) (x)",
    "quantile without () (0.9, x)",
    "a > bool 3",
    "a * on (x) group_left (y, z) b",
    "a / ignoring (x) group_right () b",
    "a and on () b",
    '{__name__="foo.bar", a="b"}',
    '{__name__=~"a|b"}',
    'label_replace(x, "a", "$1", "b", "(.*)")',
    "(a or b) unless c",
    "a - (b - c)",
    "rate(foo[1d2h3m4s5ms])",
    "max_over_time(foo[5m:1m] @ start() offset -5m)",
    "foo @ 3.5 offset 1h",
    "foo @ end()",
    r'foo{a="b\n\"é", c!~"x\\d"}',
    "topk(3, x)",
    'count_values("v", x)',
    "time()",
    "-(1)",
    "a atan2 b",
]


@pytest.mark.parametrize("text", ROUND)
def test_what_is_printed_means_what_was_parsed(text: str) -> None:
    printed = str(parse(text))
    assert parse(printed) == parse(text)
    assert printed.replace(" ", "") == text.replace(" ", "")


def test_promtool_reads_what_is_printed(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "none.yml").write_text("groups: []")
    queries = [(str(parse(text)), 0.0) for text in ROUND if "foo.bar" not in text]
    (answer,) = evaluate(promtool, [tmp_path / "none.yml"], [Question({"foo": "1"}, 60, queries=queries)])
    assert [told for told in answer.samples if isinstance(told, str)] == []


def test_raw_strings_have_no_escapes() -> None:
    assert parse(r"foo{a=~`x\d`}") == parse(r'foo{a=~"x\\d"}')


def test_a_number_keeps_how_it_was_written() -> None:
    assert str(parse("foo offset -5m > 0.80 and bar @ 7 < -1.50")) == "foo offset -5m > 0.80 and bar @ 7 < -1.50"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sum by (x", "unclosed left parenthesis"),
        ("rate(foo)", "expected type matrix"),
        ('foo{a="b" or c="d"}', "not Prometheus's"),
        ("a + fill(0) b", "later releases"),
    ],
)
def test_what_is_no_promql_says_why(text: str, sentence: str) -> None:
    with pytest.raises(PromQLError, match=sentence):
        parse(text)


def test_one_node_is_replaced_and_binds_as_it_stands() -> None:
    tree = parse("rate(a[5m]) * b")
    places = {str(node): place for place, node in promql.walk(tree)}
    assert str(promql.replaced(tree, places["b"], parse("c + d"))) == "rate(a[5m]) * (c + d)"
    assert str(promql.replaced(tree, places["a[5m]"], Selector("z", range=60))) == "rate(z[1m]) * b"
    assert promql.replaced(tree, places["b"], parse("c + d")).right == Paren(parse("c + d"))  # type: ignore[attr-defined]


def test_what_an_expression_reads() -> None:
    tree = parse('sum by (job) (rate(a{code=~"5.."}[5m])) / on (job) group_left (team) label_join(b, "d", "-", "e")')
    assert [one.name for one in promql.selectors(tree)] == ["a", "b"]
    assert isinstance(tree, Binary)
    assert isinstance(tree.left, Aggregation)


@pytest.mark.parametrize(
    ("text", "metric", "read"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ('{__name__="a.b"}', "a.b", True),
        ('{__name__=~"job:.*", x="y"}', "job:up", True),
        ('{__name__=~"job:.*"}', "up", False),
        ('{__name__!="up", x="y"}', "up", False),
        ('{x="y"}', "up", True),
    ],
)
def test_a_selector_reads_by_name_or_by_pattern(text: str, metric: str, *, read: bool) -> None:
    (selector,) = promql.selectors(parse(text))
    assert promql.reads(selector, metric) is read


def test_where_the_words_stand() -> None:
    text = "sum by (job, inf) (rate(a:b{code='5m', by=`}`}[5m] offset 1h)) > 1e3 # a 7\n  and b < 0.05 or Inf > 5m"
    found = {kind: [] for kind in ("metric", "label", "number", "duration", "function", "keyword")}  # type: dict[str, list[str]]
    for token in promql.positions(text):
        assert text[token.offset : token.offset + len(token.text)] == token.text
        found.setdefault(token.kind, []).append(token.text)
    assert found["metric"] == ["a:b", "b"]
    assert found["label"] == ["job", "inf", "code", "by"]
    assert found["number"] == ["1e3", "0.05", "Inf"]
    assert found["duration"] == ["5m", "1h", "5m"]
    assert found["function"] == ["sum", "rate"]
    assert found["keyword"] == ["by", "offset", "and", "or"]


def test_words_that_are_keywords_elsewhere() -> None:
    kinds = {token.text: token.kind for token in promql.positions("sum + info + on_call{on='x'} + avg without () (c)")}
    assert [kinds[word] for word in ("sum", "info", "on_call", "on", "avg", "c")] == [
        "metric", "metric", "metric", "label", "function", "metric",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (80.0, "80"), (1e20, "1e+20"), (float("-inf"), "-Inf"), (-1.5, "-1.5")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert str(Number(value)) == text
    assert parse(text) == parse(str(parse(text)))


@pytest.mark.parametrize("text", ["up @ -5", "up @ 1e300", "sum(up @-1)"])
def test_a_time_that_the_parser_can_not_bear_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(PromQLError):
        parse(text)
