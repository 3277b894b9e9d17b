"""How much the rule tests notice: the share of mutants of the rules that at least one test fails on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from upcheck.command import CommandError
from upcheck.rules import judging, suite
from upcheck.rules.judging import Found, Job, Relations
from upcheck.rules.mutants import Mutant, mutants
from upcheck.rules.remembered import Remembered
from upcheck.rules.suite import DEFAULT_INTERVAL, Rule, Suite, written

MOST_TOGETHER = 120  # mutants in one run: what it holds in memory, and prints, stays small
MOST_KNOWN = 50_000  # verdicts that are remembered
_EQUIVALENT = re.compile(r"#[ \t]*upcheck:[ \t]*equivalent[ \t]+([0-9a-f]{8})[ \t]+because[ \t]+(\S.*)")
_Key = tuple[Path, int, int]


class MutationError(Exception):
    """Why nothing can be said: the tests fail as they are, or there are none."""


class Changed(Protocol):
    """A mutant of anything: a *subject* called *title*, at *file* and *line*, of which *before* became *after*.

    *hint* says what no test does where it survives.
    """

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def file(self) -> Path: ...
    @property
    def line(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def before(self) -> str: ...
    @property
    def after(self) -> str: ...
    @property
    def hint(self) -> str: ...


M = TypeVar("M", bound=Changed)
Made = TypeVar("Made", bound=Changed, covariant=True)


@dataclass(frozen=True, slots=True)
class Judged(Generic[Made]):
    """A mutant with its verdict: `killed`, `survived` or `equivalent`, which has a *reason*.

    *tests* are the entries that test what it changes, as `file:line`: none where no test reaches it.
    """

    mutant: Made
    verdict: str
    tests: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Proof(Generic[Made]):
    """All mutants with their verdicts, by file; *notes* are sentences about comments that are wrong."""

    judged: tuple[Judged[Made], ...]
    notes: tuple[str, ...]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many mutants have each verdict."""
        verdicts = [one.verdict for one in self.judged]
        return {verdict: verdicts.count(verdict) for verdict in ("killed", "equivalent", "survived")}

    def __add__(self, other: Proof[Changed]) -> Proof[Changed]:
        return Proof(self.judged + other.judged, self.notes + other.notes)

    @property
    def score(self) -> float:
        """Killed of all that are not equivalent; 1 where there are none."""
        judged = len(self.judged) - self.counts["equivalent"]
        return self.counts["killed"] / judged if judged else 1.0


def prove(
    tool: Path,
    tests: Sequence[Path],
    rule_files: Sequence[Path] = (),
    *,
    known: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Proof[Mutant]:
    """Judge all mutants of the rules in *rule_files* and of those that *tests* load, by *tests*.

    Verdicts are kept in the file *known*, and taken from there where neither rules, tests, promtool nor upcheck
    changed. *advance* is told of work done, and of all there is. Raises DocumentError, CommandError and MutationError.
    """
    suites = [suite.read(path) for path in tests]
    memory = _Memory(known, tool)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="promtool") as pool:
        work = _Work(tool, pool, memory, advance)
        try:
            work.hold(suites)
            made = _made(suites, rule_files)
            killed, refused = work.judge(suites, made)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            memory.save()
    return proof([one for found in made.values() for one in found if one not in refused], killed, _tests_of(suites))


def _made(suites: Sequence[Suite], rule_files: Sequence[Path]) -> dict[_Key, list[Mutant]]:
    """The mutants of each rule, by where it stands."""
    rules: dict[_Key, Rule] = {}
    intervals: dict[_Key, float] = {}
    for one in suites:
        for rule in one.rules:
            rules.setdefault(rule.key, rule)
            intervals[rule.key] = min(one.evaluation_interval, intervals.get(rule.key, one.evaluation_interval))
    for path in rule_files:
        for rule in suite.rules_in(path.resolve()):
            rules.setdefault(rule.key, rule)
    return {key: list(mutants(rules[key], intervals.get(key, DEFAULT_INTERVAL))) for key in sorted(rules)}


class _Work:
    """Runs of promtool, as many at once as there are cores."""

    def __init__(
        self, tool: Path, pool: ThreadPoolExecutor, memory: _Memory, advance: Callable[[int, int], None]
    ) -> None:
        self._tool, self._pool, self._memory, self._advance = tool, pool, memory, advance
        self._done = self._total = 0

    def hold(self, suites: Sequence[Suite]) -> None:
        """Raise MutationError where a test fails before anything is changed."""
        new = [one for one in suites if self._memory.get(_whole(one)) is None]
        verdicts = self._pool.map(lambda one: judging.unchanged(self._tool, one), new)
        for one, verdict in zip(new, verdicts, strict=True):
            if not verdict.ok:
                raise MutationError(f"{one.path} fails as it is, so it can't tell what a mutant changes: mend it first")
            self._memory.put(_whole(one), Found(set(), set()))

    def judge(self, suites: Sequence[Suite], made: Mapping[_Key, list[Mutant]]) -> tuple[set[Mutant], set[Mutant]]:
        """The mutants that a test notices, and those that promtool refuses to load."""
        killed: set[Mutant] = set()
        refused: set[Mutant] = set()
        apart: list[tuple[Relations, list[Mutant]]] = []
        pairs: list[tuple[Relations, list[Mutant]]] = []
        for relations in map(Relations, suites):
            for rule in relations.suite.rules:
                if found := made[rule.key]:
                    entangled = relations.entangled(relations.closure(rule.name))
                    (apart if entangled else pairs).append((relations, found))
        asking: dict[_Key, list[Job]] = {}
        for relations, found in pairs:
            asking.setdefault(found[0].rule.key, []).extend(judging.asking(relations, found))
        self._total = sum(len(made[key]) for key in asking) + sum(len(found) for _, found in apart)

        def left(mutants: Iterable[Mutant]) -> list[Mutant]:
            return [one for one in mutants if one not in killed and one not in refused]

        # Nearly all are killed by the first that is asked, so it is the cheapest, and the next has what is left.
        for turn in zip_longest(*(sorted(jobs, key=lambda job: job.evaluations) for jobs in asking.values())):
            self._together([job.of(some) for job in turn if job and (some := left(job.mutants))], killed, refused)
        self._step(sum(len(left(made[key])) for key in asking))
        evaluating = [judging.evaluating(relations, some) for relations, found in pairs if (some := left(found))]
        self._together([job for job in evaluating if job], killed, refused)
        self._apart(apart, killed, refused)
        return killed, refused

    def _together(self, jobs: Iterable[Job], killed: set[Mutant], refused: set[Mutant]) -> None:
        new: list[tuple[Job, str]] = []
        for job in (part for whole in jobs for part in whole.parts(MOST_TOGETHER)):
            key = _digest(json.dumps(job.files()))
            if (found := self._memory.get(key)) is None:
                new.append((job, key))
            else:
                self._note(job, found, killed, refused)
        runs: dict[Future[Found], list[tuple[Job, str]]] = {
            self._pool.submit(self._found, [job for job, _ in share]): share for share in _shares(new)
        }
        for future in as_completed(runs):
            found = future.result()
            for job, key in runs[future]:
                of_job = Found(found.killed & job.marks.keys(), found.refused & job.marks.keys())
                self._memory.put(key, of_job)
                self._note(job, of_job, killed, refused)

    def _note(self, job: Job, found: Found, killed: set[Mutant], refused: set[Mutant]) -> None:
        killed.update(job.marks[mark] for mark in found.killed)
        refused.update(job.marks[mark] for mark in found.refused)
        self._step(len(found.killed | found.refused) if job.asserting else 0)

    def _found(self, jobs: Sequence[Job]) -> Found:
        """What promtool says of *jobs*; where it can't say of all at once, of each half, at last of one."""
        try:
            return judging.together(self._tool, jobs)
        except CommandError:
            parts = list(jobs) if len(jobs) > 1 else list(jobs[0].parts(max(1, len(jobs[0].mutants) // 2)))
            if len(parts) > 1:
                each = [self._found([part]) for part in parts]
                return Found(set().union(*(one.killed for one in each)), set().union(*(one.refused for one in each)))
        ((mark, mutant),) = jobs[0].marks.items()
        verdict = judging.alone(self._tool, jobs[0].relations.suite, mutant)
        return Found({mark} if verdict == "killed" else set(), {mark} if verdict == "refused" else set())

    def _apart(
        self, pairs: Sequence[tuple[Relations, list[Mutant]]], killed: set[Mutant], refused: set[Mutant]
    ) -> None:
        def verdict(of: Suite, mutant: Mutant) -> str:
            key = _digest(f"{_whole(of)} {mutant.rule.file} {mutant.id} {written(mutant.value)}")
            if (found := self._memory.get(key)) is None:
                told = judging.alone(self._tool, of, mutant)
                found = Found({told} & {"killed"}, {told} & {"refused"})
                self._memory.put(key, found)
            return "killed" if found.killed else "refused" if found.refused else "survived"

        runs = {
            self._pool.submit(verdict, relations.suite, mutant): mutant
            for relations, found in pairs
            for mutant in found
        }
        for future in as_completed(runs):
            {"killed": killed, "refused": refused}.get(future.result(), set()).add(runs[future])
            self._step(1)

    def _step(self, count: int) -> None:
        self._done += count
        self._advance(self._done, self._total)


def _shares(new: Sequence[tuple[Job, str]]) -> Iterator[list[tuple[Job, str]]]:
    """*new* in shares of one run each: enough for all cores, none too large."""
    total = sum(len(job.mutants) for job, _ in new)
    most = max(20, min(MOST_TOGETHER, total // (4 * (os.cpu_count() or 1))))
    share: list[tuple[Job, str]] = []
    size = 0
    for job, key in new:
        if share and size + len(job.mutants) > most:
            yield share
            share, size = [], 0
        share.append((job, key))
        size += len(job.mutants)
    if share:
        yield share


def proof(found: Sequence[M], killed: Collection[M], tests: Callable[[M], tuple[str, ...]]) -> Proof[M]:
    """All that were *found* with their verdicts; *tests* says which entries test a mutant's subject."""
    reasons: dict[Path, dict[str, str]] = {}
    judged: list[Judged[M]] = []
    notes: list[str] = []
    for mutant in found:
        file = mutant.file
        if file not in reasons:
            reasons[file] = dict(_EQUIVALENT.findall(file.read_text(encoding="utf-8")))
        reason = reasons[file].pop(mutant.id, "")
        if mutant in killed and reason:
            notes.append(f"{file}: {mutant.id} is no equivalent, a test notices it: remove the comment")
        verdict = "killed" if mutant in killed else "equivalent" if reason else "survived"
        judged.append(Judged(mutant, verdict, tests(mutant), reason.strip()))
    for file, left in reasons.items():
        notes += [f"{file}: there is no mutant {one}: remove the comment, or look for its new id" for one in left]
    return Proof(tuple(judged), tuple(notes))


def _tests_of(suites: Sequence[Suite]) -> Callable[[Mutant], tuple[str, ...]]:
    """The entries of *suites* that test a mutant's rule."""
    relations = [Relations(one) for one in suites]

    @cache
    def tests(rule: Rule) -> tuple[str, ...]:
        return tuple(
            f"{suite.short(one.suite.path)}:{one.suite.lines[index]}"
            for one in relations
            if rule.file in one.suite.files
            for index in one.relevant(one.closure(rule.name))
        )

    return lambda mutant: tests(mutant.rule)


class _Memory:
    """Verdicts by the content they are of."""

    def __init__(self, path: Path | None, tool: Path) -> None:
        self._known = Remembered(path, tool, MOST_KNOWN)

    def get(self, key: str) -> Found | None:
        found = self._known.get(key)
        return None if found is None else Found(*map(set, found))

    def put(self, key: str, found: Found) -> None:
        self._known.put(key, [sorted(found.killed), sorted(found.refused)])

    def save(self) -> None:
        self._known.save()


def _whole(of: Suite) -> str:
    """The digest of a suite as it is."""
    return _digest(written({"tests": of.document, "rules": {str(path): value for path, value in of.files.items()}}))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
