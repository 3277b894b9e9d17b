"""Threads for probes that can only block: bounded in number, and nobody waits for one that is stuck."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

THREADS = 32


class Threads:
    """Runs what is submitted in at most *limit* daemon threads."""

    def __init__(self, limit: int = THREADS) -> None:
        self._limit = limit
        self._queue: queue.SimpleQueue[tuple[Callable[[], None], float, int]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def submit(self, call: Callable[[], None], until: float, writer: int) -> None:
        """Have *call* called, unless the monotonic second *until* is over by then; *writer* is closed afterwards."""
        with self._lock:
            self._queue.put((call, until, writer))
            if self._idle < self._queue.qsize() and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._serve, daemon=True, name=f"probe {self._threads}").start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            call, until, writer = self._queue.get()
            with self._lock:
                self._idle -= 1
            try:
                if time.monotonic() < until:
                    call()
            finally:
                os.close(writer)
