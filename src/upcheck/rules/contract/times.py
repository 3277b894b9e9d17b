"""Ranges, offsets and `for`, held against how often is scraped and evaluated, and how long samples are kept."""

from __future__ import annotations

from collections.abc import Iterator

from upcheck.rules.contract.expression import Call, Node, Selector, Span, Subquery
from upcheck.rules.contract.finding import Context, Finding, at, at_mark
from upcheck.rules.contract.produced import duration
from upcheck.rules.contract.reading import Query

_NEED_TWO = frozenset(["rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear"])


def check(context: Context) -> Iterator[Finding]:
    """short-range, short-for and long-window."""
    for query in context.found.queries:
        if query.passage.tree is not None:
            yield from _ranges(context, query, query.passage.tree)
            yield from _windows(context, query, query.passage.tree, 0.0)
    for rule in context.found.rules:
        every = rule.interval or context.world.produced.configuration.evaluation_interval
        wanted = duration(rule.node.get("for"))
        if rule.is_alert and 0 < wanted < every:
            yield at_mark(
                rule.file, rule.node.values_at["for"], len(str(rule.node["for"])), "short-for",
                "it is over before the rule is evaluated again",
                f"the rule is evaluated every {_text(every)}: `for: {_text(every)}` or more",
            )  # fmt: skip


def _ranges(context: Context, query: Query, tree: Node) -> Iterator[Finding]:
    for node in tree.walk():
        if not isinstance(node, Call) or node.name not in _NEED_TWO:
            continue
        selector = node.parts[0]
        if isinstance(selector, Selector) and selector.range is not None and selector.range_span is not None:
            every, what = _interval(context, selector)
            if selector.range < 2 * every:
                cure = "$__rate_interval" if query.place else _text(4 * every)
                fix = f"{what} every {_text(every)}, {node.name} needs two samples: {cure} bears a lost one"
                yield at(query, selector.range_span, "short-range", "a range under two samples' distance", fix)


def _interval(context: Context, selector: Selector) -> tuple[float, str]:
    """How many seconds lie between two samples of *selector*, and why."""
    configuration = context.world.produced.configuration
    rules = context.world.recorded.get(selector.name)
    if rules:
        return max(rule.interval or configuration.evaluation_interval for rule in rules), "it is recorded"
    job = next((one.value for one in selector.matchers if one.name == "job" and one.op == "="), "")
    return (configuration.jobs or {}).get(job, configuration.scrape_interval), "it is scraped"


def _windows(context: Context, query: Query, node: Node, before: float) -> Iterator[Finding]:
    """What looks further back than samples are kept; *before* is how far the subqueries around look."""
    kept = context.world.produced.configuration.retention
    if kept is None:
        return
    if isinstance(node, Subquery):
        before += node.range
    if isinstance(node, Selector):
        back = before + (node.range or 0.0) + node.offset
        if back > kept:
            span: Span = node.range_span or node.span
            fix = f"samples are kept for {_text(kept)}"
            yield at(query, span, "long-window", f"it looks {_text(back)} back", fix)
    for child in node.children():
        yield from _windows(context, query, child, before)


def _text(seconds: float) -> str:
    """Seconds in the largest unit that tells them whole."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
