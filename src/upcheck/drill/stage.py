"""What runs in a drill: a copy of the rules for each play, in a time-lapse of its own, and the page of its series."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upcheck import documents
from upcheck.drill.plays import COUNTERS, MARK, DrillError, Play, grows, value
from upcheck.drill.receivers import LABEL
from upcheck.rules.promql import Binary, Expr, Paren, Selector, duration, parse, replaced, selectors, walk
from upcheck.rules.timelapse import Lapse

_SERIES = ("ALERTS", "ALERTS_FOR_STATE")


@dataclass(frozen=True, slots=True)
class Running:
    """A play with its number, and its time-lapse since it began."""

    number: int
    play: Play
    lapse: Lapse

    @property
    def step(self) -> float:
        """Seconds of ours between two scrapes, and two evaluations."""
        return self.play.step / self.lapse.factor

    @property
    def length(self) -> float:
        """Seconds of ours until its alert is over."""
        ended = self.play.expected[self.play.target].ended
        return (self.play.length if ended is None else ended) / self.lapse.factor


def write(folder: Path, plan: Sequence[Running], exporter: str, receivers: str, external: Mapping[str, str]) -> Path:
    """Prometheus' configuration, in *folder*: for each play a job, and a copy of the rules for it alone."""
    jobs = []
    for one in plan:
        groups = [group for file in one.play.rule_files for group in _copied(one, documents.load(file))]
        Path(folder, f"rules-{one.number}.yml").write_text(json.dumps({"groups": groups}), encoding="utf-8")
        every = duration(one.step)
        times = {"scrape_interval": every, "scrape_timeout": every}
        where = {"metrics_path": f"/{one.number}", "static_configs": [{"targets": [exporter]}]}
        jobs.append({"job_name": f"drill-{one.number}", "honor_labels": True, **times, **where})
    document = {
        "global": {"external_labels": dict(external)},
        "rule_files": [str(folder / "rules-*.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [receivers.removeprefix("http://")]}]}]},
        "scrape_configs": jobs,
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path


def _copied(one: Running, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = one.lapse.rules(document)["groups"]
    for group in groups:
        group["name"] = f"{group['name']} {one.number}"
        group.setdefault("interval", duration(one.step))
        for rule in group["rules"]:
            expr = parse(rule["expr"])
            if MARK in one.play.series and not selectors(expr):  # or it would fire before the play begins
                expr = Binary("and", Paren(expr), Selector(MARK), matching="on")
            rule["expr"] = str(_own(expr, one.number))
            if "record" in rule:
                rule["record"] = _named(rule["record"], one.number)
            else:
                rule["labels"] = {**rule.get("labels", {}), LABEL: str(one.number)}
    return groups


def _own(expr: Expr, number: int) -> Expr:
    """*expr*, which selects nothing but the series of this play."""
    for place, node in walk(expr):
        if isinstance(node, Selector):
            if not node.name or node.name in _SERIES:
                raise DrillError(f"{node}: a drill plays series by their names, and no ALERTS")
            expr = replaced(expr, place, replace(node, name=_named(node.name, number)))
    return expr


def _named(metric: str, number: int) -> str:
    return f"{metric}:drill{number}"


def page(one: Running) -> str:
    """What the play's exporter says at this moment.

    Of a counter it says when that was: its rate is then exact, however late the scrape is on a busy machine.
    """
    now = math.floor(time.time() * 1000)
    place = (now / 1000 - one.lapse.epoch) * one.lapse.factor / one.play.interval
    lines = []
    for series, values in one.play.series.items():
        now_is = value(values, place, growing=grows(series))
        if now_is is not None:
            name, _, rest = series.partition("{")
            labels = rest.rstrip("}").strip().rstrip(",")
            own = [f'{label}=""' for label in ("job", "instance") if f"{label}=" not in labels.replace(" ", "")]
            inside = ",".join([*([labels] if labels else []), *own])  # an empty one keeps Prometheus from adding it
            when = f" {now}" if series.partition("{")[0].strip().endswith(COUNTERS) else ""
            lines.append(f"{_named(name.strip(), one.number)}{{{inside}}} {_number(now_is)}{when}\n")
    return "".join(lines)


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(value) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"
