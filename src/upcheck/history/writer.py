"""A batch of results as rows: each raw, and each check's state after it. What they come to is added up by `fold`."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from operator import itemgetter
from typing import Any

from upcheck.history.fold import RAW, fold, waiting
from upcheck.history.tally import OUTCOMES
from upcheck.result import Outcome, Result
from upcheck.state import Condition, step

# A check's clock may be put back, and then its runs are no less the latest; a run that is older than this was rather
# brought from elsewhere. Clocks that run on local time are 14 hours wrong at most.
LATE = 86400.0
AHEAD = 60.0  # seconds that a clock may be ahead of ours
KNOWN = 100_000  # checks to remember; some millions of made-up names must not fill the memory
FOLD_SECONDS = 60.0  # between two folds: the longer, the more results of a check are added up at once,
FOLD_ROWS = 50_000  # but a reader counts what waits
# Rows a statement. `executemany` lets go of the GIL and takes it back for each row, and beside a busy thread each time
# is a switch between the two; a statement with many rows does so once.
SIZES = (256, 32, 4, 1)

_OF_THE_CHECK = frozenset(
    ("name", "file", "line", "every", "timeout", "severity", "failure_threshold", "success_threshold")
)
_FIRST = itemgetter(0)
_PLAIN = {outcome: outcome.value for outcome in OUTCOMES}  # sqlite3 binds text many times faster than an enum
_HELD = Outcome.HELD.value

_encode = json.JSONEncoder(default=str, skipkeys=True, separators=(",", ":")).encode

_STATE = "started", "duration", "outcome", "reason", "details", "since", "runs", "last_held", "condition"
_RESULTS = f"INSERT INTO recent ({RAW}) VALUES ", RAW.count(",") + 1  # noqa: S608
_STATES = f"INSERT OR REPLACE INTO states (check_id, {', '.join(_STATE)}) VALUES ", 1 + len(_STATE)  # noqa: S608
_FIND = f"SELECT id, facts, {', '.join(_STATE)} FROM checks LEFT JOIN states ON check_id = id WHERE name = ?"  # noqa: S608


class _Check:
    """What is kept of a check between its runs."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.id: int = row[0]
        self.facts: dict[str, Any] = json.loads(row[1])
        self.started, self.duration, self.outcome, self.reason, self.details = row[2:7]
        self.since, self.runs, self.last_held, text = row[7:]
        self.condition = Condition.from_json(text or "")
        self._condition: str = text or ""  # the same as it is written
        self.before: Mapping[str, Any] | None = None  # all facts of the run before, because most are like it,
        self.own = ""  # and those that were its own

    def follow(
        self, result: Result, started: float, duration: float | None, outcome: str, reason: str, now: float
    ) -> None:
        """Take a run for the latest, unless it comes late: the latest is what came last, whatever the clock says."""
        if outcome == _HELD:
            self.last_held = started if self.last_held is None else max(started, min(self.last_held, now))
        if self.started is not None and started < self.started - LATE and self.started <= now + AHEAD:
            return
        after = step(self.condition, result)
        if after is not self.condition:
            self.condition, self._condition = after, after.to_json()
        if self.outcome != outcome:
            self.since, self.runs = started, 0
        elif started < self.since:  # the clock was put back; a streak began no later than now
            self.since = started
        self.runs += 1
        self.started, self.duration, self.outcome, self.reason, self.details = (
            started, duration, outcome, reason, self.own,
        )  # fmt: skip

    def row(self) -> tuple[Any, ...]:
        """The values of `_STATES`."""
        return (
            self.id, self.started, self.duration, self.outcome, self.reason, self.details, self.since, self.runs,
            self.last_held, self._condition,
        )  # fmt: skip


class Writer:
    """Writes batches through one connection, and remembers the checks for as long as nobody else writes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, _Check] = {}
        self._version = -1
        self._fold_at = time.monotonic() + FOLD_SECONDS
        self._fold_rows = FOLD_ROWS

    def forget(self) -> None:
        """After a transaction that was rolled back: what is remembered is not in the file."""
        self._known.clear()

    def write(self, results: Sequence[Result]) -> None:
        """Write *results* inside the caller's transaction. Raises sqlite3.Error."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._known) > KNOWN:
            self._known.clear()
        self._version = version
        now = time.time()
        raw: list[Any] = []
        touched: dict[int, _Check] = {}
        known = self._known.get  # this loop is what a result costs a busy engine: the rest is SQLite's, without the GIL
        moments = [one.started if 0 <= one.started < 1e11 else now for one in results]  # or it is no time at all
        for started, result in sorted(zip(moments, results, strict=True), key=_FIRST):
            check = known(result.check) or self._find(result.check)
            duration = result.duration if 0 <= result.duration < math.inf else None
            outcome, reason = _PLAIN[result.outcome], text(result.reason) if result.reason else ""
            own = check.own if result.facts == check.before else self._own_facts(check, result)
            raw += (check.id, started, duration, outcome, reason, own)
            check.follow(result, started, duration, outcome, reason, now)
            touched[check.id] = check
        self._insert(*_RESULTS, raw)
        states: list[Any] = []
        for number in sorted(touched):
            states += touched[number].row()
        self._insert(*_STATES, states)

    def _insert(self, head: str, width: int, values: list[Any]) -> None:
        """Insert the rows in *values*, which has *width* of them a row, one row after another."""
        at = 0
        for size in SIZES:
            while len(values) - at >= size * width:
                self._db.execute(_statement(head, width, size), values[at : at + size * width])
                at += size * width

    def fold(self) -> None:
        """Fold what waits where it is time to, outside a transaction; where there is no room, later.

        Raises sqlite3.DatabaseError where the file is damaged.
        """
        rows = waiting(self._db)
        if rows < self._fold_rows and time.monotonic() < self._fold_at:
            return
        self._fold_rows = rows + FOLD_ROWS
        try:
            with suppress(sqlite3.OperationalError):  # a full disk, another writer; the results are in the file anyhow
                fold(self._db)
                self._fold_rows = FOLD_ROWS
        finally:
            self._fold_at = time.monotonic() + FOLD_SECONDS

    def _find(self, name: str) -> _Check:
        """The check that is called *name*, new where there is none."""
        clean = text(name)
        row = self._db.execute(_FIND, (clean,)).fetchone()
        if row is None:
            new = self._db.execute("INSERT INTO checks (name, facts) VALUES (?, '{}')", (clean,)).lastrowid
            row = (new, "{}", *[None] * len(_STATE))
        check = self._known[name] = _Check(row)
        if clean != name:  # two names that are one in the file must not be two here
            check = self._known[name] = self._known.setdefault(clean, check)
        return check

    def _own_facts(self, check: _Check, result: Result) -> str:
        """The facts of *result* that are not the check's, as JSON; the check's are those of its last run that held."""
        facts, known = result.facts, check.facts
        own = {name: value for name, value in facts.items() if name not in known or known[name] != value}
        if (result.outcome is Outcome.HELD or not known) and not (
            _OF_THE_CHECK.isdisjoint(own) and known.keys() <= facts.keys()
        ):
            check.facts = {name: facts[name] for name in _OF_THE_CHECK if name in facts}
            self._db.execute("UPDATE checks SET facts = ? WHERE id = ?", (_json(check.facts), check.id))
            own = {name: value for name, value in own.items() if name not in _OF_THE_CHECK}
        check.before, check.own = facts, _json(own) if own else ""
        return check.own


@cache
def _statement(head: str, width: int, rows: int) -> str:
    """*head* with the parameters of so many *rows*."""
    return head + ", ".join([f"({', '.join('?' * width)})"] * rows)


def text(value: str) -> str:
    """*value* as UTF-8 can hold it: a lone surrogate becomes its escape."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def _json(facts: dict[str, Any]) -> str:
    try:
        return _encode(facts)
    except (ValueError, RecursionError) as error:  # a fact that holds itself
        return _encode({"facts": f"can't be written: {error}"})
