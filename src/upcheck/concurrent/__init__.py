"""Many collected items at once, in one process, each under pytest's own protocol.

`Runner` is the whole of it: `start` an item, hear of its reports, `abandon` it when it takes too long. Runs are
threads, because pytest's fixtures and most clients are synchronous; a coroutine goes to the loop that all share.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from upcheck.concurrent import protocol
from upcheck.concurrent.isolation import World, isolated
from upcheck.concurrent.quiet import Output, running

__all__ = ["Host", "Run", "Runner", "World"]


class Overdue(BaseException):
    """Raised within a run that was abandoned, so that at least one that computes for ever ends."""


@dataclass(eq=False)
class Run:
    """One run of *item*: the phase it is in (setup, call, teardown, or none yet), since when (monotonic seconds).

    *error* is what ended the run past pytest's protocol, such as `pytest.exit()`.
    """

    item: pytest.Item
    runner: Runner
    alone: bool = False
    phase: str = ""
    since: float = 0.0
    started: float = 0.0  # unix seconds
    reports: list[pytest.TestReport] = field(default_factory=list)
    error: BaseException | None = None
    thread: threading.Thread | None = None
    own: pytest.Item | None = None  # the copy that runs
    _settled: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, phase: str) -> None:
        """Be in *phase* from now on."""
        self.phase, self.since = phase, time.monotonic()

    def settle(self) -> bool:
        """True for the first who asks: the run is over for everyone else."""
        return self._settled.acquire(blocking=False)

    @property
    def alive(self) -> bool:
        """Whether its thread is still at it."""
        return self.thread is not None

    def overdue(self, timeout: float) -> str:
        """That it has not ended in time, and where it is."""
        place = self.place()
        return f"{self.phase} not done within {timeout:g} s" + (f": still at {place}" if place else "")

    def place(self) -> str:
        """Where in its own file the run is now, as `test_api.py:12`; empty where it is elsewhere."""
        thread = self.thread
        frame = sys._current_frames().get(thread.ident) if thread is not None and thread.ident else None
        while frame is not None:
            if Path(frame.f_code.co_filename) == self.item.path:
                return f"{self.item.path.name}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


@dataclass(frozen=True, slots=True)
class Host:
    """What the runner can't know of its items: the *kinds* beside functions that can run together, their reports."""

    kinds: tuple[type[pytest.Item], ...]
    make_report: protocol.MakeReport


class Runner:
    """Runs items, each on a thread that has nothing else to do, or on a new one.

    All but *done*, which hears of each run in the thread that ran it, is for one thread. Where *brief* says so, a
    failure is told in a line: pytest's full report costs a hundred times as much.
    """

    def __init__(
        self,
        world: World,
        host: Host,
        done: Callable[[Run], None],
        brief: Callable[[Run], bool] = lambda run: False,
    ) -> None:
        self.world = world
        self._host = host
        self._done = done
        self._brief = brief
        self._inbox: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._busy = 0
        self._threads = 0

    def start(self, item: pytest.Item, *, alone: bool = False) -> Run:
        """Run *item* now; *alone* where the caller sees to it that nothing else runs."""
        run = Run(item, self, alone)
        if self._busy == self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name="upcheck run", daemon=True).start()
        self._busy += 1
        self._inbox.put(run)
        return run

    def ended(self) -> None:
        """A run that *done* has heard of leaves its thread to others."""
        self._busy -= 1

    def abandon(self, run: Run) -> bool:
        """Give *run* up and its thread with it; False where it has ended just now.

        Python can't end a thread that waits in the kernel: it stays until what it waits for ends, and takes nobody's
        place.
        """
        if not run.settle():
            return False
        self._busy -= 1
        self._threads -= 1
        if run.thread is not None and run.thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread.ident), ctypes.py_object(Overdue))
        return True

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        for _ in range(self._threads):
            self._inbox.put(None)

    def _work(self) -> None:
        with contextlib.suppress(Overdue):
            while (run := self._inbox.get()) is not None:
                self._execute(run)
                run.thread = None
                if not run.settle():
                    return  # abandoned: this thread is counted no more
                self._done(run)

    def _execute(self, run: Run) -> None:
        run.thread, run.started = threading.current_thread(), time.time()
        run.enter("setup")
        try:
            run.own = isolated(run.item, self.world, run.enter)
            if self._brief(run):
                _be_brief(run.own)
            running.set(Output(run.own, alone=run.alone))
            if not run.alone and self.world.plain(run.item, self._host.kinds):
                run.reports = protocol.in_short(run.own, self._host.make_report)
            else:
                run.reports = protocol.in_full(run.own, alone=run.alone)
        except BaseException as error:  # noqa: BLE001 - pytest.exit() and what a plugin raises: the session's to decide
            run.error = error
        finally:
            running.set(None)


def _be_brief(item: pytest.Item) -> None:
    def told(excinfo: pytest.ExceptionInfo[BaseException], **_: object) -> str:
        return "E   " + excinfo.exconly(tryshort=True)

    item.repr_failure = item._repr_failure_py = told  # type: ignore[method-assign,assignment]
