"""What many runs of a check come to: counts per outcome, and a histogram of how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from upcheck.result import Outcome

HOUR, DAY, ALL_TIME = 3600, 86400, 0  # the spans of rollups, in seconds
MARK = 6 * HOUR  # seconds between two marks

# Upper bounds in seconds, inclusive as Prometheus' `le` is; what took longer is in one more bucket, +Inf.
# The columns b0, b1, ... of the file stand for these: other bounds need another schema version.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OUTCOMES = tuple(Outcome)
_COUNTS = len(OUTCOMES)
COLUMNS = (*(outcome.value for outcome in OUTCOMES), "seconds", *(f"b{index}" for index in range(len(BUCKETS) + 1)))


def bucket(seconds: float) -> int:
    """The index of the bucket that *seconds* falls into, 0 to `len(BUCKETS)`, which is +Inf."""
    return bisect_left(BUCKETS, seconds)


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of a check (or of all that a pattern names) in a window of time.

    *counts* has every Outcome. *seconds* is the sum of the durations in *buckets*, which are those of the runs that
    held or failed, and whose duration was a number: one count for each of BUCKETS, and one for +Inf.
    """

    check: str
    counts: Mapping[Outcome, int]
    seconds: float
    buckets: tuple[int, ...]

    @classmethod
    def of(cls, check: str, row: Iterable[float]) -> Summary:
        """The summary in the columns of a rollup: a count for each of OUTCOMES, seconds, the buckets."""
        values: Any = tuple(row)  # counts are integers, seconds may be any number
        return cls(check, dict(zip(OUTCOMES, values, strict=False)), values[_COUNTS], values[_COUNTS + 1 :])

    @classmethod
    def total(cls, name: str, parts: Iterable[Summary]) -> Summary:
        """All *parts* as one that is called *name*."""
        rows = [(*part.counts.values(), part.seconds, *part.buckets) for part in parts]
        return cls.of(name, map(sum, zip([0] * len(COLUMNS), *rows, strict=True)))

    @property
    def runs(self) -> int:
        """How many runs there were, of any outcome."""
        return sum(self.counts.values())

    @property
    def availability(self) -> float | None:
        """held / (held + failed), 0 to 1; None where no run told: "no data" is not "down", and not "up"."""
        told = self.counts[Outcome.HELD] + self.counts[Outcome.FAILED]
        return self.counts[Outcome.HELD] / told if told else None

    def quantile(self, q: float) -> float | None:
        """The *q*-quantile (0 to 1) of the durations, in seconds, or None where there are none.

        Linear inside a bucket; the highest bound where it lies beyond: as Prometheus' histogram_quantile does.
        """
        cumulative = list(accumulate(self.buckets))
        if not cumulative[-1]:
            return None
        rank = q * cumulative[-1]
        index = bisect_left(cumulative, rank)
        if index >= len(BUCKETS):
            return BUCKETS[-1]
        low, below = (BUCKETS[index - 1], cumulative[index - 1]) if index else (0.0, 0)
        inside = self.buckets[index]
        return low + (BUCKETS[index] - low) * ((rank - below) / inside if inside else 0.0)
