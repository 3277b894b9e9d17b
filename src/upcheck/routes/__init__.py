"""Who is told of an alert: an Alertmanager configuration, evaluated without an Alertmanager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from upcheck.routes import configuration
from upcheck.routes.configuration import TIMINGS, Configuration, Inhibition, Route
from upcheck.routes.matchers import Matcher, described, every
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
    """Who is told of the alert with *labels*: *notifications* as the routes say, unless something keeps it silent.

    *beside* are the other alerts that fire.
    """

    labels: Labels
    notifications: tuple[Notification, ...]
    inhibited: tuple[Inhibited, ...]
    beside: tuple[Labels, ...]
    routes: Routes = field(repr=False, compare=False)

    @property
    def told(self) -> tuple[Notification, ...]:
        """The notifications that are neither muted nor inhibited."""
        return () if self.inhibited else tuple(one for one in self.notifications if not one.muted_by)

    @property
    def receivers(self) -> Receivers:
        """The receivers that are told, in the order of their routes: a list."""
        return Receivers(self)

    @property
    def muted_by(self) -> list[str]:
        """The time intervals that keep some receiver silent."""
        return list(dict.fromkeys(name for one in self.notifications for name in one.muted_by))

    @property
    def inhibited_by(self) -> list[Labels]:
        """The labels of each alert that keeps this one silent."""
        return [one.source for one in self.inhibited]

    def __str__(self) -> str:
        if self.inhibited:
            rule, source = self.inhibited[0].rule, shown(self.inhibited[0].source)
            return f"nobody: inhibited by {source} (line {rule.line})"
        told = ", ".join(self.receivers) or "nobody"
        return f"{told}: muted by {', '.join(self.muted_by)}" if self.muted_by else told

    def picture(self) -> str:
        """The tree of routes, with `>` before those that the alert takes, and `<` where it ends up."""
        ends = {one.place: one for one in self.notifications}
        rows = [
            (">" if any(end[: len(place)] == place for end in ends) else " ", self._written(place, route), place)
            for place, route in walk(self.routes.configuration.root)
        ]
        width = max(len(text) for _, text, _ in rows)
        return "\n".join(f"{mark} {text:<{width}}  {self._end(place, ends)}".rstrip() for mark, text, place in rows)

    def _written(self, place: Place, route: Route) -> str:
        return "  " * len(place) + (described(route.matchers) if place else "route")

    def _end(self, place: Place, ends: Mapping[Place, Notification]) -> str:
        receiver = self.routes.settled(place).receiver
        if place not in ends:
            return receiver
        muted = ends[place].muted_by
        return f"{receiver}  <" + (f" (muted by {', '.join(muted)})" if muted else "")


class Receivers(list[str]):
    """The names of receivers, which know of what *delivery* they are."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(one.receiver for one in delivery.told)
        self.delivery = delivery


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
        now = moment(at)
        taken = [self._settled[place] for place in _taken(self.configuration.root, (), alert)]
        if now is not None:
            taken = [replace(one, muted_by=self._muted_by(one, now)) for one in taken]
        others = [_given(one) for one in beside]
        inhibited = [
            Inhibited(rule, other)
            for rule in self.configuration.inhibitions
            for other in others
            if rule.inhibits(other, alert)
        ]
        return Delivery(alert, tuple(taken), tuple(inhibited), tuple(others), self)

    def settled(self, place: Place) -> Notification:
        """What the route at *place* does, with what it inherits."""
        return self._settled[place]

    def _muted_by(self, notification: Notification, at: datetime) -> tuple[str, ...]:
        muted = tuple(name for name in notification.mute if self._holds(name, at))
        active = notification.active
        return muted + (() if any(self._holds(name, at) for name in active) else active)

    def _holds(self, name: str, at: datetime) -> bool:
        return name in self._known and self._known[name].contains(at)


def explain(left: object, operator: str, right: object) -> list[str] | None:
    """What pytest shows where receivers are not those that were expected; None for what is not ours."""
    if operator != "==" or not isinstance(left, Receivers):
        return None
    return [f"{list(left)!r} == {right!r}", f"got {left.delivery}", *left.delivery.picture().splitlines()]


def shown(labels: Labels) -> str:
    """*labels* as Alertmanager writes them."""
    return described(Matcher(name, "=", value) for name, value in labels.items())


def walk(route: Route, place: Place = ()) -> Iterator[tuple[Place, Route]]:
    """*route* and all below it, each with its place."""
    yield place, route
    for number, child in enumerate(route.routes):
        yield from walk(child, (*place, number))


def _given(labels: Labels) -> dict[str, str]:
    """*labels* without those that are empty, which to Alertmanager are missing."""
    return {name: value for name, value in labels.items() if value}


def moment(at: datetime | str | None) -> datetime | None:
    """*at* with a time zone, UTC unless it has one; raises ValueError where it is no time."""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


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
