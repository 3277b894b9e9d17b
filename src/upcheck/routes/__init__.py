"""Who is told of an alert: an Alertmanager configuration, evaluated without an Alertmanager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from upcheck.routes import configuration
from upcheck.routes.configuration import TIMINGS, Configuration, Inhibition, Route
from upcheck.routes.matchers import described, every
from upcheck.rules.suite import seconds

ALL = "..."  # group_by all labels
_DEFAULTS = {"group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h"}
Labels = Mapping[str, str]
Place = tuple[int, ...]  # the number of each route below the one before it


@dataclass(frozen=True, slots=True)
class Notification:
    """What one route does with an alert: who is told, in which groups, how often. Times are in seconds.

    *group_by* is `("...",)` where each alert is alone. *mute* and *active* are intervals that the route names.
    *muted_by* are those that keep it silent at that moment: mute intervals around it, or all active ones, if none is.
    """

    place: Place
    receiver: str
    group_by: tuple[str, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    mute: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inhibited:
    """By which rule, and by which alert, given by its labels, an alert is kept silent."""

    rule: Inhibition
    source: Labels


@dataclass(frozen=True, slots=True)
class Delivery:
    """Who is told of the alert with *labels*: *notifications* as the routes say, unless something keeps it silent."""

    labels: Labels
    notifications: tuple[Notification, ...]
    inhibited: tuple[Inhibited, ...]

    @property
    def told(self) -> tuple[Notification, ...]:
        """The notifications that are neither muted nor inhibited."""
        return () if self.inhibited else tuple(one for one in self.notifications if not one.muted_by)

    @property
    def receivers(self) -> list[str]:
        """The receivers that are told, in the order of their routes."""
        return [one.receiver for one in self.told]

    @property
    def muted_by(self) -> list[str]:
        """The time intervals that keep some receiver silent."""
        return list(dict.fromkeys(name for one in self.notifications for name in one.muted_by))

    @property
    def inhibited_by(self) -> list[Labels]:
        """The labels of each alert that keeps this one silent."""
        return [one.source for one in self.inhibited]


class Routes:
    """A configuration that can be asked."""

    def __init__(self, told: Configuration) -> None:
        self.configuration = told
        self._known = {one.name: one for one in told.intervals}
        self._settled = dict(_settled(told.root))

    @classmethod
    def load(cls, path: Path) -> Routes:
        """Those of the configuration at *path*; raises DocumentError."""
        return cls(configuration.load(path))

    def of(self, labels: Labels, *, at: datetime | str | None = None, beside: Sequence[Labels] = ()) -> Delivery:
        """Who is told of an alert with *labels* at a moment, while those *beside* fire.

        *at* is UTC unless it says otherwise; without it nothing is muted. Raises ValueError where it is no time.
        """
        alert = _given(labels)
        moment = _moment(at)
        taken = [self._settled[place] for place in _taken(self.configuration.root, (), alert)]
        if moment is not None:
            taken = [replace(one, muted_by=self._muted_by(one, moment)) for one in taken]
        others = [_given(one) for one in beside]
        inhibited = [
            Inhibited(rule, other)
            for rule in self.configuration.inhibitions
            for other in others
            if rule.inhibits(other, alert)
        ]
        return Delivery(alert, tuple(taken), tuple(inhibited))

    def settled(self, place: Place) -> Notification:
        """What the route at *place* does, with what it inherits."""
        return self._settled[place]

    def _muted_by(self, notification: Notification, at: datetime) -> tuple[str, ...]:
        muted = tuple(name for name in notification.mute if self._holds(name, at))
        active = notification.active
        return muted + (() if any(self._holds(name, at) for name in active) else active)

    def _holds(self, name: str, at: datetime) -> bool:
        return name in self._known and self._known[name].contains(at)


def picture(routes: Routes, delivery: Delivery) -> str:
    """The tree of *routes*, with `>` before those that the alert takes, and who is told at their ends."""
    taken = {one.place: one for one in delivery.notifications}
    rows = [
        (_passed(place, taken), "  " * len(place) + (described(route.matchers) if place else "route"), place)
        for place, route in walk(routes.configuration.root)
    ]
    width = max(len(text) for _, text, _ in rows)
    return "\n".join(f"{mark} {text:<{width}}  {_end(routes, place, taken)}".rstrip() for mark, text, place in rows)


def walk(route: Route, place: Place = ()) -> Iterator[tuple[Place, Route]]:
    """*route* and all below it, each with its place."""
    yield place, route
    for number, child in enumerate(route.routes):
        yield from walk(child, (*place, number))


def _passed(place: Place, taken: Mapping[Place, Notification]) -> str:
    return ">" if any(one[: len(place)] == place for one in taken) else " "


def _end(routes: Routes, place: Place, taken: Mapping[Place, Notification]) -> str:
    receiver = routes.settled(place).receiver
    muted = f" (muted by {', '.join(taken[place].muted_by)})" if place in taken and taken[place].muted_by else ""
    return f"{receiver}{'  <' if place in taken else ''}{muted}"


def _given(labels: Labels) -> dict[str, str]:
    """*labels* without those that are empty, which to Alertmanager are missing."""
    return {name: value for name, value in labels.items() if value}


def _moment(at: datetime | str | None) -> datetime | None:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _taken(route: Route, place: Place, alert: Labels) -> list[Place]:
    """The places where *alert* ends up, if it gets into *route* at all."""
    if not every(route.matchers, alert):
        return []
    found: list[Place] = []
    for number, child in enumerate(route.routes):
        below = _taken(child, (*place, number), alert)
        found += below
        if below and not child.proceed:
            break
    return found or [place]


def _settled(root: Route) -> Iterator[tuple[Place, Notification]]:
    """What each route does, with what it inherits."""
    known: dict[Place, tuple[str, tuple[str, ...], Mapping[str, str]]] = {}
    for place, route in walk(root):
        receiver, group_by, timings = known[place[:-1]] if place else ("", (), _DEFAULTS)
        known[place] = (route.receiver or receiver, route.group_by or group_by, {**timings, **route.timings})
        receiver, group_by, timings = known[place]
        wait, interval, repeat = (seconds(timings[name]) for name in TIMINGS)
        yield place, Notification(place, receiver, group_by, wait, interval, repeat, route.mute, route.active)
