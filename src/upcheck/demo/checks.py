"""Made-up checks: their results, and what the engine that runs them says of itself, in a history."""

from __future__ import annotations

import os
import random
import time
from bisect import bisect_left
from pathlib import Path
from typing import Self

from upcheck.history import BUCKETS, Engine, History
from upcheck.result import Outcome, Result

EVERY = 30.0  # seconds of the time that is played
# How long each takes, in seconds, and how often it fails (0 to 1).
CHECKS = {
    "checks/shop.yml::front page": (0.12, 0.0),
    "checks/shop.yml::checkout": (0.35, 0.05),
    "checks/stores.yml::database": (0.004, 0.0),
    "checks/stores.yml::cache": (0.002, 0.0),
    "checks/test_orders.py::test_orders_are_shipped": (0.8, 0.02),
    "checks/test_search.py::test_search_finds": (0.2, 0.01),
}


class Checks:
    """Runs them into the *history*, within `with`; the same for the same *seed*."""

    def __init__(self, history: Path, seed: int = 1) -> None:
        self._history = History(history)
        self._random = random.Random(seed)  # noqa: S311 - it makes up, it keeps no secret
        self._owed = EVERY
        self._began = time.time()
        self._lags: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._history.close()

    def run(self, span: float) -> None:
        """Write what *span* seconds come to."""
        self._owed += span
        rounds, self._owed = divmod(self._owed, EVERY)
        results = [self._result(*one) for _ in range(int(rounds)) for one in CHECKS.items()]
        self._lags += [self._random.expovariate(200) for _ in results]
        counts = [0] * (len(BUCKETS) + 1)
        for lag in self._lags:
            counts[bisect_left(BUCKETS, lag)] += 1
        now, runs = time.time(), len(self._lags)
        engine = Engine(
            "1/1", os.getpid(), self._began, now, checks=len(CHECKS), in_flight=self._random.randrange(3), runs=runs,
            lag_count=runs, lag_sum=sum(self._lags), lag_buckets=counts,
        )  # fmt: skip
        self._history.append(results, engine=engine)

    def _result(self, check: str, usual: tuple[float, float]) -> Result:
        duration, fails = usual
        outcome = Outcome.FAILED if self._random.random() < fails else Outcome.HELD
        took = duration * self._random.lognormvariate(0, 0.25)
        return Result(check, outcome, time.time(), took, facts={"severity": "warning", "failure_threshold": 3})
