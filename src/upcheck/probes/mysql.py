"""MySQL and MariaDB, by PyMySQL in a thread: what they say of themselves, and a query. See docs/probes/mysql.md."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import Blocking, Phase, ProbeFailure, Reason, Run, single
from upcheck.probes.addresses import Preference
from upcheck.probes.database import (
    MAX_ROWS,
    Database,
    judge_answer,
    judge_lag,
    judge_share,
    loaded,
    missing,
    share,
    span,
    timed,
    versioned,
)
from upcheck.probes.sockets import connect
from upcheck.probes.tls import context_of, record, refusal

_REFUSALS = {
    1045: (Reason.AUTHENTICATION_FAILED, "is the password in the check's url the current one?"),
    1698: (Reason.AUTHENTICATION_FAILED, "give the user a password, and the url the same"),
    1044: (Reason.AUTHENTICATION_FAILED, "grant the user something in this database"),
    1130: (Reason.AUTHENTICATION_FAILED, "let this machine in: CREATE USER 'name'@'where it asks from'"),
    1129: (Reason.AUTHENTICATION_FAILED, "FLUSH HOSTS lets this machine in again"),
    3159: (Reason.TLS_REQUIRED, "put tls: true beside the url"),
    2026: (Reason.NO_STARTTLS, "have the server speak TLS, or leave out tls"),
    1040: (Reason.TOO_MANY_CONNECTIONS, "raise max_connections, or find who keeps connections open"),
    1203: (Reason.TOO_MANY_CONNECTIONS, "raise max_user_connections, or find who keeps connections open"),
    1226: (Reason.TOO_MANY_CONNECTIONS, "raise the limit of this user"),
    1049: (Reason.UNKNOWN_DATABASE, "correct the name after the last / of the url"),
    1053: (Reason.SHUTTING_DOWN, "start it again if that is not meant"),
    1969: (Reason.TIMEOUT, "the query was too slow"),
    3024: (Reason.TIMEOUT, "the query was too slow"),
}
_ACCESS_DENIED = 1045
_LOST = (2003, 2006, 2013)
_SYNTAX, _DENIED = 1064, (1227, 1142)
_NONSENSE = (struct.error, IndexError, ValueError, AssertionError, TypeError, KeyError)  # what PyMySQL raises over it


@dataclass(frozen=True, slots=True)
class _Told:
    """What the server says of itself: *replica* has its status as one; *hidden* says why that may not be seen."""

    version: str
    read_only: bool
    connections: int
    max_connections: int
    replica: Mapping[str, Any] | None
    hidden: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mysql(Database, Blocking):
    """Whether the server at *url* answers, and is as it should be.

    *query* is one statement, in a session that is read only; *rows* is how many it must give, *value* the first column
    of the first. *writable*: read_only is off. *connections* is the share of max_connections that may be used,
    *replication_lag* a duration. Raises ProbeError where it can't be meant.
    """

    query: str | None = None
    rows: int | None = None
    value: str | float | bool | None = None
    writable: bool | None = None
    connections: float | None = None
    replication_lag: str | float | None = None
    most_behind: float | None = field(init=False)
    driver: Any = field(init=False)
    kind: ClassVar[str] = "mysql"
    schemes: ClassVar[Mapping[str, bool]] = {"mysql": False}
    port: ClassVar[int] = 3306

    def __post_init__(self) -> None:
        Database.__post_init__(self)
        share("connections", self.connections)
        object.__setattr__(self, "most_behind", span("replication_lag", self.replication_lag))
        object.__setattr__(self, "driver", loaded("pymysql"))

    def ask(self, run: Run) -> None:
        """Connect, ask the server of itself, then the query."""
        if self.driver is None:
            raise missing("PyMySQL", "mysql")
        context = context_of(self.trust) if self.tls else None
        sock = single.drive(connect(run, self.login.place, Preference())).sock
        run.phase = Phase.PROCESSING
        guard = _Guard(sock, run.until)
        try:
            self._exchange(run, sock, context)
        except (self.driver.MySQLError, OSError, RuntimeError, *_NONSENSE) as error:
            if guard.cut:
                raise run.late() from None
            raise self._failure(run, error) from None
        finally:
            guard.end()
            sock.close()

    def _exchange(self, run: Run, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        login = self.login
        began = time.monotonic()
        connection = self.driver.Connection(
            host=self.trust.server_name or login.place.host,
            port=login.place.port,
            user=login.user or "root",
            password=login.password,
            database=login.database or None,
            charset="utf8mb4",
            ssl=context,
            ssl_disabled=context is None,
            autocommit=None,
            defer_connect=True,
        )
        connection.connect(sock)
        try:
            if context is not None:
                record(run, connection._sock)  # PyMySQL has no other way to it
            began = timed(run, "mysql", "login", began)
            told = _status(connection)
            began = timed(run, "mysql", "status", began)
            _record(run, told)
            if self.query is not None:
                self._query(run, connection, told)
                timed(run, "mysql", "query", began)
        finally:
            if connection.open:
                connection.close()
        self._judge(run, told)

    def _query(self, run: Run, connection: Any, told: _Told) -> None:
        left = max(0.001, run.until - time.monotonic())
        bound = f"max_statement_time = {left:.3f}" if _is_mariadb(told) else f"max_execution_time = {left * 1000:.0f}"
        _rows(connection, f"SET SESSION {bound}, sql_select_limit = {MAX_ROWS + 1}")
        _rows(connection, "SET SESSION TRANSACTION READ ONLY")
        _rows(connection, "START TRANSACTION")
        run.note("asking the query")
        found = _rows(connection, self.query or "")
        rows = [[None if one is None else _text(one) for one in row] for row in found]
        judge_answer(run, rows, self.rows, str(int(self.value)) if isinstance(self.value, bool) else self.value)

    def _judge(self, run: Run, told: _Told) -> None:
        if self.writable and told.read_only:
            raise run.fail(
                Reason.READ_ONLY, "nothing can be written, because read_only is on: is this the primary's url?"
            )
        judge_share(run, "connections", told.connections, told.max_connections, self.connections)
        if self.most_behind is None:
            return
        if told.hidden:
            raise run.fail(Reason.QUERY_FAILED, f"{told.hidden}: GRANT REPLICATION CLIENT (MariaDB: REPLICA MONITOR)")
        if told.replica is None:
            judge_lag(run, None, self.most_behind, replica=False)
            return
        _judge_threads(run, told.replica)
        judge_lag(run, _lag(told.replica), self.most_behind, replica=True)

    def _failure(self, run: Run, error: Exception) -> ProbeFailure:
        """What an *error* of PyMySQL means."""
        cause = getattr(error, "original_exception", error)
        if isinstance(cause, ssl.SSLError):
            run.phase = Phase.TLS
            return run.fail(*refusal(cause, self.trust.server_name or self.login.place.host))
        if isinstance(error, RuntimeError):  # it wants a package for this way to log in
            return run.fail(Reason.MISSING_EXTRA, f"not asked: {error}: pip install 'upcheck[mysql]'")
        code, said = (*error.args, "", "")[:2] if isinstance(error, self.driver.MySQLError) else (0, str(error))
        if code in _REFUSALS:
            reason, advice = _REFUSALS[code]
            if code == _ACCESS_DENIED and not self.tls:
                advice += " MariaDB says so, too, where it wants TLS (tls: true)"
            return run.fail(reason, f"{str(said)[:200].rstrip('.')}: {advice}")
        if code in _LOST or isinstance(error, OSError):
            return run.fail(Reason.BROKEN_OFF, "the server closed the connection and did not answer")
        if not isinstance(code, int) or code == 0:
            return run.fail(Reason.MALFORMED, f"no MySQL speaks so: {str(error)[:150]}")
        return run.fail(Reason.QUERY_FAILED, f"the query failed: {str(said)[:200]} ({code})")


class _Guard:
    """Ends a connection at a monotonic second, so that a library which blocks on it is free again. `end` it."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self.cut = False
        sock.settimeout(None)
        self._twin = sock.dup()  # TLS takes the descriptor of the first away
        self._timer = threading.Timer(max(0.0, until - time.monotonic()), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        self.cut = True
        with contextlib.suppress(OSError):  # it has ended by itself
            self._twin.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Let the connection be."""
        self._timer.cancel()
        self._timer.join()
        self._twin.close()


def _rows(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _status(connection: Any) -> _Told:
    ((version, most, read_only),) = _rows(connection, "SELECT @@version, @@max_connections, @@read_only")
    ((_, used),) = _rows(connection, "SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    replica, hidden = _replica(connection, "REPLICA")
    return _Told(str(version), str(read_only) not in ("0", "OFF"), int(used), int(most), replica, hidden)


def _replica(connection: Any, word: str) -> tuple[Mapping[str, Any] | None, str]:
    """The status of a replica, in the words of old; of several sources, the one it is furthest behind."""
    import pymysql

    try:
        with connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(f"SHOW {word} STATUS")
            found = [{_old(name): value for name, value in row.items()} for row in cursor.fetchall()]
    except pymysql.MySQLError as error:
        if error.args[0] == _SYNTAX and word == "REPLICA":
            return _replica(connection, "SLAVE")  # before MySQL 8.0.22 and MariaDB 10.5
        if error.args[0] in _DENIED:
            return None, str(error.args[1])[:200]
        raise
    return max(found, key=_behind, default=None), ""


def _old(name: str) -> str:
    return name.replace("Replica_", "Slave_").replace("Source", "Master")


def _behind(status: Mapping[str, Any]) -> float:
    lag = _lag(status)
    return float("inf") if lag is None else lag


def _lag(status: Mapping[str, Any]) -> float | None:
    seconds = status.get("Seconds_Behind_Master")
    return None if seconds is None else float(seconds)


def _judge_threads(run: Run, status: Mapping[str, Any]) -> None:
    """Fail where a replica does not read from its source, or does not apply what it has read."""
    for thread, does in (("IO", "read from its source"), ("SQL", "apply what it has read")):
        if status.get(f"Slave_{thread}_Running") != "Yes":
            why = str(status.get(f"Last_{thread}_Error") or "START REPLICA lets it go on")[:200]
            raise run.fail(Reason.REPLICATION_BROKEN, f"the replica does not {does}: {why}")


def _is_mariadb(told: _Told) -> bool:
    return "MariaDB" in told.version


def _record(run: Run, told: _Told) -> None:
    metrics = run.metrics
    number = re.match(r"[\d.]+", told.version)
    version = f"{'MariaDB ' if _is_mariadb(told) else ''}{number[0] if number else told.version}"
    metrics[versioned("mysql", version)] = 1
    metrics["probe_mysql_read_only"] = int(told.read_only)
    metrics["probe_mysql_connections"] = told.connections
    metrics["probe_mysql_max_connections"] = told.max_connections
    lag = None if told.replica is None else _lag(told.replica)
    if lag is not None:
        metrics["probe_mysql_replication_lag_seconds"] = lag
    run.note(f"{told.version}, {'a replica' if told.replica else 'no replica'}")
