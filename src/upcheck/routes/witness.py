"""An alert, and a moment, that two configurations treat differently: what a test would have to send.

Labels are tried with each value that a matcher names, with another, and with none. Where matchers name all values there
are to tell apart, that there is no witness proves that the two are equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, count, islice, product

from upcheck.routes import Delivery, Labels, Place, Routes, shown, walk
from upcheck.routes.configuration import TIMINGS, Configuration, Inhibition, Route
from upcheck.routes.intervals import Interval, zone
from upcheck.routes.matchers import Matcher, every

MOST = 10_000  # combinations that are tried
UNTOLD = "no test tells the two apart"
_WORDS = re.compile(r"[\w /:@,-]*(\|[\w /:@,-]*)*")
_ANY = (".*", ".+")
_YEARS = (2026, 2028)  # the second has a 29th of February
_DAY = 24 * 60


def alternatives(pattern: str) -> list[str] | None:
    """The values that *pattern* stands for, where it is `a|b|c`, or that in parentheses and anchors; else None."""
    bare = pattern.removeprefix("^").removesuffix("$")
    if bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1].removeprefix("?:")
    return bare.split("|") if _WORDS.fullmatch(bare) else None


def apart(ours: Iterable[Matcher], theirs: Iterable[Matcher]) -> bool:
    """Whether no alert can fit both: some label has to have values that exclude each other."""
    return any(
        one.label == other.label and not set(words) & set(others)
        for one, words in _listed(ours)
        for other, others in _listed(theirs)
    )


def _listed(matchers: Iterable[Matcher]) -> Iterator[tuple[Matcher, list[str]]]:
    """Those of *matchers* that name all values they take."""
    for one in matchers:
        words = [one.value] if one.op == "=" else alternatives(one.value) if one.op == "=~" else None
        if words is not None:
            yield one, words


def witness(before: Configuration, after: Configuration, subject: str, where: Place | str = ()) -> str | None:
    """What no test does where *after* goes unnoticed for *before*; None where nothing can tell them apart.

    They differ in a *subject*: a `route`, *where* is its place; an `inhibition`; or the `interval` called *where*.
    """
    if subject == "interval":
        return _of_intervals(before, after, str(where))
    return _of_inhibitions(before, after) if subject == "inhibition" else _of_routes(before, after, tuple(where))


def _of_routes(before: Configuration, after: Configuration, place: Sequence[object]) -> str | None:
    matchers = [one for whole in (before, after) for _, route in walk(whole.root) for one in route.matchers]
    values, exact = _values(matchers)
    few = math.prod(map(len, values.values())) <= MOST
    ours, theirs = Routes(before), Routes(after)
    near = (alert for whole in (before, after) for alert in _near(whole, values, len(place), place))
    for alert in chain(islice(near, MOST), _alerts(values) if few else ()):
        was, is_now = ours.of(alert), theirs.of(alert)
        if _facts(was) != _facts(is_now):
            return _told(alert, was, is_now)
    return None if exact and few else UNTOLD


def _near(
    whole: Configuration, values: Mapping[str, Sequence[str]], depth: int, place: Sequence[object]
) -> Iterator[dict[str, str]]:
    """Alerts for the route at *place* and those around it: each as it takes it, then with any one label changed."""
    around = [(one, route) for one, route in walk(whole.root) if one[: depth - 1] == place[: depth - 1]]
    for one, _ in sorted(around, key=lambda found: found[0] != place):
        taken = {label: value for label, value in _taking(whole.root, one, values) if value}
        yield taken
        for label, some in values.items():
            rest = {name: value for name, value in taken.items() if name != label}
            yield from ({**rest, label: value} if value else rest for value in some)


def _taking(root: Route, place: Place, values: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Labels that fit all matchers on the way to *place*, as far as one of *values* does."""
    way: dict[str, list[Matcher]] = {}
    for number in place:
        root = root.routes[number]
        for one in root.matchers:
            way.setdefault(one.label, []).append(one)
    for label, matchers in way.items():
        yield label, next((value for value in values[label] if every(matchers, {label: value})), "")


def _facts(delivery: Delivery) -> list[tuple[object, ...]]:
    return sorted(_fact(delivery))


def _fact(delivery: Delivery) -> Iterator[tuple[object, ...]]:
    for one in delivery.notifications:
        timings = tuple(getattr(one, name) for name in TIMINGS)
        yield one.receiver, sorted(one.group_by), timings, sorted(set(one.mute)), sorted(set(one.active))


def _told(alert: Labels, was: Delivery, is_now: Delivery) -> str:
    """What a test needs to tell the two apart."""
    sent = shown(alert) if alert else '{alertname="Any"}'
    if sorted(was.receivers) != sorted(is_now.receivers):
        return f"no test expects {sent} to tell {was}, and no other: add one"
    for name in ("group_by", *TIMINGS):
        if [getattr(one, name) for one in was.notifications] != [getattr(one, name) for one in is_now.notifications]:
            return f"no test of {sent} says {name}: add it to the receiver"
    names = {name for one in (*was.notifications, *is_now.notifications) for name in (*one.mute, *one.active)}
    return f"no test of {sent} stands inside and outside {', '.join(sorted(names))}: add one"


def _of_inhibitions(before: Configuration, after: Configuration) -> str | None:
    ours, theirs = before.inhibitions, after.inhibitions
    changed = [one for one in ours if one not in theirs], [one for one in theirs if one not in ours]
    told, same = _beside(*changed)
    if told is None and same:
        return None
    found, same = _beside(ours, theirs)  # another rule may do the same
    return found or (None if same else UNTOLD)


def _beside(ours: Sequence[Inhibition], theirs: Sequence[Inhibition]) -> tuple[str | None, bool]:
    """What tells the two apart; else None, and whether nothing does."""
    rules = [*ours, *theirs]
    values, exact = _values([one for rule in rules for one in (*rule.source, *rule.target)])
    equal = sorted({label for rule in rules for label in rule.equal})
    tried = 0
    for target, source in islice(_pairs(values, equal), MOST):
        tried += 1
        was, is_now = (any(rule.inhibits(source, target) for rule in some) for some in (ours, theirs))
        if was != is_now:
            told = "is silent" if was else "is told"
            return f"no test expects that {shown(target)} {told} beside {shown(source)}: add one", False
    return None, exact and tried < MOST


def _pairs(values: Mapping[str, Sequence[str]], equal: Sequence[str]) -> Iterator[tuple[Labels, Labels]]:
    """A target and a source: with the same labels in *equal*, with all but one, with none that is given at all."""
    free = {label: "a" for label in equal if label not in values}
    for one in _alerts(values):
        for other in _alerts(values):
            yield {**one, **free}, {**other, **free}
            for label in equal:
                rest = {name: value for name, value in free.items() if name != label}
                yield {**one, **free}, {**other, **rest, **({label: "b"} if label in free else {})}


def _of_intervals(before: Configuration, after: Configuration, name: str) -> str | None:
    named = {one for _, route in walk(before.root) for one in (*route.mute, *route.active)}
    was, is_now = (next((one for one in whole.intervals if one.name == name), None) for whole in (before, after))
    if was is None or is_now is None or name not in named:
        return None
    for moment in _moments(was, is_now):
        if was.contains(moment) != is_now.contains(moment):
            where = "within" if was.contains(moment) else "outside"
            return f"no test stands at {moment.strftime('%A %Y-%m-%dT%H:%MZ')}, {where} {name}: add one"
    return None


def _moments(was: Interval, is_now: Interval) -> Iterator[datetime]:
    """Each day of some years, at each minute where one of the two begins or ends, and beside it."""
    spans = [*was.spans, *is_now.spans]
    bounds = {bound for span in spans for one in span.times or () for bound in one}
    minutes = sorted({minute for bound in bounds for minute in (bound - 1, bound) if 0 <= minute < _DAY} | {_DAY // 2})
    edges = {bound for span in spans for one in span.years or () for bound in one}
    years = {year for edge in edges for year in (edge - 1, edge, edge + 1)}
    zones = {span.location for span in spans}
    for year in (*_YEARS, *sorted(year for year in years if 1 < year < 9999)):
        for day in range(366):
            for location in sorted(zones):
                start = datetime(year, 1, 1, tzinfo=zone(location) or UTC) + timedelta(days=day)
                yield from ((start + timedelta(minutes=minute)).astimezone(UTC) for minute in minutes)


def _values(matchers: Iterable[Matcher]) -> tuple[dict[str, list[str]], bool]:
    """The values to try of each label, and whether these are all that *matchers* can tell apart."""
    found: dict[str, dict[str, None]] = {}
    exact = True
    for one in matchers:
        words = [one.value] if one.op in ("=", "!=") else [] if one.value in _ANY else alternatives(one.value)
        exact = exact and words is not None
        likely = re.sub(r"[\\^$()?]", "", re.sub(r"\.[*+]", "x", one.value.partition("|")[0]))
        found.setdefault(one.label, {}).update(dict.fromkeys([likely] if words is None else words))
    return {label: [*sorted(some.keys() - {""}), _other(some), ""] for label, some in found.items()}, exact


def _other(named: Collection[str]) -> str:
    """A value that is none of *named*."""
    return next(value for number in count() if (value := f"other{number or ''}") not in named)


def _alerts(values: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    for chosen in product(*values.values()):
        yield {label: value for label, value in zip(values, chosen, strict=True) if value}
