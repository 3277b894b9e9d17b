"""What is deleted, when: a little at a time, so that no writer waits long."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress

from upcheck.history.fold import fold
from upcheck.history.tally import HOUR

KEEP = 30 * 86400.0  # seconds that results are kept
KEEP_HOURS = 400 * 86400.0  # seconds that hourly rollups are kept; daily ones always are
CHUNK = 5_000  # rows a transaction
PAGES = 500  # that are given back to the file system after each

_OLD_RESULTS = """
    DELETE FROM results
    WHERE rowid IN (SELECT rowid FROM results WHERE started < :before ORDER BY started LIMIT :n)"""
_OLD_HOURS = f"""
    DELETE FROM rollups WHERE (span, start, check_id) IN
    (SELECT span, start, check_id FROM rollups WHERE span = {HOUR} AND start < :before LIMIT :n)"""  # noqa: S608

_OLD_MARKS = """
    DELETE FROM marks WHERE (start, check_id) IN (SELECT start, check_id FROM marks WHERE start < :before LIMIT :n)"""


def prune(db: sqlite3.Connection, now: float, keep: float, budget: float) -> int:
    """Delete what is too old at *now* (unix seconds) for at most *budget* seconds; how many rows went.

    Results go after *keep* seconds, hourly rollups and marks after KEEP_HOURS; only what is folded goes. Raises
    sqlite3.Error.
    """
    with suppress(sqlite3.OperationalError):  # a full disk: to delete is what helps
        fold(db)
    (newest,) = db.execute("SELECT max(started) FROM states").fetchone()
    now = min(now, newest or 0.0)  # where the clock is ahead, what it was not ahead for is not old
    end = time.monotonic() + budget
    gone = 0
    # The marks first: the hours after each must be there for as long as it is.
    old_hours = now - KEEP_HOURS
    for what, statement, before in (
        ("results", _OLD_RESULTS, now - keep),
        ("marks", _OLD_MARKS, old_hours),
        ("hours", _OLD_HOURS, old_hours),
    ):
        while time.monotonic() < end:
            began = time.monotonic()
            count = _chunk(db, what, statement, before)
            gone += count
            if count < CHUNK:
                break
            time.sleep(
                min(0.05, time.monotonic() - began)
            )  # SQLite has no queue: who waits gets a turn only if we pause
    _give_back(db)
    return gone


def _chunk(db: sqlite3.Connection, what: str, statement: str, before: float) -> int:
    (known,) = db.execute("SELECT max(since) FROM kept WHERE what = ?", (what,)).fetchone()
    db.execute("BEGIN IMMEDIATE")
    with db:
        count = db.execute(statement, {"before": before, "n": CHUNK}).rowcount
        if count and before > (known or 0.0):
            db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (what, before))
    if count:
        _give_back(db)
    return count


def _give_back(db: sqlite3.Connection) -> None:
    """Return free pages to the file system. `execute` takes one step of this pragma, which is one page."""
    db.executescript(f"PRAGMA incremental_vacuum({PAGES})")
