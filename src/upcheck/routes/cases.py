"""Route tests: a file that says who is to be told of which alerts, and whether that is so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from upcheck import documents, schema
from upcheck.documents import DocumentError, Map
from upcheck.result import Outcome, Result
from upcheck.routes import Delivery, Labels, Notification, Routes, moment, shown
from upcheck.routes.configuration import TIMINGS
from upcheck.rules.promql import duration
from upcheck.rules.suite import seconds
from upcheck.rules.verdicts import result


@dataclass(frozen=True, slots=True)
class Expected:
    """A receiver that is to be told; *group_by* and *timings* (in seconds) as far as the test names them."""

    name: str
    group_by: tuple[str, ...] | None = None
    timings: Mapping[str, float] | None = None

    def fits(self, notification: Notification) -> bool:
        """Whether it is this *notification*."""
        return (
            notification.receiver == self.name
            and (self.group_by is None or set(notification.group_by) == set(self.group_by))
            and all(getattr(notification, name) == value for name, value in (self.timings or {}).items())
        )


@dataclass(frozen=True, slots=True)
class RouteTest:
    """One test: each of *alerts* at each of *moments*, *beside* others, tells *receivers* and no one else.

    *moments* is one None where the test does not say, and then nothing is muted. *muted_by* and *inhibited_by* are None
    where the test does not say.
    """

    name: str
    line: int
    alerts: tuple[Labels, ...]
    moments: tuple[datetime | None, ...]
    beside: tuple[Labels, ...]
    receivers: tuple[Expected, ...]
    muted_by: tuple[str, ...] | None
    inhibited_by: Labels | None

    def deliveries(self, routes: Routes) -> Iterator[tuple[datetime | None, Delivery]]:
        """What becomes of each alert at each moment."""
        for alert, at in product(self.alerts, self.moments):
            yield at, routes.of(alert, at=at, beside=self.beside)

    def accepts(self, delivery: Delivery) -> bool:
        """Whether that is what is expected."""
        if self.muted_by is not None and set(delivery.muted_by) != set(self.muted_by):
            return False
        if self.inhibited_by is not None:
            wanted = self.inhibited_by.items()
            if not any(wanted <= source.items() for source in delivery.inhibited_by):
                return False
        return _paired(self.receivers, delivery.told)

    def holds(self, routes: Routes) -> bool:
        """Whether all of it is so."""
        return all(self.accepts(delivery) for _, delivery in self.deliveries(routes))


@dataclass(frozen=True, slots=True)
class RouteTests:
    """The file at *path*, and the *routes* that it tests."""

    path: Path
    routes: Routes
    tests: tuple[RouteTest, ...]


UNMET = "the alert goes elsewhere"


class Miss(NamedTuple):
    """An alert that does not go where the test says: what was asked, wanted and got, and the tree with its way."""

    asked: str
    want: str
    got: str
    diff: str


def load(path: Path) -> RouteTests:
    """The route tests in *path*; raises DocumentError, also for the configuration that it names."""
    document = documents.load(path)
    schema.validate(path, document, "routes")
    file = (path.parent / document["alertmanager"]).resolve()
    if not file.is_file():
        text = f"alertmanager: {document['alertmanager']}: there is no such file; write its path from this one"
        raise DocumentError(path, text, *documents.where(document, ["alertmanager"]))
    tests = [_test(path, document, index) for index in range(len(document["tests"]))]
    names = [one.name for one in tests]
    for test in tests:
        if names.index(test.name) != tests.index(test):
            raise DocumentError(path, f"name: {test.name!r} is another test's, too: give each its own", test.line)
    return RouteTests(path, Routes.load(file), tuple(tests))


def miss(test: RouteTest, routes: Routes) -> Miss | None:
    """The first alert of *test* that does not go where it says; None where all do."""
    for at, delivery in test.deliveries(routes):
        if not test.accepts(delivery):
            named = {name for one in test.receivers for name in _named(one)}
            return Miss(_asked(test, at, delivery), _wanted(test), _got(delivery, named), delivery.picture())
    return None


def judge(paths: Sequence[Path]) -> Iterator[Result]:
    """A result for each test in the files *paths*; one for a file that can't be read."""
    for path in paths:
        try:
            loaded = load(path)
        except DocumentError as error:
            yield result(path, error.line, path.name, Outcome.ERROR, "not readable", got=str(error))
            continue
        for test in loaded.tests:
            missed = miss(test, loaded.routes)
            if missed is None:
                yield result(path, test.line, test.name, Outcome.HELD, "")
            else:
                yield result(path, test.line, test.name, Outcome.FAILED, UNMET, **missed._asdict())


def _test(path: Path, document: Map, index: int) -> RouteTest:
    found: Map = document["tests"][index]
    moments: list[datetime | None] = []
    for at in _listed(found.get("at")):
        try:
            moments.append(moment(at))
        except ValueError:
            text = f"at: expected a moment such as 2026-11-21T03:00:00Z, not {at!r}"
            raise DocumentError(path, text, *documents.where(document, ["tests", index, "at"])) from None
    choices = [[(name, one) for one in _listed(value)] for name, value in found["alert"].items()]
    return RouteTest(
        name=found["name"],
        line=documents.where(document, ["tests", index])[0],
        alerts=tuple(dict(chosen) for chosen in product(*choices)),
        moments=tuple(moments),
        beside=tuple(found.get("beside") or ()),
        receivers=tuple(map(_expected, found["receivers"])),
        muted_by=tuple(found["muted_by"]) if "muted_by" in found else None,
        inhibited_by=found.get("inhibited_by"),
    )


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _expected(value: Any) -> Expected:
    if isinstance(value, str):
        return Expected(value)
    group_by = tuple(value["group_by"]) if "group_by" in value else None
    return Expected(value["name"], group_by, {name: seconds(value[name]) for name in TIMINGS if name in value})


def _paired(wanted: Sequence[Expected], told: Sequence[Notification]) -> bool:
    """Whether each of *wanted* has one of *told* to itself, and none is left."""
    if len(wanted) != len(told):
        return False
    if not wanted:
        return True
    first, *rest = wanted
    return any(first.fits(one) and _paired(rest, [*told[:at], *told[at + 1 :]]) for at, one in enumerate(told))


def _named(expected: Expected) -> list[str]:
    return (["group_by"] if expected.group_by is not None else []) + list(expected.timings or ())


def _asked(test: RouteTest, moment: datetime | None, delivery: Delivery) -> str:
    at = f" at {moment.isoformat()}" if moment else ""
    beside = f" beside {', '.join(map(shown, test.beside))}" if test.beside else ""
    return f"{shown(delivery.labels)}{at}{beside}"


def _wanted(test: RouteTest) -> str:
    told = ", ".join(_grouped(one.name, one.group_by, one.timings or {}) for one in test.receivers) or "nobody"
    if test.inhibited_by is not None:
        told += f": inhibited by {shown(test.inhibited_by)}"
    return told if test.muted_by is None else f"{told}: muted by {', '.join(test.muted_by) or 'nothing'}"


def _got(delivery: Delivery, named: set[str]) -> str:
    """What became of it, with what the test names of the grouping."""
    if not named or not delivery.told:
        return str(delivery)
    return ", ".join(
        _grouped(
            one.receiver,
            one.group_by if "group_by" in named else None,
            {name: getattr(one, name) for name in TIMINGS if name in named},
        )
        for one in delivery.told
    )


def _grouped(name: str, group_by: Sequence[str] | None, timings: Mapping[str, float]) -> str:
    facts = [f"group_by {', '.join(group_by)}"] if group_by is not None else []
    facts += [f"{timing} {duration(value)}" for timing, value in timings.items()]
    return f"{name} ({'; '.join(facts)})" if facts else name
