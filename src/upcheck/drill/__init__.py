"""The whole path, for real: metric, rule, alert, route, receiver, bytes. In a time-lapse, among stand-ins.

plays (rule tests) ── exporter ──> prometheus (a copy of the rules for each) ──> alertmanager (the routes) ──> Sinks
  └── promtool says what will happen ────────────────> verdict <──────────────── Routes say who is told ────────┘
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upcheck import documents, tools
from upcheck.alertmanager import check_config
from upcheck.drill.plays import FACTOR, DrillError, Labels, Play, chosen, rule_tests
from upcheck.drill.receivers import LABEL, Told, read, redirected
from upcheck.drill.stage import Running, page, write
from upcheck.drill.verdict import Outcome, Seen, Way, judged, way
from upcheck.probes.http import Request, fetch
from upcheck.routes import Routes
from upcheck.rules.timelapse import Lapse
from upcheck.servers import ServerError, alertmanager, prometheus
from upcheck.servers.exporter import exporter
from upcheck.servers.sinks import Sinks
from upcheck.settings import Settings

__all__ = ["DrillError", "Outcome", "Told", "drill"]

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday: the moment that it is to Alertmanager
LEAD = 8.0  # seconds of ours until the plays begin: Prometheus looks for its targets each five
PATIENCE = 10.0  # seconds of ours after the last alert is over: for groups to be told of it
LOOK = 0.5  # seconds of ours between two looks at what fires


def drill(
    settings: Settings,
    alerts: Iterable[str] = (),
    *,
    at: datetime = NOON,
    sinks: Callable[[], Sinks] = Sinks,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Drill *alerts*, or all that the rule tests of this repo fire, at the moment *at*, all at once.

    What does not agree is drilled again without the others: a busy machine is late. *sinks* are the stand-ins for
    receivers. Raises DrillError, DocumentError, ServerError, ToolError, EvaluationError, CommandError.
    """
    found = tools.ensure(("promtool", "amtool", "prometheus", "alertmanager"), settings)
    path = settings.monitoring / "alertmanager/alertmanager.yml"
    alerting = Alerting(path, Routes.load(path), _external(settings.monitoring / "prometheus/prometheus.yml"), at)
    if not (verdict := check_config(found["amtool"].path, path)).ok:
        why = next((line for line in verdict.text.splitlines() if "FAILED" in line), verdict.text).partition("FAILED:")
        raise DrillError(f"{path}: amtool refuses it: {(why[2] or why[0]).strip()}")
    progress("promtool simulates what will happen")
    tests = rule_tests(settings.rules_tests)
    plays = chosen(found["promtool"].path, tests, alerting.routes, alerting.external, alerts)
    if not plays:
        raise DrillError(f"{settings.rules_tests}: no rule test there fires an alert, so there is nothing to play")
    outcomes = _played(settings, plays, alerting, sinks, progress)
    again = [index for index, one in enumerate(outcomes) if one.problems]
    if 0 < len(again) < len(plays):
        second = _played(settings, [plays[index] for index in again], alerting, sinks, progress)
        for index, outcome in zip(again, second, strict=True):
            outcomes[index] = outcome
    return outcomes


@dataclass(frozen=True, slots=True)
class Alerting:
    """Alertmanager's configuration at *path*, its routes, the labels that Prometheus adds, and the moment it is."""

    path: Path
    routes: Routes
    external: Mapping[str, str]
    at: datetime


def _played(
    settings: Settings,
    plays: Sequence[Play],
    alerting: Alerting,
    sinks: Callable[[], Sinks],
    progress: Callable[[str], None],
) -> list[Outcome]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upcheck-drill-")))
        told = stack.enter_context(sinks())
        made, integrations = redirected(alerting.path, alerting.routes, Lapse(FACTOR), alerting.at, told)
        (folder / "alertmanager.yml").write_text(json.dumps(made), encoding="utf-8")  # JSON is YAML
        receivers = stack.enter_context(alertmanager(settings, folder / "alertmanager.yml", folder / "alertmanager"))
        begin = time.time() + LEAD
        plan = [Running(number, play, Lapse(play.factor, begin)) for number, play in enumerate(plays)]
        exporters = stack.enter_context(exporter(lambda path: page(plan[int(path.strip("/"))])))
        configured = write(folder, plan, exporters.address, receivers, alerting.external)
        url = stack.enter_context(prometheus(settings, configured, folder / "data", *Lapse(FACTOR).flags()))
        _found(url, len(plan), begin)
        time.sleep(max(0.0, begin - time.time()))
        longest = max(one.length for one in plan)
        progress(f"playing {len(plays)} alerts, {longest:.0f} s" if len(plays) > 1 else f"playing {plays[0].alert}")
        ways = [way(play, integrations, alerting.routes, alerting.external, alerting.at) for play in plays]
        places = {one.place: one for one in integrations}
        annotations: dict[Labels, Mapping[str, str]] = {}
        messages: list[Told] = []
        while time.time() < begin + longest + PATIENCE and not _complete(plan, ways, messages):
            time.sleep(LOOK)
            annotations |= _annotations(url)
            messages = [read(message, places) for message in list(told.messages)]
        seen, said = _seen(url, annotations), _last(folder / "alertmanager.log")
        return [
            judged(one, seen.get(one.number, {}), messages, where, said) for one, where in zip(plan, ways, strict=True)
        ]


def _external(path: Path) -> dict[str, str]:
    """The labels that Prometheus adds to each alert that it sends."""
    document = documents.load(path) if path.is_file() else {}
    return {str(key): str(value) for key, value in (document.get("global") or {}).get("external_labels", {}).items()}


def _found(url: str, count: int, begin: float) -> None:
    """Until Prometheus has found the exporters and Alertmanager, for which it takes its time. Raises ServerError."""
    while time.time() < begin:
        targets = _asked(f"{url}/api/v1/targets")["activeTargets"]
        receivers = _asked(f"{url}/api/v1/alertmanagers")["activeAlertmanagers"]
        if sum(one["health"] == "up" for one in targets) == count and receivers:
            return
        time.sleep(0.1)
    raise ServerError(
        f"prometheus did not find the drill's exporters and its Alertmanager in {LEAD:g} s: is it busy here?"
    )


def _complete(plan: Sequence[Running], ways: Sequence[Way], messages: Sequence[Told]) -> bool:
    """Whether all that will be told has been: each play is over, and each receiver knows."""
    known = {(one.drill, one.integration, one.status) for one in messages}
    wanted = {
        (str(one.number), integration, status)
        for one, where in zip(plan, ways, strict=True)
        for integration in where.integrations
        for status in ("firing", *(["resolved"] if integration.resolved else []))
    }
    return wanted <= known and time.time() > max(one.lapse.epoch + one.length for one in plan) + 1.0


def _annotations(url: str) -> dict[Labels, Mapping[str, str]]:
    """Those of the alerts that fire now, by their labels."""
    alerts = _asked(f"{url}/api/v1/alerts")["alerts"]
    return {frozenset(one["labels"].items()): one["annotations"] for one in alerts if one["state"] == "firing"}


def _seen(url: str, annotations: Mapping[Labels, Mapping[str, str]]) -> dict[int, dict[Labels, Seen]]:
    """By play, all evaluations at which an alert was pending or firing."""
    times: dict[Labels, dict[str, tuple[float, ...]]] = {}
    for one in _asked(f"{url}/api/v1/query?query=ALERTS%5B1h%5D")["result"]:
        named = {name: value for name, value in one["metric"].items() if name != "__name__"}
        state = named.pop("alertstate")
        times.setdefault(frozenset(named.items()), {})[state] = tuple(float(at) for at, _ in one["values"])
    found: dict[int, dict[Labels, Seen]] = {}
    for labels, states in times.items():
        number = int(dict(labels)[LABEL])
        own = frozenset((name, value) for name, value in labels if name != LABEL)
        said = Seen(states.get("pending", ()), states.get("firing", ()), annotations.get(labels, {}))
        found.setdefault(number, {})[own] = said
    return found


def _asked(url: str) -> Any:
    return json.loads(fetch(Request(url, deadline=30.0)).body)["data"]


def _last(log: Path) -> str:
    """What the server complained of last."""
    told = [line for line in log.read_text(errors="replace").splitlines() if "level=" in line]
    return told[-1] if told else ""
