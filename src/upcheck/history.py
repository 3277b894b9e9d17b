"""The history: every Result of every run, in one SQLite file. No other module knows SQLite."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from upcheck.result import Outcome, Result

VERSION = 1
BUSY = 5.0  # seconds to wait for another writer

_SCHEMA = """
CREATE TABLE checks (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE results (
    check_id INTEGER NOT NULL REFERENCES checks,
    started REAL NOT NULL,          -- unix seconds
    duration REAL NOT NULL,         -- seconds
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    facts TEXT NOT NULL             -- a JSON object
) STRICT;
CREATE INDEX results_by_check ON results (check_id, started);
"""


class HistoryError(Exception):
    """The history can't be used; the message names the file and what would help."""


@dataclass(frozen=True, slots=True)
class Streak:
    """How long a check has been in its latest outcome: since when, how many runs; and when it last held.

    Times are unix seconds; *last_held* is None where it never did.
    """

    outcome: Outcome
    since: float
    runs: int
    last_held: float | None


class History:
    """An open history. Safe beside other processes that write to the same file: WAL, and one writer at a time."""

    def __init__(self, file: Path) -> None:
        """Open or make *file*; raises HistoryError where it is read-only, newer than us, or can't be opened.

        A damaged file is set aside under another name, never deleted, and a new one is begun.
        """
        self.file = file
        self.set_aside: Path | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._open()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._begin_anew()
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"history {file} can't be written: {error}; name another with UPCHECK_HISTORY") from None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=BUSY, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise HistoryError(
                    f"history {self.file} was written by a newer upcheck (schema {version}, this one knows {VERSION}); "
                    f"it is left as it is: upgrade upcheck, or name another file with UPCHECK_HISTORY"
                )
            if version == 0:
                db.execute("PRAGMA journal_mode = WAL")
                self._create(db)
        except BaseException:
            db.close()
            raise
        return db

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        with db:  # another process may have made the tables while we waited
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")

    def _begin_anew(self) -> None:
        """Set the damaged file aside, with its write-ahead log where SQLite left one; open a new one."""
        aside = f"{self.file.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09}"
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.file.with_name(self.file.name + suffix).rename(self.file.with_name(aside + suffix))
        self.set_aside = self.file.with_name(aside)
        self._db = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what `append` returned from is in it."""
        self._db.close()

    def append(self, results: Iterable[Result]) -> None:
        """Write *results* in one transaction: all of them or, where it raises HistoryError, none.

        A file that turns out to be damaged is set aside, as at the start.
        """
        rows = list(results)
        try:
            try:
                self._append(rows)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._db.close()
                self._begin_anew()
                self._append(rows)
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"{len(rows)} results could not be written to history {self.file}: {error}") from None

    def _append(self, rows: Sequence[Result]) -> None:
        values = [
            (row.started, row.duration, row.outcome, row.reason, json.dumps(row.facts, default=str), row.check)
            for row in rows
        ]
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            self._db.executemany(
                "INSERT INTO checks (name) VALUES (?) ON CONFLICT DO NOTHING", {(row.check,) for row in rows}
            )
            self._db.executemany("INSERT INTO results SELECT id, ?, ?, ?, ?, ? FROM checks WHERE name = ?", values)

    def results(self, check: str, *, since: float = 0.0) -> list[Result]:
        """The runs of *check* that started at or after *since* (unix seconds), oldest first."""
        rows = self._db.execute(
            "SELECT started, duration, outcome, reason, facts FROM results JOIN checks ON check_id = id "
            "WHERE name = ? AND started >= ? ORDER BY started",
            (check, since),
        )
        return [
            Result(check, Outcome(outcome), started, duration, reason=reason, facts=json.loads(facts))
            for started, duration, outcome, reason, facts in rows
        ]

    def streak(self, check: str) -> Streak | None:
        """How long *check* has been in its latest outcome, or None where it has never run, or can't be read."""
        try:
            return self._streak(check)
        except sqlite3.DatabaseError:  # a damaged page; the next write sets the file aside
            return None

    def _streak(self, check: str) -> Streak | None:
        with closing(self._db.cursor()) as cursor:
            latest = cursor.execute(
                "SELECT id, outcome FROM results JOIN checks ON check_id = id WHERE name = ? "
                "ORDER BY started DESC LIMIT 1",
                (check,),
            ).fetchone()
            if latest is None:
                return None
            change = "(SELECT coalesce(max(started), -1) FROM results WHERE check_id = :id AND outcome != :outcome)"
            since, runs = cursor.execute(
                f"SELECT min(started), count(*) FROM results WHERE check_id = :id AND started > {change}",  # noqa: S608
                {"id": latest[0], "outcome": latest[1]},
            ).fetchone()
            (held,) = cursor.execute(
                "SELECT max(started) FROM results WHERE check_id = ? AND outcome = ?", (latest[0], Outcome.HELD)
            ).fetchone()
        return Streak(Outcome(latest[1]), since, runs, held)
