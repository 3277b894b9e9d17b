"""Rule tests in Python: series are played through rules, and what fires, when, with what, is asked of the timeline.

    timeline = rules("monitoring/prometheus/rules/api.yml").play({"errors_total": "0+60x20"})
    assert timeline.first_firing("Errors") == "6m"
    assert timeline.firing("10m") == [alert("Errors", severity="critical")]   # and nothing else

promtool evaluates, in one run for each timeline.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from upcheck.declaration import seconds
from upcheck.rules import alerts_of
from upcheck.rules.evaluate import Answer, Question, Sample, evaluate
from upcheck.settings import nearest

MAX_STEPS = 1000  # evaluations in a timeline
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SPAN = re.compile(r"x(\d+)")
_CELL = 12  # pixels of an evaluation
_COLOURS = {".": "#ddd", "p": "#f5c542", "F": "#d64545"}
_PENDING = 'ALERTS{alertstate="pending"}'


class PlayError(ValueError):
    """What was asked of rules can't be played, in a sentence."""


class Moment(float):
    """Seconds since the start of a timeline; equal to what is written like it: `6m`, `1h30m`, 360."""

    timeline: Timeline | None = None

    @classmethod
    def of(cls, when: str | float) -> Moment:
        """*when* as a moment; raises PlayError."""
        if isinstance(when, str) and when not in ("0", "0s", "0m"):
            try:
                return cls(seconds(when))
            except ValueError as error:
                raise PlayError(f"a time: {error}") from None
        return cls(0 if isinstance(when, str) else when)

    def __eq__(self, other: object) -> bool:
        return float(self) == float(Moment.of(other)) if isinstance(other, str | int | float) else NotImplemented

    def __hash__(self) -> int:
        return hash(float(self))

    def __str__(self) -> str:
        left, parts = round(float(self), 3), ""
        for unit, size in _UNITS[:-1]:
            count, left = divmod(left, size)
            parts += f"{int(count)}{unit}" if count else ""
        return f"{parts}{left:g}s" if left or not parts else parts

    __repr__ = __str__


class Alert:
    """An alert with labels and annotations. One that is expected is equal to any that has what it names."""

    def __init__(self, name: str, labels: Mapping[str, str], annotations: Mapping[str, str], *, whole: bool) -> None:
        self.name = name
        self.labels = dict(labels)
        self.annotations = dict(annotations)
        self._whole = whole  # it says all that there is, so what it lacks is not there

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Alert):
            return NotImplemented
        if self._whole and not other._whole:
            return other == self
        if self._whole:
            return (self.name, self.labels, self.annotations) == (other.name, other.labels, other.annotations)
        return (
            self.name == other.name
            and self.labels.items() <= other.labels.items()
            and self.annotations.items() <= other.annotations.items()
        )

    __hash__ = None  # type: ignore[assignment]  # equal ones can differ

    def __repr__(self) -> str:
        said = [repr(self.name), *(f"{name}={value!r}" for name, value in sorted(self.labels.items()))]
        if self.annotations:
            said.append(f"annotations={self.annotations!r}")
        return f"alert({', '.join(said)})"


def alert(name: str, *, annotations: Mapping[str, str] | None = None, **labels: str) -> Alert:
    """An alert that is expected: with these labels and annotations, and maybe others."""
    return Alert(name, labels, annotations or {}, whole=False)


class Alerts(list[Alert]):
    """The alerts of one moment; equal to a list of those expected, in any order: no more and no fewer."""

    def __init__(self, alerts: Sequence[Alert], timeline: Timeline) -> None:
        super().__init__(alerts)
        self.timeline = timeline

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list) or len(self) != len(other):
            return False
        left = list(self)
        for one in sorted(other, key=lambda each: -len(each.labels) if isinstance(each, Alert) else 0):
            if one not in left:
                return False
            left.remove(one)
        return True

    __hash__ = None


class Rules:
    """Rule files: `rules("monitoring/prometheus/rules/api.yml")`, paths relative to the repo's root."""

    def __init__(self, tool: Path, files: Sequence[Path]) -> None:
        """Raises PlayError where there is no such file."""
        self._tool = tool
        self.files = tuple(files)
        for file in files:
            if not file.is_file():
                raise PlayError(f"{file}: there is no such rule file")
        self.alerts = sorted({name for file in files for name in alerts_of(file)})
        self.timelines: list[Timeline] = []

    def play(
        self,
        series: Mapping[str, str | Sequence[float | None]],
        *,
        interval: str | float = "1m",
        until: str | float | None = None,
        evaluation_interval: str | float | None = None,
        external_labels: Mapping[str, str] | None = None,
    ) -> Timeline:
        """What the rules make of *series*, a value each *interval*: promtool's notation, or numbers (None: no sample).

        Evaluated each *evaluation_interval* (default: *interval*) from 0 to *until* (default: the last sample).
        Raises PlayError, and EvaluationError with what promtool says.
        """
        spacing = Moment.of(interval)
        written = {name: _values(values) for name, values in series.items()}
        last = max((_length(values) for values in written.values()), default=1) - 1
        end = Moment.of(until) if until is not None else Moment(max(1, last) * spacing)
        step = Moment.of(evaluation_interval) if evaluation_interval is not None else spacing
        if end / step > MAX_STEPS:
            raise PlayError(f"{end} in steps of {step} are more than {MAX_STEPS} evaluations: play less, or coarser")
        question = Question(written, spacing, external_labels=external_labels or {})
        timeline = Timeline(self._tool, self.files, self.alerts, question, float(step), float(end))
        self.timelines.append(timeline)
        return timeline

    def proven(self) -> tuple[set[str], set[str]]:
        """The alerts that were asked for and fire in a timeline, and those that are silent at some time of one."""
        fires = {name for timeline in self.timelines for name in timeline.asked & timeline.ever_fired}
        silent = {name for timeline in self.timelines for name in timeline.asked & timeline.ever_silent}
        return fires, silent


class Timeline:
    """What fires and what is pending at each evaluation."""

    def __init__(
        self, tool: Path, files: Sequence[Path], alerts: Sequence[str], question: Question, step: float, end: float
    ) -> None:
        self._tool = tool
        self._files = files
        self._alerts = alerts
        self._question = question
        self._step = step
        self.times = [Moment(number * step) for number in range(math.floor(end / step + 1e-9) + 1)]
        self.asked: set[str] = set()  # the alerts of which a test has asked
        self._firing, self._pending = self._play()

    def first_firing(self, name: str, **labels: str) -> Moment | None:
        """When the alert *name* (with *labels*) first fires; None where it never does."""
        return self._first(name, self._firing, labels)

    def first_pending(self, name: str, **labels: str) -> Moment | None:
        """When it is first pending: true, and waiting for its `for`."""
        return self._first(name, self._pending, labels)

    def resolved(self, name: str, **labels: str) -> Moment | None:
        """When it no longer fires, having fired; None where it never does, or does to the end."""
        began = self._first(name, self._firing, labels)
        wanted = Alert(name, labels, {}, whole=False)
        after = (time for time in self.times if began is not None and time > began and wanted not in self._firing[time])
        return self._moment(next(after, None))

    def firing(self, when: str | float) -> Alerts:
        """All alerts that fire at *when*, with labels and annotations."""
        self.asked |= set(self._alerts)
        return Alerts(self._firing[self._at(when)], self)

    def pending(self, when: str | float) -> Alerts:
        """All alerts that are pending at *when*; they have no annotations yet."""
        self.asked |= set(self._alerts)
        return Alerts(self._pending[self._at(when)], self)

    @property
    def fired(self) -> set[str]:
        """The names of all alerts that ever fire."""
        self.asked |= set(self._alerts)
        return self.ever_fired

    @cached_property
    def ever_fired(self) -> set[str]:
        """As `fired`, without having asked."""
        return {one.name for alerts in self._firing.values() for one in alerts}

    @cached_property
    def ever_silent(self) -> set[str]:
        """The names of all alerts that do not fire at some time."""
        firing = [{one.name for one in alerts} for alerts in self._firing.values()]
        return {name for name in self._alerts if any(name not in names for names in firing)}

    def samples(self, query: str, when: str | float) -> tuple[Sample, ...]:
        """What the PromQL *query* gives at *when*: any expression. Raises PlayError where it can't be read."""
        question = Question(
            self._question.series, self._question.interval, [(query, float(self._at(when)))],
            external_labels=self._question.external_labels,
        )  # fmt: skip
        (found,) = evaluate(self._tool, self._files, [question], evaluation_interval=self._step)[0].samples
        if isinstance(found, str):
            raise PlayError(f"{query}: {found}")
        return found

    def value(self, query: str, when: str | float) -> float | None:
        """The one value that *query* gives at *when*, or None; raises PlayError for several."""
        found = self.samples(query, when)
        if len(found) > 1:
            raise PlayError(f"{query} at {Moment.of(when)}: {len(found)} samples; ask for one, or use samples()")
        return found[0].value if found else None

    def picture(self, *names: str) -> str:
        """A row of `F` firing, `p` pending, `.` silent for each alert that is ever one, or is in *names*."""
        rows = self._rows(names)
        width = max((len(label) for label, _ in rows), default=0)
        ruler = "".join(str(time).ljust(5) for time in self.times[::5])
        return "\n".join([f"{'':<{width}}  {ruler}".rstrip(), *(f"{label:<{width}}  {cells}" for label, cells in rows)])

    def svg(self, *names: str) -> str:
        """The same as a picture for people: grey silent, yellow pending, red firing, with the times below."""
        rows = self._rows(names)
        left = 8 * max((len(label) for label, _ in rows), default=0) + 8
        width, height = left + _CELL * len(self.times) + 8, 20 * len(rows) + 24
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        parts = [f'{head} font-family="monospace" font-size="12">']
        for row, (label, cells) in enumerate(rows):
            parts.append(f'<text x="4" y="{20 * row + 15}">{escape(label)}</text>')
            for start, cell, length in _runs(cells):
                place = f'x="{left + _CELL * start}" y="{20 * row + 4}" width="{_CELL * length}" height="14"'
                parts.append(f'<rect {place} fill="{_COLOURS[cell]}"/>')
        below = f'y="{20 * len(rows) + 18}"'
        ruler = list(enumerate(self.times))[::5]
        parts += [f'<text x="{left + _CELL * index}" {below}>{time}</text>' for index, time in ruler]
        return "\n".join([*parts, "</svg>", ""])

    def write(self, path: Path) -> None:
        """Write it as a file for promtool: the series, and what fires whenever that changes."""
        tests: list[dict[str, Any]] = []
        before: Any = None
        for time in self.times:
            now = self._firing[time]
            if time == self.times[-1] or before is None or list(now) != before:
                tests += [self._expectation(name, time) for name in self._alerts]
            before = list(now)
        entry = {
            "interval": str(Moment(self._question.interval)),
            "external_labels": dict(self._question.external_labels),
            "input_series": [{"series": name, "values": values} for name, values in self._question.series.items()],
            "alert_rule_test": tests,
        }
        document = {
            "rule_files": [str(file.absolute()) for file in self._files],
            "evaluation_interval": str(Moment(self._step)),
            "tests": [entry],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def _expectation(self, name: str, time: Moment) -> dict[str, Any]:
        found = [
            {"exp_labels": one.labels, "exp_annotations": one.annotations}
            for one in self._firing[time]
            if one.name == name
        ]
        return {"alertname": name, "eval_time": str(time), "exp_alerts": found}

    def _play(self) -> tuple[dict[float, list[Alert]], dict[float, list[Alert]]]:
        question = Question(
            self._question.series,
            self._question.interval,
            [(_PENDING, float(time)) for time in self.times],
            [(name, float(time)) for time in self.times for name in self._alerts],
            self._question.external_labels,
        )
        (answer,) = evaluate(self._tool, self._files, [question], evaluation_interval=self._step)
        return self._fired(answer), dict(zip(self.times, map(_waiting, answer.samples), strict=True))

    def _fired(self, answer: Answer) -> dict[float, list[Alert]]:
        firing: dict[float, list[Alert]] = {time: [] for time in self.times}
        for (_, time), found in zip(self._asked_alerts(), answer.firing, strict=True):
            firing[time] += [Alert(one.name, one.labels, one.annotations, whole=True) for one in found]
        return firing

    def _asked_alerts(self) -> Iterator[tuple[str, Moment]]:
        return ((name, time) for time in self.times for name in self._alerts)

    def _first(self, name: str, known: Mapping[float, list[Alert]], labels: Mapping[str, str]) -> Moment | None:
        if name not in self._alerts:
            raise PlayError(f"{name} is defined in no rule file that is played{nearest(name, self._alerts)}")
        self.asked.add(name)
        wanted = Alert(name, labels, {}, whole=False)
        return self._moment(next((time for time in self.times if wanted in known[time]), None))

    def _moment(self, time: float | None) -> Moment | None:
        if time is None:
            return None
        moment = Moment(time)
        moment.timeline = self
        return moment

    def _at(self, when: str | float) -> float:
        moment = Moment.of(when)
        if moment not in self._firing:
            raise PlayError(f"{moment} is no evaluation: from 0s to {self.times[-1]}, each {Moment(self._step)}")
        return moment

    def _rows(self, names: Sequence[str]) -> list[tuple[str, str]]:
        seen: dict[str, Alert] = {}
        for alerts in (*self._pending.values(), *self._firing.values()):
            seen |= {repr(_bare(one)): _bare(one) for one in alerts}
        lacking = [alert(name) for name in names if name not in {one.name for one in seen.values()}]
        return [
            (repr(one), "".join(self._cell(one, time) for time in self.times)) for one in (*seen.values(), *lacking)
        ]

    def _cell(self, one: Alert, time: float) -> str:
        return "F" if one in self._firing[time] else "p" if one in self._pending[time] else "."


def explain(left: object, operator: str, right: object) -> list[str] | None:
    """What pytest shows where such a comparison fails: what was wanted, and the timeline; None for what is not ours."""
    if operator != "==" or not isinstance(left, Moment | Alerts) or left.timeline is None:
        return None
    lines = [f"{left!r} == {right!r}"]
    if isinstance(left, Alerts) and isinstance(right, list):
        expected = [one for one in right if one not in left]
        lines += [f"  - {one!r}" for one in expected]
        lines += [f"  + {one!r}" for one in left if one not in right]
    return [*lines, "F fires, p is pending, . is silent", *left.timeline.picture().splitlines()]


def _runs(cells: str) -> Iterator[tuple[int, str, int]]:
    """Where each run of equal cells begins, what it is, and how long."""
    start = 0
    for cell, same in groupby(cells):
        length = len(list(same))
        yield start, cell, length
        start += length


def _bare(one: Alert) -> Alert:
    return Alert(one.name, one.labels, {}, whole=False)


def _waiting(samples: tuple[Sample, ...] | str) -> list[Alert]:
    found = []
    for sample in samples if not isinstance(samples, str) else ():
        labels = {name: value for name, value in sample.labels.items() if name not in ("__name__", "alertstate")}
        found.append(Alert(labels.pop("alertname"), labels, {}, whole=True))
    return found


def _values(values: str | Sequence[float | None]) -> str:
    if isinstance(values, str):
        return values
    return " ".join("_" if value is None else repr(float(value)) for value in values)


def _length(values: str) -> int:
    """How many samples promtool's notation stands for."""
    return sum(1 + int(found[1]) if (found := _SPAN.search(part)) else 1 for part in values.split())
