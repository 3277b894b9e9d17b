"""An Alertmanager configuration, as far as it says who is told: routes, inhibition, time intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from upcheck import documents
from upcheck.documents import DocumentError, Map, Seq
from upcheck.routes import intervals
from upcheck.routes.intervals import Interval, Span
from upcheck.routes.matchers import Matcher, described, every, made, parse

TIMINGS = ("group_wait", "group_interval", "repeat_interval")
_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_T = TypeVar("_T")
_Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A route as it is written; what is empty is inherited, but for *mute* and *active*. *proceed* is its `continue`.

    *timings* has those of TIMINGS that it gives.
    """

    line: int
    matchers: tuple[Matcher, ...] = ()
    receiver: str = ""
    group_by: tuple[str, ...] = ()
    timings: Mapping[str, str] = field(default_factory=dict)
    mute: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    proceed: bool = False
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While an alert that fits *source* fires, those that fit *target* and have the same *equal* labels are silent."""

    line: int
    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...]

    def __str__(self) -> str:
        return f"{described(self.source)} inhibits {described(self.target)}"

    def inhibits(self, source: Mapping[str, str], target: Mapping[str, str]) -> bool:
        """Whether the alert *source* keeps *target* silent. Of two that fit both sides neither does."""
        return (
            every(self.target, target)
            and every(self.source, source)
            and all(source.get(name, "") == target.get(name, "") for name in self.equal)
            and not (every(self.source, target) and every(self.target, source))
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """What *path* says of who is told."""

    path: Path
    root: Route
    inhibitions: tuple[Inhibition, ...] = ()
    intervals: tuple[Interval, ...] = ()


def load(path: Path) -> Configuration:
    """The Alertmanager configuration at *path*; raises DocumentError.

    What `amtool check-config` refuses beside form, such as a receiver that is not there, is not looked at.
    """
    return _Reader(path, documents.load(path, texts=True)).configuration()


@dataclass(frozen=True)
class _Reader:
    """The document in *path*; a value is named by the steps to it."""

    path: Path
    document: Any

    def configuration(self) -> Configuration:
        if not isinstance(self.document, Map) or not isinstance(self.document.get("route"), Map):
            raise self._error("expected an Alertmanager configuration: a mapping with route and receivers", ("route",))
        found = [
            self._interval(steps) for key in ("time_intervals", "mute_time_intervals") for steps in self._items((key,))
        ]
        inhibitions = tuple(self._inhibition(steps) for steps in self._items(("inhibit_rules",)))
        return Configuration(self.path, self._route(("route",)), inhibitions, tuple(found))

    def _route(self, steps: _Steps) -> Route:
        timings = {name: self._text((*steps, name)) for name in TIMINGS}
        return Route(
            line=self._line(steps),
            matchers=self._matchers(steps, "match", "match_re", "matchers"),
            receiver=self._text((*steps, "receiver")),
            group_by=self._texts((*steps, "group_by")),
            timings={name: text for name, text in timings.items() if text},
            mute=self._texts((*steps, "mute_time_intervals")),
            active=self._texts((*steps, "active_time_intervals")),
            proceed=self._text((*steps, "continue")) in _TRUE,
            routes=tuple(self._route(one) for one in self._items((*steps, "routes"))),
        )

    def _inhibition(self, steps: _Steps) -> Inhibition:
        source, target = (
            self._matchers(steps, f"{side}_match", f"{side}_match_re", f"{side}_matchers")
            for side in ("source", "target")
        )
        return Inhibition(self._line(steps), source, target, self._texts((*steps, "equal")))

    def _matchers(self, steps: _Steps, equal: str, pattern: str, listed: str) -> tuple[Matcher, ...]:
        found: list[Matcher] = []
        for key, op in ((equal, "="), (pattern, "=~")):
            for label in self._map((*steps, key)):
                place = (*steps, key, label)
                found.append(self._read(place, made, str(label), op, self._text(place)))
        for index, text in enumerate(self._texts((*steps, listed))):
            found += self._read((*steps, listed, index), parse, text)
        return tuple(found)

    def _interval(self, steps: _Steps) -> Interval:
        spans = tuple(self._span(one) for one in self._items((*steps, "time_intervals")))
        return Interval(self._text((*steps, "name")), self._line(steps), spans)

    def _span(self, steps: _Steps) -> Span:
        ranges: dict[str, Any] = {}
        for name in intervals.FIELDS:
            if self._value((*steps, name)) is not None:
                texts = self._texts((*steps, name))
                ranges[name] = tuple(
                    self._read((*steps, name, index), intervals.parse, name, text) for index, text in enumerate(texts)
                )
        if self._value((*steps, "times")) is not None:
            ranges["times"] = tuple(
                (self._minutes((*one, "start_time")), self._minutes((*one, "end_time")))
                for one in self._items((*steps, "times"))
            )
        location = self._text((*steps, "location")) or "UTC"
        self._read((*steps, "location"), intervals.zone, location)
        return Span(self._line(steps), location=location, **ranges)

    def _minutes(self, steps: _Steps) -> int:
        return self._read(steps, intervals.minutes, self._text(steps))

    def _read(self, steps: _Steps, reader: Callable[..., _T], *arguments: str) -> _T:
        """What *reader* makes of *arguments*, or what it says against them, at the place *steps*."""
        try:
            return reader(*arguments)
        except ValueError as error:
            raise self._error(str(error), steps) from None

    def _items(self, steps: _Steps) -> Iterator[_Steps]:
        """The steps to each mapping in the list at *steps*."""
        for index, value in enumerate(self._list(steps)):
            if not isinstance(value, Map):
                raise self._error(f"{_name(steps)}: expected a list of mappings", (*steps, index))
            yield (*steps, index)

    def _texts(self, steps: _Steps) -> tuple[str, ...]:
        return tuple(self._text((*steps, index)) for index in range(len(self._list(steps))))

    def _text(self, steps: _Steps) -> str:
        value = self._value(steps)
        if isinstance(value, Map | Seq):
            raise self._error(f"{_name(steps)}: expected text", steps)
        return value or ""

    def _list(self, steps: _Steps) -> Sequence[Any]:
        value = self._value(steps)
        if value is not None and not isinstance(value, Seq):
            raise self._error(f"{_name(steps)}: expected a list", steps)
        return value or ()

    def _map(self, steps: _Steps) -> Mapping[Any, Any]:
        value = self._value(steps)
        if value is not None and not isinstance(value, Map):
            raise self._error(f"{_name(steps)}: expected a mapping", steps)
        return value or {}

    def _value(self, steps: _Steps) -> Any:
        value = self.document
        for step in steps:
            value = value.get(step) if isinstance(value, Map) else value[step]
        return value

    def _line(self, steps: _Steps) -> int:
        return documents.where(self.document, steps)[0]

    def _error(self, message: str, steps: _Steps) -> DocumentError:
        return DocumentError(self.path, message, *documents.where(self.document, steps))


def _name(steps: _Steps) -> str:
    return next(step for step in reversed(steps) if isinstance(step, str))
