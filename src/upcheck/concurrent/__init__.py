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
from collections.abc import Callable, Iterator
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
    """Runs items on at most *threads* threads, one more for each that was abandoned.

    *done* hears of each run, in the thread that ran it. Where *brief* says so, a failure is told in a line: pytest's
    full report costs a hundred times as much.
    """

    def __init__(
        self,
        world: World,
        host: Host,
        threads: int,
        done: Callable[[Run], None],
        brief: Callable[[Run], bool] = lambda run: False,
    ) -> None:
        self.world = world
        self._host = host
        self._done = done
        self._brief = brief
        self._inbox: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._gate = _Gate()
        self._room = threads
        self._idle = 0
        self._spawned = 0
        self._lock = threading.Lock()

    def start(self, item: pytest.Item, *, alone: bool = False) -> Run:
        """Run *item* now, or when a thread is free if all are busy; *alone*: while nothing else runs."""
        run = Run(item, self, alone)
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._room:
                self._room -= 1
                self._spawn()
        self._inbox.put(run)
        return run

    def abandon(self, run: Run) -> bool:
        """Give *run* up and its thread with it; False where it has ended just now.

        Python can't end a thread that waits in the kernel: it stays until what it waits for ends, and takes nobody's
        place.
        """
        if not run.settle():
            return False
        self._gate.leave(alone=run.alone)
        with self._lock:
            self._room += 1
        if run.thread is not None and run.thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread.ident), ctypes.py_object(Overdue))
        return True

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        for _ in range(self._spawned):
            self._inbox.put(None)

    def _spawn(self) -> None:
        self._spawned += 1
        threading.Thread(target=self._work, name="upcheck run", daemon=True).start()

    def _work(self) -> None:
        with contextlib.suppress(Overdue):
            while (run := self._inbox.get()) is not None:
                self._gate.enter(alone=run.alone)
                self._execute(run)
                run.thread = None
                if not run.settle():
                    return  # abandoned: another thread has taken this one's place
                self._gate.leave(alone=run.alone)
                with self._lock:
                    self._idle += 1
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


class _Gate:
    """Lets in many together, or one alone; who waits to be alone goes before those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._one = False
        self._waiting = 0

    def enter(self, *, alone: bool) -> None:
        with self._changed:
            if alone:
                self._waiting += 1
                self._changed.wait_for(lambda: not self._inside and not self._one)
                self._waiting -= 1
                self._one = True
            else:
                self._changed.wait_for(lambda: not self._one and not self._waiting)
                self._inside += 1

    def leave(self, *, alone: bool) -> None:
        with self._changed:
            if alone:
                self._one = False
            else:
                self._inside -= 1
            self._changed.notify_all()


@contextlib.contextmanager
def shared(session: pytest.Session, world: World) -> Iterator[World]:
    """Let *world* be what pytest takes for the state of *session*, and tear down at the end what is still set up."""
    state = session._setupstate
    session._setupstate = world
    try:
        yield world
    finally:
        session._setupstate = state
        world.teardown_exact(None)
