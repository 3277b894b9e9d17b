"""Rules over recorded history: when each alert would have fired.

Each alert's expression is asked of Prometheus for the whole of the history, at the steps of its evaluation; `for` and
`keep_firing_for` are applied to what comes back (`states`). Recording rules are put into the expressions (`recorded`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from upcheck.prometheus import Prometheus, PrometheusError
from upcheck.rules import promql, suite
from upcheck.rules.backtest.recorded import NotPlayedError, Recorded
from upcheck.rules.backtest.states import Episode, Timing, episodes
from upcheck.rules.suite import Rule

__all__ = ["Episode", "History", "Played", "rules_of", "run"]

AT_ONCE = 10_000  # steps of a query: Prometheus answers 11,000
MOST = 5_000_000  # evaluations of an alert: two years and more at 15 s
EVERYTHING = '{__name__!=""}'
_OF_LABELS = re.compile(r"\{\{-?\s*\$labels\.(\w+)\s*-?\}\}")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class History:
    """A Prometheus that has the samples from *start* to *end* (seconds since 1970), known to the user as *name*."""

    api: Prometheus
    start: float
    end: float
    name: str

    @property
    def span(self) -> float:
        """Seconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Played:
    """What became of an alert, known as *name*: all its *episodes* in their order.

    *lacks* is what it reads and the history has nothing of, if that makes its silence say nothing. *problem* is why it
    could not be played.
    """

    name: str
    rule: Rule
    episodes: tuple[Episode, ...] = ()
    lacks: tuple[str, ...] = ()
    problem: str = ""

    @property
    def pages(self) -> list[Episode]:
        """The episodes in which it fired."""
        return [one for one in self.episodes if one.fired is not None]


def rules_of(files: Sequence[Path]) -> list[Rule]:
    """All rules of rule files, in their order; raises DocumentError."""
    return [rule for file in files for rule in suite.rules_in(file)]


def run(
    history: History, versions: Sequence[Sequence[Rule]], *, interval: float, advance: Callable[[int, int], None]
) -> list[list[Played]]:
    """What becomes of the alerts of each version of the rules, evaluated each *interval* seconds unless a group says.

    What several have in common is asked once. *advance* is told how many queries are done, of how many.
    Raises PrometheusError where the history does not answer at all, ValueError where it is too long.
    """
    if history.span / interval > MOST:
        text = f"{promql.duration(round(history.span))} are more than {MOST} evaluations"
        raise ValueError(f"{text}: play a part, by --start and --end, or take a longer --interval")
    twice = {name for rules in versions for name in _twice(rules)}
    plans = [list(_planned(rules, interval)) for rules in versions]
    wanted = {(query, step): None for plan in plans for _, query, step, problem in plan if not problem}
    has = _Has(history)
    answers: dict[tuple[str, float], _Answer] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="backtest") as pool:
        for key, answer in zip(wanted, pool.map(lambda one: _ask(history, *one), wanted), strict=True):
            answers[key] = answer
            advance(len(answers), len(wanted))
    told = []
    for plan in plans:
        played = []
        for rule, query, step, problem in plan:
            name = f"{rule.file.name}:{rule.name.text}" if rule.name.text in twice else rule.name.text
            answer = answers.get((query, step), _Answer(problem=problem))
            played.append(_played(name, rule, answer, Timing(step, 0, 0, history.end), has.lacking(query)))
        told.append(played)
    return told


@dataclass(frozen=True, slots=True)
class _Answer:
    """When the expression has a series, by its labels without the name; or why that can't be told."""

    times: Mapping[Labels, Sequence[float]] | None = None
    problem: str = ""


class _Has:
    """What the history has series of."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._metrics = set(self._names(EVERYTHING))
        self._known: dict[str, bool] = {}

    def lacking(self, query: str) -> tuple[str, ...]:
        """What *query* reads of metrics that are not there; or all that it reads, where there is nothing of that."""
        read = [promql.Selector(one.name, one.matchers) for one in suite.selectors_of(query)] if query else []
        none = tuple(dict.fromkeys(str(one) for one in read if one.name and one.name not in self._metrics))
        if none or any(self._is_there(str(one)) for one in read):
            return none
        return tuple(dict.fromkeys(map(str, read)))

    def _is_there(self, selector: str) -> bool:
        if selector not in self._known:
            self._known[selector] = bool(self._names(selector))
        return self._known[selector]

    def _names(self, selector: str) -> list[str]:
        return self._history.api.names(selector, self._history.start, self._history.end)


def _planned(rules: Sequence[Rule], interval: float) -> Iterator[tuple[Rule, str, float, str]]:
    """Each alert with its query and its step, or why it has none."""
    recorded = Recorded(rules, interval)
    for rule in rules:
        if rule.name.kind != "alert":
            continue
        step = recorded.interval(rule)
        try:
            _expect_labels(rule)
            yield rule, str(recorded.expression(rule)), step, ""
        except NotPlayedError as error:
            yield rule, "", step, str(error)


def _expect_labels(rule: Rule) -> None:
    for name, value in _own_labels(rule).items():
        if "{{" in _OF_LABELS.sub("", value):
            raise NotPlayedError(f"its label {name} is a template of more than labels: {value}")


def _own_labels(rule: Rule) -> dict[str, str]:
    return {str(name): str(value) for name, value in (rule.value.get("labels") or {}).items()}


def _ask(history: History, query: str, step: float) -> _Answer:
    """The answer to *query* at all multiples of *step* in the history."""
    first, last = math.ceil(history.start / step), math.floor(history.end / step)
    found: dict[Labels, list[float]] = {}
    try:
        for number in range(first, last + 1, AT_ONCE):
            until = min(number + AT_ONCE - 1, last)
            for one in history.api.present(query, number * step, until * step, step):
                labels = tuple(sorted((name, value) for name, value in one.labels.items() if name != "__name__"))
                found.setdefault(labels, []).extend(one.times)
    except PrometheusError as error:
        return _Answer(problem=str(error).removeprefix(f"{query}: "))
    return _Answer(found)


def _played(name: str, rule: Rule, answer: _Answer, timing: Timing, lacks: tuple[str, ...]) -> Played:
    if answer.times is None:
        return Played(name, rule, problem=answer.problem)
    hold, keep = (suite.seconds(str(rule.value.get(key) or "")) for key in ("for", "keep_firing_for"))
    timing = Timing(timing.step, hold, keep, timing.end)
    found: dict[Labels, list[float]] = {}
    for labels, times in answer.times.items():
        found.setdefault(_labels(rule, dict(labels)), []).extend(times)
    if any(len(times) != len(set(times)) for times in found.values()):
        return Played(
            name, rule, problem="two series have the same labels once the alert's own are set, which is an error"
        )
    told = [one for labels, times in found.items() for one in episodes(dict(labels), sorted(times), timing)]
    return Played(name, rule, tuple(sorted(told, key=lambda one: (one.since, sorted(one.labels.items())))), lacks)


def _labels(rule: Rule, series: Mapping[str, str]) -> Labels:
    """The labels of the alert that a series raises."""
    own = {name: _OF_LABELS.sub(lambda one: series.get(one[1], ""), text) for name, text in _own_labels(rule).items()}
    whole = {**series, **own, "alertname": rule.name.text}
    return tuple(sorted((name, value) for name, value in whole.items() if value))


def _twice(rules: Iterable[Rule]) -> set[str]:
    """The names that alerts of several files have."""
    files: dict[str, set[str]] = {}
    for rule in rules:
        if rule.name.kind == "alert":
            files.setdefault(rule.name.text, set()).add(rule.file.name)
    return {name for name, where in files.items() if len(where) > 1}
