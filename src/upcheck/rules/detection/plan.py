"""The file of signals: which alert looks at what, with which rules, and how long it has to be played."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from upcheck import documents, schema
from upcheck.documents import DocumentError, Map
from upcheck.rules import promql, suite
from upcheck.rules.detection.signals import KINDS, Fault, Signal, SignalError
from upcheck.rules.suite import Rule
from upcheck.settings import nearest

HOUR, DAY = 3600.0, 86400.0
LASTS = (2400.0, 3 * HOUR, 16 * HOUR, 2 * DAY, 16 * DAY, 64 * DAY)  # of which a fault lasts the first that suffices
STEPS = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, HOUR)  # seconds between samples, as between evaluations
MOST = 720  # samples, from which coarser steps are taken
IN_A_RANGE = 4  # samples at least, so that a rate has some
_LOOKBACK = 300.0  # seconds for which a sample without a successor counts
_SPARE = 8  # samples after all that, to see what resolves at once


@dataclass(frozen=True, eq=False)
class Watched:
    """An alert, its signal, and the rules it needs, itself among them; *reach* is how far back it looks, in seconds."""

    rule: Rule
    signal: Signal
    needs: tuple[Rule, ...]
    reach: float
    step: float
    lasts: float

    @property
    def reads(self) -> tuple[promql.Selector, ...]:
        """What is read of series that no rule makes."""
        made = {rule.name.text for rule in self.needs if rule.name.kind == "record"}
        return tuple(one for rule in self.needs for one in rule.selectors if not _makes(made, one))

    def disturbs(self, other: Watched) -> bool:
        """Whether it reads what the other's signal has."""
        return any(promql.reads(one, metric) for one in self.reads for metric in other.signal.metrics)


@dataclass(frozen=True)
class Detection:
    """What the file at *path* says: the alerts of its rules, in their order; *page* is that with the table."""

    path: Path
    alerts: tuple[Watched, ...]
    page: Path | None


def load(path: Path) -> Detection:
    """The file of signals at *path*; raises DocumentError, also where an alert has no signal.

    One that reads no series, as a dead man's switch, has none: no fault reaches it.
    """
    document = documents.load(path)
    schema.validate(path, document, "detection")
    rules = list(_rules(path, document))
    alerts = [rule for rule in rules if rule.name.kind == "alert" and rule.selectors]
    signals = dict(_signals(path, document, alerts))
    lacking = [rule for rule in alerts if rule not in signals]
    if lacking:
        names = ", ".join(_full(rule) for rule in lacking)
        raise DocumentError(
            path, f"no signal for {names}: add one under signals", *documents.where(document, ["signals"])
        )
    watched = [_watched(path, rule, signals[rule], rules) for rule in rules if rule in signals]
    return Detection(path, tuple(watched), path.parent / document["page"] if "page" in document else None)


def fault(watched: Sequence[Watched]) -> Fault:
    """The fault of alerts that are played together, after a lead in which the ranges fill."""
    step, lasts = watched[0].step, watched[0].lasts
    begin = math.ceil(max(one.reach for one in watched) / step) + 1
    kept = max(one.reach + _for(one.rule, "keep_firing_for") for one in watched)
    after = math.ceil((kept + _LOOKBACK) / step) + _SPARE
    end = begin + round(lasts / step)
    return Fault(begin, end, end + after, step)


def _rules(path: Path, document: Map) -> Iterator[Rule]:
    seen: set[Path] = set()
    for index, pattern in enumerate(document["rules"]):
        found = sorted(Path("/").glob(str(path.parent.absolute() / pattern).lstrip("/")))
        if not found:
            text = f"rules: {pattern} matches no file; write its path from this one"
            raise DocumentError(path, text, *documents.where(document, ["rules", index]))
        for file in dict.fromkeys(one.resolve() for one in found):
            if file not in seen:
                yield from suite.rules_in(file)
            seen.add(file)


def _signals(path: Path, document: Map, alerts: Sequence[Rule]) -> Iterator[tuple[Rule, Signal]]:
    """The signal of each alert that the file names."""
    taken: set[Rule] = set()
    for index, said in enumerate(document["signals"]):
        mark = documents.where(document, ["signals", index])
        kinds = [kind for kind in KINDS if kind in said]
        if len(kinds) != 1:
            text = f"a signal is one of {', '.join(KINDS)}, not {' and '.join(kinds) or 'none of them'}"
            raise DocumentError(path, text, *mark)
        try:
            signal = Signal.of(kinds[0], said[kinds[0]], said.get("beside") or {})
        except SignalError as error:
            raise DocumentError(path, str(error), *mark) from None
        for place, name in enumerate(said["alerts"]):
            mark = documents.where(document, ["signals", index, "alerts", place])
            rule = _named(path, name, alerts, mark)
            if rule in taken:
                raise DocumentError(path, f"{name} has a signal already: give it one", *mark)
            taken.add(rule)
            yield rule, signal


def _named(path: Path, name: str, alerts: Sequence[Rule], mark: documents.Mark) -> Rule:
    found = [rule for rule in alerts if name in (rule.name.text, _full(rule))]
    if not found:
        known = {rule.name.text for rule in alerts} | ({_full(rule) for rule in alerts} if ":" in name else set())
        raise DocumentError(path, f"no rule has the alert {name}{nearest(name, known)}", *mark)
    if len(found) > 1:
        there = " and ".join(sorted({rule.file.name for rule in found}))
        raise DocumentError(path, f"{name} is in {there}: write {_full(found[0])}, or whichever is meant", *mark)
    return found[0]


def _full(rule: Rule) -> str:
    return f"{rule.file.name}:{rule.name.text}"


def _watched(path: Path, alert: Rule, signal: Signal, rules: Sequence[Rule]) -> Watched:
    """Raises DocumentError where the signal is not all that the alert reads, or it looks too far back."""
    needs = _needs(alert, rules)
    for rule in needs:
        if rule.tree is None:
            raise DocumentError(
                path, f"{_full(alert)}: the expression of {rule.name.text} can't be read here: {rule.expr}"
            )
    reach = _reach(alert, needs)
    total = reach + _for(alert, "for")
    lasts = next((one for one in LASTS if one >= 2 * total), None)  # a ramp takes half of it
    narrow = min((_ranges(needs)), default=DAY) / IN_A_RANGE
    steps = [step for step in STEPS if step <= max(narrow, STEPS[0])]
    fitting = [step for step in steps if lasts is not None and (2 * reach + lasts) / step <= MOST]
    if lasts is None or not fitting:
        text = (
            f"{_full(alert)} looks {promql.duration(reach)} back, and as near as {promql.duration(narrow * IN_A_RANGE)}"
        )
        raise DocumentError(path, f"{text}: more than can be played")
    watched = Watched(alert, signal, needs, reach, fitting[0], lasts)
    for one in watched.reads:
        if not any(promql.reads(one, metric) for metric in signal.metrics):
            text = f"{_full(alert)} reads {one.name or one}, which its signal does not have: add it, or put it beside"
            raise DocumentError(path, text)
    return watched


def _makes(names: Iterable[str], selector: promql.Selector) -> bool:
    return any(promql.reads(selector, name) for name in names)


def _needs(alert: Rule, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The alert, and all recording rules it reads by way of others, in their order."""
    needed = {alert}
    open_ = [alert]
    while open_:
        for selector in open_.pop().selectors:
            for rule in rules:
                if rule.name.kind == "record" and rule not in needed and promql.reads(selector, rule.name.text):
                    needed.add(rule)
                    open_.append(rule)
    return tuple(rule for rule in rules if rule in needed)


def _reach(rule: Rule, needs: Sequence[Rule]) -> float:
    """How far back *rule* looks, and what it reads: seconds."""
    made = [one for one in needs if one.name.kind == "record" and one is not rule]
    read = [one for one in made if any(promql.reads(selector, one.name.text) for selector in rule.selectors)]
    own = 0.0 if rule.tree is None else promql.lookback(rule.tree)
    return own + max((_reach(one, made) for one in read), default=0.0)


def _ranges(needs: Iterable[Rule]) -> Iterator[float]:
    for rule in needs:
        for selector in rule.selectors:
            if selector.range is not None:
                yield selector.range


def _for(rule: Rule, key: str) -> float:
    return suite.seconds(str(rule.value.get(key) or ""))
