"""Time to detect: how long each alert takes to fire and to resolve, for faults of several shapes.

promtool plays them. Alerts whose signals don't touch are played together, each under a name of its own, and two queries
a shape say when each of them fired first and last.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from upcheck.rules import suite
from upcheck.rules.detection.plan import Detection, Watched, fault, load
from upcheck.rules.detection.signals import SHAPES, Fault
from upcheck.rules.evaluate import Answer, EvaluationError, Question, evaluate
from upcheck.rules.promql import duration

__all__ = ["SHAPES", "Cell", "Detection", "load", "measure"]

_NAME = "upcheck_{}"  # of an alert that is played: two files may each have one of a name


@dataclass(frozen=True, slots=True)
class Cell:
    """What an alert of the rule file *file* makes of a fault of that *shape*, which lasts *lasts* seconds.

    The rules are evaluated each *every* seconds, and each series has a sample as often.
    *fires* counts from the fault's beginning, *resolves* from its end, in seconds: less than 0 where the alert ends
    while the fault lasts, infinite where it has not ended when the ranges are full again. None, None is an alert that
    never fires, or with *why* a fault that means nothing for it.
    """

    file: str
    alert: str
    shape: str
    lasts: float
    every: float
    fires: float | None = None
    resolves: float | None = None
    why: str = ""


def measure(tool: Path, detection: Detection) -> list[Cell]:
    """All cells, alert by alert, in the order of SHAPES.

    Raises EvaluationError, also where an alert is active while all is well, and CommandError where there is no answer.
    """
    runs = [run for batch in _batches(detection.alerts) for run in _runs(batch)]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="promtool") as pool:
        found = {key: cell for cells in pool.map(lambda run: _play(tool, *run), runs) for key, cell in cells.items()}
    return [found.get((watched, shape)) or _empty(watched, shape) for watched in detection.alerts for shape in SHAPES]


def _batches(alerts: Sequence[Watched]) -> Iterator[list[Watched]]:
    """Alerts that can be played together: over the same ranges, and none reads what is another's signal."""
    left = list(alerts)
    while left:
        batch: list[Watched] = []
        for one in left:
            alike = not batch or (one.reach, one.lasts) == (batch[0].reach, batch[0].lasts)
            if alike and not any(_clash(one, other) for other in batch):
                batch.append(one)
        left = [one for one in left if one not in batch]
        yield batch


def _clash(one: Watched, other: Watched) -> bool:
    return one.signal != other.signal and (one.disturbs(other) or other.disturbs(one))


def _runs(batch: Sequence[Watched]) -> Iterator[tuple[list[Watched], list[str]]]:
    """The alerts that a fault means something for, and the shapes that mean something for just these."""
    runs: dict[tuple[Watched, ...], list[str]] = {}
    for shape in SHAPES:
        runs.setdefault(tuple(one for one in batch if not one.signal.blank(shape)), []).append(shape)
    return ((list(alerts), shapes) for alerts, shapes in runs.items() if alerts)


def _play(tool: Path, alerts: Sequence[Watched], shapes: Sequence[str]) -> dict[tuple[Watched, str], Cell]:
    """The cells of *alerts*, a question for each of *shapes*."""
    span = fault(alerts)
    shares = [span.shares(shape) for shape in shapes]
    questions = [Question(_series(alerts, each, span.step), span.step, _queries(span)) for each in shares]
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        file = Path(folder, "rules.yml")
        file.write_text(_rule_file(alerts), encoding="utf-8")
        answers = evaluate(tool, [file], questions, evaluation_interval=span.step)
    found = {}
    for shape, share, answer in zip(shapes, shares, answers, strict=True):
        first, last, early = (_values(answer, number) for number in range(3))
        over = 1 + max(number for number, part in enumerate(share) if part != 0)  # the end of the last that is bad
        for number, one in enumerate(alerts):
            name = _NAME.format(number)
            if name in early or first.get(name, math.inf) < span.begin * span.step:
                text = "is active while all is well: its signal's healthy values are beyond its threshold"
                raise EvaluationError(f"{one.rule.name.text} of {one.rule.file.name} {text}")
            found[one, shape] = _cell(_empty(one, shape), span, over, first.get(name), last.get(name))
    return found


def _empty(one: Watched, shape: str) -> Cell:
    return Cell(one.rule.file.name, one.rule.name.text, shape, one.lasts, one.step, why=one.signal.blank(shape))


def _cell(cell: Cell, span: Fault, over: int, first: float | None, last: float | None) -> Cell:
    """Raises EvaluationError where the alert fires before the fault."""
    if first is None or last is None:
        return cell
    began, ended = span.begin * span.step, last + span.step - over * span.step
    if first < began:
        text = (
            f"{cell.alert} of {cell.file} fires while all is well: its signal's healthy values are beyond its threshold"
        )
        raise EvaluationError(text)
    return replace(cell, fires=first - began, resolves=ended if last < (span.samples - 1) * span.step else math.inf)


def _series(alerts: Sequence[Watched], share: Sequence[float | None], step: float) -> dict[str, str]:
    return {name: text for one in alerts for name, text in one.signal.series(share, step).items()}


def _queries(span: Fault) -> list[tuple[str, float]]:
    """When each alert fired first, and when last; which are pending, or fire, as the fault begins."""
    end = (span.samples - 1) * span.step
    fired = f'timestamp(ALERTS{{alertstate="firing"}})[{duration(end)}:{duration(span.step)}]'
    edges = [(f"{edge} by (alertname) ({edge}_over_time({fired}))", end) for edge in ("min", "max")]
    return [*edges, ("count by (alertname) (ALERTS)", (span.begin - 1) * span.step)]


def _values(answer: Answer, number: int) -> Mapping[str, float]:
    told = answer.samples[number]
    if isinstance(told, str):
        raise EvaluationError(told)
    return {sample.labels["alertname"]: sample.value for sample in told}


def _rule_file(batch: Sequence[Watched]) -> str:
    """The rules that the batch needs, in their groups and order, without annotations, each alert under its own name."""
    names = {one.rule: _NAME.format(number) for number, one in enumerate(batch)}
    needed = sorted({rule for one in batch for rule in one.needs}, key=lambda rule: (str(rule.file), *rule.key[1:]))
    groups = []
    for number, (_, rules) in enumerate(groupby(needed, key=lambda rule: rule.key[:2])):
        written = [
            {key: value for key, value in rule.value.items() if key not in ("annotations", "labels")}
            | ({"alert": names[rule]} if rule in names else {})
            for rule in rules
        ]
        groups.append({"name": f"group {number}", "rules": written})
    return suite.written({"groups": groups})
