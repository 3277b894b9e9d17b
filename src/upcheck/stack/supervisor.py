"""`python -m upcheck.stack.supervisor ROOT`: keeps the services of a plan running until a signal says stop.

It outlives the command that started it, and holds a lock for as long as it lives: that tells whether there is one.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from upcheck.stack.record import Record, Run, State
from upcheck.stack.services import Service

STOP = 10.0  # seconds that a service may take to end
BACKOFF = 1.0, 30.0  # seconds before a service that died is started again, doubled each time; and at most
STEADY = 60.0  # seconds after which it has proved itself
LOG = 10 * 2**20  # bytes of a log after which it begins anew; the one before it is kept
_LOOK = 30.0  # seconds between two looks at the logs


@dataclass(slots=True)
class _Kept:
    """A service and its process, if it has one; else it is *due* to be started at a monotonic time."""

    service: Service
    run: Run = field(default_factory=Run)
    process: subprocess.Popen[bytes] | None = None
    pause: float = BACKOFF[0]
    due: float = 0.0
    began: float = 0.0


class Supervisor:
    """Keeps the services of *record*'s plan running, each with a log of its own."""

    def __init__(self, root: Path, record: Record) -> None:
        self._root = root
        self._record = record
        self._kept = [_Kept(service) for service in record.plan()]
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then all services have ended."""
        waking, woken = socket.socketpair()
        with waking, woken:
            for end in (waking, woken):
                end.setblocking(False)
            signal.set_wakeup_fd(woken.fileno())
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            signal.signal(signal.SIGCHLD, lambda *_: None)  # that one ended is worth waking up for
            try:
                while not self._stopping:
                    self._tend()
                    due = [one.due - time.monotonic() for one in self._kept if one.process is None]
                    select.select([waking], [], [], max(0.0, min(due, default=_LOOK)))
                    with contextlib.suppress(BlockingIOError):  # it was time that woke us
                        waking.recv(4096)
            finally:
                self._end()
                signal.set_wakeup_fd(-1)

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._stopping = True

    def _tend(self) -> None:
        """Note what has ended, start what is due."""
        changed = False
        for one in self._kept:
            if one.process is not None and (code := one.process.poll()) is not None:
                self._note(one, _death(code), died=not self._record.asked(one.process.pid))
                changed = True
            if one.process is None and time.monotonic() >= one.due:
                self._start(one)
                changed = True
            self._trim(one.service.name)
        if changed:
            self._write()

    def _start(self, one: _Kept) -> None:
        try:
            with self._record.log(one.service.name).open("ab") as log:
                process = subprocess.Popen(
                    one.service.argv,
                    cwd=self._root,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._note(one, f"could not be started: {error.strerror}", died=True)
            return
        one.process = process
        one.run.pid, one.run.since, one.began = process.pid, time.time(), time.monotonic()
        one.run.created = psutil.Process(process.pid).create_time()  # of one that ended, too: nobody has waited for it

    def _note(self, one: _Kept, how: str, *, died: bool) -> None:
        """Have *one*, which ended, started again after a pause. It has not *died* where a backup asked it to end."""
        if one.began and time.monotonic() - one.began > STEADY:
            one.pause = BACKOFF[0]
        one.due = time.monotonic() + one.pause
        one.pause = min(BACKOFF[1], one.pause * 2)
        one.process = None
        one.run = Run(died=one.run.died + died, ended=how, ended_at=time.time())
        self._say(f"{one.service.name} {how}")

    def _trim(self, name: str) -> None:
        """Begin the log of *name* anew where it has grown; its service appends, and so goes on at the beginning."""
        log = self._record.log(name)
        try:
            if log.stat().st_size > LOG:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)
        except OSError as error:  # a disk that is full: services matter more than what they print
            self._say(f"{log}: {error.strerror}")

    def _write(self) -> None:
        runs = {one.service.name: one.run for one in self._kept}
        own = psutil.Process()
        try:
            self._record.write_state(State(own.pid, own.create_time(), runs))
        except OSError as error:  # a disk that is full: what is told is old, and services go on
            self._say(f"the state can't be written: {error.strerror}")

    def _end(self) -> None:
        running = [one.process for one in self._kept if one.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + STOP
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{process.args!r} did not end within {STOP:g} s: killed")
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._record.forget()

    def _say(self, text: str) -> None:
        """Into supervisor.log."""
        with contextlib.suppress(OSError):  # a disk that is full
            sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
            sys.stderr.flush()


def _death(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def main(root: Path) -> int:
    """Supervise the stack of the repo at *root*; 3 where somebody does already."""
    record = Record(root)
    with record.supervised() as alone:
        if not alone:
            return 3
        Supervisor(root, record).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
