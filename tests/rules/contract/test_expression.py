"""PromQL with positions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upcheck.rules.contract.expression import Aggregation, Binary, Call, Node, Number, Selector, parse
from upcheck.rules.promql import PromQLError


def words(text: str) -> list[tuple[str, str]]:
    """Each node's class, and the word that it stands at."""
    return [(type(node).__name__, text[node.span.at :][: node.span.length]) for node in parse(text).walk()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up", "Selector up"),
        ("-up * 2 ^ -3", "Binary *|Negation up|Selector up|Binary ^|Number 2|Number 3"),
        ("sum(a) by (x) / on (x) group_left (y) (b)", "Binary /|Aggregation sum|Selector a|Selector b"),
        ("sum by (x,) (a offset -5m) - b", "Binary -|Aggregation sum|Selector a|Selector b"),
        ("topk(5, a @ end()) unless b @ 12.5", "Binary unless|Aggregation topk|Number 5|Selector a|Selector b"),
        ("time() - a > bool -0.5e3", "Binary >|Binary -|Call time|Selector a|Number 0.5e3"),
        (
            "max_over_time(rate(a[1m])[1h:5m] offset 1d) > Inf",
            "Binary >|Call max_over_time|Subquery [1h:5m]|Call rate|Selector a|Number Inf",
        ),
        ("a # c{x='y'} > 1\n  and\nb", "Binary and|Selector a|Selector b"),
        ('count_values("v", a) == 0x1F', 'Binary ==|Aggregation count_values|Text "v"|Selector a|Number 0x1F'),
        ("{__name__='a', b=\"c\"}", "Selector a"),
        ('{"a.b", "x.y"="}"}', "Selector a.b"),
        ("sum(rate(a{x=`\\d+`}[5m])) + sum", "Binary +|Aggregation sum|Call rate|Selector a|Selector sum"),
        ("(a and on () b) or vector(5m)", "Binary or|Binary and|Selector a|Selector b|Call vector|Number 5m"),
        ("a @ start() offset -5m - b", "Binary -|Selector a|Selector b"),
        ("a[5m] @ 5 offset -5m", "Selector a"),
        ("a atan2 b", "Binary atan2|Selector a|Selector b"),
    ],
)
def test_each_part_knows_where_it_stands(text: str, expected: str) -> None:
    assert [f"{kind} {word}" for kind, word in words(text)] == expected.split("|")


@pytest.mark.parametrize("modifier", ["offset -5m", "@ start() offset -5m", "@ 7 offset -5m", "offset -5m @ end()"])
def test_a_minus_of_an_offset_is_no_operator(modifier: str) -> None:
    text = f"a {modifier} - b"
    assert parse(text).span.at == text.rindex("-")


def test_matchers_and_labels_know_where_they_stand() -> None:
    text = "sum by (job, zone) (rate(a{x=\"1\", y!~`\\d`, z=''}[5m])) / on (job) group_right (w) b"
    tree = parse(text)
    assert isinstance(tree, Binary)
    inner = tree.parts[0]
    assert isinstance(inner, Aggregation)
    (selector,) = [one for one in inner.walk() if isinstance(one, Selector)]

    def at(span: tuple[int, int]) -> str:
        return text[span[0] : span[0] + span[1]]

    assert [(at(one.span), one.op, at(one.value_span)) for one in selector.matchers] == [
        ("x", "=", "1"), ("y", "!~", "\\d"), ("z", "=", "")
    ]  # fmt: skip
    assert selector.matchers[1].value == "\\d"
    assert selector.range_span is not None
    assert at(selector.range_span) == "5m"
    assert [at(label.span) for label in [*inner.labels, *tree.labels, *tree.include]] == ["job", "zone", "job", "w"]
    assert (inner.grouping, tree.matching, tree.group) == ("by", "on", "group_right")


@pytest.mark.parametrize("text", ["", "up ==", "sum(", "rate(a)", "a{b=c}", "a[5m", "1 and 2", "a b", '"x" + a'])
def test_what_is_no_promql_is_refused(text: str) -> None:
    with pytest.raises(PromQLError):
        parse(text)


MODIFIERS = st.sampled_from(["", " offset -5m", " @ end()", " @ start() offset 5m", " offset 1h @ 5"])
METRICS = st.sampled_from(["up", "a_total{x='1', y=~`\\d`}", '{"a.b"}', "{__name__='a', b!='c'}", "sum", "by_x{}"])
LABELS = st.sampled_from(["()", "(a)", "(a, on)", "(a,)"])
LEAVES = st.one_of(st.builds("{}{}".format, METRICS, MODIFIERS), st.just("vector(1)"))


def larger(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("(\n{})".format, inside),
        st.builds("-{} # by (x)\n".format, inside),
        st.builds("abs({})".format, inside),
        st.builds("sum by {}({})".format, LABELS, inside),
        st.builds("topk(3, {}) without {}".format, inside, LABELS),
        st.builds("max_over_time(({})[1h:5m]{})".format, inside, MODIFIERS),
        st.builds("({}) / on {} group_left (z) ({})".format, inside, LABELS, inside),
        st.builds(
            "{} {} {}".format, inside, st.sampled_from(["+", "-", "> bool", "and", "unless ignoring (a)"]), inside
        ),
        st.builds("{} > -1.5e3".format, inside),
    )


@settings(max_examples=400, deadline=None)
@given(st.recursive(LEAVES, larger, max_leaves=12))
def test_each_node_stands_at_its_own_word(text: str) -> None:
    try:
        tree = parse(text)
    except PromQLError:
        return  # what was made need not be PromQL: `a and 1`
    for node in tree.walk():
        word = text[node.span.at : node.span.at + node.span.length]
        if isinstance(node, Selector | Call):
            assert word == node.name
        elif isinstance(node, Binary | Aggregation):
            assert word == node.op
        elif isinstance(node, Number):
            assert float(word) == abs(node.value)
        for label in [*getattr(node, "labels", []), *getattr(node, "include", [])]:
            assert text[label.span.at : label.span.at + label.span.length] == label.name
        for one in getattr(node, "matchers", []):
            assert text[one.span.at : one.span.at + one.span.length] == one.name
            assert text[one.value_span.at : one.value_span.at + one.value_span.length] == one.value


def test_a_tree_without_parts_has_no_children() -> None:
    node: Node = parse("1")
    assert node.children() == []
