"""What the route tests have seen of an Alertmanager configuration, and which alerts have no destination asserted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from upcheck.routes import Delivery, cases, configuration, walk
from upcheck.routes.cases import RouteTests
from upcheck.routes.configuration import Configuration, Inhibition
from upcheck.routes.matchers import every
from upcheck.routes.mutants import INTERVAL, title_of
from upcheck.rules.suite import Rule, short
from upcheck.settings import nearest

_Seen = Sequence[tuple[datetime | None, Delivery]]


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that a route test can see: of a *subject* called *title*, and what is *missing* where none does.

    *kind* is taken, inhibits, spares, inside, outside or destination.
    """

    file: Path
    line: int
    subject: str
    title: str
    kind: str
    covered: bool
    missing: str


@dataclass(frozen=True, slots=True)
class Routing:
    """All points, by configuration, then by alert; *notes* are sentences about tests that look mistaken."""

    points: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()


def measure(tests: Sequence[Path], configurations: Sequence[Path] = (), rules: Sequence[Rule] = ()) -> Routing:
    """What the route tests *tests* see of what they name, of *configurations*, and of the alerts in *rules*.

    Alerts count where there is a configuration at all. Raises DocumentError.
    """
    loaded = [cases.load(path) for path in tests]
    wholes = {path.resolve(): configuration.load(path) for path in configurations}
    wholes |= {one.routes.configuration.path: one.routes.configuration for one in loaded}
    seen = {file: _seen(file, loaded) for file in wholes}
    points = [point for file, whole in wholes.items() for point in _of_configuration(whole, seen[file])]
    alerts = [rule for rule in rules if rule.name.kind == "alert"] if wholes else []
    every_seen = [(wholes[file], delivery) for file, some in seen.items() for _, delivery in some]
    for rule in alerts:
        told = any(_is(rule, whole, delivery) for whole, delivery in every_seen)
        missing = "no route test says who is told of it"
        points.append(Point(rule.file, rule.line, "alert", rule.name.text, "destination", told, missing))
    return Routing(tuple(points), tuple(_notes(loaded, {rule.name.text for rule in alerts})))


def _seen(file: Path, loaded: Sequence[RouteTests]) -> _Seen:
    """What becomes of each alert that a test sends to the configuration *file*, and when."""
    of = [one for one in loaded if one.routes.configuration.path == file]
    return [delivery for one in of for test in one.tests for delivery in test.deliveries(one.routes)]


def _of_configuration(whole: Configuration, seen: _Seen) -> Iterator[Point]:
    ends = {one.place for _, delivery in seen for one in delivery.notifications}
    for place, route in walk(whole.root):
        title = title_of(whole.root, place)
        missing = "no test sends an alert that ends up here"
        yield Point(whole.path, route.line, "route", title, "taken", place in ends, missing)
    for rule in whole.inhibitions:
        inhibits = any(one.rule is rule for _, delivery in seen for one in delivery.inhibited)
        missing = "no test has an alert that it silences"
        yield Point(whole.path, rule.line, "inhibition", str(rule), "inhibits", inhibits, missing)
        missing = "no test has an alert that it leaves alone beside another: add one whose labels in equal differ"
        spares = any(_spares(rule, delivery) for _, delivery in seen)
        yield Point(whole.path, rule.line, "inhibition", str(rule), "spares", spares, missing)
    yield from _of_intervals(whole, seen)


def _spares(rule: Inhibition, delivery: Delivery) -> bool:
    """Whether an alert that the rule could silence is not: beside its source, unless that silences all there are."""
    silenced = any(one.rule is rule for one in delivery.inhibited)
    beside = any(every(rule.source, other) or not rule.equal for other in delivery.beside)
    return beside and not silenced and every(rule.target, delivery.labels)


def _of_intervals(whole: Configuration, seen: _Seen) -> Iterator[Point]:
    named = {name for _, route in walk(whole.root) for name in (*route.mute, *route.active)}
    for interval in whole.intervals:
        met = {
            interval.contains(at)
            for at, delivery in seen
            if at is not None
            for one in delivery.notifications
            if interval.name in (*one.mute, *one.active)
        }
        for kind, inside in (("inside", True), ("outside", False)) if interval.name in named else ():
            missing = f"no test stands {kind} it on a route that names it: give one an at"
            title = f"{INTERVAL}{interval.name}"
            yield Point(whole.path, interval.line, "interval", title, kind, inside in met, missing)


def _is(rule: Rule, whole: Configuration, delivery: Delivery) -> bool:
    """Whether what was sent is the alert of *rule*: its name, and those of its labels that the routes look at."""
    looked_at = {one.label for _, route in walk(whole.root) for one in route.matchers}
    fixed = {name: str(value) for name, value in (rule.value.get("labels") or {}).items() if "{{" not in str(value)}
    wanted = {name: value for name, value in fixed.items() if name in looked_at} | {"alertname": rule.name.text}
    return wanted.items() <= delivery.labels.items()


def _notes(loaded: Sequence[RouteTests], alerts: set[str]) -> Iterator[str]:
    """Alerts that are sent and that no rule has, where the name is a likely slip."""
    for one in loaded:
        for test in one.tests:
            sent = {labels.get("alertname", "") for labels in (*test.alerts, *test.beside)}
            for name in sorted(sent - alerts - {""}):
                told = nearest(name, alerts)
                if told.startswith("; did you mean"):
                    yield f"{short(one.path)}:{test.line}: no rule has the alert {name}{told}"
