"""What a drill plays: of each alert, a rule test that fires it, and what promtool says will happen then."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from upcheck import documents
from upcheck.declaration import seconds
from upcheck.routes import Delivery, Routes
from upcheck.rules import repository
from upcheck.rules.evaluate import Question, Sample, evaluate
from upcheck.rules.promql import Selector, Subquery, duration, parse, walk

FACTOR = 60.0  # at least: of Alertmanager, and of each play that is not too long for it
INTERVAL = 15.0  # seconds of the time that is played between two scrapes and two evaluations, as in what ships
SHORTEST = 0.1  # seconds of ours between them, at least
LONG = 33.0  # seconds of ours that a play may take until its alert is over
HOLD = 1.5  # seconds of ours that an alert goes on to fire after its group was told of it
MARK = "upcheck_drill"  # a series that is there while a play lasts whose rule test has none: a dead man's switch's
_AFTER = 60.0  # seconds that are looked at after all should be over
_LOOKBACK = 300.0  # seconds that Prometheus looks back for the last sample
COUNTERS = ("_total", "_bucket", "_count", "_sum")  # how their names end
_GROWING = (*COUNTERS, "_timestamp_seconds")
_FIRING = 'ALERTS{alertstate="firing"}'
_TIMES = ("__name__", "alertstate")
_NUMBER = r"[0-9.]+(?:e[-+]?[0-9]+)?"
_VALUE = re.compile(
    rf"(?P<first>[-+]?(?:{_NUMBER}|inf|nan))(?P<step>[-+]{_NUMBER})?(?:x(?P<times>[0-9]+))?", re.IGNORECASE
)
_MISSING = re.compile(r"_(?:x(?P<times>[0-9]+))?")

Labels = frozenset[tuple[str, str]]  # with alertname


class DrillError(Exception):
    """What can't be drilled; the sentence says why, and what would help."""


class Firing(NamedTuple):
    """When an alert first fires, and when it no longer does (None: it goes on), in seconds from the beginning."""

    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Play:
    """Series that fire *alert* in a rule test, up to a while after it, and what the rules make of them.

    *series* have a value each *interval* seconds, None where there is none; rules are evaluated each *step* seconds.
    *expected* are all alerts that fire, by their labels, and *target* is that which the drill is about. *factor*
    seconds of it pass in one of ours.
    """

    alert: str
    file: Path
    entry: str
    rule_files: tuple[Path, ...]
    series: Mapping[str, tuple[float | None, ...]]
    interval: float
    step: float
    factor: float = FACTOR
    target: Labels = frozenset()
    expected: Mapping[Labels, Firing] = field(default_factory=dict)

    @property
    def length(self) -> float:
        """Seconds until the fault is over."""
        return self.interval * max(len(values) for values in self.series.values())


def chosen(
    tool: Path, files: Sequence[Path], routes: Routes, external: Mapping[str, str], alerts: Iterable[str] = ()
) -> list[Play]:
    """For each of *alerts*, or all that the rule tests in *files* fire, the shortest play that brings it to a receiver.

    Raises DrillError for an alert that no rule test fires, DocumentError, EvaluationError, CommandError.
    """
    wanted = set(alerts)
    candidates = [play for file in files for play in _fires(file) if not wanted or play.alert in wanted]
    for name in sorted(wanted - {play.alert for play in candidates}):
        raise DrillError(f"{name}: no rule test fires it, so there is nothing to play; write one first")
    made: dict[str, list[Play]] = {}
    for play in _simulated(tool, candidates):
        for labels in sorted(play.expected, key=lambda one: play.expected[one]):
            if dict(labels)["alertname"] == play.alert:
                made.setdefault(play.alert, []).append(replace(play, target=labels))

    def cost(play: Play) -> tuple[bool, float]:
        return not _delivery(play, routes, external).told, _end(play) / play.step

    best = [min(plays, key=cost) for _, plays in sorted(made.items())]
    held = _simulated(tool, [_held(play, _delivery(play, routes, external)) for play in best])
    for play in held:
        if play.target not in play.expected:
            raise DrillError(
                f"{play.alert}: it fires in the rule test '{play.entry}', but not with a sample each "
                f"{duration(play.step)}, as it is scraped: give the test more samples"
            )
    return held


def _end(play: Play) -> float:
    """Seconds until the alert of *play* can be over, were its fault to end as soon as it fires."""
    return play.expected[play.target].began + lookback(play.rule_files, play.alert)


def _delivery(play: Play, routes: Routes, external: Mapping[str, str]) -> Delivery:
    """Who is told of the play's alert, beside all others that fire."""
    beside = [{**dict(labels), **external} for labels in play.expected if labels != play.target]
    return routes.of({**dict(play.target), **external}, beside=beside)


def _held(play: Play, delivery: Delivery) -> Play:
    """*play* with a sample for each scrape: as its alert fires it goes on as it does, until the group has been told."""
    firing = play.expected[play.target].began
    factor = max(FACTOR, _end(play) / LONG)
    wait = max((one.group_wait for one in delivery.told), default=0.0) / FACTOR + HOLD
    known = math.floor(firing / play.interval) + 2
    count = math.ceil((firing + wait * factor) / play.interval) + 1
    step = max(math.ceil(SHORTEST * factor), INTERVAL)  # whole seconds: promtool rounds each time by itself
    series = {}
    for name, told in play.series.items():
        longer = _longer(name, told[:known], count)
        places = (number * step / play.interval for number in range(math.ceil(count * play.interval / step)))
        series[name] = tuple(value(longer, place, growing=grows(name)) for place in places)
    return replace(play, factor=factor, interval=step, step=step, series=series)


def _longer(series: str, told: tuple[float | None, ...], count: int) -> tuple[float | None, ...]:
    """*told* and what comes then, *count* values: what grew goes on to grow, as does what went in a line."""
    if not told or len(told) >= count:
        return told[:count]
    first, before, last = (None, None, *told)[-3:]
    if last is None:
        return told
    goes = before is not None and (
        (grows(series) and last > before) or (first is not None and last - before == before - first)
    )
    by = last - before if goes and before is not None else 0.0
    return told + tuple(last + by * number for number in range(1, count - len(told) + 1))


def value(told: Sequence[float | None], place: float, *, growing: bool) -> float | None:
    """What a series is at *place*, in samples: what is *growing*, or goes in a line, is on its way to the next one."""
    if not 0 <= place < len(told):
        return None
    index = int(place)
    before, now, after = (told[at] if 0 <= at < len(told) else None for at in (index - 1, index, index + 1))
    if now is None or after is None:
        return now
    moves = after >= now if growing else before is not None and after - now == now - before
    return now + (after - now) * (place - index) if moves else now


def grows(series: str) -> bool:
    """Whether *series* grows between samples rather than in steps: a counter, or a gauge that holds a time."""
    return series.partition("{")[0].strip().endswith(_GROWING)


def _fires(file: Path) -> Iterator[Play]:
    """A play for each alert that an entry of the rule tests in *file* expects to fire."""
    document = documents.load(file, texts=True)
    rules = tuple(path for pattern in document["rule_files"] for path in sorted(file.parent.glob(str(pattern))))
    step = seconds(document.get("evaluation_interval", "1m"))
    for entry in document["tests"]:
        names = {case["alertname"] for case in entry.get("alert_rule_test") or () if case.get("exp_alerts")}
        for name in sorted(names):
            told = entry.get("input_series") or [{"series": MARK, "values": "1x1"}]
            series = {one["series"]: tuple(values(str(one["values"]))) for one in told}
            yield Play(
                name, file, str(entry.get("name", "")), rules, series, seconds(entry.get("interval", "1m")), step
            )


def _simulated(tool: Path, plays: Sequence[Play]) -> list[Play]:
    """The same *plays*, each with what promtool says that fires; as many runs as there are files and intervals."""
    batches: dict[tuple[Any, ...], list[Play]] = {}
    for play in plays:
        batches.setdefault((play.rule_files, play.step), []).append(play)

    def run(batch: list[Play]) -> list[Play]:
        times = [_moments(play) for play in batch]
        questions = [
            Question(_written(play), play.interval, [(_FIRING, time) for time in moments])
            for play, moments in zip(batch, times, strict=True)
        ]
        found = evaluate(tool, batch[0].rule_files, questions, evaluation_interval=batch[0].step)
        return [
            replace(play, expected=_firings(moments, answer.samples))
            for play, moments, answer in zip(batch, times, found, strict=True)
        ]

    with ThreadPoolExecutor(2) as pool:
        return [play for batch in pool.map(run, batches.values()) for play in batch]


def _moments(play: Play) -> list[float]:
    """All evaluations, until whatever the rules look back to is over."""
    end = play.length + (lookback(play.rule_files, play.alert) + _AFTER if play.target else 0.0)
    return [number * play.step for number in range(math.ceil(end / play.step) + 1)]


def lookback(files: Iterable[Path], name: str) -> float:
    """How long the rules in *files* of which *name* is made, all together, look back: in seconds."""
    groups = [group for file in files for group in documents.load(file).get("groups", ())]
    rules = [rule for group in groups for rule in group["rules"]]
    longest, names, seen = _LOOKBACK, {name}, set[str]()
    while names:
        seen |= names
        made = [rule for rule in rules if names & {rule.get("alert"), rule.get("record")}]
        nodes = [node for rule in made for _, node in walk(parse(str(rule["expr"])))]
        longest += max((node.range or 0.0 for node in nodes if isinstance(node, Selector | Subquery)), default=0.0)
        names = {node.name for node in nodes if isinstance(node, Selector)} - seen
    return longest


def _written(play: Play) -> dict[str, str]:
    """The series as promtool reads them; they end as a target's do that is gone."""
    return {
        name: " ".join("_" if value is None else repr(value) for value in values) + " stale"
        for name, values in play.series.items()
    }


def _firings(times: Sequence[float], samples: Sequence[tuple[Sample, ...] | str]) -> dict[Labels, Firing]:
    found: dict[Labels, Firing] = {}
    for time, told in zip(times, samples, strict=True):
        samples_now = () if isinstance(told, str) else told
        now = {frozenset(pair for pair in one.labels.items() if pair[0] not in _TIMES) for one in samples_now}
        for labels in now - found.keys():
            found[labels] = Firing(time, None)
        for labels, firing in found.items():
            if firing.ended is None and labels not in now:
                found[labels] = Firing(firing.began, time)
    return found


def values(text: str) -> Iterator[float | None]:
    """The samples that promtool's notation stands for; raises DrillError for native histograms."""
    for word in text.split():
        if missing := _MISSING.fullmatch(word):
            yield from [None] * int(missing["times"] or 1)
        elif word == "stale":
            yield None
        elif found := _VALUE.fullmatch(word):
            first, step = float(found["first"]), float(found["step"] or 0)
            yield from (first + step * number for number in range(int(found["times"] or 0) + 1))
        else:
            raise DrillError(f"{word}: a drill plays numbers only")


def rule_tests(folder: Path) -> list[Path]:
    """The files of rule tests in *folder*."""
    return repository.find([folder]).tests if folder.is_dir() else []
