"""What the rule tests have seen of the rules: which alerts fire and keep silent, which side of a condition holds.

Measured, not guessed: promtool is asked what each part of each expression came to, at every evaluation of every entry.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upcheck.rules import evaluate, promql, suite
from upcheck.rules.judging import Relations
from upcheck.rules.promql import Binary, Expr, Paren, Selector
from upcheck.rules.suite import Name, Rule, Suite, alert_tests, expr_tests, seconds

MOST_STEPS = 2000  # evaluations of an entry that are looked at; of more, as many evenly spread
_Key = tuple[Path, int, int]
STATES = ("never", "exercised", "asserted")


@dataclass(frozen=True)
class Point:
    """One thing that a test can see of *rule*, and in what *state*: never seen, `exercised`, or `asserted` by a test.

    *kind* is fires, silent, pending, sample, template or branch; *what* tells which template or branch.
    """

    rule: Rule
    kind: str
    what: str
    state: str

    @property
    def covered(self) -> bool:
        """Asserted, or for a part of an expression, exercised."""
        return self.state == "asserted" or (self.kind in ("branch", "sample") and self.state == "exercised")


@dataclass(frozen=True)
class Coverage:
    """All points, by file; *notes* say what was not looked at in full."""

    points: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def rules(self) -> list[Rule]:
        """The rules that there are points of."""
        return list(dict.fromkeys(point.rule for point in self.points))


def measure(tool: Path, tests: Sequence[Path], rule_files: Sequence[Path] = ()) -> Coverage:
    """What *tests* see of the rules they load and of those in *rule_files*.

    Raises DocumentError, CommandError, and EvaluationError where promtool refuses rules or series.
    """
    suites = [suite.read(path) for path in tests]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="promtool") as pool:
        seen = list(pool.map(lambda one: _Seen(one).asked(tool), suites))
    rules = {rule.key: rule for one in suites for rule in one.rules}
    for path in rule_files:
        rules |= {rule.key: rule for rule in suite.rules_in(path.resolve()) if rule.key not in rules}
    points: list[Point] = []
    for key in sorted(rules):
        for kind, what in _points(rules[key]):
            state = max((one.states.get((key, kind, what), 0) for one in seen), default=0)
            points.append(Point(rules[key], kind, what, STATES[state]))
    return Coverage(tuple(points), tuple(note for one in seen for note in one.notes))


def _points(rule: Rule) -> Iterator[tuple[str, str]]:
    """What a test can see of *rule*: a kind, and what."""
    if rule.name.kind == "record":
        yield "sample", ""
    else:
        yield "fires", ""
        if rule.selectors:  # else it fires always
            yield "silent", ""
        if seconds(str(rule.value.get("for") or "")):
            yield "pending", ""
        for field_name in ("labels", "annotations"):
            for name, text in (rule.value.get(field_name) or {}).items():
                if "{{" in str(text):
                    yield "template", name
    for what, _ in _branches(rule):
        yield "branch", what


def _branches(rule: Rule) -> Iterator[tuple[str, Expr]]:
    """The ways through the expression of *rule*: what each is, and what has a sample where it is taken."""
    found: dict[str, Expr] = {}
    for _, node in promql.walk(rule.tree) if rule.tree is not None else ():
        if isinstance(node, Binary) and node.op in promql.COMPARISONS and not node.is_bool:
            outcome = Paren(replace(node, is_bool=True))
            found[f"`{node}` holds"] = Binary("==", outcome, promql.Number(1))
            found[f"`{node}` does not hold"] = Binary("==", outcome, promql.Number(0))
        elif isinstance(node, Binary) and node.op in ("and", "unless"):
            found[f"`{node.left}` with `{node.right}`"] = replace(node, op="and")
            found[f"`{node.left}` without `{node.right}`"] = replace(node, op="unless")
        elif isinstance(node, Binary) and node.op == "or":
            found[f"`{node.left}` of an `or`"] = node.left
            alone = replace(node, op="unless", left=Paren(node.right), right=Paren(node.left))
            found[f"`{node.right}` of an `or`, alone"] = alone
    for what, expr in found.items():
        if suite.tree_of(f"count({expr})") is not None:  # else it compares scalars, which are no series
            yield what, expr


@dataclass(slots=True)
class _Seen:
    """What one suite sees: the state of each point, as a place in STATES."""

    suite: Suite
    states: dict[tuple[_Key, str, str], int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def asked(self, tool: Path) -> _Seen:
        """Itself, after promtool was asked."""
        entries = [
            (entry, last)
            for entry in self.suite.entries
            if (last := max(map(_time, (*alert_tests(entry), *expr_tests(entry))), default=None)) is not None
        ]
        asked = [self._queries(entry, last) for entry, last in entries]
        questions = [
            evaluate.Question(
                series={str(one["series"]): str(one["values"]) for one in entry.get("input_series") or ()},
                interval=seconds(str(entry.get("interval") or "")) or self.suite.evaluation_interval,
                queries=list(queries.values()),
                external_labels={name: str(value) for name, value in (entry.get("external_labels") or {}).items()},
                start=str(entry.get("start_timestamp") or ""),
            )
            for (entry, _), queries in zip(entries, asked, strict=True)
        ]
        with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
            files = suite.plain(self.suite, Path(folder))
            answers = evaluate.evaluate(tool, files, questions, evaluation_interval=self.suite.evaluation_interval)
        for (entry, _), queries, answer in zip(entries, asked, answers, strict=True):
            found = dict(zip(queries, answer.samples, strict=True))
            self._note(entry, {key: samples for key, samples in found.items() if not isinstance(samples, str)})
        self._records_asserted()
        return self

    def _queries(self, entry: Mapping[str, Any], last: float) -> dict[tuple[Any, ...], tuple[str, float]]:
        """What is asked of an entry whose last test is at *last*: queries, each with its time."""
        step = self.suite.evaluation_interval
        if last / step > MOST_STEPS:
            step *= -(-last // (step * MOST_STEPS))
            name = entry.get("name") or "an entry"
            self.notes.append(f"{suite.short(self.suite.path)}: of {name}, {MOST_STEPS} evaluations are looked at")
        window = promql.duration(last + step)
        found: dict[tuple[Any, ...], tuple[str, float]] = {
            ("alerts",): (f"max by (alertname, alertstate) (max_over_time(ALERTS[{window}]))", last)
        }
        for rule in self.suite.rules:
            if rule.name.kind == "record":
                samples = Selector(rule.name.text, range=last + step)
                found[rule.key, "sample", ""] = (f"count(present_over_time({samples}))", last)
            for what, expr in _branches(rule):
                found[rule.key, "branch", what] = (
                    f"max_over_time((count({expr}))[{window}:{promql.duration(step)}])",
                    last,
                )
            if rule.name.kind == "alert":
                for selector in rule.selectors:
                    text = replace(selector, range=last + step, offset=None, at="")
                    found["data", rule.name.text, str(selector)] = (f"count(present_over_time({text}))", last)
        for test in alert_tests(entry):
            name, at = str(test.get("alertname")), _time(test)
            if not test.get("exp_alerts"):
                pending = f'ALERTS{{alertname={json.dumps(name)}, alertstate="pending"}}'
                found["pending", name, at] = (pending, at)
        return found

    def _note(self, entry: Mapping[str, Any], found: Mapping[tuple[Any, ...], tuple[evaluate.Sample, ...]]) -> None:
        """Add what one entry has seen."""
        for key, samples in found.items():
            if samples and key[1:2] in (("sample",), ("branch",)):
                self._reach(key, 1)
        for sample in found.get(("alerts",), ()):
            fires = sample.labels["alertstate"] == "firing"
            for kind in ("fires", "template") if fires else ("pending",):
                self._of_alert(sample.labels["alertname"], kind, 1)
        data = {key[1] for key, samples in found.items() if key[0] == "data" and samples}
        for test in alert_tests(entry):
            name = str(test.get("alertname"))
            if test.get("exp_alerts"):
                for kind in ("fires", "template"):
                    self._of_alert(name, kind, 2)
            else:
                self._of_alert(name, "silent", 2 if name in data else 0)
                self._of_alert(name, "pending", 2 if found.get(("pending", name, _time(test))) else 0)

    def _records_asserted(self) -> None:
        """A recording rule is asserted where a test names it, or an alert that depends on it fires in a test."""
        relations = Relations(self.suite)
        fired = {key for (key, kind, _), state in self.states.items() if kind == "fires" and state == 2}
        asked = {one.name for entry in self.suite.entries for test in expr_tests(entry)
                 for one in suite.selectors_of(str(test.get("expr", "")))}  # fmt: skip
        for rule in self.suite.rules:
            if rule.name.kind == "record" and self.states.get((rule.key, "sample", "")):
                closure = relations.closure(rule.name)
                dependents = {one.key for one in self.suite.rules if one.name in closure}
                if rule.name.text in asked or dependents & fired:
                    self._reach((rule.key, "sample", ""), 2)

    def _of_alert(self, name: str, kind: str, state: int) -> None:
        for rule in self.suite.rules:
            if rule.name == Name("alert", name):
                for point in _points(rule):
                    if point[0] == kind:
                        self._reach((rule.key, *point), state)

    def _reach(self, key: tuple[Any, ...], state: int) -> None:
        self.states[key] = max(state, self.states.get(key, 0))


def _time(test: Mapping[str, Any]) -> float:
    return seconds(str(test.get("eval_time") or "0s"))
