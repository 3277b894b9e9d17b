"""What is known of each check now: for the lines, the live view, and whether a failure is news."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from upcheck.result import Outcome, Result

WORD = {Outcome.HELD: "UP", Outcome.FAILED: "DOWN", Outcome.ERROR: "UNKNOWN", Outcome.SKIPPED: "SKIPPED"}
KEPT = 12  # results in a sparkline


@dataclass(slots=True)
class Row:
    """One check: its last result, since when (unix seconds) it has that outcome, the latest durations in seconds.

    A duration is None where the check did not hold.
    """

    last: Result
    since: float
    lasted: float | None = None  # seconds that the outcome before has lasted
    durations: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))


class Board:
    """The rows. *since* tells of a check that was known before the start: its outcome, and since when."""

    def __init__(self, since: Callable[[str], tuple[Outcome, float] | None] = lambda check: None) -> None:
        self._since = since
        self.rows: dict[str, Row] = {}
        self.counts: Counter[Outcome] = Counter()
        self.stale: dict[str, str] = {}  # files whose last good version runs, and why

    def outcome(self, check: str) -> Outcome | None:
        """The outcome of the last run of *check*, if it has run."""
        row = self.rows.get(check)
        return row.last.outcome if row else None

    def take(self, result: Result) -> bool:
        """Keep *result*; whether it is another outcome than the one before."""
        row = self.rows.get(result.check)
        if row is None:
            before = self._since(result.check)
            known = before is not None and before[0] is result.outcome
            row = self.rows[result.check] = Row(result, before[1] if known and before else result.started)
            changed = result.outcome is not Outcome.HELD or (before is not None and not known)
            if changed and before is not None and not known:
                row.lasted = result.started - before[1]
        else:
            changed = row.last.outcome is not result.outcome
            self.counts[row.last.outcome] -= 1
            if changed:
                row.lasted, row.since = result.started - row.since, result.started
            row.last = result
        self.counts[result.outcome] += 1
        row.durations.append(result.duration if result.outcome is Outcome.HELD else None)
        return changed

    def keep(self, checks: Iterable[str]) -> None:
        """Forget all but *checks*."""
        for check in self.rows.keys() - set(checks):
            self.counts[self.rows.pop(check).last.outcome] -= 1

    def bad(self) -> list[Row]:
        """The rows that do not hold, the latest to change first."""
        rows = [row for row in self.rows.values() if row.last.outcome in (Outcome.FAILED, Outcome.ERROR)]
        return sorted(rows, key=lambda row: -row.since)


def name(result: Result) -> str:
    """What people call the check."""
    return str(result.facts.get("name", result.check))


def why(result: Result) -> str:
    """In a line: what came back, or what the reason is."""
    told = str(result.facts.get("got") or result.reason) if result.outcome is Outcome.ERROR else result.reason
    return told.partition("\n")[0]
