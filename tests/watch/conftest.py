"""A real `upcheck watch`, whose changes are read as they come."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.conftest import Repo
from tests.waiting import PATIENCE

Event = dict[str, Any]


class Watch:
    """`upcheck watch --log json` in a process of its own. *events* are all that it has told."""

    def __init__(self, repo: Repo, *arguments: str, **environ: str) -> None:
        argv = [sys.executable, "-m", "upcheck.cli", "watch", "--log", "json", *arguments]
        self.errors = repo.path / "watch.err"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                argv, cwd=repo.path, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | environ
            )
        self.events: list[Event] = []
        self._coming: queue.SimpleQueue[Event] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(json.loads(line))

    def wait(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event that is *wanted*."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                event = self._coming.get(timeout=0.1)
                self.events.append(event)
                if wanted(event):
                    return event
        raise AssertionError(f"it did not come; told: {self.events}; {self.errors.read_text()[-3000:]}")

    def started(self) -> Event:
        """That checks are watched."""
        return self.wait(lambda event: event["event"] == "started")

    def changed(self, name: str, outcome: str) -> Event:
        """That the check *name* has come to *outcome*."""
        return self.wait(
            lambda event: event["event"] == "changed" and name in event["check"] and event["outcome"] == outcome
        )

    @property
    def engine(self) -> psutil.Process:
        """The process that runs the checks."""
        (engine,) = psutil.Process(self.process.pid).children()
        return engine

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Watching = Callable[..., Watch]


@pytest.fixture
def watching(repo: Repo) -> Iterator[Watching]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **environ: str) -> Watch:
            watch = Watch(repo, *arguments, **environ)
            stack.callback(_end, watch)
            return watch

        yield start


def _end(watch: Watch) -> None:
    if watch.process.poll() is None:
        watch.process.kill()
    watch.process.wait()
    if watch.process.stdout is not None:
        watch.process.stdout.close()
