"""Results into the history, on a thread of its own: a disk that is slow or full holds up no check."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import deque
from typing import Any

from upcheck.history import BUCKETS, Engine, History, HistoryError
from upcheck.result import Result
from upcheck.settings import Settings
from upcheck.state import Condition

FLUSH = 1.0  # seconds between two transactions
MAX_WAITING = 100_000  # results kept while the history can't be written; then the oldest go
PRUNE = 3600.0  # seconds between two rounds of retention


class Lag:
    """How late runs began, as a histogram: *buckets* has a count for each of BUCKETS and one for more."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.recent: deque[float] = deque(maxlen=1000)

    def add(self, seconds: float) -> None:
        """Count a run that began *seconds* late."""
        self.count += 1
        self.total += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.recent.append(seconds)

    def p99(self) -> float:
        """The 99th percentile of the latest thousand, in seconds."""
        ordered = sorted(self.recent)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


class Writer:
    """Takes results at once and writes them in batches, with what the engine says of itself."""

    def __init__(self, settings: Settings, shard: str) -> None:
        """Open and claim the history. Raises HistoryError where another engine has it, or it can't be opened."""
        self._settings = settings
        self._shard = shard
        self._started = time.time()
        self._waiting: deque[Result] = deque(maxlen=MAX_WAITING)
        self._said: dict[str, Any] = {}
        self._runs = 0
        self._errors = 0
        self.problem = ""  # why the last write failed; empty when it did not
        self._stop = threading.Event()
        self._history = History.of_engine(settings.history)
        try:
            self._claim = self._history.claim(shard)
        except HistoryError:
            self._history.close()
            raise
        latest = self._history.latest()
        self._known = {one.result.check: one.condition for one in latest}
        self.notice = self._history.notice
        self._thread = threading.Thread(target=self._work, name="upcheck history", daemon=True)
        self._thread.start()

    def known(self, check: str) -> Condition:
        """How *check* stood before the start."""
        return self._known.get(check, Condition())

    def put(self, result: Result) -> None:
        """Have *result* written."""
        self._runs += 1
        self._waiting.append(result)

    def engine(self, **said: Any) -> None:
        """Have what the engine says of itself written with the next batch: fields of Engine."""
        self._said = said

    def close(self) -> None:
        """Write what waits, and let go of the history."""
        self._stop.set()
        self._thread.join()
        self._claim.close()
        self._history.close()

    def _work(self) -> None:
        pruned = time.monotonic()
        last = False
        while not last:
            last = self._stop.wait(FLUSH)
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._history.append(batch, engine=self._engine())
                self.problem = ""
                if time.monotonic() - pruned > PRUNE:
                    pruned = time.monotonic()
                    self._history.prune(keep=self._settings.retention)
            except HistoryError as error:
                self._errors += 1
                self.problem = str(error)
                self._waiting.extendleft(reversed(batch))

    def _engine(self) -> Engine:
        now = time.time()
        said = dict(self._said)
        lag: Lag | None = said.pop("lag", None)
        if lag is not None:
            said.update(lag_count=lag.count, lag_sum=lag.total, lag_buckets=list(lag.buckets))
        return Engine(
            shard=self._shard,
            pid=os.getpid(),
            started=self._started,
            updated=now,
            runs=self._runs,
            write_errors=self._errors,
            **said,
        )
