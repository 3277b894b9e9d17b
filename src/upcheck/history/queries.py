"""Questions to the history, each answered in bounded time, and the same before a fold as after it."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upcheck.history.fold import tally
from upcheck.history.tally import ALL_TIME, COLUMNS, DAY, HOUR, MARK, Summary
from upcheck.result import Outcome, Result
from upcheck.state import Condition

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
    """A check's last result, the streak that it is in, what all its runs come to since its first, how it stands."""

    result: Result
    streak: Streak
    totals: Summary
    condition: Condition


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
        SELECT name, outcome, started, duration, reason, facts, details, since, runs, last_held, condition, {both}
        FROM checks JOIN states ON states.check_id = id
        LEFT JOIN rollups ON span = {ALL_TIME} AND rollups.start = 0 AND rollups.check_id = id
        LEFT JOIN ({tally("recent")}) AS waiting ON waiting.check_id = id
        ORDER BY name"""  # noqa: S608
    return [
        Latest(
            _result(row[:7]),
            Streak(Outcome(row[1]), *row[7:10]),
            Summary.of(row[0], row[11:]),
            Condition.from_json(row[10]),
        )
        for row in db.execute(query)
    ]


def one(db: sqlite3.Connection, check: str, since: float) -> Summary:
    """What has run of *check* from *since* on; zeros where there is no such check."""
    number = (db.execute("SELECT id FROM checks WHERE name = ?", (check,)).fetchone() or (-1,))[0]
    if mark := _mark(db, since):
        rows = [db.execute(query.format(of="AND check_id = :id"), {"id": number, **mark}) for query in _TOTAL]
        return Summary.of(check, map(sum, zip(*(row.fetchone() for row in rows), strict=True)))
    bounds = _bounds(since, dict(db.execute("SELECT what, since FROM kept").fetchall()))
    row = db.execute(_SUMMARY.format(few=f"AND check_id = {number}"), bounds).fetchone()
    return Summary.of(check, row[1:] if row else (0,) * len(COLUMNS))


def summaries(db: sqlite3.Connection, pattern: str, since: float) -> list[Summary]:
    """What has run from *since* on, for each check that *pattern* names, by name.

    A *since* at a full hour is answered from the nearest mark, where there is one.
    """
    if mark := _mark(db, since):
        few = "checks.name GLOB :pattern" if pattern else "true"
        rows = db.execute(_SINCE_MARK.format(few=few), {"pattern": _glob(pattern), **mark})
        return sorted((Summary.of(row[0], row[1:]) for row in rows), key=lambda found: found.check)
    query = "SELECT id, name FROM checks WHERE name GLOB ? ORDER BY name"
    checks = dict(db.execute(query, (_glob(pattern),)).fetchall())
    few = f"AND check_id IN ({', '.join(map(str, checks))})" if len(checks) <= FEW else ""
    bounds = _bounds(since, dict(db.execute("SELECT what, since FROM kept").fetchall()))
    sums = {row[0]: row[1:] for row in db.execute(_SUMMARY.format(few=few), bounds)}
    return [Summary.of(name, sums.get(number, (0,) * len(COLUMNS))) for number, name in checks.items()]


def total(db: sqlite3.Connection, pattern: str, since: float) -> Summary:
    """What `summaries` finds, as one."""
    if pattern or not (mark := _mark(db, since)):
        return Summary.total(pattern, summaries(db, pattern, since))
    rows = [db.execute(query.format(of=""), mark).fetchone() for query in _TOTAL]
    return Summary.of(pattern, map(sum, zip(*rows, strict=True)))


def _mark(db: sqlite3.Connection, since: float) -> dict[str, Any]:
    """The mark that is nearest to *since*, and the hours between: see `_SINCE_MARK`; empty where there is none near."""
    if since % HOUR:
        return {}
    known = [row[0] for row in db.execute(_NEAR, {"hour": since, "far": MARK}) if row[0] is not None]
    if not known:
        return {}
    mark = min(known, key=lambda start: abs(start - since))
    hours = list(range(int(min(mark, since)), int(max(mark, since)), HOUR))
    return {"mark": mark, "hour": since, "hours": json.dumps(hours), "sign": 1 if mark > since else -1}


_NEAR = """
    SELECT max(start) FROM marks WHERE start BETWEEN :hour - :far AND :hour
    UNION SELECT min(start) FROM marks WHERE start BETWEEN :hour AND :hour + :far"""


# What all runs come to, less what they came to at the mark; and the hours between that and the window's beginning.
# They are named one by one, because of a range SQLite would read the rows of all checks to find those of one.
_BETWEEN = f"FROM rollups WHERE span = {HOUR} AND start IN (SELECT value FROM json_each(:hours))"  # noqa: S608
_SINCE_MARK = f"""
    SELECT name, {
    ", ".join(
        f"ifnull(rollups.{name}, 0) - ifnull(marks.{name}, 0) + :sign * ifnull(hours.{name}, 0) + ifnull(new.{name}, 0)"
        for name in COLUMNS
    )
}
    FROM checks LEFT JOIN rollups ON span = {ALL_TIME} AND rollups.start = 0 AND rollups.check_id = id
    LEFT JOIN marks ON marks.start = :mark AND marks.check_id = id
    LEFT JOIN (
        SELECT check_id, {", ".join(f"sum({name}) AS {name}" for name in COLUMNS)} {_BETWEEN} GROUP BY check_id
    ) AS hours ON hours.check_id = id
    LEFT JOIN ({tally("recent", "started >= :hour")}) AS new ON new.check_id = id
    WHERE {{few}}"""  # noqa: S608
_TOTAL = tuple(
    f"SELECT {', '.join(f'ifnull({sign} * sum({name}), 0)' for name in COLUMNS)} {source}"
    for sign, source in (
        ("1", f"FROM rollups WHERE span = {ALL_TIME} AND start = 0 {{of}}"),
        ("-1", "FROM marks WHERE start = :mark {of}"),
        (":sign", f"{_BETWEEN} {{of}}"),
        ("1", f"FROM ({tally('recent', 'started >= :hour {of}')})"),
    )
)


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
