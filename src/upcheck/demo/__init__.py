"""A demonstration that is real: made-up traffic, the repo's own collector, and Prometheus with the rules that ship.

Traffic ── POST /api/events ──> collector.py ── /metrics ──┐
Host ───── files of /proc ────────^                        ├─> prometheus (the rules, in a time-lapse) ── ALERTS
exporter ─ the series of other exporters ──────────────────┘
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from upcheck import documents, run
from upcheck.demo.checks import Checks
from upcheck.demo.host import DISK, Host
from upcheck.demo.scenario import Scenario
from upcheck.demo.traffic import Traffic
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.prometheus import Prometheus
from upcheck.rules.promql import duration
from upcheck.rules.timelapse import Lapse
from upcheck.servers import prometheus
from upcheck.servers.exporter import exporter
from upcheck.settings import Settings

INTERVAL = 15.0  # seconds of the time that is played: how often is scraped and evaluated, as in what ships
TICK = 0.1  # seconds between two batches of events, at most


class DemoError(Exception):
    """The demonstration can't go on; the sentence says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: the addresses of the collector and of Prometheus, and what is played there."""

    collector: str
    prometheus: str
    factor: float
    traffics: Sequence[Traffic]
    host: Host
    exported: dict[str, float]  # the series of other exporters
    checks: Checks | None = None

    def fault(self, *names: str) -> None:
        """From now on these faults are there, of those services that have them, and no others."""
        for traffic in self.traffics:
            traffic.play = traffic.scenario.play(names)

    def play(self, span: float) -> int:
        """Have all happen that happens in *span* seconds of ours; how many events there were. Raises DemoError."""
        end, events = time.monotonic() + span, 0
        last = time.monotonic()
        while last < end:
            time.sleep(max(0.0, min(TICK, end - last)))
            now = time.monotonic()
            events += self._tell((now - last) * self.factor)
            last = now
        return events

    def until(self, alerts: Iterable[str], span: float = 3600.0) -> set[str]:
        """Play until all *alerts* fire, or for *span* seconds of the time that is played; the names that fire then.

        Raises DemoError, PrometheusError.
        """
        wanted, end = set(alerts), time.monotonic() + span / self.factor
        api = Prometheus(self.prometheus)
        while True:
            firing = {one.labels["alertname"] for one in api.query('ALERTS{alertstate="firing"}')}
            if wanted <= firing or time.monotonic() > end:
                return firing
            self.play(0.5)

    def _tell(self, span: float) -> int:
        plays = [traffic.play for traffic in self.traffics]
        for play in plays:
            self.exported.update(play.exporters)
            for series, rate in play.growing.items():
                self.exported[series] = self.exported.get(series, 0.0) + rate * span
        if self.checks is not None:
            self.checks.run(span)
        self.host.cpu = max([play.host.get("cpu", 0.2) for play in plays])
        self.host.memory = max([play.host.get("memory", 0.4) for play in plays])
        events = [event for traffic in self.traffics for event in traffic.batch(span)]
        return self._send(events) if events else 0

    def _send(self, events: list[dict[str, Any]]) -> int:
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
def stage(
    settings: Settings, scenarios: Sequence[Scenario], factor: float = 60.0, *, monitors: bool = False
) -> Iterator[Stage]:
    """The collector and Prometheus on free ports, for as long as the block lasts; *factor* seconds pass in one.

    With *monitors*, made-up checks run, too, and Prometheus scrapes itself.

    Raises DemoError, DocumentError, run.RunError, ServerError.
    """
    exported: dict[str, float] = dict(DISK)
    with tempfile.TemporaryDirectory(prefix="upcheck-demo-") as name:
        folder = Path(name)
        history = folder / "history.sqlite"  # no checks of ours in it
        said = {
            "UPCHECK_HISTORY": str(history),
            "UPCHECK_PROCFS": str(folder / "proc"),
            "METRICS_SYSTEM_INTERVAL": f"{max(100.0, INTERVAL / factor * 1000):.0f}",
            "HEALTH_CHECK_INTERVAL": f"{max(100.0, INTERVAL / factor * 1000):.0f}",
        }
        with (
            Host(folder / "proc", factor) as host,
            exporter(
                lambda path: "".join(f"{name} {value!r}\n" for name, value in list(exported.items()))
            ) as exporters,
            run.collector(settings, **said) as collector,
        ):
            lapse = Lapse(factor, wall_clock=True)
            file = _configuration(settings, lapse, folder, [collector.removeprefix("http://"), exporters.address])
            with (
                prometheus(settings, file, folder / "data", *lapse.flags()) as url,
                Checks(history) if monitors else contextlib.nullcontext() as checks,
            ):
                if monitors:  # which finds the file as it is written: its port is not known before it runs
                    (folder / "self.json").write_text(json.dumps([{"targets": [url.removeprefix("http://")]}]))
                traffics = [Traffic(scenario) for scenario in scenarios]
                yield Stage(collector, url, factor, traffics, host, exported, checks)


def _configuration(settings: Settings, lapse: Lapse, folder: Path, targets: Sequence[str]) -> Path:
    """A configuration of Prometheus that scrapes *targets*, and has all rules of the repo in the time-lapse."""
    for file in sorted((settings.monitoring / "prometheus/rules").glob("*.yml")):
        made = lapse.rules(documents.load(file))
        Path(folder, f"rules-{file.name}").write_text(json.dumps(made), encoding="utf-8")  # JSON is YAML
    every = duration(lapse.duration(INTERVAL))
    document = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(folder / "rules-*.yml")],
        "scrape_configs": [
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}
            for job, target in zip(("collector", "exporters"), targets, strict=True)
        ]
        + [{"job_name": "prometheus", "file_sd_configs": [{"files": [str(folder / "self.json")]}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
