"""One thread that asks for all others of a process: they wait for it, or have their loops told.

A transfer of its own in each of hundreds of threads makes every callback of libcurl wait for the interpreter's lock;
on one thread they hardly ever do, and who asks hands over twice: once to ask, once to be told.
"""

from __future__ import annotations

import os
import threading
import time

from upcheck.probes.http.exchange import Answer, HttpFailure, Phase, Reason, Request
from upcheck.probes.multi import Done, Multi
from upcheck.probes.single import fetch

GRACE = 0.2  # seconds past the deadline in which the thread may say by itself that it has passed
_IDLE = 60.0  # seconds; what is submitted interrupts it


class _Background:
    """A Multi and its thread, which is started anew where it has died."""

    def __init__(self) -> None:
        self.alone = threading.Lock()  # held by who asks in a thread of its own
        self._starting = threading.Lock()
        self._multi: Multi | None = None
        self._thread: threading.Thread | None = None

    def multi(self) -> Multi:
        """The Multi that is polled."""
        multi, thread = self._multi, self._thread
        if multi is not None and thread is not None and thread.is_alive():
            return multi
        with self._starting:
            if self._multi is None or self._thread is None or not self._thread.is_alive():
                self._multi = Multi()
                self._thread = threading.Thread(target=_run, args=(self._multi,), daemon=True, name="upcheck http")
                self._thread.start()
            return self._multi


def _run(multi: Multi) -> None:
    while True:
        multi.poll(_IDLE)


_shared = [_Background()]


def _after_fork() -> None:
    # Threads do not survive a fork. What they used is kept, because to tidy it away would be to unregister the
    # parent's sockets from the epoll that both have.
    _shared.insert(0, _Background())


os.register_at_fork(after_in_child=_after_fork)


def submit(request: Request, done: Done, until: float) -> None:
    """Have *request* asked, until the monotonic second *until*; *done* is called on the background's thread."""
    _shared[0].multi().submit(request, done, until)


def stuck() -> HttpFailure:
    """What to say where nothing was said GRACE after the deadline."""
    sentence = "not asked in time: the thread of this process that asks over HTTP is stuck, or has died"
    return HttpFailure(Reason.OWN_RESOURCES, sentence, Phase.CONNECT)


def ask(request: Request, until: float) -> Answer:
    """The answer to *request*, until the monotonic second *until*; raises HttpFailure. From any number of threads.

    One that asks alone does so itself, which spares two changes of threads.
    """
    alone = _shared[0].alone
    if alone.acquire(blocking=False):
        try:
            return fetch(request, until)
        finally:
            alone.release()
    told: list[Answer | HttpFailure] = []
    waiting = threading.Lock()
    waiting.acquire()

    def done(outcome: Answer | HttpFailure) -> None:
        told.append(outcome)
        waiting.release()

    submit(request, done, until)
    if not waiting.acquire(timeout=max(0.0, until - time.monotonic()) + GRACE):
        raise stuck()
    outcome = told[0]
    if isinstance(outcome, HttpFailure):
        raise outcome
    return outcome
