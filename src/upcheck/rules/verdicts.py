"""All rule tests of somebody's repository, judged: a Result for each entry, whether or not it ran this time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from upcheck import promtool, rules
from upcheck.command import CommandError
from upcheck.documents import DocumentError
from upcheck.promtool import Verdict
from upcheck.result import Kind, Outcome, Result
from upcheck.rules import Judge, TestFile
from upcheck.rules.known import Cache, Told
from upcheck.rules.repository import Repository


@dataclass(frozen=True, slots=True)
class Judged:
    """*results* of all entries; how many files were *cached*: what promtool says of them was known."""

    results: list[Result]
    cached: int


def judge(tool: Path, found: Repository, cache: Cache | None, allowed: Collection[str] = ()) -> Judged:
    """What the promtool at *tool* says of the rule tests that were *found*; false greens in *allowed* are none."""
    known = {path: told for path in found.tests if cache is not None and (told := cache.get(path)) is not None}
    judging = Judge(tool, cache)
    results = [result for path, told in known.items() for result in _remembered(path, told)]
    try:
        files: list[TestFile] = []
        for path in found.tests:
            if path in known:
                continue
            try:
                files.append(rules.load(path, allowed))
            except DocumentError as error:
                results += _unread(tool, path, error, allowed)
        judging.begin(files)
        results += _rule_files(tool, found.rules, cache)
        results += [result for file in files for result in _judged(judging, file)]
    finally:
        judging.close()
    return Judged(results, len(known))


def _rule_files(tool: Path, files: Sequence[Path], cache: Cache | None) -> Iterator[Result]:
    """The rule files that promtool refuses. What it accepts is remembered: one run for all that are new."""
    new = [file for file in files if cache is None or cache.get(file) is None]
    verdicts = dict.fromkeys(new, promtool.check_rules(tool, *new)) if new else {}
    if not all(verdict.ok for verdict in verdicts.values()):
        verdicts = {file: promtool.check_rules(tool, file) for file in new}
    for file, verdict in verdicts.items():
        if not verdict.ok:
            yield result(file, 1, file.name, Outcome.FAILED, "not valid", got=verdict.text)
        elif cache is not None:
            cache.put(file, (), ())


def _remembered(path: Path, told: Sequence[Told]) -> Iterator[Result]:
    for one in told:
        verdict = Verdict(not one.said, one.said)
        yield _judgement(path, one.line, one.name, verdict, {"fires": one.fires, "silent": one.silent})


def _judgement(path: Path, line: int, name: str, verdict: Verdict, facts: dict[str, object]) -> Result:
    if verdict.ok:
        return result(path, line, name, Outcome.HELD, "", **facts)
    facts["diff"] = rules.difference(verdict.text)
    return result(path, line, name, Outcome.FAILED, "expected (-) and got (+) differ", **facts)


def _unread(tool: Path, path: Path, error: DocumentError, allowed: Collection[str]) -> Iterator[Result]:
    """A file that we can't read: it is promtool that says whether it holds."""
    name = "several-documents"
    if error.message.startswith("a second document") and name not in allowed:
        text = f"line {error.line}: a second document, and promtool reads only the first: its tests never run"
        yield result(path, error.line, path.name, Outcome.FAILED, f"passes for no reason ({name})", got=text)
        return
    try:
        verdict = promtool.test_rules(tool, [path])
    except CommandError as refusal:
        yield result(path, error.line, path.name, Outcome.ERROR, str(refusal), got=str(refusal))
        return
    outcome = Outcome.HELD if verdict.ok else Outcome.FAILED
    yield result(path, error.line, path.name, outcome, "not readable", got=verdict.text.strip() or str(error))


def _judged(judging: Judge, file: TestFile) -> Iterator[Result]:
    for one in file.problems:
        reason = f"passes for no reason ({one.id})"
        yield result(file.path, one.line, one.text.partition(":")[0], Outcome.FAILED, reason, got=one.text)
    for entry in file.entries:
        facts: dict[str, object] = {"fires": entry.fires, "silent": entry.silent}
        if entry.problem:
            reason = f"passes for no reason ({entry.problem.id})"
            yield result(file.path, entry.line, entry.name, Outcome.FAILED, reason, got=entry.problem.text, **facts)
            continue
        try:
            verdict = judging.judge(file, entry)
        except CommandError as error:
            yield result(file.path, entry.line, entry.name, Outcome.ERROR, str(error), got=str(error), **facts)
        else:
            yield _judgement(file.path, entry.line, entry.name, verdict, facts)


def result(path: Path, line: int, name: str, outcome: Outcome, reason: str, **facts: object) -> Result:
    """What came of the test *name* at *path* and *line*."""
    told = {"name": name, "file": str(path), "line": line, **facts}
    return Result(f"{path}::{name}", outcome, time.time(), 0.0, Kind.RULE, reason, told)
