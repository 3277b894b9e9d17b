"""All rule tests of somebody's repository, judged: a Result for each entry, whether or not it ran this time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from upcheck import promtool, rules
from upcheck.command import CommandError
from upcheck.documents import DocumentError
from upcheck.result import Kind, Outcome, Result
from upcheck.rules import Judge, TestFile
from upcheck.rules.known import Cache, Held
from upcheck.rules.repository import Repository


@dataclass(frozen=True, slots=True)
class Judged:
    """*results* of all entries; of the files, how many were *cached*, known to hold from before."""

    results: list[Result]
    cached: int


def judge(tool: Path, found: Repository, cache: Cache | None, allowed: Collection[str] = ()) -> Judged:
    """What the promtool at *tool* says of the rule tests that were *found*; false greens in *allowed* are none."""
    known = {path: held for path in found.tests if cache is not None and (held := cache.get(path))}
    judging = Judge(tool, cache)
    results = [result for path, held in known.items() for result in _remembered(path, held)]
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
        results += [result for file in files for result in _judged(judging, file)]
    finally:
        judging.close()
    return Judged(results, len(known))


def _remembered(path: Path, held: Held) -> Iterator[Result]:
    for number in range(held.entries):
        facts = {"fires": held.fires, "silent": held.silent} if number == 0 else {}
        yield _result(path, 1, f"entry {number + 1}", Outcome.HELD, "", **facts)


def _unread(tool: Path, path: Path, error: DocumentError, allowed: Collection[str]) -> Iterator[Result]:
    """A file that we can't read: it is promtool that says whether it holds."""
    name = "several-documents"
    if error.message.startswith("a second document") and name not in allowed:
        text = f"line {error.line}: a second document, and promtool reads only the first: its tests never run"
        yield _result(path, error.line, path.name, Outcome.FAILED, f"passes for no reason ({name})", got=text)
        return
    try:
        verdict = promtool.test_rules(tool, [path])
    except CommandError as refusal:
        yield _result(path, error.line, path.name, Outcome.ERROR, str(refusal), got=str(refusal))
        return
    outcome = Outcome.HELD if verdict.ok else Outcome.FAILED
    yield _result(path, error.line, path.name, outcome, "not readable", got=verdict.text.strip() or str(error))


def _judged(judging: Judge, file: TestFile) -> Iterator[Result]:
    for one in file.problems:
        reason = f"passes for no reason ({one.id})"
        yield _result(file.path, one.line, one.text.partition(":")[0], Outcome.FAILED, reason, got=one.text)
    for entry in file.entries:
        facts: dict[str, object] = {"fires": entry.fires, "silent": entry.silent}
        outcome, reason = Outcome.HELD, ""
        if entry.problem:
            outcome, reason = Outcome.FAILED, f"passes for no reason ({entry.problem.id})"
            facts["got"] = entry.problem.text
        else:
            try:
                verdict = judging.judge(file, entry)
            except CommandError as error:
                outcome, reason = Outcome.ERROR, str(error)
                facts["got"] = reason
            else:
                if not verdict.ok:
                    outcome, reason = Outcome.FAILED, "expected (-) and got (+) differ"
                    facts["diff"] = rules.difference(verdict.text)
        yield _result(file.path, entry.line, entry.name, outcome, reason, **facts)


def _result(path: Path, line: int, name: str, outcome: Outcome, reason: str, **facts: object) -> Result:
    told = {"name": name, "file": str(path), "line": line, **facts}
    return Result(f"{path}::{name}", outcome, time.time(), 0.0, Kind.RULE, reason, told)
