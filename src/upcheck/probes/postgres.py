"""PostgreSQL, over libpq, without blocking: what it says of itself, and a query. See docs/probes/postgres.md."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import READ, WRITE, Journey, Phase, ProbeFailure, Reason, Run, Travelling, Wait
from upcheck.probes.addresses import Preference
from upcheck.probes.authorities import authorities
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
from upcheck.probes.tls import Trust, examined, handshake

_NO_FILE = "/dev/null/none"  # in place of files in a home that nobody named; what can't be there, libpq passes over
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
# Of other users' sessions the server hides the backend_type from who is not in pg_monitor.
_STATUS = """\
SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('default_transaction_read_only'),
 (SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend'
 AND datid IS NOT NULL), current_setting('max_connections'),
 CASE WHEN NOT pg_is_in_recovery() THEN NULL
 WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
 ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END"""
# libpq tells no SQLSTATE of a connection that did not come about: the words are all there is.
_REFUSALS = (
    (
        r"no pg_hba\.conf entry.*no encryption|SSL (connection|encryption) (is )?required",
        Reason.TLS_REQUIRED,
        "put tls: true beside the url",
    ),
    (r"pg_hba\.conf", Reason.AUTHENTICATION_FAILED, "let this machine and user in, in the server's pg_hba.conf"),
    (
        r"authentication failed|no password supplied|role .* does not exist|not permitted to log in",
        Reason.AUTHENTICATION_FAILED,
        "is the password in the check's url the current one?",
    ),
    (
        r"too many (clients|connections)|connection slots are reserved|no more connections allowed",
        Reason.TOO_MANY_CONNECTIONS,
        "raise max_connections, or find who keeps connections open",
    ),
    (r"shutting down|administrator command", Reason.SHUTTING_DOWN, "start it again if that is not meant"),
    (
        r"starting up|recovery mode|not yet accepting|not accepting connections",
        Reason.STARTING_UP,
        "the server's log says how far its recovery is",
    ),
    (r"database .* does not exist", Reason.UNKNOWN_DATABASE, "correct the name after the last / of the url"),
)
_SQLSTATES = {
    "57014": Reason.TIMEOUT,
    "53300": Reason.TOO_MANY_CONNECTIONS,
    "57P01": Reason.SHUTTING_DOWN,
    "57P03": Reason.STARTING_UP,
}


@dataclass(frozen=True, slots=True)
class _Told:
    """What the server says of itself: *lag* in seconds, None where it is not known."""

    version: str
    in_recovery: bool
    read_only: bool
    connections: int
    max_connections: int
    lag: float | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Postgres(Database, Travelling):
    """Whether the server at *url* answers, and is as it should be.

    *query* is one statement, in a transaction that is read only; *rows* is how many it must give, *value* the first
    column of the first. *writable*: no replica, and not read only by default. *connections* is the share of
    max_connections that may be used, *replication_lag* a duration. Raises ProbeError where it can't be meant.
    """

    query: str | None = None
    rows: int | None = None
    value: str | float | bool | None = None
    writable: bool | None = None
    connections: float | None = None
    replication_lag: str | float | None = None
    most_behind: float | None = field(init=False)
    driver: Any = field(init=False)
    kind: ClassVar[str] = "postgres"
    schemes: ClassVar[Mapping[str, bool]] = {"postgresql": False, "postgres": False}
    port: ClassVar[int] = 5432

    def __post_init__(self) -> None:
        Database.__post_init__(self)
        share("connections", self.connections)
        object.__setattr__(self, "most_behind", span("replication_lag", self.replication_lag))
        object.__setattr__(self, "driver", loaded("psycopg"))

    def journey(self, run: Run) -> Journey:
        """Connect, ask the server of itself, then the query."""
        if self.driver is None:
            raise missing("psycopg", "postgres")
        yield from examined(run, self._look, self._look, self.trust)
        began = time.monotonic()
        link = yield from self._linked(run)
        try:
            began = timed(run, "postgres", "login", began)
            told = yield from self._status(run, link)
            began = timed(run, "postgres", "status", began)
            _record(run, told)
            if self.query is not None:
                yield from self._query(run, link, self.query)
                timed(run, "postgres", "query", began)
            yield from _results(run, link, b"ROLLBACK")  # so that a pooler keeps its own connection
        finally:
            link.finish()
        self._judge(run, told)

    def _look(self, run: Run, trust: Trust) -> Journey:
        """A connection that tells nothing: whether it comes about, at which address, and what the certificate says."""
        stream = yield from connect(run, self.login.place, Preference())
        with stream:
            if not self.tls:
                return
            yield from stream.send(_SSL_REQUEST)
            offer = yield from stream.exactly(1)
            if offer == b"N":
                raise run.fail(
                    Reason.NO_STARTTLS, "the server does not speak TLS: set ssl = on there, or leave out tls"
                )
            if offer != b"S":
                raise run.fail(Reason.MALFORMED, f"TLS was asked for and {offer!r} came back: no PostgreSQL speaks so")
            yield from handshake(run, stream, self.login.place.host, trust)

    def _linked(self, run: Run) -> Generator[Any, Any, Any]:
        """A connection of libpq, for whoever takes it to finish."""
        pq, link = self.driver.pq, self.driver.pq.PGconn.connect_start(self._conninfo(run))
        run.phase = Phase.PROCESSING
        try:
            while (status := link.connect_poll()) != pq.PollingStatus.OK:
                if status == pq.PollingStatus.FAILED:
                    raise _refused(run, link.error_message)
                events = READ if status == pq.PollingStatus.READING else WRITE
                if not (yield Wait(link.socket, events, run.until)):
                    raise run.late()
            link.nonblocking = 1
        except BaseException:
            link.finish()
            raise
        run.note("logged in")
        return link

    def _conninfo(self, run: Run) -> bytes:
        """What libpq is told: all that it would otherwise take from the environment or a home."""
        login, trust = self.login, self.trust
        told = {
            "host": trust.server_name or login.place.host,
            "hostaddr": run.address.partition("%")[0],
            "port": login.place.port,
            "user": login.user or "postgres",
            "password": login.password,
            "dbname": login.database or login.user or "postgres",
            "passfile": _NO_FILE,
            "options": "",
            "application_name": "upcheck",
            "client_encoding": "UTF8",
            "gssencmode": "disable",
            "target_session_attrs": "any",
            "sslmode": ("verify-full" if trust.verify else "require") if self.tls else "disable",
            "sslrootcert": (trust.ca_file or authorities()) if self.tls and trust.verify else _NO_FILE,
            "sslcert": trust.certificate or _NO_FILE,
            "sslkey": trust.key or _NO_FILE,
        }
        made: str = self.driver.conninfo.make_conninfo(**told)
        return made.encode()

    def _status(self, run: Run, link: Any) -> Generator[Any, Any, _Told]:
        left = max(1, round((run.until - time.monotonic()) * 1000))
        commands = f"BEGIN READ ONLY; SET LOCAL statement_timeout = {left}; {_STATUS}"
        results = yield from _results(run, link, commands.encode())
        if len(results) != 1 or len(results[0]) != 6:
            raise run.fail(Reason.UNEXPECTED_ANSWER, "the server does not tell of itself as PostgreSQL 10 and newer do")
        version, recovery, read_only, used, most, lag = results[0]
        return _Told(
            (version or "").partition(" ")[0],
            recovery == "t",
            read_only == "on",
            int(used or 0),
            int(most or 0),
            float(lag) if lag else None,
        )

    def _query(self, run: Run, link: Any, query: str) -> Journey:
        run.note("asking the query")
        rows = yield from _results(run, link, query.encode(), alone=True)
        judge_answer(run, rows, self.rows, "ft"[self.value] if isinstance(self.value, bool) else self.value)

    def _judge(self, run: Run, told: _Told) -> None:
        if self.writable and (told.in_recovery or told.read_only):
            why = "it is a replica" if told.in_recovery else "default_transaction_read_only is on"
            fix = "is this the primary's url?" if told.in_recovery else "turn it off for the server, database or role"
            raise run.fail(Reason.READ_ONLY, f"nothing can be written, because {why}: {fix}")
        judge_share(run, "connections", told.connections, told.max_connections, self.connections)
        judge_lag(run, told.lag, self.most_behind, replica=told.in_recovery)


def _record(run: Run, told: _Told) -> None:
    metrics = run.metrics
    metrics[versioned("postgres", told.version)] = 1
    metrics["probe_postgres_in_recovery"] = int(told.in_recovery)
    metrics["probe_postgres_read_only"] = int(told.in_recovery or told.read_only)
    metrics["probe_postgres_connections"] = told.connections
    metrics["probe_postgres_max_connections"] = told.max_connections
    if told.lag is not None:
        metrics["probe_postgres_replication_lag_seconds"] = told.lag
    run.note(f"PostgreSQL {told.version}, {'a replica' if told.in_recovery else 'a primary'}")


_Row = list[str | None]


def _results(run: Run, link: Any, commands: bytes, *, alone: bool = False) -> Generator[Any, Any, list[_Row]]:
    """The rows that *commands* give. *alone*: it is one statement, and no more, whose rows come one by one."""
    import psycopg  # loaded by now

    rows: list[_Row] = []
    try:
        if alone:
            link.send_query_params(commands, None)
            link.set_single_row_mode()
        else:
            link.send_query(commands)
        while link.flush():
            if not (yield Wait(link.socket, READ | WRITE, run.until)):
                raise run.late()
            link.consume_input()
        while True:
            while link.is_busy():
                if not (yield Wait(link.socket, READ, run.until)):
                    raise run.late()
                link.consume_input()
            result = link.get_result()
            if result is None:
                return rows
            _take(run, result, psycopg.pq.ExecStatus(result.status).name, rows)
    except psycopg.OperationalError as error:
        raise _broken(run, str(error)) from None


def _take(run: Run, result: Any, status: str, rows: list[_Row]) -> None:
    """Add what *result* has to *rows*. Raises ProbeFailure where it is an error."""
    if status in ("FATAL_ERROR", "BAD_RESPONSE"):
        raise _failed(run, result)
    if status.startswith("COPY"):
        raise run.fail(Reason.QUERY_FAILED, "the query copies, wanted one that gives rows, such as SELECT 1")
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(result.nfields)]
        rows.append([None if one is None else one.decode(errors="replace") for one in values])
    if len(rows) > MAX_ROWS:
        judge_answer(run, rows, None, None)


def _failed(run: Run, result: Any) -> ProbeFailure:
    """The failure of a statement."""
    state = (result.error_field(ord("C")) or b"").decode()
    said = (result.error_field(ord("M")) or b"").decode(errors="replace")[:200]
    reason = _SQLSTATES.get(state, Reason.QUERY_FAILED)
    if reason is Reason.TIMEOUT:
        return run.late() if time.monotonic() >= run.until else run.fail(reason, f"the query was too slow: {said}")
    return run.fail(reason, f"the query failed: {said} ({state})")


def _broken(run: Run, said: str) -> ProbeFailure:
    """The failure of a connection that broke off after the login."""
    known = _known(said)
    if known is not None:
        return run.fail(known[0], f"{_gist(said)}: {known[1]}")
    return run.fail(Reason.BROKEN_OFF, f"the connection broke off amid the query: {_gist(said)}")


def _refused(run: Run, message: bytes) -> ProbeFailure:
    """The failure of a login."""
    said = message.decode(errors="replace")
    known = _known(said)
    if known is not None:
        return run.fail(known[0], f"{_gist(said)}: {known[1]}")
    if "server closed the connection" in said or "reset by peer" in said:
        return run.fail(Reason.BROKEN_OFF, "the server closed the connection before the login was done")
    if "but received" in said or "invalid" in said:
        return run.fail(Reason.MALFORMED, f"no PostgreSQL speaks so: {_gist(said)}")
    return run.fail(Reason.OTHER, f"the login failed: {_gist(said)}")


def _known(said: str) -> tuple[Reason, str] | None:
    return next(((reason, advice) for words, reason, advice in _REFUSALS if re.search(words, said)), None)


def _gist(said: str) -> str:
    """The first line of what libpq said, without where it connected to."""
    first = said.strip().partition("\n")[0]
    return re.sub(r"^.*? failed: |(FATAL|ERROR): +", "", re.sub(r"^connection to .*? failed: ", "", first))[:200]
