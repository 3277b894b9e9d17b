"""Runs under way: checks in YAML as journeys that one thread multiplexes, checks in Python on threads.

Whatever a check does, each start leads to one Result, within its timeout and a little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

import pytest

from upcheck import yaml_checks
from upcheck.concurrent import Host, Run, Runner, World
from upcheck.concurrent.alone import why_alone
from upcheck.concurrent.once import GRACE
from upcheck.concurrent.quiet import Output, running
from upcheck.plugin import session
from upcheck.plugin.items import Item, YamlCheckItem
from upcheck.plugin.record import make_report, reports_of_lost, standing
from upcheck.probes import ProbeError, ProbeFailure, ProbeResult
from upcheck.probes.http import Answer, Request
from upcheck.probes.multi import Multi
from upcheck.result import Kind, Outcome, Result, Unknown, fold
from upcheck.watch.link import Link

MAX_REQUESTS = 2000  # in flight at once; each has a file descriptor

Concluded = Callable[[Result], None]
_ALONE = pytest.StashKey[bool]()
_ASKED = pytest.StashKey[yaml_checks.Asked]()
_HOST = Host((Item,), make_report)


class Runs:
    """What is in flight. All but `wake` is for the one thread that polls; *concluded* is called on it."""

    def __init__(
        self,
        session: pytest.Session,
        threads: int,
        link: Link,
        concluded: Concluded,
        is_old_news: Callable[[str], bool],
    ) -> None:
        self._session = session
        self._threads = threads
        self._link = link
        self._concluded = concluded
        self._is_old_news = is_old_news
        self._multi = Multi()
        self.wake = self._multi.wake
        self._done: SimpleQueue[Run] = SimpleQueue()
        self._runs: set[Run] = set()
        self._alone = False  # one runs alone, or waits to
        self._lost: dict[str, Run] = {}  # given up; their threads may be at it still
        self._retired: list[tuple[World, set[Run]]] = []
        self._begin()

    def renew(self) -> None:
        """Set wider fixtures up anew for what starts from now on; the old ones are torn down when nobody uses them."""
        self._retired.append((self._world, set(self._runs)))
        self._runner.close()
        self._begin()

    def _begin(self) -> None:
        self._world = World()
        self.since = time.monotonic()
        self._session._setupstate = self._world
        old_news = self._is_old_news
        self._runner = Runner(self._world, _HOST, self._ended, lambda run: old_news(run.item.nodeid))

    @property
    def in_flight(self) -> int:
        """How many checks run now."""
        return len(self._runs) + self._multi.in_flight

    def has_room(self, item: pytest.Item) -> bool:
        """Whether *item* may start now. One that runs alone waits for the others, and those after it for that one."""
        if isinstance(item, YamlCheckItem):
            return self._multi.in_flight < MAX_REQUESTS
        if runs_alone(item):
            self._alone = bool(self._runs)
            return not self._runs
        return not self._alone and len(self._runs) < self._threads

    def start(self, item: pytest.Item) -> bool:
        """Begin a run of *item*; False where one that was given up has not ended yet."""
        if isinstance(item, YamlCheckItem):
            self._ask(item)
            return True
        if (lost := self._lost.get(item.nodeid)) is not None:
            if lost.alive:
                return False
            del self._lost[item.nodeid]
        self._link.began(item.nodeid)
        self._alone = runs_alone(item)
        self._runs.add(self._runner.start(item, alone=self._alone))
        return True

    def poll(self, timeout: float) -> None:
        """Wait at most *timeout* seconds for something to end, and conclude what has."""
        self._multi.poll(timeout)
        while not self._done.empty():
            run = self._done.get()
            run.runner.ended()
            if run in self._runs:
                self._forget(run)
                self._concluded(_result(run))

    def look(self, now: float) -> list[str]:
        """Give up what is overdue; what went wrong as fixtures were torn down."""
        for run in list(self._runs):
            if run.phase and now - run.since > facts_of(run.item)["timeout"] + GRACE:
                self._give_up(run)
        told: list[str] = []
        for world, users in list(self._retired):
            users &= self._runs
            if not users:
                self._retired.remove((world, users))
                told += _torn_down(world)
        return told

    def close(self) -> list[str]:
        """Give up what has not ended, and tear down the fixtures; what went wrong."""
        for run in list(self._runs):
            self._give_up(run)
        told = [sentence for world, _ in self._retired for sentence in _torn_down(world)]
        told += _torn_down(self._world)
        self._multi.close()
        return told

    def _ended(self, run: Run) -> None:
        self._done.put(run)
        self.wake()

    def _forget(self, run: Run) -> None:
        self._runs.discard(run)
        if run.alone:
            self._alone = False
        self._link.ended(run.item.nodeid)

    def _give_up(self, run: Run) -> None:
        told = run.overdue(facts_of(run.item)["timeout"]) if run.phase else ""
        reports = reports_of_lost(run, told, "deadline") if told else []
        if not run.runner.abandon(run):
            return  # it has ended just now
        self._forget(run)
        self._lost[run.item.nodeid] = run
        if reports:
            self._concluded(fold(reports))
        else:
            self._concluded(failure(run.item, Outcome.ERROR, "it had not begun when the engine stopped", "stopped"))

    def _ask(self, item: YamlCheckItem) -> None:
        started = time.time()
        try:
            if (asked := item.stash.get(_ASKED, None)) is None:
                asked = item.stash[_ASKED] = item.check.asked(session.target(item.config))
            asked = session.shown(item.config, asked)  # with the token that is in its file now
        except (ProbeError, Unknown) as error:
            self._concluded(failure(item, Outcome.ERROR, str(error), "request"))
            return

        def done(outcome: Answer | ProbeFailure | ProbeResult) -> None:
            told = yaml_checks.judge(item.check, asked, outcome)
            facts = {**facts_of(item), **told.facts}
            reason = told.reason if told.outcome is not Outcome.HELD else ""
            self._concluded(Result(item.nodeid, told.outcome, started, outcome.elapsed, Kind.CHECK, reason, facts))

        if isinstance(asked, Request):
            self._multi.start(asked, done)
        else:
            self._multi.probe(asked, done)


def runs_alone(item: pytest.Item) -> bool:
    """Whether *item* must run alone; found out once."""
    if _ALONE not in item.stash:
        item.stash[_ALONE] = bool(why_alone(item, _HOST.kinds))
    return item.stash[_ALONE]


def facts_of(item: pytest.Item) -> Mapping[str, Any]:
    """The facts that every result of *item* has."""
    known = standing(item)
    assert known is not None  # only checks are watched
    return known.facts


def failure(item: pytest.Item, outcome: Outcome, reason: str, code: str) -> Result:
    """The Result of a run that did not come about."""
    facts = {**facts_of(item), "got": reason, "code": code}
    return Result(item.nodeid, outcome, time.time(), 0.0, Kind.CHECK, reason, facts)


def _result(run: Run) -> Result:
    if run.error is not None or not run.reports:
        return failure(run.item, Outcome.ERROR, f"{type(run.error).__name__}: {run.error}", "crashed")
    return fold(run.reports)


def _torn_down(world: World) -> list[str]:
    running.set(Output())  # what fixtures print as they end is nobody's
    try:
        world.teardown_exact(None)
    except BaseException as error:  # noqa: BLE001 - a fixture may raise anything, and its checks are over
        return [f"tearing down fixtures: {type(error).__name__}: {error}"]
    finally:
        running.set(None)
    return []
