"""The engine of `upcheck watch`: pytest's session, whose loop runs for ever.

One thread, this one, decides everything: what is due starts, what has ended becomes a Result, what is overdue is given
up, what has changed on disk is read again.

    Schedule ── due ──> Runs ── Result ──┬── Board ── Display (lines, or the live view)
                                         └── Writer ── history ── the collector's /metrics
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import signal
import sys
import time
from collections import defaultdict, deque
from dataclasses import replace

import pytest

from upcheck.concurrent.isolation import cheap_requests
from upcheck.concurrent.quiet import quiet
from upcheck.dependencies import NOTHING, Causes, DependencyError, Needs
from upcheck.history import HistoryError
from upcheck.plugin import session as repo
from upcheck.plugin.confidential import without_secrets
from upcheck.plugin.record import declarations, planned, standing
from upcheck.result import PLANNED, ExitCode, Kind, Outcome, Result
from upcheck.watch import RELOAD, Options
from upcheck.watch.board import Board
from upcheck.watch.display import Display
from upcheck.watch.link import Link, cut
from upcheck.watch.reload import Files, last_words
from upcheck.watch.runs import Runs, facts_of, runs_alone
from upcheck.watch.schedule import Entry, Schedule, in_shard
from upcheck.watch.writer import Lag, Writer

TICK = 0.1  # seconds between two looks at what is overdue, what has changed, what is to be shown
BURST = 32  # runs of a kind that start before the next look at what has been answered
DRAIN = 10.0  # seconds that runs in flight have to end after SIGTERM


class Engine:
    """A pytest plugin: keeps the checks of this shard, then runs them until a signal says stop."""

    def __init__(self, options: Options, link: Link) -> None:
        self._options = options
        self._link = link
        self.code = 0  # what the process should exit with
        self.began = False
        self.problem = ""  # why it could not begin
        self._asked = False  # to stop, by a signal
        self._stopping: float | None = None  # monotonic seconds since which nothing new starts
        self._items: dict[str, pytest.Item] = {}
        self._queues: dict[tuple[type, bool], deque[tuple[Entry, pytest.Item]]] = defaultdict(deque)  # due, not started
        self._retries: list[tuple[float, int, Entry]] = []
        self._number = itertools.count()
        self._lag = Lag()
        self._unreadable: dict[str, str] = {}
        self._looked = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Say that results are taken care of here."""
        config.stash[repo.WATCHED] = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit code; say why, where the engine could not begin."""
        if self.problem:
            sys.stderr.write(f"{self.problem}\n")
        session.exitstatus = self.code if self.began else ExitCode.UNKNOWN

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the live checks of this shard."""
        items[:] = [item for item in items if self._wanted(item)]

    def _wanted(self, item: pytest.Item) -> bool:
        return standing(item) is not None and in_shard(item.nodeid, self._options.shard)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep in mind which files can't be read."""
        if report.failed and report.nodeid:
            self._unreadable[report.nodeid] = last_words(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run until told to stop; where there is nothing to run, or the history can't be had, `problem` says why."""
        if not session.items and not self._unreadable:
            self.problem = "there is no check to watch: none below checks/ is in this selection and this shard"
            return True
        number, of = self._options.shard
        try:
            self._writer = Writer(repo.settings(session.config), f"{number}/{of}")
        except HistoryError as error:
            self.problem = str(error)
            return True
        self.began = True
        self._session = session
        self._causes = Causes(self._needs, anew=True)
        try:
            self._board = Board(self._writer.known)
            self._files = Files(session, self._board, self._unreadable)
            self._display = Display(self._options.log, self._board)
            self._schedule = Schedule(time.time() - time.monotonic())
            self._runs = Runs(session, self._options.concurrency, self._link, self._concluded, self._is_old_news)
            signal.signal(signal.SIGTERM, self._stop)
            signal.signal(signal.SIGINT, self._stop)
            signal.signal(signal.SIGHUP, lambda *_: self._files.ask())
            self._adopt(self._files.begin())
            for item in self._items.values():
                if cut(item.nodeid) in self._options.suspects:
                    item.add_marker("serial")  # if it ends this engine, too, then there is no doubt
            self._display.started(self._items.keys() - self._left_out(), self._writer.notice)
            self._accuse()
            self._link.say("ready")
            gc.collect()
            gc.freeze()  # what was collected stays: looking at it again would stop everything for 100 ms
            with quiet(session.config, lambda nodeid, told: None), cheap_requests(), self._display:
                while not self._over():
                    self._turn()
                self._display.warn(self._runs.close())
                for result in self._causes.flush():
                    self._tell(result)
            self._files.close()
        finally:
            self._writer.close()
        self._link.say("ended")
        return True

    def _stop(self, number: int, _: object) -> None:
        if self._asked and number == signal.SIGTERM:
            os._exit(128 + number)
        self._asked = True
        if self._stopping is None:
            self._stopping = time.monotonic()
            self._link.say("stopping")
            self._display.stopping(self._runs.in_flight)
        self._runs.wake()

    def _is_old_news(self, check: str) -> bool:
        return self._board.outcome(check) not in (None, Outcome.HELD)

    def _adopt(self, items: list[pytest.Item]) -> None:
        """Watch *items* and no others."""
        self._items = {item.nodeid: item for item in items}
        plan = [(check, facts_of(item)["every"]) for check, item in self._items.items()]
        left_out = self._left_out()
        self._schedule.update([(check, every) for check, every in plan if check not in left_out])
        self._board.keep(self._items)
        try:
            self._display.warn(repo.know(self._session.config, declarations(items)))
        except DependencyError as error:  # those that were known before go on
            self._display.warn([str(error)])
        for result in self._causes.flush(lambda check: check not in self._schedule.entries):
            self._tell(result)

    def _needs(self, result: Result) -> Needs:
        """What *result* needs of what runs here."""
        item = self._items.get(result.check)
        needs = repo.needs(item) if item is not None else NOTHING
        runs = self._schedule.entries
        return Needs(*(tuple(check for check in some if check in runs) for some in (needs.checks, needs.uplinks)))

    def _left_out(self) -> set[str]:
        """The checks that have ended an engine twice."""
        return {check for check in self._items if cut(check) in self._options.banned}

    def _accuse(self) -> None:
        """Results for the checks that ran when the engine before this one died."""
        accused = {*self._options.banned, *self._options.suspects}
        for check in [check for check in self._items if cut(check) in accused]:
            told = "the engine ended while this check ran"
            if cut(check) in self._options.banned:
                told += ", twice: it does not run again before a file of checks changes"
            facts = {**facts_of(self._items[check]), "got": told, "code": "engine_ended"}
            self._concluded(Result(check, Outcome.ERROR, time.time(), 0.0, Kind.CHECK, told, facts))

    def _over(self) -> bool:
        if self._stopping is None:
            return False
        return not self._runs.in_flight or time.monotonic() - self._stopping > DRAIN

    def _turn(self) -> None:
        """One turn of the loop."""
        now = time.monotonic()
        if self._stopping is None:
            self._start_due(now)
        self._runs.poll(self._patience(now))
        if now - self._looked >= TICK:
            self._looked = now
            self._look(now)

    def _patience(self, now: float) -> float:
        if self._stopping is not None:
            return TICK
        retry = self._retries[0][0] - now if self._retries else TICK
        queued = any(queue and self._runs.has_room(queue[0][1]) for queue in self._queues.values())
        return 0.0 if queued else max(0.0, min(TICK, retry, self._schedule.wait(now)))

    def _start_due(self, now: float) -> None:
        while self._retries and self._retries[0][0] <= now:
            self._queue(heapq.heappop(self._retries)[2])
        for entry in self._schedule.due(now):
            self._queue(entry)
        for queue in self._queues.values():
            for _ in range(BURST):  # then what has been answered meanwhile is read
                if not queue or not self._runs.has_room(queue[0][1]):
                    break
                entry, item = queue.popleft()
                if entry.attempt == 1:
                    self._lag.add(time.monotonic() - entry.planned)
                if not self._runs.start(item):  # the run before, given up, goes on and on
                    self._schedule.missed += 1
                    self._schedule.ended(entry)

    def _queue(self, entry: Entry) -> None:
        item = self._items.get(entry.key)
        if item is None:  # removed since it was due
            self._schedule.ended(entry)
        else:  # each kind waits for itself: requests don't wait for threads
            self._queues[type(item), runs_alone(item)].append((entry, item))

    def _concluded(self, result: Result) -> None:
        """Take a result, or have another attempt where the check asks for one."""
        result = self._planned(without_secrets(result))
        entry = self._schedule.entries.get(result.check)
        if entry is not None and entry.running:
            known = standing(self._items[result.check])
            retries = known.declaration.retries if known is not None else 0
            if result.outcome is Outcome.FAILED and entry.attempt <= retries and self._stopping is None:
                moment = self._schedule.retry(entry, time.monotonic())
                if moment is not None:
                    heapq.heappush(self._retries, (moment, next(self._number), entry))
                    return
            if entry.attempt > 1:
                result = replace(result, facts={**result.facts, "attempts": entry.attempt})
        # An extra run that tells what is known anyway would count for more than the others in every figure.
        repeats = entry is not None and entry.extra and self._board.outcome(result.check) is result.outcome
        if entry is not None and entry.running:
            self._schedule.ended(entry)
        told = [one for one in self._causes.take(result) if not repeats or one.check != result.check]
        for one in told:
            self._tell(one)
        if self._causes.awaited:
            self._schedule.hasten(self._causes.awaited, time.monotonic())

    def _tell(self, result: Result) -> None:
        """Put down *result*, whose cause is known; say what has changed."""
        flip = self._board.take(result)
        self._writer.put(result)
        if flip is not None:
            self._display.changed(result, flip)

    def _planned(self, result: Result) -> Result:
        """*result*, excused where it did not hold in a window of maintenance."""
        item = self._items.get(result.check)
        window = planned(item, result.started) if item is not None and result.outcome.bad else ""
        if not window:
            return result
        return replace(result, outcome=Outcome.MAINTENANCE, facts={**result.facts, PLANNED: window})

    def _look(self, now: float) -> None:
        """What need not be done at once."""
        self._display.warn(self._runs.look(now))
        if self._options.lifetime is not None and now - self._runs.since > self._options.lifetime:
            self._runs.renew()
        self._writer.engine(
            checks=len(self._items),
            in_flight=self._runs.in_flight,
            missed=self._schedule.missed,
            lag=self._lag,
            reloads=self._files.reloads,
            stale=sorted(self._board.stale),
        )
        if not self._link.say("alive"):
            self._stop(signal.SIGTERM, None)  # the supervisor is gone
        self._display.show(self._schedule, self._lag, self._writer.problem)
        if self._stopping is None:
            self._reload(now)

    def _reload(self, now: float) -> None:
        change = self._files.look(now)
        if change is None:
            return
        if change.everything:
            self.code, self._stopping = RELOAD, now
            self._link.say("reloading")
        elif change.items is not None:
            self._adopt(change.items)
            if change.python:
                self._runs.renew()
            if self._left_out():  # which may be mended now
                self.code, self._stopping = RELOAD, now
        self._display.reloaded(change.told)
        self._display.refused(change.refused)
