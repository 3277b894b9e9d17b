"""Rule tests in promtool's own format, unextended: which there are, whether they hold, and which one is to blame.

The green path costs a few runs of promtool for all files together, on all cores. Only where a file fails are its
entries run alone, to place the blame.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
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
from upcheck.rules import repository
from upcheck.rules.known import Cache, Told
from upcheck.rules.reduce import reduced
from upcheck.settings import nearest
from upcheck.tools import FEATURES

_ALLOWED = re.compile(r"#[ \t]*upcheck:[ \t]*allow[ \t]+([a-z-]+)[ \t]+because[ \t]+\S")
_SWITCH = re.compile(r"\s*vector\(\s*[0-9.]+\s*\)\s*")  # fires always: a dead man's switch
RUNS_PER_CORE = 2  # a run costs 22 ms to start; more runs than cores, so that no core waits long for the other


class FalseGreen(NamedTuple):
    """Why promtool's SUCCESS would mean nothing: its name, which can be allowed, and a sentence."""

    id: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry under `tests:`, with the alerts that it expects to fire and to be silent.

    A dead man's switch that it expects to fire is among both: it has no silence to be seen.
    """

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
    switches = {name for file in rule_files for name, expr in _alerts(file).items() if _SWITCH.fullmatch(expr)}
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
        fires = _expected(test, fires=True)
        entries.append(
            Entry(
                name=f"{name} #{taken + 1}" if taken else name,
                line=line,
                index=index,
                fires=fires,
                silent=tuple(sorted({*_expected(test, fires=False), *(switches & {*fires})})),
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


def alerts_of(rule_file: Path) -> frozenset[str]:
    """The names of the alerts that *rule_file* defines; none where it can't be read (promtool will say why)."""
    return frozenset(_alerts(rule_file))


@cache
def _alerts(rule_file: Path) -> Mapping[str, str]:
    """Their expressions, by their names."""
    try:
        custom = repository.kind_of(rule_file.read_bytes()) == "custom"
        document = yaml.safe_load(repository.groups_of(rule_file)) if custom else documents.load(rule_file)
    except (DocumentError, OSError):
        return {}
    groups = document.get("groups") if isinstance(document, dict) else None
    rules = [rule for group in groups or [] if isinstance(group, dict) for rule in group.get("rules") or []]
    return {str(one["alert"]): str(one.get("expr")) for one in rules if isinstance(one, dict) and "alert" in one}


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
    """Runs promtool over many rule-test files at once and remembers what it said of each.

    A file that *cache* knows to hold is not run again.
    """

    def __init__(self, tool: Path, cache: Cache | None = None) -> None:
        self._tool = tool
        self._cache = cache
        self.cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.cores, thread_name_prefix="promtool")
        self._verdicts: dict[Path, Future[dict[Path, Verdict | CommandError]]] = {}
        self._blames: dict[Path, list[Verdict]] = {}
        self._files: dict[Path, TestFile] = {}

    def close(self) -> None:
        """Wait for no further verdict; what was said is remembered."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._cache is None:
            return
        for path, file in self._files.items():
            if not any(entry.problem for entry in file.entries) and (told := self._told(file)):
                self._cache.put(path, file.patterns, told)
        self._cache.save()

    def begin(self, files: Sequence[TestFile]) -> None:
        """Start judging *files* in the background, a few runs for all of them."""
        new = {file.path: file for file in files if file.path not in self._verdicts}
        for path in list(new):
            if self._cache is not None and (told := self._cache.get(path)) is not None:
                self._recall(path, told)
                del new[path]
        self._files |= new
        paths = sorted(new, key=lambda path: path.stat().st_size, reverse=True)
        runs = min(len(paths), self.cores * RUNS_PER_CORE)
        for number in range(runs):
            share = paths[number::runs]
            future = self._pool.submit(self._share, share)
            self._verdicts.update(dict.fromkeys(share, future))

    def _recall(self, path: Path, told: Sequence[Told]) -> None:
        known: Future[dict[Path, Verdict | CommandError]] = Future()
        known.set_result({path: Verdict(not any(one.said for one in told), "")})
        self._verdicts[path] = known
        self._blames[path] = [Verdict(not one.said, one.said) for one in told]

    def _told(self, file: TestFile) -> list[Told] | None:
        """What was said of each entry; None where that is not known of all of them."""
        future = self._verdicts[file.path]
        verdict = future.result()[file.path] if future.done() and not future.cancelled() else None
        if not isinstance(verdict, Verdict):
            return None
        verdicts = [Verdict(True, "")] * len(file.entries) if verdict.ok else self._blames.get(file.path, [])
        if len(verdicts) != len(file.entries):
            return None
        return [
            Told(entry.name, entry.line, entry.fires, entry.silent, "" if one.ok else one.text or "it failed")
            for entry, one in zip(file.entries, verdicts, strict=True)
        ]

    def judge(self, file: TestFile, entry: Entry) -> Verdict:
        """The verdict on one entry; raises CommandError where promtool can't say."""
        self.begin([file])
        if self._verdict(file.path).ok:
            return Verdict(True, "")
        if file.path not in self._blames:
            self._blames[file.path] = self._blame(file)
        return self._blames[file.path][entry.index]

    def _share(self, files: Sequence[Path]) -> dict[Path, Verdict | CommandError]:
        """The verdict on each of *files*: of one run if all hold, and of another for each that does not."""
        try:
            with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
                plain = [_plain(file, Path(folder, str(number))) for number, file in enumerate(files)]
                whole = promtool.test_rules(self._tool, [one for some in plain for one in some])
        except (CommandError, DocumentError) as error:
            refusal = error if isinstance(error, CommandError) else CommandError(str(error))
            return {files[0]: refusal} if len(files) == 1 else self._singly(files)
        if len(files) == 1 or whole.ok:
            return dict.fromkeys(files, whole)
        held = {file for file, some in zip(files, plain, strict=True) if set(map(str, some)) <= whole.held}
        return {file: Verdict(True, "") for file in held} | self._singly([file for file in files if file not in held])

    def _singly(self, files: Sequence[Path]) -> dict[Path, Verdict | CommandError]:
        return {file: self._share([file])[file] for file in files}

    def _verdict(self, path: Path) -> Verdict:
        verdict = self._verdicts[path].result()[path]
        if isinstance(verdict, CommandError):
            raise verdict
        return verdict

    def _blame(self, file: TestFile) -> list[Verdict]:
        with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
            alone = _plain(file.path, Path(folder, "small"))
            if len(alone) == 1:
                alone = [_alone(file.path, entry.index, Path(folder)) for entry in file.entries]
            verdicts = list(self._pool.map(lambda one: promtool.test_rules(self._tool, [one]), alone))
        if all(verdict.ok for verdict in verdicts):
            text = f"each entry holds alone, but not the file:\n{self._verdict(file.path).text}"
            return [Verdict(False, text)] * len(verdicts)
        return verdicts


def _plain(path: Path, folder: Path) -> list[Path]:
    """Files that promtool can read, and quickly: *path* itself, a copy that loads plain rules, or many small files."""
    root = _composed(path)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    patterns = next((value for key, value in pairs if key.value == "rule_files"), None)
    if not isinstance(patterns, yaml.SequenceNode):
        return [path]
    custom = _as_rule_files(path, patterns, folder)
    small = reduced(root, [Path(node.value) for node in patterns.value] if custom else _matched(path, patterns), folder)
    return small or ([_written(root, folder / path.name)] if custom else [path])


def _matched(path: Path, patterns: yaml.SequenceNode) -> list[Path]:
    """The rule files that the patterns of the test file at *path* match."""
    return [
        file
        for node in patterns.value
        for file in sorted(Path("/").glob(str(path.parent.absolute() / str(node.value)).lstrip("/")))
    ]


def _as_rule_files(path: Path, patterns: yaml.SequenceNode, folder: Path) -> bool:
    """Have *patterns* name plain rule files, made in *folder* of resources; whether there was one."""
    found = _matched(path, patterns)
    custom = [file for file in found if repository.kind_of(file.read_bytes()) == "custom"]
    if not custom:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(custom):
        plain = folder / f"{number}-{file.name}"
        plain.write_text(repository.groups_of(file), encoding="utf-8")
        found[found.index(file)] = plain
    patterns.value = [yaml.ScalarNode("tag:yaml.org,2002:str", str(file)) for file in found]
    return True


def _composed(path: Path) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(path.read_bytes(), Loader=documents.Loader)
    except yaml.YAMLError:  # promtool will say so, too
        return None
    return root


def _written(root: yaml.Node | None, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.serialize(root, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)), encoding="utf-8")
    return path


def _alone(path: Path, index: int, folder: Path) -> Path:
    """A copy of the file at *path* with only the entry at *index*: its nodes as they stand."""
    root = _composed(path)
    assert isinstance(root, yaml.MappingNode)
    for key, value in root.value:
        if key.value == "rule_files":
            if not _as_rule_files(path, value, folder / str(index)):
                for pattern in value.value:
                    pattern.value = str(path.parent.absolute() / pattern.value)
        elif key.value == "tests":
            value.value = [value.value[index]]
    return _written(root, folder / f"{index}.yml")


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
