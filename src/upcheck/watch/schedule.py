"""When each check runs: at a phase of its own, so that a thousand checks a minute start evenly, not all at once.

Times are monotonic seconds: a clock that is set, or a day that has 25 hours, moves no run. The phases are laid out
on the wall clock as it was at the start, so that they are the same after a restart.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

JITTER = 0.05  # of `every`: how much later than its phase a run may start, so that nothing beats in time with us
MAX_JITTER = 1.0  # seconds
GRAIN = 0.0075  # seconds: what is due within it starts together, because each waking costs as much as a check
FIRST = 10.0  # seconds within which every check has its first run, however rarely it runs
BACKOFF = 0.5, 8.0  # seconds before the first retry, doubled for each further one; and at most


def fraction(key: str) -> float:
    """A number in [0, 1) that is always the same for *key*."""
    return int.from_bytes(hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=7).digest()) / 2**56


def in_shard(key: str, shard: tuple[int, int]) -> bool:
    """Whether *key* belongs to shard i of n, counted from 1."""
    number, of = shard
    return int(fraction(key) * of) == number - 1


@dataclass(eq=False, slots=True)
class Entry:
    """One check's place in the schedule: *slot* is the moment of its next run, *due* the same with its jitter."""

    key: str
    every: float
    phase: float  # of `every`
    slot: float
    due: float
    running: bool = False
    planned: float = 0.0  # when the run under way was due
    attempt: int = 1
    extra: bool = False  # the run under way was asked for by another check's failure
    removed: bool = False


class Schedule:
    """The entries in the order of their runs. *offset* is wall clock less monotonic, in seconds."""

    def __init__(self, offset: float, seed: int | None = None) -> None:
        self._offset = offset
        self._random = random.Random(seed)  # noqa: S311 - it spreads, it keeps no secret
        self._heap: list[tuple[float, int, Entry]] = []
        self._count = 0
        self.missed = 0  # runs passed over since the start
        self.entries: dict[str, Entry] = {}

    def update(self, checks: Iterable[tuple[str, float]], now: float | None = None) -> None:
        """Have *checks* (key and `every`) and no others; those that are known keep their next run."""
        now = time.monotonic() if now is None else now
        wanted = dict(checks)
        for key in self.entries.keys() - wanted.keys():
            self.entries.pop(key).removed = True
        for key, every in wanted.items():
            known = self.entries.get(key)
            if known is None:
                phase = fraction(key)
                first = now + phase * min(every, FIRST)
                self.entries[key] = entry = Entry(key, every, phase, first, first)
                self._push(entry)
            elif known.every != every:
                known.every, known.slot = every, now - 0.5 * every
                self._plan(known, now)

    def due(self, now: float) -> list[Entry]:
        """The entries to start now, marked as running, in their order.

        One whose last run has not ended is passed over and counted as missed.
        """
        found: list[Entry] = []
        while self._heap and self._heap[0][0] <= now:
            due, _, entry = heapq.heappop(self._heap)
            if entry.removed or due != entry.due:
                continue  # planned anew since
            if entry.running:
                self.missed += 1
                self._plan(entry, now)
                continue
            entry.running, entry.planned = True, due
            found.append(entry)
            self._plan(entry, now)
        return found

    def wait(self, now: float) -> float:
        """Seconds until something is due; infinite where nothing ever is."""
        while self._heap and (self._heap[0][2].removed or self._heap[0][0] != self._heap[0][2].due):
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - now) if self._heap else float("inf")

    def hasten(self, keys: Iterable[str], now: float) -> None:
        """Have those of *keys* that do not run already be due now; their runs after that stay where they are."""
        for key in keys:
            entry = self.entries.get(key)
            if entry is not None and not entry.running and entry.due > now:
                entry.due, entry.extra = now, True
                entry.slot -= entry.every
                self._push(entry)

    def ended(self, entry: Entry) -> None:
        """The run of *entry* is over."""
        entry.running = entry.extra = False
        entry.attempt = 1

    def retry(self, entry: Entry, now: float) -> float | None:
        """Plan another attempt of the run of *entry*: its moment, or None where the next run comes before."""
        first, most = BACKOFF
        moment: float = now + min(most, first * 2.0 ** (entry.attempt - 1)) * self._random.uniform(0.8, 1.2)
        if moment >= entry.due:
            return None
        entry.attempt += 1
        return moment

    def _plan(self, entry: Entry, now: float) -> None:
        """Plan the run after that of `slot`; the slots that have gone by since are missed."""
        half = entry.slot + 0.5 * entry.every
        slot = half + (entry.phase * entry.every - half - self._offset) % entry.every  # the next moment of its phase
        if slot <= now:
            late = int((now - slot) // entry.every) + 1
            self.missed += late
            slot += late * entry.every
        entry.slot = slot
        due = slot + self._random.random() * min(MAX_JITTER, JITTER * entry.every)
        entry.due = math.ceil(due / GRAIN) * GRAIN
        self._push(entry)

    def _push(self, entry: Entry) -> None:
        self._count += 1
        heapq.heappush(self._heap, (entry.due, self._count, entry))
