"""What is known of each check now: for the lines, the live view, and whether a failure is news."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from upcheck.result import Outcome, Result
from upcheck.state import Condition, Flip, State, flip, step

KEPT = 12  # results in a sparkline


@dataclass(slots=True)
class Row:
    """One check: its last result, how it stands since when, the latest durations in seconds.

    A duration is None where the check did not hold.
    """

    last: Result
    condition: Condition
    durations: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))


class Board:
    """The rows. *known* tells how a check stood before the start."""

    def __init__(self, known: Callable[[str], Condition] = lambda check: Condition()) -> None:
        self._known = known
        self.rows: dict[str, Row] = {}
        self.counts: Counter[State] = Counter()
        self.stale: dict[str, str] = {}  # files whose last good version runs, and why

    def outcome(self, check: str) -> Outcome | None:
        """The outcome of the last run of *check*, if it has run."""
        row = self.rows.get(check)
        return row.last.outcome if row else None

    def take(self, result: Result) -> Flip | None:
        """Keep *result*; what is to be told of it: a change, and what is not up when it is first looked at."""
        row = self.rows.get(result.check)
        before = row.condition if row is not None else self._known(result.check)
        after = step(before, result)
        found = flip(result.check, before, after, result)
        if row is None:
            row = self.rows[result.check] = Row(result, after)
            if after.state is State.UP and not before.since:
                found = None
            elif found is None and after.state is not State.UP:
                found = Flip(result.check, before.state, after.state, after.since, result.reason)
        else:
            self.counts[before.state] -= 1
            row.last, row.condition = result, after
        self.counts[after.state] += 1
        row.durations.append(result.duration if result.outcome is Outcome.HELD else None)
        return found

    def keep(self, checks: Iterable[str]) -> None:
        """Forget all but *checks*."""
        for check in self.rows.keys() - set(checks):
            self.counts[self.rows.pop(check).condition.state] -= 1

    def bad(self) -> list[Row]:
        """The rows that are not up: first what is down, then what may be soon, and what is excused last."""
        rows = [row for row in self.rows.values() if row.condition.state is not State.UP]
        return sorted(rows, key=lambda row: (_URGENCY.index(row.condition.state), -row.condition.since))


_URGENCY = (
    State.DOWN, State.FLAPPING, State.UNKNOWN, State.PENDING, State.BLOCKED, State.MAINTENANCE,
)  # fmt: skip


def name(result: Result) -> str:
    """What people call the check."""
    return str(result.facts.get("name", result.check))


def why(result: Result) -> str:
    """In a line: what came back, or what the reason is."""
    told = str(result.facts.get("got") or result.reason) if result.outcome is Outcome.ERROR else result.reason
    return told.partition("\n")[0]
