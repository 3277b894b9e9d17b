"""Questions to the history, each answered in bounded time, and the same before a fold as after it."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upcheck.history.fold import tally
from upcheck.history.tally import ALL_TIME, COLUMNS, DAY, HOUR, Summary
from upcheck.result import Outcome, Result

_COLUMNS = ", ".join(COLUMNS)
_SUMS = ", ".join(f"sum({name})" for name in COLUMNS)
FEW = 100  # checks that are better looked up one by one than picked out of all


@dataclass(frozen=True, slots=True)
class Streak:
    """How long a check has been in its latest outcome: since when, how many runs; and when it last held.

    Times are unix seconds; *last_held* is None where it never did.
    """

    outcome: Outcome
    since: float
    runs: int
    last_held: float | None


@dataclass(frozen=True, slots=True)
class Latest:
    """A check's last result, the streak that it is in, and what all its runs come to since its first."""

    result: Result
    streak: Streak
    totals: Summary


def results(db: sqlite3.Connection, check: str, since: float, limit: int) -> list[Result]:
    """The last *limit* (-1: all) runs of *check* from *since* on, oldest first."""
    some = """
        SELECT outcome, started, duration, reason, facts, rowid AS number, {recent} AS recent FROM {table}
        WHERE check_id = (SELECT id FROM checks WHERE name = :check) AND started >= :since
        ORDER BY started DESC, number DESC LIMIT :limit"""
    query = f"""
        SELECT :check, outcome, started, duration, reason, (SELECT facts FROM checks WHERE name = :check), facts
        FROM ({_both(some)})
        ORDER BY started DESC, recent DESC, number DESC LIMIT :limit"""  # noqa: S608
    rows = db.execute(query, {"check": check, "since": since, "limit": limit}).fetchall()
    return [_result(row) for row in reversed(rows)]


def listed(db: sqlite3.Connection, pattern: str, since: float, limit: int) -> list[Result]:
    """The last *limit* runs from *since* on of all checks that *pattern* names, oldest first."""
    some = """
        SELECT name, {table}.outcome, {table}.started, {table}.duration, {table}.reason, checks.facts,
            {table}.facts AS own, id, {recent} AS recent, {table}.rowid AS number
        FROM {table} JOIN checks ON check_id = id WHERE {table}.started >= :since AND name GLOB :pattern
        ORDER BY {table}.started DESC, id DESC, number DESC LIMIT :limit"""
    query = f"""
        SELECT name, outcome, started, duration, reason, facts, own
        FROM ({_both(some)})
        ORDER BY started DESC, id DESC, recent DESC, number DESC LIMIT :limit"""  # noqa: S608
    rows = db.execute(query, {"pattern": _glob(pattern), "since": since, "limit": limit}).fetchall()
    return [_result(row) for row in reversed(rows)]


def _both(some: str) -> str:
    """What the query *some* finds in `results` and in `recent`, each by itself, so that an index can end it early."""
    folded, recent = some.format(table="results", recent=0), some.format(table="recent", recent=1)
    return f"SELECT * FROM ({folded}) UNION ALL SELECT * FROM ({recent})"  # noqa: S608


def streak(db: sqlite3.Connection, check: str) -> Streak | None:
    """The streak of *check*, or None where it has never run."""
    query = "SELECT outcome, since, runs, last_held FROM states JOIN checks ON check_id = id WHERE name = ?"
    row = db.execute(query, (check,)).fetchone()
    return Streak(Outcome(row[0]), *row[1:]) if row else None


def latest(db: sqlite3.Connection) -> list[Latest]:
    """Each check's last result, streak and totals, by name."""
    both = ", ".join(f"ifnull(rollups.{name}, 0) + ifnull(waiting.{name}, 0)" for name in COLUMNS)
    query = f"""
        SELECT name, outcome, started, duration, reason, facts, details, since, runs, last_held, {both}
        FROM checks JOIN states ON states.check_id = id
        LEFT JOIN rollups ON span = {ALL_TIME} AND rollups.start = 0 AND rollups.check_id = id
        LEFT JOIN ({tally("recent")}) AS waiting ON waiting.check_id = id
        ORDER BY name"""  # noqa: S608
    return [
        Latest(_result(row[:7]), Streak(Outcome(row[1]), *row[7:10]), Summary.of(row[0], row[10:]))
        for row in db.execute(query)
    ]


def summaries(db: sqlite3.Connection, pattern: str, since: float) -> list[Summary]:
    """What has run from *since* on, for each check that *pattern* names, by name."""
    query = "SELECT id, name FROM checks WHERE name GLOB ? ORDER BY name"
    checks = dict(db.execute(query, (_glob(pattern),)).fetchall())
    few = f"AND check_id IN ({', '.join(map(str, checks))})" if len(checks) <= FEW else ""
    bounds = _bounds(since, dict(db.execute("SELECT what, since FROM kept").fetchall()))
    sums = {row[0]: row[1:] for row in db.execute(_SUMMARY.format(few=few), bounds)}
    return [Summary.of(name, sums.get(number, (0,) * len(COLUMNS))) for number, name in checks.items()]


def _bounds(since: float, kept: Mapping[str, float]) -> dict[str, float]:
    """Where results, hours and days take over from one another; what is deleted is answered by the next coarser."""
    day = math.ceil(since / DAY) * DAY
    hour = math.ceil(since / HOUR) * HOUR
    if since < kept.get("results", 0.0):
        hour = math.floor(since / HOUR) * HOUR
    if hour < kept.get("hours", 0.0):
        hour = day = math.floor(since / DAY) * DAY
    return {"since": since, "hour": hour, "day": day}


_SUMMARY = f"""
    SELECT check_id, {_SUMS} FROM (
        SELECT check_id, {_COLUMNS} FROM rollups WHERE span = {DAY} AND start >= :day {{few}}
        UNION ALL
        SELECT check_id, {_COLUMNS} FROM rollups WHERE span = {HOUR} AND start >= :hour AND start < :day {{few}}
        UNION ALL
        SELECT check_id, {_COLUMNS} FROM ({tally("results", "started >= :since AND started < :hour {few}")})
        UNION ALL
        SELECT check_id, {_COLUMNS} FROM ({tally("recent", "started >= min(:since, :hour) {few}")})
    ) GROUP BY check_id"""  # noqa: S608


def _glob(pattern: str) -> str:
    """*pattern* for SQLite's GLOB: `*` is any text, everything else itself, and a part of the name is enough."""
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return literal if "*" in pattern else f"*{literal}*"


def _result(row: tuple[Any, ...]) -> Result:
    """The Result in name, outcome, started, duration, reason, the check's facts, its own."""
    check, outcome, started, duration, reason, facts, own = row
    known = json.loads(facts)
    if own:
        known.update(json.loads(own))
    return Result(
        check, Outcome(outcome), started, math.nan if duration is None else duration, reason=reason, facts=known
    )
