"""Rendering: our page of recorded families against prometheus_client's generate_latest of the same objects.

`python -m benchmarks.exposition`. CPU milliseconds of one page, the least of several in turns, for counters and for
histograms of 14 lines each, at 10,000 and 100,000 series; both texts are held to say the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from upcheck.catalog import Label, Metric
from upcheck.exposition import page
from upcheck.recording.family import Recorded

LABELS = (Label("method", ("GET", "POST"), 2), Label("route", None, 1_000_000))
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LINES = len(BUCKETS) + 3


def filled(kind: str, series: int) -> Recorded:
    """A family of *series* lines."""
    histogram = kind == "histogram"
    name = "shop_seconds" if histogram else "shop_requests_total"
    metric = Metric(name, "application", kind, "Things.", "", LABELS, BUCKETS if histogram else (), 1_000_000)
    recorded = Recorded(metric, lambda: True)
    for number in range(series // LINES if histogram else series):
        child = recorded.child(("GET" if number % 2 else "POST", f"/things/{number}"))
        child.action("observe" if histogram else "add")(number * 0.37 if histogram else number)
    return recorded


def said(text: bytes) -> set[Any]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def milliseconds(*renders: Callable[[], bytes]) -> list[float]:
    """The least CPU time of each, in turns."""
    least = [float("inf")] * len(renders)
    for _ in range(5):
        for index, render in enumerate(renders):
            started = time.process_time()
            render()
            least[index] = min(least[index], (time.process_time() - started) * 1000)
    return least


def main() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    line: dict[str, float] = {}
    for kind in ("counter", "histogram"):
        for series in (10_000, 100_000):
            recorded = filled(kind, series)
            registry = CollectorRegistry()
            registry.register(recorded.parent)
            if series == 10_000 and said(page(recorded.blocks())) != said(generate_latest(registry)):
                sys.exit("the two pages differ")
            ours, theirs = milliseconds(lambda r=recorded: page(r.blocks()), lambda r=registry: generate_latest(r))  # type: ignore[misc]
            name = f"{kind}s_{series // 1000}k"
            line |= {f"{name}_ms": round(ours, 2), f"{name}_client_ms": round(theirs, 1)}
            line[f"{name}_times"] = round(theirs / ours, 1)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
