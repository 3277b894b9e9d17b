"""What can be wrong with an Alertmanager configuration: each mutant is one with one change."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from upcheck.routes import ALL, Place, Routes, intervals, walk
from upcheck.routes.configuration import Configuration, Inhibition, Route
from upcheck.routes.intervals import FIELDS, Interval, Range, Span, clock
from upcheck.routes.matchers import Matcher, described
from upcheck.routes.witness import alternatives, apart, witness
from upcheck.rules.promql import duration
from upcheck.rules.suite import seconds

INTERVAL = "time interval "  # before its name
_OPPOSITES = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}


@dataclass(frozen=True, eq=False)
class Mutant:
    """A configuration with one change. *subject* is `route`, `inhibition` or `interval`, *title* says which.

    *id* is the same for as long as that, and what is changed, are.
    """

    id: str
    subject: str
    file: Path
    line: int
    title: str
    kind: str
    before: str
    after: str
    hint: str
    configuration: Configuration


class Change(NamedTuple):
    """A change of a part: its *kind*, how it was and is written, and the part as it becomes; None where it goes."""

    kind: str
    before: str
    after: str
    part: Any


def mutants(configuration: Configuration) -> Iterator[Mutant]:
    """All mutants of *configuration*, but for those that nothing can tell from it."""
    taken: Counter[str] = Counter()
    for subject, where, line, title, change, changed in _changes(configuration):
        found = witness(configuration, changed, subject, where)
        if found is None:
            continue
        of = f"{title} {change.kind} {change.before} {change.after}"
        taken[of] += 1
        digest = hashlib.sha256(f"{of} {taken[of]}".encode()).hexdigest()[:8]
        file = configuration.path
        yield Mutant(digest, subject, file, line, title, change.kind, change.before, change.after, found, changed)


def _changes(whole: Configuration) -> Iterator[tuple[str, Place | str, int, str, Change, Configuration]]:
    """Each change with its subject, its place or name, line and title, and the configuration with it."""
    known = Routes(whole)
    receivers = list(dict.fromkeys(known.settled(place).receiver for place, _ in walk(whole.root)))
    labels = _labels(whole)
    found = dict(walk(whole.root))
    for place, route in found.items():
        title = title_of(whole.root, place)
        later = found[place[:-1]].routes[place[-1] + 1 :] if place else ()
        for change in _of_route(route, place, receivers, labels, known.settled(place).receiver, later):
            yield "route", place, route.line, title, change, replace(whole, root=_put(whole.root, place, change.part))
    for number, one in enumerate(whole.inhibitions):
        for change in _of_inhibition(one):
            rest = _replaced(whole.inhibitions, number, change.part)
            yield "inhibition", "", one.line, str(one), change, replace(whole, inhibitions=rest)
    for number, interval in enumerate(whole.intervals):
        for change in _of_interval(interval):
            rest = _replaced(whole.intervals, number, change.part)
            yield (
                "interval",
                interval.name,
                interval.line,
                f"{INTERVAL}{interval.name}",
                change,
                replace(whole, intervals=rest),
            )


def title_of(root: Route, place: Place) -> str:
    """The route at *place*, as the matchers on the way to it."""
    titles, route = ["route"], root
    for number in place:
        route = route.routes[number]
        titles.append(described(route.matchers))
    return " ".join(titles)


def _of_route(
    route: Route,
    place: Place,
    receivers: Sequence[str],
    labels: Sequence[str],
    settled: str,
    later: Sequence[Route],
) -> Iterator[Change]:
    for change in _of_matchers(route.matchers):
        yield change._replace(part=replace(route, matchers=change.part))
    if place:
        yield Change("route", f"{described(route.matchers)} to {settled}", "", None)
    if not all(apart(route.matchers, one.matchers) for one in later):
        before, after = (f"continue: {str(one).lower()}" for one in (route.proceed, not route.proceed))
        yield Change("continue", before, after, replace(route, proceed=not route.proceed))
    if route.receiver and len(receivers) > 1:
        other = receivers[(receivers.index(route.receiver) + 1) % len(receivers)]
        yield Change("receiver", f"receiver: {route.receiver}", f"receiver: {other}", replace(route, receiver=other))
    for number, (first, second) in enumerate(pairwise(route.routes)):
        if apart(first.matchers, second.matchers):
            continue
        swapped = (*route.routes[:number], second, first, *route.routes[number + 2 :])
        before, after = (" before ".join(described(one.matchers) for one in pair) for pair in
                         ((first, second), (second, first)))  # fmt: skip
        yield Change("order", before, after, replace(route, routes=swapped))
    yield from _of_grouping(route, labels)
    for field, names in (("mute", route.mute), ("active", route.active)):
        for name in names:
            rest = tuple(one for one in names if one != name)
            part = replace(route, **{field: rest})  # type: ignore[arg-type]
            yield Change("interval", f"{field}_time_intervals: {name}", "", part)


def _of_grouping(route: Route, labels: Sequence[str]) -> Iterator[Change]:
    if route.group_by:
        before = f"group_by: [{', '.join(route.group_by)}]"
        left = [] if ALL in route.group_by else [label for label in labels if label not in route.group_by]
        added = [(*route.group_by, label) for label in left[:1]]
        for rest in [tuple(one for one in route.group_by if one != label) for label in route.group_by] + added:
            yield Change("grouping", before, f"group_by: [{', '.join(rest)}]", replace(route, group_by=rest))
    for name, text in route.timings.items():
        other = duration(seconds(text) * 2 or 30)
        yield Change("timing", f"{name}: {text}", f"{name}: {other}",
                     replace(route, timings={**route.timings, name: other}))  # fmt: skip


def _of_inhibition(one: Inhibition) -> Iterator[Change]:
    yield Change("inhibition", str(one), "", None)
    for side in ("source", "target"):
        for change in _of_matchers(getattr(one, side)):
            part = replace(one, **{side: change.part})
            yield change._replace(before=f"{side} {change.before}", after=change.after and f"{side} {change.after}",
                                  part=part)  # fmt: skip
    for label in one.equal:
        rest = tuple(name for name in one.equal if name != label)
        yield Change("equal", f"equal: [{', '.join(one.equal)}]", f"equal: [{', '.join(rest)}]",
                     replace(one, equal=rest))  # fmt: skip


def _of_matchers(matchers: tuple[Matcher, ...]) -> Iterator[Change]:
    """Changes whose part are all of the matchers."""
    for number, one in enumerate(matchers):
        yield Change("matcher", str(one), "", _replaced(matchers, number, None))
        others = [replace(one, op=_OPPOSITES[one.op])]
        if one.op == "=":
            others.append(replace(one, value=f"not {one.value}"))
        elif len(words := alternatives(one.value) or ()) > 1:
            others += [replace(one, value="|".join(other for other in words if other != word)) for word in words]
        for other in others:
            yield Change("matcher", str(one), str(other), _replaced(matchers, number, other))


def _of_interval(interval: Interval) -> Iterator[Change]:
    for number, span in enumerate(interval.spans):
        for change in _of_span(span):
            part = replace(interval, spans=_replaced(interval.spans, number, change.part))
            yield change._replace(part=part)
        if len(interval.spans) > 1:
            rest = replace(interval, spans=_replaced(interval.spans, number, None))
            yield Change("span", f"entry {number + 1} of {len(interval.spans)}", "", rest)


def _of_span(span: Span) -> Iterator[Change]:
    for number, (first, end) in enumerate(span.times or ()):
        before = f"times: {clock(first)} to {clock(end)}"
        for start, stop in ((first - 1, end), (first + 1, end), (first, end - 1), (first, end + 1)):
            if 0 <= start < stop <= 24 * 60:
                times = _replaced(span.times or (), number, (start, stop))
                yield Change("times", before, f"times: {clock(start)} to {clock(stop)}", replace(span, times=times))
    for field in ("times", *FIELDS):
        ranges: tuple[Range, ...] | None = getattr(span, field)
        for number, one in enumerate(ranges or ()):
            rest = _replaced(ranges or (), number, None) or None
            yield Change(field, _ranges(field, [one]), "", replace(span, **{field: rest}))  # type: ignore[arg-type]
            for other in ((one[0] + 1, one[1]), (one[0], one[1] - 1)) if field != "times" and one[0] < one[1] else ():
                changed = _replaced(ranges or (), number, other)
                yield Change(field, _ranges(field, [one]), _ranges(field, [other]),
                             replace(span, **{field: changed}))  # type: ignore[arg-type] # fmt: skip
    if span.location != "UTC":
        yield Change("location", f"location: {span.location}", "location: UTC", replace(span, location="UTC"))


def _ranges(field: str, ranges: Sequence[Range]) -> str:
    if field == "times":
        return f"times: {', '.join(f'{clock(first)} to {clock(end)}' for first, end in ranges)}"
    names: Mapping[int, str] = {number: name for name, number in intervals.NAMED.get(field, {}).items()}
    return f"{field}: " + ", ".join(
        ":".join(dict.fromkeys((names.get(first, str(first)), names.get(last, str(last))))) for first, last in ranges
    )


def _labels(whole: Configuration) -> list[str]:
    """The labels that the configuration speaks of: those that a grouping may mention too many."""
    found = [label for one in whole.inhibitions for label in one.equal]
    for _, route in walk(whole.root):
        found += [*route.group_by, *(one.label for one in route.matchers)]
    return list(dict.fromkeys([one for one in found if one != ALL] or ["instance"]))


def _put(root: Route, place: Place, part: Route | None) -> Route:
    """*root* with *part* at *place*."""
    if not place:
        return part or root
    number, *below = place
    child = _put(root.routes[number], tuple(below), part) if below else part
    return replace(root, routes=_replaced(root.routes, number, child))


def _replaced(parts: tuple[Any, ...], number: int, part: Any) -> tuple[Any, ...]:
    """*parts* with another at *number*; without it where that is None."""
    return (*parts[:number], *(() if part is None else (part,)), *parts[number + 1 :])
