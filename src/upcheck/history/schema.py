"""The file: its tables, how it is opened, and how an older one is made anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from upcheck.history.fold import fold_in_transaction
from upcheck.history.tally import COLUMNS
from upcheck.history.writer import Writer
from upcheck.result import Outcome, Result

VERSION = 4
BUSY = 5.0  # seconds to wait for another writer
CACHE = 16_000  # KiB of pages: the index leaves and the states and rollups of some 10,000 checks
CHECKPOINT = 4_000  # pages in the write-ahead log, 16 MiB: each checkpoint waits for the disk twice
LOG = 64 * 2**20  # bytes that the write-ahead log may keep on disk when it is empty

_RAW = """
        check_id INTEGER NOT NULL REFERENCES checks,
        started REAL NOT NULL,      -- unix seconds
        duration REAL,              -- seconds; NULL where what was given is no duration
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        facts TEXT NOT NULL         -- a JSON object of those that are not the check's own, or nothing"""
# What changes with each run, of the latest: to look for it among 50 million rows would take its time. It is not in
# `checks` because a short row is soon written: a batch of 1,000 checks rewrites the pages of all of them.
_STATES = """CREATE TABLE states (
        check_id INTEGER PRIMARY KEY REFERENCES checks,
        started REAL NOT NULL,      -- unix seconds
        duration REAL,              -- seconds
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        details TEXT NOT NULL,      -- as results.facts
        since REAL NOT NULL,        -- unix seconds: the first run of the latest outcome
        runs INTEGER NOT NULL,      -- how many it has had in a row
        last_held REAL,             -- unix seconds
        condition TEXT NOT NULL DEFAULT '' -- see upcheck.state
    ) STRICT"""
_COUNTS = ", ".join(f"{name} {'REAL' if name == 'seconds' else 'INTEGER'} NOT NULL" for name in COLUMNS)
# What all runs of a check before *start* come to, every MARK seconds: a long window is the difference between now and
# then, not a sum over each of its hours.
_MARKS = f"""CREATE TABLE marks (
        start INTEGER NOT NULL,     -- unix seconds, a multiple of MARK
        check_id INTEGER NOT NULL REFERENCES checks,
        {_COUNTS},
        PRIMARY KEY (start, check_id)
    ) STRICT, WITHOUT ROWID"""
_RECENT = f"CREATE TABLE recent ({_RAW}\n) STRICT"  # results that are in no index and no rollup yet
_SCHEMA = (
    """CREATE TABLE checks (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        facts TEXT NOT NULL         -- a JSON object: what is the same for every run
    ) STRICT""",
    _STATES,
    _RECENT,
    f"CREATE TABLE results ({_RAW}\n) STRICT",
    "CREATE INDEX results_by_check ON results (check_id, started)",
    "CREATE INDEX results_by_time ON results (started)",
    # span: 3600, 86400, or 0 for all time. The present hour's rows lie together, because each fold writes them.
    f"""CREATE TABLE rollups (
        span INTEGER NOT NULL,      -- seconds
        start INTEGER NOT NULL,     -- unix seconds, a multiple of span
        check_id INTEGER NOT NULL REFERENCES checks,
        {_COUNTS},
        PRIMARY KEY (span, start, check_id)
    ) STRICT, WITHOUT ROWID""",
    _MARKS,
    "CREATE TABLE kept (what TEXT PRIMARY KEY, since REAL NOT NULL) STRICT",  # what is older has been deleted
    "CREATE TABLE engines (shard TEXT PRIMARY KEY, engine TEXT NOT NULL) STRICT",
)


class HistoryError(Exception):
    """The history can't be used; the message names the file and what would help."""


class NoHistoryError(HistoryError):
    """Nobody has written one yet, or somebody is about to."""


class NewerHistoryError(HistoryError):
    """A newer upcheck wrote the history."""


def connect(file: Path) -> sqlite3.Connection:
    """*file*, made or migrated where needed. Raises HistoryError where it is newer than us, or sqlite3.Error."""
    db = sqlite3.connect(file, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        # The log is synced at a checkpoint, not at each commit: what was committed survives the end of the process,
        # however it comes, and the file the end of the power; the last second before that may be lost.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = -{CACHE}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        db.execute(f"PRAGMA journal_size_limit = {LOG}")
        found = _version(db, file)
        if found == 0:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
            db.execute("PRAGMA journal_mode = WAL")
        if found != VERSION:
            _upgrade(db, file)
            if found == 1:
                _shrinkable(db)
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(file: Path) -> sqlite3.Connection:
    """*file* as it is, never written to. Raises HistoryError where there is none that we can read, or sqlite3.Error."""
    if not file.exists():
        raise NoHistoryError(f"no history at {file}: `upcheck check` makes one, or name another with UPCHECK_HISTORY")
    db = _read_only(file)
    try:
        if 0 < _version(db, file) < VERSION:
            db.close()
            connect(file).close()
            db = _read_only(file)
        if _version(db, file) == 0:
            raise NoHistoryError(f"history {file} is empty: `upcheck check` fills it")
    except BaseException:
        db.close()
        raise
    return db


def _read_only(file: Path) -> sqlite3.Connection:
    """A connection that can't write. In a folder where SQLite may not make its files, it needs to be told so."""
    for options in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(
            f"{file.absolute().as_uri()}?{options}",
            uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        try:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            db.close()
            if "immutable" in options or file.with_name(f"{file.name}-wal").exists():
                raise
        except BaseException:
            db.close()
            raise
        else:
            return db
    raise AssertionError


def _version(db: sqlite3.Connection, file: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise NewerHistoryError(
            f"history {file} was written by a newer upcheck (schema {found}, this one knows {VERSION}); "
            f"it is left as it is: upgrade upcheck, or name another file with UPCHECK_HISTORY"
        )
    return found


def _upgrade(db: sqlite3.Connection, file: Path) -> None:
    """Make the tables, or make them from those of an older version, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    with db:
        found = _version(db, file)  # another process may have done it while we waited
        if found == VERSION:
            return
        if found in (2, 3):
            if found == 2:
                _from_version_2(db)
            else:
                db.execute("ALTER TABLE states ADD COLUMN condition TEXT NOT NULL DEFAULT ''")
            _from_version_3(db)
        else:
            _from_version_1(db) if found else _make(db)
        db.execute(f"PRAGMA user_version = {VERSION}")


def _make(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)


def _from_version_2(db: sqlite3.Connection) -> None:
    """It had no `recent`, and the state in `checks`."""
    db.execute(_RECENT)
    db.execute(_STATES)
    columns = "started", "duration", "outcome", "reason", "details", "since", "runs", "last_held"
    db.execute(
        f"INSERT INTO states (check_id, {', '.join(columns)}) "  # noqa: S608
        f"SELECT id, {', '.join(columns)} FROM checks WHERE outcome IS NOT NULL"
    )
    for column in columns:
        db.execute(f"ALTER TABLE checks DROP COLUMN {column}")


def _from_version_3(db: sqlite3.Connection) -> None:
    """It had neither marks, nor checks that are blocked or under maintenance."""
    for column in ("blocked", "maintenance"):
        db.execute(f"ALTER TABLE rollups ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute(_MARKS)


def _from_version_1(db: sqlite3.Connection) -> None:
    """It had results, and nothing that was made of them."""
    for statement in (
        "DROP INDEX results_by_check",
        "ALTER TABLE checks RENAME TO old_checks",
        "ALTER TABLE results RENAME TO old_results",
    ):
        db.execute(statement)
    _make(db)
    writer, rows = Writer(db), _version_1(db)
    while some := list(islice(rows, 5_000)):
        writer.write(some)
        fold_in_transaction(db)
    db.execute("DROP TABLE old_results")
    db.execute("DROP TABLE old_checks")


def _version_1(db: sqlite3.Connection) -> Iterator[Result]:
    rows = db.execute(
        "SELECT name, outcome, started, duration, reason, facts FROM old_results JOIN old_checks ON check_id = id "
        "ORDER BY started"
    )
    for check, outcome, started, duration, reason, facts in rows:
        yield Result(check, Outcome(outcome), started, duration, reason=reason, facts=json.loads(facts))


def _shrinkable(db: sqlite3.Connection) -> None:
    """Let a file of version 1 give back what is deleted, which takes a rewrite of the whole."""
    with suppress(sqlite3.OperationalError):  # someone reads it, or the disk is too small for a copy: then it stays big
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
