"""The supervisor: one engine, kept alive; its death laid at the door of the checks that ran; systemd kept informed."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType

from upcheck.result import ExitCode
from upcheck.settings import Settings
from upcheck.watch import ENV, RELOAD, Options
from upcheck.watch.link import ENV as LINK
from upcheck.watch.link import in_flight

HANG = 30.0  # seconds without a word after which an engine is taken for dead
START = 120.0  # seconds that it may take to collect everything
BACKOFF = 1.0, 30.0  # seconds before an engine that died is replaced, doubled each time; and at most
STEADY = 60.0  # seconds after which an engine has proved itself
# What a check left open, or raised in a thread of its own, is no reason for the engine to end with a traceback.
_WITHOUT = ("terminal", "cacheprovider", "unraisableexception", "threadexception")
_ARGUMENTS = ("-pupcheck.watch.start", "--live", "--continue-on-collection-errors", *(f"-pno:{x}" for x in _WITHOUT))
_USAGE = 4  # pytest's


class Supervisor:
    """Keeps an engine for the repo of *settings* alive until a signal says stop. *say* tells what went wrong."""

    def __init__(
        self, settings: Settings, options: Options, arguments: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._options = options
        self._arguments = arguments
        self._say = say
        self._engine: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []
        self._stopped = threading.Event()
        self._ready = False
        self._ended = False  # as it should: a check may end the engine with exit code 0

    def run(self) -> int:
        """Run until stopped; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        pause, most = BACKOFF
        while not self._signals:
            began = time.monotonic()
            with tempfile.TemporaryFile() as slots:
                code = self._once(slots.fileno())
                suspects = in_flight(slots.fileno())
            if code == RELOAD and self._ended:
                self._options = replace(self._options, suspects=[], banned=[])
                continue
            if self._signals or self._ended or (not self._ready and code > 0):
                return ExitCode.USAGE if code == _USAGE else max(code, 0)
            if time.monotonic() - began > STEADY:
                pause = BACKOFF[0]
            self._blame(suspects)
            self._say(f"the engine {_death(code)}; {_accused(suspects)}; a new one starts in {pause:g} s")
            self._stopped.wait(pause)
            pause = min(most, pause * 2)
        return 0

    def _blame(self, suspects: list[str]) -> None:
        """Have *suspects* run alone from now on; leave out one that was alone with the engine as it died again."""
        guilty = [check for check in suspects if len(suspects) == 1 and check in self._options.suspects]
        known = {*self._options.suspects, *suspects} - set(guilty)
        banned = {*self._options.banned, *guilty}
        self._options = replace(self._options, suspects=sorted(known), banned=sorted(banned))

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGHUP:
            self._signals.append(number)
            self._stopped.set()
        if self._engine is not None and self._engine.poll() is None:
            self._engine.send_signal(signal.SIGKILL if len(self._signals) > 1 else number)

    def _once(self, slots: int) -> int:
        """Run one engine to its end; its exit code, negative for a signal."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        argv = [sys.executable, "-m", "pytest", *_ARGUMENTS, *self._arguments]
        environ = os.environ | {ENV: self._options.to_json(), LINK: f"{writing},{slots}"}
        self._engine = engine = subprocess.Popen(
            argv, cwd=self._settings.root, env=environ, pass_fds=(writing, slots), start_new_session=True
        )
        os.close(writing)
        try:
            self._attend(engine, reading)
            return engine.wait()
        finally:
            os.close(reading)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(engine.pid, signal.SIGKILL)  # what checks have left behind

    def _attend(self, engine: subprocess.Popen[bytes], pipe: int) -> None:
        """Listen until the engine says no more; kill one that hangs."""
        ready, heard = False, time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                if selector.select(1.0):
                    said = os.read(pipe, 65536).decode().split()
                    if not said:
                        return
                    heard = time.monotonic()
                    if "ready" in said:
                        ready = self._ready = True
                    self._ended = "ended" in said
                    notify("READY=1" if "ready" in said else "STOPPING=1" if "stopping" in said else "WATCHDOG=1")
                elif time.monotonic() - heard > (HANG if ready else START):
                    engine.kill()


def notify(state: str) -> None:
    """Tell systemd, where it has started us: the protocol of sd_notify(3) is one datagram."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, contextlib.suppress(OSError):
            end.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def _death(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _accused(suspects: list[str]) -> str:
    if not suspects:
        return "no check in Python was running"
    more = f" and {len(suspects) - 3} more" if len(suspects) > 3 else ""
    return f"running then: {', '.join(suspects[:3])}{more}"
