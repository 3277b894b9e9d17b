"""What is written fast is what prometheus_client writes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from upcheck.catalog import Label, Metric
from upcheck.exposition import page
from upcheck.promtool import check_metrics
from upcheck.recording.family import Recorded

OPEN = (Label("a", None, 1000), Label("b", None, 1000))
NUMBERS = st.floats(min_value=0, max_value=1e200) | st.integers(min_value=0, max_value=10**15)


def made(kind: str) -> Recorded:
    buckets = (0.1, 1.0, 10.0) if kind == "histogram" else ()
    name = "shop_things_total" if kind == "counter" else "shop_things"
    return Recorded(Metric(name, "business", kind, 'A "help"\\ with\nlines.', "", OPEN, buckets), lambda: True)


def theirs(recorded: Recorded, openmetrics: bool) -> bytes:
    registry = CollectorRegistry()
    registry.register(recorded.parent)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        encode = generate_openmetrics if openmetrics else generate_latest
        return bytes(encode(registry))
    finally:
        enable_created_metrics()  # type: ignore[no-untyped-call]


def plain(
    text: bytes, openmetrics: bool
) -> dict[str, tuple[str, str, set[tuple[str, tuple[tuple[str, str], ...], float]]]]:
    parse = parse_openmetrics if openmetrics else parse_text
    return {
        family.name: (
            family.type,
            family.documentation,
            {(one.name, tuple(sorted(one.labels.items())), one.value) for one in family.samples},
        )
        for family in parse(text.decode())
    }


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["counter", "gauge", "histogram"]),
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), NUMBERS), max_size=20),
    st.booleans(),
)
def test_the_page_is_that_of_prometheus_client(
    kind: str, told: list[tuple[str, str, float]], openmetrics: bool
) -> None:
    recorded = made(kind)
    for a, b, value in told:
        child = recorded.child((a, b))
        child.action({"counter": "add", "gauge": "set", "histogram": "observe"}[kind])(value)
    ours = page(recorded.blocks(), openmetrics=openmetrics) + (b"# EOF\n" if openmetrics else b"")
    reference = plain(theirs(recorded, openmetrics), openmetrics)
    if not told:  # a family without samples is left out
        reference = {}
    assert plain(ours, openmetrics) == reference


def test_observing_is_that_of_prometheus_client() -> None:
    fast, slow = made("histogram"), made("histogram")
    observe = fast.child(("a", "b")).action("observe")
    slow_child = slow.parent.labels("a", "b")
    for value in (0, 0.1, 0.10000001, 1, 5, 10, 10.5, -3, 1e100):
        observe(value)
        slow_child.observe(value)  # type: ignore[union-attr]
    slow.child(("a", "b"))
    assert page(fast.blocks()) == page(slow.blocks())


def test_a_sum_that_has_become_infinite_is_still_a_page() -> None:
    recorded = made("counter")
    for _ in range(2):
        recorded.child(("a", "b")).action("add")(1.7e308)
    assert b" +Inf\n" in page(recorded.blocks())


def test_promtool_reads_it(promtool: Path) -> None:
    recorded = made("histogram")
    recorded.child(("%s %d", 'é\n"')).action("observe")(0.5)
    verdict = check_metrics(promtool, page(recorded.blocks()).decode())
    assert verdict.ok, verdict.text
