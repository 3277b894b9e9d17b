"""promtool as an evaluator: what rules make of series, asked with expectations that can't hold.

`promtool test rules` prints what it got whenever it expected something else. So each query expects what can't be, and
one run says what all of them are: any expression, at any time, as Prometheus itself would have it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upcheck import command, promtool

TIMEOUT = 120.0  # seconds
_NEVER = {"upcheck_expects": "what can not be"}
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)?(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})? (\S+?)(?:, |$)')
_EXPR = re.compile(r'^\s*expr: "(?:[^"\\]|\\.)*", time: \S+,(?:\s*err: (?P<error>.*))?$')
_ALERT = re.compile(r"^\s*alertname: .*, time: \S+,\s*$")
_LABELS = re.compile(r"^\s*Labels:\{(.*)\},?\s*$")
_ANNOTATIONS = re.compile(r"^\s*Annotations:\{(.*)\},?\s*$")


class EvaluationError(Exception):
    """promtool could not evaluate: what it said."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of an answer; *labels* have `__name__` where it has a name."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires: its labels without `alertname`, and its annotations as they are rendered."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """*series* as promtool writes them, one sample each *interval* seconds, and what is to be said of them.

    *queries*: expressions, each with its time in seconds; *alerts*: names of alerts, each with its time.
    *start* is the time that promtool begins at, for one that knows `start_timestamp`.
    """

    series: Mapping[str, str]
    interval: float
    queries: Sequence[tuple[str, float]] = ()
    alerts: Sequence[tuple[str, float]] = ()
    external_labels: Mapping[str, str] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The samples of each query, or why it has none, and the alerts that fire, in the order of the question."""

    samples: tuple[tuple[Sample, ...] | str, ...]
    firing: tuple[tuple[Firing, ...], ...]


def evaluate(
    tool: Path, rule_files: Sequence[Path], questions: Sequence[Question], *, evaluation_interval: float = 60.0
) -> list[Answer]:
    """The answers to *questions*, of one run of promtool over *rule_files*.

    Raises EvaluationError where promtool refuses a file or a series, CommandError where it gives no answer.
    """
    document = {
        "rule_files": [str(file.absolute()) for file in rule_files],
        "evaluation_interval": _duration(evaluation_interval),
        "tests": [_entry(question) for question in questions],
    }
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        file = Path(folder, "questions.yml")
        file.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
        answer = command.run(
            [tool, "test", "rules", file], timeout=TIMEOUT, environ=promtool.ENVIRON, memory=promtool.MEMORY
        )
    told = list(_told(answer.stderr.splitlines()))
    if len(told) != sum(len(one.queries) + len(one.alerts) for one in questions):
        said = [line.strip() for line in answer.stderr.splitlines() if line.strip() not in ("", "FAILED:")]
        raise EvaluationError("; ".join(said) or "promtool said nothing")
    answers = []
    for question in questions:
        alerts, told = told[: len(question.alerts)], told[len(question.alerts) :]
        queries, told = told[: len(question.queries)], told[len(question.queries) :]
        order = sorted(range(len(alerts)), key=lambda index: question.alerts[index][1])
        firing = dict(zip(order, map(_firing, alerts), strict=True))
        answers.append(Answer(tuple(map(_samples, queries)), tuple(firing[index] for index in range(len(alerts)))))
    return answers


def _entry(question: Question) -> dict[str, object]:
    """The question as an entry under `tests`. promtool tells of alerts in the order of their times."""
    never = "{" + ",".join(f'{name}="{value}"' for name, value in _NEVER.items()) + "}"
    alerts = sorted(question.alerts, key=lambda one: one[1])
    start = {"start_timestamp": question.start} if question.start else {}  # which an older promtool does not know
    return {
        **start,
        "interval": _duration(question.interval),
        "external_labels": dict(question.external_labels),
        "input_series": [{"series": name, "values": values} for name, values in question.series.items()],
        "alert_rule_test": [
            {"alertname": name, "eval_time": _duration(time), "exp_alerts": [{"exp_labels": _NEVER}]}
            for name, time in alerts
        ],
        "promql_expr_test": [
            {"expr": query, "eval_time": _duration(time), "exp_samples": [{"labels": never, "value": 0}]}
            for query, time in question.queries
        ],
    }


def _told(lines: Sequence[str]) -> Iterator[list[str]]:
    """What promtool printed, in parts of one expectation each, without what it expected."""
    part: list[str] | None = None
    for line in lines:
        if _ALERT.match(line) or _EXPR.match(line):
            if part is not None:
                yield part
            part = [line]
        elif part is not None:
            if line.strip().startswith("got:"):
                del part[1:]
            part.append(line)
    if part is not None:
        yield part


def _samples(part: Sequence[str]) -> tuple[Sample, ...] | str:
    head = _EXPR.match(part[0])
    if head is not None and head["error"] is not None:
        return str(head["error"])
    text = part[1].strip().removeprefix("got:").strip()
    return () if text == "nil" else tuple(_sample(found) for found in _SAMPLE.finditer(text))


def _sample(found: re.Match[str]) -> Sample:
    name = {"__name__": found[1]} if found[1] else {}
    return Sample(name | _pairs(found[2] or ""), float(found[3]))


def _firing(part: Sequence[str]) -> tuple[Firing, ...]:
    found: list[Firing] = []
    for line in part[1:]:
        if match := _LABELS.match(line):
            labels = _pairs(match[1])
            found.append(Firing(labels.pop("alertname"), labels, {}))
        elif (match := _ANNOTATIONS.match(line)) and found:
            found[-1] = Firing(found[-1].name, found[-1].labels, _pairs(match[1]))
    return tuple(found)


def _pairs(text: str) -> dict[str, str]:
    return {name: _unquoted(value) for name, value in _PAIR.findall(text)}


def _unquoted(text: str) -> str:
    """*text* as it was before Go's %q, whose escapes are JSON's but for \\x, \\a and \\v."""
    if "\\" not in text:
        return text
    text = re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", text).replace("\\a", "\\u0007").replace("\\v", "\\u000b")
    return str(json.loads(f'"{text}"'))


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
