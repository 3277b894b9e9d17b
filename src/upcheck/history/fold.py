"""From `recent`, where results are put down as they come, into `results` and `rollups`: many at a time, in SQL."""

from __future__ import annotations

import sqlite3
import time

from upcheck.history.tally import ALL_TIME, BUCKETS, COLUMNS, DAY, HOUR, MARK, OUTCOMES
from upcheck.result import Outcome

RAW = "check_id, started, duration, outcome, reason, facts"  # the columns of results, and of recent

_COLUMNS = ", ".join(COLUMNS)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in COLUMNS)
_BUCKET = (
    f"CASE WHEN duration IS NULL OR outcome NOT IN ('{Outcome.HELD}', '{Outcome.FAILED}') THEN NULL "
    f"{' '.join(f'WHEN duration <= {bound!r} THEN {index}' for index, bound in enumerate(BUCKETS))} "
    f"ELSE {len(BUCKETS)} END"
)
_TALLY = ", ".join(
    [f"sum(outcome = '{outcome}') AS {outcome}" for outcome in OUTCOMES]
    + ["ifnull(sum(duration) FILTER (WHERE bucket IS NOT NULL), 0.0) AS seconds"]
    + [f"ifnull(sum(bucket = {index}), 0) AS b{index}" for index in range(len(BUCKETS) + 1)]
)


def tally(table: str, where: str = "true", start: str = "0") -> str:
    """The query for what the rows of *table* come to: `start, check_id` and the columns of a rollup, for each of both.

    SQLite would work out each row's bucket anew for each column, but for the LIMIT.
    """
    return f"""
        SELECT start, check_id, {_TALLY} FROM (
            SELECT {start} AS start, check_id, outcome, duration, {_BUCKET} AS bucket
            FROM {table} WHERE {where} LIMIT -1
        ) GROUP BY start, check_id"""  # noqa: S608


# In the order of the checks, because each has pages of its own in an index: what waits together for a page is written
# with it once. The results of one check keep their order.
_MOVE = f"INSERT INTO results ({RAW}) SELECT {RAW} FROM recent ORDER BY check_id, rowid"  # noqa: S608
_HOURS = tally("recent", start=f"CAST(started AS INTEGER) / {HOUR} * {HOUR}")
_ADD = f"""
    INSERT INTO rollups (span, start, check_id, {_COLUMNS}) WITH hours AS MATERIALIZED ({_HOURS})
    SELECT {HOUR}, start, check_id, {_COLUMNS} FROM hours
    UNION ALL SELECT {DAY}, start / {DAY} * {DAY} AS day, check_id, {_SUMS} FROM hours GROUP BY day, check_id
    UNION ALL SELECT {ALL_TIME}, 0, check_id, {_SUMS} FROM hours WHERE true GROUP BY check_id
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)}"""  # noqa: S608

# A mark is made at the first fold after its time, of what is folded then, less what is later than it: nothing, unless
# a clock was wrong.
_MARKED = "SELECT EXISTS (SELECT 1 FROM marks WHERE start = ?)"
_NEW_MARK = f"""
    INSERT INTO marks (start, check_id, {_COLUMNS})
    SELECT :mark, rollups.check_id, {", ".join(f"rollups.{name} - ifnull(later.{name}, 0)" for name in COLUMNS)}
    FROM rollups LEFT JOIN (
        SELECT check_id, {_SUMS} FROM rollups WHERE span = {HOUR} AND start >= :mark GROUP BY check_id
    ) AS later ON later.check_id = rollups.check_id
    WHERE span = {ALL_TIME}"""  # noqa: S608
# What comes late belongs to every mark after it. They are found one by one, because each has a row for every check.
_LATE = f"""
    INSERT INTO marks (start, check_id, {_COLUMNS})
    WITH RECURSIVE later(mark) AS (
        SELECT min(start) FROM marks WHERE start > (SELECT CAST(min(started) AS INTEGER) FROM recent)
        UNION ALL SELECT (SELECT min(start) FROM marks WHERE start > mark) FROM later WHERE mark IS NOT NULL
    ), hours AS MATERIALIZED ({_HOURS})
    SELECT mark, check_id, {_SUMS} FROM later JOIN hours ON start < mark GROUP BY mark, check_id
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)}"""  # noqa: S608


def waiting(db: sqlite3.Connection) -> int:
    """How many results are not folded yet: `recent` is only ever emptied as a whole."""
    return int(db.execute("SELECT ifnull(max(rowid), 0) FROM recent").fetchone()[0])


def fold(db: sqlite3.Connection) -> None:
    """Fold all that waits, in one transaction: each result is in `recent`, or else in `results` and counted."""
    if waiting(db):
        db.execute("BEGIN IMMEDIATE")
        with db:
            fold_in_transaction(db)


def fold_in_transaction(db: sqlite3.Connection) -> None:
    """`fold` inside the caller's transaction. Raises sqlite3.Error."""
    mark = int(time.time()) // MARK * MARK
    if not db.execute(_MARKED, (mark,)).fetchone()[0]:
        db.execute(_NEW_MARK, {"mark": mark})
    db.execute(_MOVE)
    db.execute(_LATE)
    db.execute(_ADD)
    db.execute("DELETE FROM recent")
