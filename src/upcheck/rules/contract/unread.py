"""Recording rules and metrics that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator

from upcheck.documents import where
from upcheck.rules.contract.finding import Context, Finding, at_mark
from upcheck.rules.contract.labels import selectors


def check(context: Context) -> Iterator[Finding]:
    """dead-recording-rule; and dead-metric, where it is asked for."""
    read = _read(context)
    for rule in context.found.rules:
        if not rule.is_alert and not read.get(rule.name, set()) - {rule.name}:
            yield at_mark(
                rule.file, rule.mark, len(rule.name), "dead-recording-rule", "nobody reads what it records",
                "no rule, dashboard, objective or page that was given has this name",
            )  # fmt: skip
    for service, file, root in context.found.services if context.dead_metrics else ():
        for name, metric in service.metrics.items():
            ends = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
            if not any(name + end in read for end in ends) and not metric.alias_of:
                mark = where(root, ["metrics", name], key=True)
                yield at_mark(
                    file, mark, len(name), "dead-metric", "nobody reads it", "no rule, dashboard or page does"
                )


def _read(context: Context) -> dict[str, set[str]]:
    """The names that are read, and the recording rules and others (an empty name) that read them."""
    read: dict[str, set[str]] = {}
    for query in context.found.queries:
        if query.kind in ("series", "test") or query.passage.tree is None:
            continue
        reader = query.rule.name if query.rule is not None and not query.rule.is_alert else ""
        for selector in selectors(query.passage.tree):
            for name in context.world.matching(selector):
                read.setdefault(name, set()).add(reader)
    return read
