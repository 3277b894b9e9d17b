"""What came of a play: held against what promtool and the routes say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from upcheck.drill.plays import Firing, Labels, Play
from upcheck.drill.receivers import Integration, Told
from upcheck.drill.stage import Running
from upcheck.routes import Routes
from upcheck.rules.promql import duration

LATE = 5  # evaluations that Prometheus may be apart by: a scrape, an evaluation, what began with them, a busy machine


@dataclass(frozen=True, slots=True)
class Way:
    """Where the alerts of a play go: *receivers* and *integrations* of its target, and of *any* that fires."""

    receivers: tuple[str, ...]
    integrations: tuple[Integration, ...]
    any: frozenset[Integration]


@dataclass(frozen=True, slots=True)
class Seen:
    """When an alert was pending and firing in Prometheus, as Unix times of its evaluations, and its annotations."""

    pending: tuple[float, ...]
    firing: tuple[float, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the drill of an alert. Times are in seconds of ours, from when the play began; None: never.

    *receivers* are those that the routes name, *told* the messages that came. *simulated* is what promtool says,
    *fired* what was: both in seconds of the time that is played, which began at *epoch*, a Unix time. *problems* are
    sentences; without any, all agree.
    """

    alert: str
    labels: Mapping[str, str]
    entry: str
    factor: float
    epoch: float
    simulated: Firing
    fired: Firing | None
    pending: float | None
    began: float | None
    ended: float | None
    receivers: tuple[str, ...]
    told: tuple[Told, ...]
    problems: tuple[str, ...]


def way(
    play: Play, integrations: Sequence[Integration], routes: Routes, external: Mapping[str, str], at: datetime
) -> Way:
    """Where the alerts of *play* go at the moment *at*."""
    every = {labels: {**dict(labels), **external} for labels in play.expected}
    beside = [said for labels, said in every.items() if labels != play.target]
    receivers = tuple(dict.fromkeys(routes.of(every[play.target], at=at, beside=beside).receivers))
    others = {name for said in every.values() for name in routes.of(said, at=at).receivers}
    return Way(
        receivers,
        tuple(one for one in integrations if one.receiver in receivers),
        frozenset(one for one in integrations if one.receiver in others),
    )


def late(one: Running) -> float:
    """Seconds of the time that is played that promtool and Prometheus may be apart: neither looks all the time."""
    return LATE * one.play.step


def judged(one: Running, seen: Mapping[Labels, Seen], told: Sequence[Told], where: Way, said: str) -> Outcome:
    """What came of the play *one*; *said* is what Alertmanager complained of last."""
    play, lapse = one.play, one.lapse
    found = seen.get(play.target)
    simulated = play.expected[play.target]
    fired = _fired(one, found, simulated)
    messages = tuple(each for each in told if each.drill == str(one.number))
    problems = [
        *_times(late(one), simulated, fired),
        *_others(one, seen),
        *_messages(play.alert, found, messages, where, simulated, said),
    ]
    return Outcome(
        play.alert,
        {name: value for name, value in sorted(play.target) if name != "alertname"},
        play.entry,
        lapse.factor,
        lapse.epoch,
        simulated,
        fired,
        found.pending[0] - lapse.epoch if found and found.pending else None,
        found.firing[0] - lapse.epoch if found and found.firing else None,
        fired.ended / lapse.factor if fired and fired.ended else None,
        where.receivers,
        messages,
        tuple(problems),
    )


def _fired(one: Running, found: Seen | None, simulated: Firing) -> Firing | None:
    if not found or not found.firing:
        return None
    first, last = ((at - one.lapse.epoch) * one.lapse.factor for at in (found.firing[0], found.firing[-1]))
    return Firing(first, last + one.play.step if simulated.ended is not None else None)


def _times(late: float, simulated: Firing, fired: Firing | None) -> list[str]:
    if fired is None:
        return [f"never fired; promtool says that it does after {duration(simulated.began)}"]
    problems = []
    if abs(fired.began - simulated.began) > late:
        problems.append(f"fired after {_about(fired.began)}; promtool says after {duration(simulated.began)}")
    ended, over = simulated.ended, fired.ended
    if ended is not None and over is not None and abs(over - ended) > late:
        problems.append(f"was over after {_about(over)}; promtool says after {duration(ended)}")
    return problems


def _others(one: Running, seen: Mapping[Labels, Seen]) -> list[str]:
    """Alerts that fired and should not have, or the other way round; what is short or at the end may go either way."""
    play = one.play
    fired = {labels for labels, found in seen.items() if found.firing}
    sure = {
        labels for labels, firing in play.expected.items()
        if firing.began <= play.length - late(one)
        and (firing.ended is None or firing.ended - firing.began >= late(one))
    }  # fmt: skip
    return [
        f"{_shown(labels)} fired beside it, which promtool does not say" for labels in fired - play.expected.keys()
    ] + [f"{_shown(labels)} did not fire beside it, as promtool says" for labels in sure - fired - {play.target}]


def _messages(
    alert: str, found: Seen | None, messages: Sequence[Told], where: Way, simulated: Firing, said: str
) -> list[str]:
    problems = []
    summary = found.annotations.get("summary", "") if found else ""
    for integration in where.integrations:
        mine = [one for one in messages if one.integration == integration]
        firing = [one for one in mine if one.status == "firing"]
        if not firing:
            why = f"; alertmanager says: {said}" if said else ""
            problems.append(f"{integration} was not told{why}")
        elif not any(alert in one.text or (summary and summary in one.text) for one in firing):
            problems.append(f"{integration} was told, but neither the alert's name nor its summary: {firing[0].text!r}")
        elif integration.resolved and simulated.ended is not None and not any(one.status == "resolved" for one in mine):
            problems.append(f"{integration} was not told that it is over")
    strange = {one.integration for one in messages} - where.any
    return problems + [f"{one} was told, which the routes don't say" for one in sorted(strange, key=str)]


def _about(played: float) -> str:
    return duration(round(played))


def _shown(labels: Labels) -> str:
    known = dict(labels)
    name = known.pop("alertname")
    return f"{name}{{{', '.join(f'{key}={value}' for key, value in sorted(known.items()))}}}"
