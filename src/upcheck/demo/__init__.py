"""A demonstration that is real: made-up traffic, the repo's own collector, and Prometheus with the rules that ship.

Traffic ── POST /api/events ──> collector.py ── /metrics ──> prometheus (monitoring/prometheus/rules) ── its pages
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from upcheck import run, tools
from upcheck.demo.traffic import Traffic
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.prometheus import PrometheusError, local
from upcheck.settings import Settings

SCRAPE = "2s"
TICK = 1.0  # seconds between two batches of events


class DemoError(Exception):
    """The demonstration can't go on; the sentence says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: the addresses of the collector and of Prometheus."""

    collector: str
    prometheus: str

    def tell(self, traffics: Sequence[Traffic]) -> int:
        """Have each of *traffics* tell a batch of events to the collector; how many were taken. Raises DemoError."""
        events = [event for traffic in traffics for event in traffic.batch()]
        headers = (("Content-Type", "application/json"),)
        request = Request(f"{self.collector}/api/events", "POST", headers, json.dumps(events).encode())
        try:
            answer = fetch(request)
            told = json.loads(answer.body)
        except (ProbeFailure, ValueError) as error:
            raise DemoError(f"the collector takes no events: {error}") from None
        if told.get("rejected") or answer.status != 200:
            raise DemoError(f"the collector refused events: {answer.text[:300]}")
        return int(told["accepted"])


@contextlib.contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    """The collector and Prometheus on free ports, for as long as the block lasts. Raises DemoError, run.RunError."""
    found = tools.find("prometheus", settings)
    if found is None:
        raise DemoError("there is no prometheus: type `upcheck tools install`")
    with (
        tempfile.TemporaryDirectory(prefix="upcheck-demo-") as folder,
        run.collector(settings, UPCHECK_HISTORY=f"{folder}/history.sqlite") as collector,  # no checks of ours in it
        contextlib.ExitStack() as stack,
    ):
        configured = configuration(settings, collector.removeprefix("http://"))
        try:
            url = stack.enter_context(local.serving(found.path, Path(folder), configured))
        except PrometheusError as error:
            raise DemoError(str(error)) from None
        yield Stage(collector, url)


def configuration(settings: Settings, collector: str) -> str:
    """A Prometheus configuration that scrapes *collector* alone, and loads all rules of the repo."""
    document = {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(settings.monitoring / "prometheus/rules/*.yml")],
        "scrape_configs": [{"job_name": "collector", "static_configs": [{"targets": [collector]}]}],
    }
    return yaml.safe_dump(document, sort_keys=False)
