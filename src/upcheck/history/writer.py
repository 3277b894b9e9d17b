"""A batch of results as rows: each raw, each added up per hour, day and all time, and each check's state after it."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from upcheck.history.tally import ALL_TIME, COLUMNS, DAY, HOUR, OUTCOMES, bucket
from upcheck.result import Outcome, Result

# A check's clock may be put back, and then its runs are no less the latest; a run that is older than this was rather
# brought from elsewhere. Clocks that run on local time are 14 hours wrong at most.
LATE = 86400.0
AHEAD = 60.0  # seconds that a clock may be ahead of ours
KNOWN = 100_000  # checks to remember; some millions of made-up names must not fill the memory

_OF_THE_CHECK = frozenset(("name", "file", "line", "every", "timeout", "severity"))
_FIRST = itemgetter(0)
_PLAIN = {outcome: outcome.value for outcome in OUTCOMES}  # sqlite3 binds text many times faster than an enum
_INDEX = {outcome.value: index for index, outcome in enumerate(OUTCOMES)}
_SECONDS = len(OUTCOMES)
_HELD = Outcome.HELD.value
_TELLING = (Outcome.HELD.value, Outcome.FAILED.value)

_encode = json.JSONEncoder(default=str, skipkeys=True, separators=(",", ":")).encode

_ADD = f"""
    INSERT INTO rollups VALUES (?, ?, ?{", ?" * len(COLUMNS)})
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)}"""  # noqa: S608
_STATE = "started", "duration", "outcome", "reason", "details", "since", "runs", "last_held"
_UPDATE = f"UPDATE checks SET {', '.join(f'{name} = ?' for name in _STATE)} WHERE id = ?"  # noqa: S608


class _Check:
    """What is kept of a check between its runs."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.id: int = row[0]
        self.facts: dict[str, Any] = json.loads(row[1])
        self.started, self.duration, self.outcome, self.reason, self.details = row[2:7]
        self.since, self.runs, self.last_held = row[7:]
        self.before: Mapping[str, Any] | None = None  # all facts of the run before, because most are like it,
        self.own = ""  # and those that were its own

    def follow(self, started: float, duration: float | None, outcome: str, reason: str, now: float) -> None:
        """Take a run for the latest, unless it comes late: the latest is what came last, whatever the clock says."""
        if outcome == _HELD:
            self.last_held = started if self.last_held is None else max(started, min(self.last_held, now))
        if self.started is not None and started < self.started - LATE and self.started <= now + AHEAD:
            return
        if self.outcome != outcome:
            self.since, self.runs = started, 0
        elif started < self.since:  # the clock was put back; a streak began no later than now
            self.since = started
        self.runs += 1
        self.started, self.duration, self.outcome, self.reason, self.details = (
            started, duration, outcome, reason, self.own,
        )  # fmt: skip

    def row(self) -> tuple[Any, ...]:
        """The values of `_UPDATE`."""
        return (
            self.started, self.duration, self.outcome, self.reason, self.details, self.since, self.runs, self.last_held,
            self.id,
        )  # fmt: skip


class Writer:
    """Writes batches through one connection, and remembers the checks for as long as nobody else writes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, _Check] = {}
        self._version = -1

    def forget(self) -> None:
        """After a transaction that was rolled back: what is remembered is not in the file."""
        self._known.clear()

    def write(self, results: Iterable[Result]) -> None:
        """Write *results* inside the caller's transaction. Raises sqlite3.Error."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._known) > KNOWN:
            self._known.clear()
        self._version = version
        now = time.time()
        raw: list[tuple[Any, ...]] = []
        cells: dict[tuple[int, int], list[float]] = {}
        touched: dict[int, _Check] = {}
        known, find = self._known.get, self._find  # this loop is what a result costs
        for started, result in sorted(((_moment(one.started, now), one) for one in results), key=_FIRST):
            check = known(result.check) or find(result.check)
            number, duration = check.id, result.duration if 0 <= result.duration < math.inf else None
            outcome, reason = _PLAIN[result.outcome], text(result.reason) if result.reason else ""
            own = self._own_facts(check, result)
            raw.append((number, started, duration, outcome, reason, own))
            check.follow(started, duration, outcome, reason, now)
            touched[number] = check
            key = (int(started) // HOUR, number)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = [0] * len(COLUMNS)
            cell[_INDEX[outcome]] += 1
            if duration is not None and outcome in _TELLING:
                cell[_SECONDS] += duration
                cell[_SECONDS + 1 + bucket(duration)] += 1
        self._db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", raw)
        self._db.executemany(_UPDATE, [check.row() for check in touched.values()])
        self._db.executemany(_ADD, _rollups(cells))

    def _find(self, name: str) -> _Check:
        """The check that is called *name*, new where there is none."""
        clean = text(name)
        query = f"SELECT id, facts, {', '.join(_STATE)} FROM checks WHERE name = ?"  # noqa: S608
        row = self._db.execute(query, (clean,)).fetchone()
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
        if facts == check.before:
            return check.own
        own = {name: value for name, value in facts.items() if name not in known or known[name] != value}
        if (result.outcome is Outcome.HELD or not known) and not (
            _OF_THE_CHECK.isdisjoint(own) and known.keys() <= facts.keys()
        ):
            check.facts = {name: facts[name] for name in _OF_THE_CHECK if name in facts}
            self._db.execute("UPDATE checks SET facts = ? WHERE id = ?", (_json(check.facts), check.id))
            own = {name: value for name, value in own.items() if name not in _OF_THE_CHECK}
        check.before, check.own = facts, _json(own) if own else ""
        return check.own


def _rollups(cells: dict[tuple[int, int], list[float]]) -> list[tuple[float, ...]]:
    """The rows for `_ADD`, in the order of the table: each hour's *cells*, and what they come to per day and in all."""
    sums: dict[tuple[int, int, int], list[float]] = {}
    for (hour, check), cell in cells.items():
        start = hour * HOUR
        for key in ((ALL_TIME, 0, check), (HOUR, start, check), (DAY, start - start % DAY, check)):
            if (so_far := sums.get(key)) is not None:
                sums[key] = [a + b for a, b in zip(so_far, cell, strict=True)]
            else:
                sums[key] = cell
    return [(*key, *sums[key]) for key in sorted(sums)]


def _moment(started: float, now: float) -> float:
    """*started*, or *now* where it is no time that anything began at."""
    return started if 0 <= started < 1e11 else now


def text(value: str) -> str:
    """*value* as UTF-8 can hold it: a lone surrogate becomes its escape."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def _json(facts: dict[str, Any]) -> str:
    try:
        return _encode(facts)
    except (ValueError, RecursionError) as error:  # a fact that holds itself
        return _encode({"facts": f"can't be written: {error}"})
