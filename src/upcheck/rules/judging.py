"""Whether tests notice a mutant, fast: all mutants of a rule beside each other, in one run of promtool.

Each mutant is the rule under a name of its own, with all that depends on it; each expectation is repeated for it.
promtool then names those that it noticed. What can't be told apart by names is run by itself, as `alone` does.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from upcheck import promtool
from upcheck.command import CommandError
from upcheck.rules import promql
from upcheck.rules.mutants import Mutant
from upcheck.rules.promql import Selector
from upcheck.rules.suite import Name, Plain, Rule, Suite, alert_tests, expr_tests, plain, seconds, selectors_of, written

_MARK = "__upcheck_"
_NAMED = re.compile(rf"{_MARK}([0-9a-f]{{12}})")
_ERRED = re.compile(rf"^\s*rule: .*?{_MARK}([0-9a-f]{{12}}), time: .*, err: ", re.MULTILINE)
_REFUSED = re.compile(rf'rule [0-9]+, "[^"]*?{_MARK}([0-9a-f]{{12}})"')
_ANY_REFUSED = re.compile(r'rule [0-9]+, "[^"]*"')
_ALERTS = ("ALERTS", "ALERTS_FOR_STATE")
_QUERY = re.compile(r"\{\{(?:(?!\}\}).)*(?<![.$\w])query\b", re.DOTALL)  # the function of templates, not the word
_TESTS = ("alert_rule_test", "promql_expr_test")


class Relations:
    """What depends on what in a suite."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.records = {rule.name.text for rule in suite.rules if rule.name.kind == "record"}
        self._reads = {rule: self._records_read(rule.selectors) for rule in suite.rules}
        self._tests = [
            (index, str(test.get("expr", ""))) for index, one in enumerate(suite.entries) for test in expr_tests(one)
        ]
        self._asked = [selector for _, text in self._tests for selector in selectors_of(text)]
        self._queries = {rule for rule in suite.rules if _QUERY.search(_templates(rule))}
        self._supplied = {
            token.text
            for entry in suite.entries
            for series in entry.get("input_series") or ()
            for token in promql.positions(str(series.get("series", "")))
            if token.kind == "metric"
        }

    def closure(self, name: Name) -> set[Name]:
        """*name* and all that depends on it."""
        found = {name}
        while True:
            names = _records(found)
            more = {rule.name for rule, read in self._reads.items() if read & names} - found
            if not more:
                return found
            found |= more

    def needed(self, closure: Collection[Name], entries: Collection[int]) -> set[Rule]:
        """The recording rules outside *closure* that it, or an expression of it that *entries* test, reads."""
        names = {name for rule, read in self._reads.items() if rule.name in closure for name in read}
        for index, text in self._tests:
            read = self._records_read(selectors_of(text))
            names |= read if index in entries and read & _records(closure) else set()
        while True:
            more = {one for rule, read in self._reads.items() if rule.name.text in names for one in read} - names
            if not more:
                break
            names |= more
        kept = names - _records(closure)
        return {rule for rule in self.suite.rules if rule.name.kind == "record" and rule.name.text in kept}

    def relevant(self, closure: Collection[Name]) -> list[int]:
        """The entries that test something of *closure*."""
        alerts = {name.text for name in closure if name.kind == "alert"}
        named = {
            index
            for index, entry in enumerate(self.suite.entries)
            if any(str(test.get("alertname")) in alerts for test in alert_tests(entry))
        }
        records = _records(closure)
        asked = {index for index, text in self._tests if self._records_read(selectors_of(text)) & records}
        return sorted(named | asked)

    def entangled(self, closure: Collection[Name]) -> bool:
        """Whether what is in *closure* is seen in ways that a name of its own would change."""
        records = _records(closure)
        alerts = {name.text for name in closure if name.kind == "alert"}
        inside = [rule for rule in self.suite.rules if rule.name in closure]
        beside = [*inside, *self.needed(closure, self.relevant(closure))]
        texts = [rule.expr for rule in inside]
        texts += [text for _, text in self._tests if self._records_read(selectors_of(text)) & records]
        every = [selector for rule in self.suite.rules for selector in rule.selectors] + self._asked
        return (
            any(_sees(selector, records, alerts) for selector in every)
            or any(promql.reads(one, name) for rule in beside for one in rule.selectors for name in _ALERTS)
            or any("__name__" in text or not _parses(text) for text in texts)
            or any(rule in self._queries for rule in (self.suite.rules if records else inside))
            or bool(records & self._supplied)
        )

    def _records_read(self, selectors: Iterable[Selector]) -> set[str]:
        return {name for selector in selectors for name in self.records if promql.reads(selector, name)}


@dataclass(frozen=True, eq=False)
class Job:
    """Mutants of one rule, and the entries of a suite that are to judge them.

    Where it is not *asserting*, only whether the rules can be evaluated at all is judged.
    """

    relations: Relations
    mutants: tuple[Mutant, ...]
    entries: tuple[int, ...]
    asserting: bool

    @cached_property
    def marks(self) -> dict[str, Mutant]:
        """The mutants by what their names end in."""
        return {_mark(self.relations.suite, one): one for one in self.mutants}

    @property
    def evaluations(self) -> float:
        """How often each of its rules is evaluated at most: what it costs."""
        suite = self.relations.suite
        return sum(seconds(_last(suite.entries[index])) for index in self.entries) / suite.evaluation_interval

    def of(self, mutants: Sequence[Mutant]) -> Job:
        """The same with some of its mutants."""
        return replace(self, mutants=tuple(mutants))

    def parts(self, size: int) -> Iterator[Job]:
        """The same in jobs of at most *size* mutants."""
        for first in range(0, len(self.mutants), size):
            yield self.of(self.mutants[first : first + size])

    def files(self, left_out: Collection[str] = ()) -> dict[str, str]:
        """The files for promtool, by name, without the mutants whose marks are *left_out*; `tests.yml` is the test."""
        suite = self.relations.suite
        marks = {mark: one for mark, one in self.marks.items() if mark not in left_out}
        closure = self.relations.closure(self.mutants[0].rule.name)
        needed = self.relations.needed(closure, self.entries if self.asserting else ())
        found = {}
        for number, (path, document) in enumerate(suite.files.items()):
            groups = [{**group, "rules": []} for group in document.get("groups") or ()]
            for rule in suite.rules:
                if rule.file == path and rule in needed:
                    groups[rule.group]["rules"].append(rule.value)
                elif rule.file == path and rule.name in closure:
                    groups[rule.group]["rules"] += [_copy(rule, one, mark, closure) for mark, one in marks.items()]
            found[f"{number}.yml"] = written({"groups": groups})
        entries = [self._entry(suite.entries[index], marks, closure) for index in self.entries]
        found["tests.yml"] = written({**suite.document, "rule_files": list(found), "tests": entries})
        return found

    def _entry(self, entry: Mapping[str, Any], marks: Iterable[str], closure: Collection[Name]) -> Mapping[str, Any]:
        kept = {key: value for key, value in entry.items() if key not in _TESTS}
        if not self.asserting:
            sample = {"labels": "{}", "value": Plain("0")}
            nothing = {"expr": "vector(0)", "eval_time": _last(entry), "exp_samples": [sample]}
            return {**kept, "promql_expr_test": [nothing]}
        alerts: list[Any] = []
        for test in alert_tests(entry):
            name = str(test.get("alertname"))
            if Name("alert", name) in closure:
                rest = {key: Plain(written(value)) for key, value in test.items() if value is not None}
                alerts += [{**rest, "alertname": f"{name}{_MARK}{mark}"} for mark in marks]
        exprs: list[Any] = []
        records = _records(closure)
        for test in expr_tests(entry):
            if any(promql.reads(one, name) for one in selectors_of(str(test["expr"])) for name in records):
                exprs += [_asked_of(test, mark, records) for mark in marks]
        return {**kept, "alert_rule_test": alerts, "promql_expr_test": exprs}


def asking(relations: Relations, mutants: Sequence[Mutant]) -> list[Job]:
    """The jobs that judge *mutants* of one rule: one for each entry that tests the rule, or what depends on it."""
    relevant = relations.relevant(relations.closure(mutants[0].rule.name))
    return [Job(relations, tuple(mutants), (index,), asserting=True) for index in relevant]


def evaluating(relations: Relations, mutants: Sequence[Mutant]) -> Job | None:
    """The job that judges whether *mutants* of one rule can be evaluated: by all other entries, None without any."""
    relevant = relations.relevant(relations.closure(mutants[0].rule.name))
    entries = relations.suite.entries
    others = [index for index, one in enumerate(entries) if index not in relevant and any(map(one.get, _TESTS))]
    return Job(relations, tuple(mutants), tuple(others), asserting=False) if others else None


@dataclass(slots=True)
class Found:
    """Marks of mutants that tests notice, and of those that promtool refuses to load."""

    killed: set[str]
    refused: set[str]


def together(tool: Path, jobs: Sequence[Job]) -> Found:
    """Judge all *jobs* in as few runs as can be; raises CommandError where promtool gives no answer."""
    found = Found(set(), set())
    while True:
        known = found.killed | found.refused
        left = [job for job in jobs if job.marks.keys() - known]
        if not left:
            return found
        with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
            tests = [_write(Path(folder, str(number)), job.files(known)) for number, job in enumerate(left)]
            verdict = promtool.test_rules(tool, tests)
        if verdict.ok:
            return found
        refused = set(_REFUSED.findall(verdict.text))
        found.refused |= refused
        named = set(_NAMED.findall(verdict.text)) - found.refused
        if not named - known and not refused - known:
            raise CommandError(f"promtool fails, but names no mutant: {verdict.text.strip()[:500]}")
        found.killed |= named
        if not refused and not _ERRED.search(verdict.text):  # which end an entry before its other expectations are met
            return found


def unchanged(tool: Path, suite: Suite) -> promtool.Verdict:
    """The verdict on *suite* as it is."""
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        files = plain(suite, Path(folder))
        if files == list(suite.files):
            return promtool.test_rules(tool, [suite.path])
        document = {**suite.document, "rule_files": [str(file) for file in files]}
        return promtool.test_rules(tool, [_write(Path(folder), {"tests.yml": written(document)})])


def alone(tool: Path, suite: Suite, mutant: Mutant) -> str:
    """`killed`, `survived` or `refused`: of one run over the whole test file with the rule changed in its place."""
    found = {}
    for number, (path, document) in enumerate(suite.files.items()):
        groups = [{**group, "rules": list(group.get("rules") or ())} for group in document.get("groups") or ()]
        if path == mutant.rule.file:
            groups[mutant.rule.group]["rules"][mutant.rule.index] = mutant.value
        found[f"{number}.yml"] = written({**document, "groups": groups})
    found["tests.yml"] = written({**suite.document, "rule_files": list(found)})
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        verdict = promtool.test_rules(tool, [_write(Path(folder), found)])
    if verdict.ok:
        return "survived"
    return "refused" if _ANY_REFUSED.search(verdict.text) else "killed"


def _mark(suite: Suite, mutant: Mutant) -> str:
    return hashlib.sha256(f"{suite.path.absolute()} {mutant.rule.file} {mutant.id}".encode()).hexdigest()[:12]


def _last(entry: Mapping[str, Any]) -> str:
    """When the last of an entry's expectations is due."""
    return max((str(test.get("eval_time") or "0s") for name in _TESTS for test in entry.get(name) or ()), key=seconds)


def _records(names: Collection[Name]) -> set[str]:
    return {name.text for name in names if name.kind == "record"}


def _parses(text: str) -> bool:
    try:
        promql.parse(text)
    except promql.PromQLError:
        return False
    return True


def _templates(rule: Rule) -> str:
    return " ".join(str(text) for key in ("labels", "annotations") for text in (rule.value.get(key) or {}).values())


def _sees(selector: Selector, records: Collection[str], alerts: Collection[str]) -> bool:
    """Whether *selector* reads one of *records* by a pattern, or one of *alerts* as a series."""
    if not selector.name and any(promql.reads(selector, name) for name in records):
        return True
    if not any(promql.reads(selector, name) for name in _ALERTS):
        return False
    exact = [one.value for one in selector.matchers if one.label == "alertname" and one.op == "="]
    return bool(set(exact) & set(alerts)) if exact else bool(alerts)


def _copy(rule: Rule, mutant: Mutant, mark: str, closure: Collection[Name]) -> Mapping[str, Any]:
    value = mutant.value if rule.key == mutant.rule.key else rule.value
    expr = _renamed(str(value["expr"]), mark, _records(closure))
    return {**value, rule.name.kind: f"{rule.name.text}{_MARK}{mark}", "expr": expr}


def _asked_of(test: Mapping[str, Any], mark: str, records: Collection[str]) -> Mapping[str, Any]:
    changed: dict[str, Any] = {**test, "expr": _renamed(str(test["expr"]), mark, records)}
    if test.get("exp_samples"):
        changed["exp_samples"] = [
            {**one, "labels": _renamed(str(one.get("labels") or "{}"), mark, records)} for one in test["exp_samples"]
        ]
    return {key: value for key, value in changed.items() if value is not None}


def _renamed(text: str, mark: str, records: Collection[str]) -> str:
    return "".join(
        f"{token.text}{_MARK}{mark}" if token.kind == "metric" and token.text in records else token.text
        for token in promql.positions(text)
    )


def _write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "tests.yml"
