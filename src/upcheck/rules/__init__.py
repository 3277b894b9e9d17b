"""Rule tests in promtool's own format, unextended: which there are, whether they hold, and which one is to blame.

The green path costs a few runs of promtool for all files together, on all cores. Only where a file fails are its
entries run alone, to place the blame.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from upcheck import documents, promtool
from upcheck.command import CommandError
from upcheck.documents import DocumentError, Map, Seq
from upcheck.promtool import Verdict
from upcheck.settings import nearest
from upcheck.tools import FEATURES

_ALLOWED = re.compile(r"#[ \t]*upcheck:[ \t]*allow[ \t]+([a-z-]+)[ \t]+because[ \t]+\S")
RUNS_PER_CORE = 2  # a run costs 22 ms to start; more runs than cores, so that no core waits long for the other


class FalseGreen(NamedTuple):
    """Why promtool's SUCCESS would mean nothing: its name, which can be allowed, and a sentence."""

    id: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry under `tests:`, with the alerts that it expects to fire and to be silent."""

    name: str
    line: int
    index: int
    fires: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    problem: FalseGreen | None = None


@dataclass(frozen=True, slots=True)
class TestFile:
    """A file of rule tests. *alerts* are those that its rule files define; *patterns* name these.

    *problems* are the false greens of the file as a whole; *features* those of promtool that it needs and an older one
    lacks.
    """

    path: Path
    alerts: tuple[str, ...]
    entries: tuple[Entry, ...]
    problems: tuple[FalseGreen, ...]
    features: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    __test__ = False


def load(path: Path, allowed: Collection[str] = ()) -> TestFile:
    """The entries of the rule-test file at *path*; raises DocumentError where it is none.

    A false green is left out where its name is in *allowed*, or in a comment: `# upcheck: allow NAME because ...`.
    """
    document = documents.load(path)
    if not isinstance(document, Map):
        raise DocumentError(path, "expected a rule-test file: a mapping with rule_files and tests")
    allowed = {*allowed, *_ALLOWED.findall(path.read_text(encoding="utf-8"))}
    problems: list[FalseGreen] = []
    rule_files = _rule_files(path, document, problems)
    alerts = {name for file in rule_files for name in alerts_of(file)}
    tests = document.get("tests")
    if not isinstance(tests, Seq) or not tests:
        line = document.keys_at.get("tests", (1, 1))[0]
        text = "tests: is empty, so promtool says SUCCESS and nothing is tested"
        problems.append(FalseGreen("no-tests", line, text))
        tests = Seq()
    problems = [one for one in problems if one.id not in allowed]
    entries: list[Entry] = []
    for index, test in enumerate(tests):
        name = str(test.get("name") or "") if isinstance(test, Map) else ""
        name = name or f"test {index + 1}"
        taken = sum(other.name.partition(" #")[0] == name for other in entries)
        line = tests.values_at[index][0]
        problem = problems[0] if problems else _false_green(test, line, alerts, rule_files)
        entries.append(
            Entry(
                name=f"{name} #{taken + 1}" if taken else name,
                line=line,
                index=index,
                fires=_expected(test, fires=True),
                silent=_expected(test, fires=False),
                problem=None if problem is None or problem.id in allowed else problem,
            )
        )
    keys = {*document, *(key for test in tests if isinstance(test, Map) for key in test)}
    features = tuple(sorted(FEATURES.keys() & keys))
    patterns = tuple(map(str, document.get("rule_files") or ()))
    return TestFile(path, tuple(sorted(alerts)), tuple(entries), tuple(problems), features, patterns)


def _rule_files(path: Path, document: Map, problems: list[FalseGreen]) -> list[Path]:
    """The rule files that *path* loads; what loads none is added to *problems*."""
    patterns = document.get("rule_files")
    if not isinstance(patterns, Seq) or not patterns:
        line = document.keys_at.get("rule_files", (1, 1))[0]
        problems.append(FalseGreen("no-rule-files", line, "rule_files: names no rule file, so no rule is tested"))
        return []
    found: list[Path] = []
    for index, pattern in enumerate(patterns):
        matches = sorted(Path("/").glob(str(path.parent.absolute() / str(pattern)).lstrip("/")))
        if not matches:
            text = f"rule_files: {pattern} matches no file; promtool only warns, and every silent test of it passes"
            problems.append(FalseGreen("unmatched-rule-files", patterns.values_at[index][0], text))
        found += matches
    return found


@cache
def alerts_of(rule_file: Path) -> frozenset[str]:
    """The names of the alerts that *rule_file* defines; none where it can't be read (promtool will say why)."""
    try:
        document = documents.load(rule_file)
    except DocumentError:
        return frozenset()
    groups = document.get("groups") if isinstance(document, Map) else None
    rules = [rule for group in groups or [] if isinstance(group, Map) for rule in group.get("rules") or []]
    return frozenset(str(rule["alert"]) for rule in rules if isinstance(rule, Map) and "alert" in rule)


def _expectations(test: Any) -> list[Map]:
    found = test.get("alert_rule_test") if isinstance(test, Map) else None
    return [one for one in found if isinstance(one, Map) and one.get("alertname")] if isinstance(found, Seq) else []


def _expected(test: Any, *, fires: bool) -> tuple[str, ...]:
    named = {str(one["alertname"]) for one in _expectations(test) if bool(one.get("exp_alerts")) is fires}
    return tuple(sorted(named))


def _false_green(test: Any, line: int, alerts: set[str], rule_files: Sequence[Path]) -> FalseGreen | None:
    if isinstance(test, Map) and not test.get("alert_rule_test") and not test.get("promql_expr_test"):
        return FalseGreen("no-assertion", line, "asserts nothing: it has neither alert_rule_test nor promql_expr_test")
    for expectation in _expectations(test):
        name = str(expectation["alertname"])
        if name not in alerts:
            files = ", ".join(file.name for file in rule_files) or "no rule file"
            text = f"alertname: {name} is defined in no loaded rule file ({files}){nearest(name, alerts)}"
            return FalseGreen("unknown-alert", line, text)
    return None


class Judge:
    """Runs promtool over many rule-test files at once and remembers what it said of each."""

    def __init__(self, tool: Path) -> None:
        self._tool = tool
        self.cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.cores, thread_name_prefix="promtool")
        self._verdicts: dict[Path, Future[dict[Path, Verdict | CommandError]]] = {}
        self._blames: dict[Path, list[Verdict]] = {}

    def close(self) -> None:
        """Wait for no further verdict."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, files: Sequence[Path]) -> None:
        """Start judging *files* in the background, a few runs for all of them."""
        new = sorted(set(files) - self._verdicts.keys(), key=lambda file: file.stat().st_size, reverse=True)
        runs = min(len(new), self.cores * RUNS_PER_CORE)
        for number in range(runs):
            share = new[number::runs]
            future = self._pool.submit(self._share, share)
            self._verdicts.update(dict.fromkeys(share, future))

    def judge(self, file: TestFile, entry: Entry) -> Verdict:
        """The verdict on one entry; raises CommandError where promtool can't say."""
        self.begin([file.path])
        if self._verdict(file.path).ok:
            return Verdict(True, "")
        if file.path not in self._blames:
            self._blames[file.path] = self._blame(file)
        return self._blames[file.path][entry.index]

    def _share(self, files: Sequence[Path]) -> dict[Path, Verdict | CommandError]:
        """The verdict on each of *files*: of one run if all hold, else of a run for each."""
        try:
            whole: Verdict | CommandError = promtool.test_rules(self._tool, files)
        except CommandError as error:
            whole = error
        if len(files) == 1 or (isinstance(whole, Verdict) and whole.ok):
            return dict.fromkeys(files, whole)
        return {file: self._share([file])[file] for file in files}

    def _verdict(self, path: Path) -> Verdict:
        verdict = self._verdicts[path].result()[path]
        if isinstance(verdict, CommandError):
            raise verdict
        return verdict

    def _blame(self, file: TestFile) -> list[Verdict]:
        with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
            alone = [_alone(file.path, entry.index, Path(folder)) for entry in file.entries]
            verdicts = list(self._pool.map(lambda one: promtool.test_rules(self._tool, [one]), alone))
        if all(verdict.ok for verdict in verdicts):
            text = f"each entry holds alone, but not the file:\n{self._verdict(file.path).text}"
            return [Verdict(False, text)] * len(verdicts)
        return verdicts


def _alone(path: Path, index: int, folder: Path) -> Path:
    """A copy of the file at *path* with only the entry at *index*: its nodes as they stand."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=documents.Loader)
    assert isinstance(root, yaml.MappingNode)
    for key, value in root.value:
        if key.value == "rule_files":
            for pattern in value.value:
                pattern.value = str(path.parent.absolute() / pattern.value)
        elif key.value == "tests":
            value.value = [value.value[index]]
    copy = folder / f"{index}.yml"
    copy.write_text(yaml.serialize(root, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)), encoding="utf-8")
    return copy


def difference(text: str) -> str:
    """What promtool said of a failed entry, as a diff of alerts or samples: `-` expected, `+` got."""
    found = promtool.mismatches(text)
    if not found:
        return text.strip()
    lines: list[str] = []
    for one in found:
        lines.append(f"{one.subject} at {one.time}: {one.error or '- expected, + got'}")
        if one.error:
            continue
        nothing = "nothing fires" if one.is_alert else "no sample"
        lines += [f"  = {both}" for both in one.expected if both in one.got]
        lines += [f"  - {text}" for text in one.expected or (nothing,) if text not in one.got]
        lines += [f"  + {text}" for text in one.got or (nothing,) if text not in one.expected]
    return "\n".join(lines)
