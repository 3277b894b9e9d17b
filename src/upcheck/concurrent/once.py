"""All items of a session once: many at a time, then those that must run alone, in pytest's own order."""

from __future__ import annotations

import contextlib
import queue
import time
import warnings
from collections import deque
from collections.abc import Callable

import pytest

from upcheck.concurrent import Host, Run, Runner, World
from upcheck.concurrent.alone import why_alone
from upcheck.concurrent.isolation import cheap_requests, isolated
from upcheck.concurrent.quiet import quiet

TICK = 0.1  # seconds between two looks at what is overdue
GRACE = 0.25  # seconds beyond its timeout in which a check may say by itself that it was too slow
MAX_DETAILED = 100  # failures with a full report; the rest say what failed in a line

Timeout = Callable[[pytest.Item], float | None]
Lost = Callable[[Run, str, str], list[pytest.TestReport]]
_Warned = tuple[str, warnings.WarningMessage]


class Session:
    """One session's items, run once.

    *timeout* gives the deadline in seconds of each phase of an item, *lost* the reports of a run that did not end by
    itself, given why and a code for it; *began* hears of each item as it starts.
    """

    def __init__(
        self,
        session: pytest.Session,
        concurrency: int,
        host: Host,
        *,
        timeout: Timeout,
        lost: Lost,
        began: Callable[[pytest.Item], None] = lambda item: None,
    ) -> None:
        self._session = session
        self._timeout = timeout
        self._lost = lost
        self._began = began
        self._done: queue.SimpleQueue[Run | _Warned] = queue.SimpleQueue()
        self._alone = [item for item in session.items if why_alone(item, host.kinds)]
        alone = set(self._alone)
        self._beside = deque(item for item in session.items if item not in alone)
        self._world = World(session.items)
        self._threads = min(concurrency, len(self._beside))
        self._runner = Runner(self._world, host, self._done.put, lambda _: self._failed >= MAX_DETAILED)
        self._active: dict[Run, float | None] = {}  # and how long each phase of it may take
        self._ended: deque[Run | _Warned] = deque()  # and not reported
        self._failed = 0

    def run(self) -> None:
        """Run them. Raises what pytest's own loop raises: Failed for `-x`, Interrupted, Exit."""
        session = self._session
        session._setupstate = self._world  # pytest tears it down as the session ends
        if any("tmp_path_factory" in getattr(item, "fixturenames", ()) for item in session.items):
            session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # made twice by two at once
        if self._beside:
            with quiet(session.config, lambda nodeid, told: self._done.put((nodeid, told))), cheap_requests():
                self._run_beside()
        for item in self._alone:
            _stop_if_asked(session)
            session.config.hook.pytest_runtest_protocol(item=isolated(item, self._world), nextitem=None)
        _stop_if_asked(session)

    def _run_beside(self) -> None:
        looked = time.monotonic()
        while self._beside or self._active or self._ended:
            if self._session.shouldfail or self._session.shouldstop:
                self._beside.clear()
            self._start()  # before what has ended is reported, which takes longer
            if self._ended:
                self._tell(self._ended.popleft())
            self._take(block=not self._ended)
            if time.monotonic() - looked > TICK:
                self._abandon_overdue()
                looked = time.monotonic()
        self._runner.close()

    def _start(self) -> None:
        if self._session.config.option.maxfail and any(_failed(run) for run in self._ended):
            return  # it may have been the last straw
        while self._beside and len(self._active) < self._threads:
            item = self._beside.popleft()
            self._began(item)
            self._active[self._runner.start(item)] = self._timeout(item)

    def _take(self, *, block: bool) -> None:
        """Take what has ended, waiting for it a little if *block*."""
        with contextlib.suppress(queue.Empty):
            while True:
                told = self._done.get(block, TICK)
                block = False
                if not isinstance(told, tuple):
                    self._runner.ended()
                    self._active.pop(told, None)
                self._ended.append(told)

    def _tell(self, told: Run | _Warned) -> None:
        if isinstance(told, tuple):
            nodeid, message = told
            self._session.config.hook.pytest_warning_recorded.call_historic(
                kwargs={"warning_message": message, "when": "runtest", "nodeid": nodeid, "location": None}
            )
            return
        if isinstance(told.error, pytest.exit.Exception):
            raise told.error
        if told.error is not None:  # of pytest or a plugin: plainly it would end the session, here there are others
            told.reports = self._lost(told, f"{type(told.error).__name__}: {told.error}", "crashed")
        self._report(told, told.reports)

    def _report(self, run: Run, reports: list[pytest.TestReport]) -> None:
        hook = self._world.hooks(run.item)
        hook.pytest_runtest_logstart(nodeid=run.item.nodeid, location=run.item.location)
        self._failed += _failed(run)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=run.item.nodeid, location=run.item.location)

    def _abandon_overdue(self) -> None:
        now = time.monotonic()
        for run, timeout in list(self._active.items()):
            if not run.phase or timeout is None or now - run.since <= timeout + GRACE:
                continue
            reports = self._lost(run, run.overdue(timeout), "deadline")
            if self._runner.abandon(run):
                del self._active[run]
                self._report(run, reports)


def _failed(told: Run | _Warned) -> bool:
    return not isinstance(told, tuple) and (told.error is not None or any(report.failed for report in told.reports))


def _stop_if_asked(session: pytest.Session) -> None:
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
