"""Names to addresses, in a bounded number of threads, because getaddrinfo knows no timeout.

libcurl's own resolver joins its thread when a handle is cleaned up, so that a stuck name server holds what asked;
and it does not tell a name that is not there from a name server that failed.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable

from upcheck.probes import STARVED, Phase, ProbeFailure, Reason

Told = Callable[[list[str] | ProbeFailure], None]
THREADS = 32
STUCK_AFTER = 5.0  # seconds: what glibc gives a name server before it tries the next
MAX_WAITING = 10_000  # askers of one name, so that one that never answers gathers no more
_SERVER_FAILED = {socket.EAI_AGAIN, socket.EAI_FAIL}


class Resolver:
    """Asks the system for addresses in at most *threads* daemon threads; askers of one name share one question."""

    def __init__(self, threads: int = THREADS, stuck_after: float = STUCK_AFTER) -> None:
        self._limit = threads
        self._stuck_after = stuck_after
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: dict[str, list[Told]] = {}
        self._since: dict[str, float] = {}  # names being asked for, and since when (monotonic)
        self._threads = 0

    def ask(self, host: str, told: Told) -> None:
        """Have *told* called with the addresses of *host*, each once, or with why there are none.

        It is called on a thread of the resolver; or at once, on the caller's, where every thread is stuck.
        """
        with self._lock:
            refusal = self._refuse(host)
            if refusal is None and host in self._waiting:
                self._waiting[host].append(told)
            elif refusal is None:
                self._waiting[host] = [told]
                self._queue.put(host)
        if refusal is not None:
            told(refusal)

    def _refuse(self, host: str) -> ProbeFailure | None:
        """Why *host* can't be asked for just now; starts a thread where one more is wanted."""
        if host in self._waiting:
            return self.stuck(host) if len(self._waiting[host]) >= MAX_WAITING else None
        if self._all_stuck():
            return self.stuck(host)
        if len(self._waiting) < self._threads or self._threads >= self._limit:
            return None
        try:
            threading.Thread(target=self._serve, daemon=True, name=f"resolver {self._threads + 1}").start()
        except RuntimeError as error:  # the system has no thread for us; those that there are will do
            return (
                None if self._threads else ProbeFailure(Reason.OWN_RESOURCES, own_resources(str(error)), Phase.RESOLVE)
            )
        self._threads += 1
        return None

    def asked(self, host: str) -> bool:
        """Whether a thread is asking for *host* just now."""
        return host in self._since

    def stuck(self, host: str) -> ProbeFailure:
        """Nobody is free to ask for *host*."""
        sentence = f"the name {host} was not asked for: all {self._limit} resolver threads are stuck with other names"
        return ProbeFailure(Reason.RESOLVER_STUCK, sentence, Phase.RESOLVE)

    def _all_stuck(self) -> bool:
        latest = time.monotonic() - self._stuck_after
        return len(self._since) >= self._limit and all(since <= latest for since in self._since.values())

    def _serve(self) -> None:
        while True:
            host = self._queue.get()
            with self._lock:
                self._since[host] = time.monotonic()
            outcome = _addresses(host)
            with self._lock:
                del self._since[host]
                waiting = self._waiting.pop(host)
            for told in waiting:
                told(outcome)


def _addresses(host: str) -> list[str] | ProbeFailure:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for a label of more than 63 letters
        why = getattr(error, "strerror", None) or str(error)
        code = getattr(error, "errno", None)
        if code == socket.EAI_MEMORY or code in STARVED or starved():
            return ProbeFailure(Reason.OWN_RESOURCES, own_resources(why), Phase.RESOLVE)
        reason = Reason.NAME_SERVER_FAILED if code in _SERVER_FAILED else Reason.NAME_NOT_FOUND
        return ProbeFailure(reason, f"the name {host} does not resolve: {why}", Phase.RESOLVE)
    if not found:
        return ProbeFailure(Reason.NAME_NOT_FOUND, f"the name {host} does not resolve: no address", Phase.RESOLVE)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def starved() -> bool:
    """Whether this process can have no further file descriptor just now."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno in STARVED
    return False


def own_resources(why: str) -> str:
    """The sentence for what is lacking here and not there."""
    return f"not asked: this machine has no file descriptor, port or memory left for it ({why})"


_shared: list[Resolver] = []
_making = threading.Lock()


def shared() -> Resolver:
    """The process's resolver, made when first asked for."""
    with _making:
        if not _shared:
            _shared.append(Resolver())
        return _shared[0]


os.register_at_fork(after_in_child=_shared.clear)  # threads do not survive a fork
