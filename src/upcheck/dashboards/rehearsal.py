"""Pictures of the dashboards of a repo, from a demonstration in which something goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from upcheck import catalog
from upcheck.dashboards import pictures
from upcheck.dashboards.reading import load_all
from upcheck.demo import scenario, stage
from upcheck.prometheus import Prometheus, Series
from upcheck.rules.timelapse import Lapse
from upcheck.settings import Settings

FACTOR = 60.0  # seconds that pass in one
LEAD = 11.0  # seconds of ours before the picture begins: Prometheus waits for five, and a rate needs five more
WELL, WRONG, AFTER = 9.0, 7.0, 8.0  # seconds of ours that it shows
TOLD = 1.0  # seconds of ours between two words of how far it is
STEP = 0.25  # seconds of ours between two points: Prometheus scrapes as often
Advance = Callable[[int, int], None]
FAULTS = (
    "error-rate",
    "latency",
    "deployment-failures",
    "replication-lag",
    "environments",
    "slow-docker",
    "connections",
)


def draw(settings: Settings, advance: Advance = lambda done, total: None) -> Iterator[tuple[str, str]]:
    """The name and the SVG of each dashboard, one after the other; it takes half a minute.

    *advance* is told how many seconds have been played, and of how many.

    Raises DemoError, DocumentError, PrometheusError, run.RunError, ServerError.
    """
    dashboards = load_all(settings.monitoring)
    services = catalog.load_all(settings.monitoring / "services")
    scenarios = [scenario.load(one, settings.monitoring / "demo") for one in services]
    lapse = Lapse(FACTOR, wall_clock=True)
    with stage(settings, scenarios, FACTOR, monitors=True) as made:
        began, total = time.monotonic(), round(LEAD + WELL + WRONG + AFTER)

        def play(span: float) -> None:
            end = time.monotonic() + span
            while (left := end - time.monotonic()) > 0:
                made.play(min(TOLD, left))
                advance(min(round(time.monotonic() - began), total), total)

        play(LEAD)
        start = time.time()
        play(WELL)
        made.fault(*FAULTS)
        play(WRONG)
        made.fault()
        play(AFTER)
        span, api = pictures.Span(start, time.time(), STEP, FACTOR), Prometheus(made.prometheus)

        def ask(text: str) -> list[Series]:
            return api.query_range(lapse.promql(text), span.start, span.end, span.step)

        for one in dashboards:
            yield one.name, pictures.svg(one.with_all(), ask, span)


def write(settings: Settings, folder: Path, advance: Advance = lambda done, total: None) -> list[Path]:
    """Draw into *folder*, made if need be; the files written. Raises as `draw` does, and OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in draw(settings, advance):
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
