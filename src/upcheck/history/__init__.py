"""The history: every Result of every run, in one SQLite file. No other module knows SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from upcheck.history import queries, retention
from upcheck.history.engine import Claim, ClaimError, Engine
from upcheck.history.fold import fold
from upcheck.history.queries import Latest, Streak
from upcheck.history.retention import KEEP
from upcheck.history.schema import VERSION, HistoryError, NewerHistoryError, NoHistoryError, connect, connect_to_read
from upcheck.history.tally import BUCKETS, DAY, HOUR, Summary, bucket
from upcheck.history.writer import Writer, text
from upcheck.result import Result
from upcheck.state import Condition

__all__ = [
    "BUCKETS", "DAY", "HOUR", "KEEP", "VERSION", "Claim", "ClaimError", "Engine", "History", "HistoryError", "Latest",
    "NoHistoryError", "Streak", "Summary", "bucket",
]  # fmt: skip


def _since(window: float, now: float | None) -> float:
    """When a *window* of so many seconds begins: a long one at a full hour."""
    since = (time.time() if now is None else now) - window
    return since if window < DAY else since // HOUR * HOUR


class History:
    """An open history. Safe beside other processes that write to the same file: WAL, and one writer at a time.

    Threads may share it, and wait for each other.
    """

    def __init__(self, file: Path, *, read_only: bool = False) -> None:
        """Open or make *file*; raises HistoryError where it is read-only, newer than us, or can't be opened.

        A damaged file is set aside under another name, never deleted, and a new one is begun. *read_only* makes, sets
        aside and locks nothing, and raises HistoryError where there is no history.
        """
        self.file = file
        self.set_aside: Path | None = None
        self._why = "was damaged"
        self._lock = threading.RLock()
        self._read_only = read_only
        try:
            if read_only:
                self._use(connect_to_read(file))
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._use(connect(file))
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._begin_anew()
        except (sqlite3.Error, OSError) as error:
            verb = "read" if read_only else "written"
            raise HistoryError(f"history {file} can't be {verb}: {error}; name another with UPCHECK_HISTORY") from None

    @classmethod
    def of_engine(cls, file: Path) -> Self:
        """As `History(file)`, of an engine, which has to go on: that of a newer upcheck is set aside, too.

        Raises ClaimError where another engine has it.
        """
        try:
            return cls(file)
        except NewerHistoryError:
            alone = Claim(file, "1/1")
            try:
                aside = _aside(file, "newer")
            finally:
                alone.close()
            history = cls(file)
            history.set_aside, history._why = aside, "is of a newer upcheck"
            return history

    @property
    def notice(self) -> str:
        """What was done with the file that was here, and why; nothing where nothing was."""
        return (
            f"history {self.file} {self._why}: kept as {self.set_aside.name}, and begun anew" if self.set_aside else ""
        )

    def _use(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._writer = Writer(db)

    def _begin_anew(self) -> None:
        """Set the damaged file aside, and open a new one."""
        self.set_aside = _aside(self.file, "damaged")
        self._use(connect(self.file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what `append` returned from is in it, and where nothing is in the way it is folded."""
        with self._lock:
            if not self._read_only:
                with suppress(sqlite3.Error):
                    fold(self._db)
            self._db.close()

    def append(self, results: Iterable[Result], *, engine: Engine | None = None) -> None:
        """Write *results*, and what *engine* says of itself, in one transaction: all or, where it raises, none.

        Raises HistoryError, as where the disk is full; once there is room again, the next call works. A file that turns
        out to be damaged is set aside, as at the start.
        """
        rows = list(results)
        with self._lock:
            try:
                try:
                    self._append(rows, engine)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    self._db.close()
                    self._begin_anew()
                    self._append(rows, engine)
            except (sqlite3.Error, OSError) as error:
                message = f"{len(rows)} results could not be written to history {self.file}: {error}"
                raise HistoryError(message) from None

    def _append(self, rows: Sequence[Result], engine: Engine | None) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # rolls back only what SQLite has not rolled back already, as it does on a full disk
                self._writer.write(rows)
                if engine is not None:
                    values = (engine.shard, text(engine.to_json()))
                    self._db.execute("INSERT OR REPLACE INTO engines VALUES (?, ?)", values)
        except BaseException:
            self._writer.forget()
            raise
        self._writer.fold()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One moment of the file, whatever others write meanwhile; sqlite3's errors as HistoryError."""
        with self._lock:
            try:
                self._db.execute("BEGIN")
                with self._db:
                    yield self._db
            except (sqlite3.Error, ValueError) as error:  # ValueError: an outcome, or JSON, that nobody wrote
                raise HistoryError(f"history {self.file} can't be read: {error}") from None

    def results(self, check: str, *, since: float = 0.0, limit: int = -1) -> list[Result]:
        """The runs of *check* that started at or after *since* (unix seconds), oldest first; the last *limit* of them.

        Facts that are the check's own (file, line, every, timeout, severity, name) are those of its last run that
        held, unless a run had others. A duration that was none is NaN. Raises HistoryError.
        """
        with self._reading() as db:
            return queries.results(db, text(check), since, limit)

    def listed(self, pattern: str = "", window: float = DAY, *, limit: int, now: float | None = None) -> list[Result]:
        """The last *limit* runs of the last *window* seconds of all checks that *pattern* names, oldest first.

        Raises HistoryError.
        """
        since = (time.time() if now is None else now) - window
        with self._reading() as db:
            return queries.listed(db, text(pattern), since, limit)

    def streak(self, check: str) -> Streak | None:
        """How long *check* has been in its latest outcome, or None where it has never run, or can't be read.

        The latest result is the one that was appended last, so that a clock which is put back hides nothing; but
        one that started more than a day before the latest came late, and is only counted.
        """
        try:
            with self._reading() as db:
                return queries.streak(db, text(check))
        except HistoryError:  # a damaged page; the next write sets the file aside
            return None

    def latest(self) -> list[Latest]:
        """Each check's last result, streak and totals, by name. Raises HistoryError."""
        with self._reading() as db:
            return queries.latest(db)

    def summaries(self, pattern: str = "", window: float = DAY, *, now: float | None = None) -> list[Summary]:
        """What the runs of the last *window* seconds come to, for each check that *pattern* names, by name.

        A pattern is a part of the name, or the whole with `*` for any text. A check without a run in the window is
        there too, with zeros. Answered from rollups; a window of a day or more begins at a full hour. Of a shorter
        one, the hour that it begins in is counted from results, and where those are deleted already the whole of it
        is taken. Raises HistoryError.
        """
        with self._reading() as db:
            return queries.summaries(db, text(pattern), _since(window, now))

    def summary(self, pattern: str = "", window: float = DAY, *, now: float | None = None) -> Summary:
        """What `summaries` says of all checks that *pattern* names, taken together; its name is the pattern."""
        with self._reading() as db:
            return queries.total(db, text(pattern), _since(window, now))

    def one(self, check: str, window: float = DAY, *, now: float | None = None) -> Summary:
        """As `summaries`, for the one *check* of this very name; zeros where there is none. Raises HistoryError."""
        with self._reading() as db:
            return queries.one(db, text(check), _since(window, now))

    def names(self, check: str = "") -> list[str]:
        """All checks that have run, by name; or *check*, with and without parameters. Raises HistoryError."""
        some = (
            "WHERE name = :check OR (name >= :check || '[' AND name < :check || '\\')" if check else ""
        )  # [ comes before \
        with self._reading() as db:
            rows = db.execute(f"SELECT name FROM checks {some} ORDER BY name", {"check": text(check)})  # noqa: S608
            return [row[0] for row in rows]

    def condition(self, check: str) -> Condition:
        """How *check* stands; as one that has never run where there is none. Raises HistoryError."""
        query = "SELECT condition FROM states JOIN checks ON check_id = id WHERE name = ?"
        with self._reading() as db:
            row = db.execute(query, (text(check),)).fetchone()
        return Condition.from_json(row[0]) if row else Condition()

    def prune(self, now: float | None = None, *, keep: float = KEEP, budget: float = 1.0) -> int:
        """Delete what is too old, for at most *budget* seconds and a few rows at a time; how many rows went.

        Results go after *keep* seconds, hourly rollups after 400 days, daily ones and totals never. The file gives the
        space back. Raises HistoryError.
        """
        with self._lock:
            try:
                return retention.prune(self._db, time.time() if now is None else now, keep, budget)
            except sqlite3.Error as error:
                raise HistoryError(f"history {self.file} can't be pruned: {error}") from None

    def engines(self) -> list[Engine]:
        """What each engine last said of itself, by shard. Raises HistoryError."""
        with self._reading() as db:
            return [Engine.from_json(row[0]) for row in db.execute("SELECT engine FROM engines ORDER BY shard")]

    def copy(self, file: Path) -> None:
        """Write all that is in it now into the new *file*, while others go on writing. Raises HistoryError."""
        try:
            with self._lock, closing(sqlite3.connect(file)) as copied:
                self._db.backup(copied)
        except sqlite3.Error as error:
            raise HistoryError(f"history {self.file} can't be copied to {file}: {error}") from None

    def claim(self, shard: str = "1/1") -> Claim:
        """Keep other engines off the checks of *shard* (`i/n`) until the claim is closed or this process ends.

        Raises ClaimError, a sentence with the other's process number, where one has it, or has another n.
        """
        try:
            return Claim(self.file, shard)
        except OSError as error:
            raise HistoryError(f"history {self.file} can't be claimed: {error}") from None


def _aside(file: Path, why: str) -> Path:
    """Give *file* another name, and its write-ahead log where SQLite left one; what it is called now."""
    aside = f"{file.name}.{why}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09}"
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(file.with_name(aside + suffix))
    return file.with_name(aside)
