"""PostgreSQL: a real server and its replica, made bad and good again; a fake for what none does."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.conftest import Serve
from tests.databases.postgres import MAX_CONNECTIONS, PASSWORD, PostgresServer
from tests.databases.servers import folder
from tests.probes.conftest import (
    BAD_CERTIFICATES,
    Ask,
    Certificates,
    Talk,
    failed,
    held,
    place,
    resets,
    says,
)
from tests.waiting import eventually
from upcheck.probes import ProbeError, Reason
from upcheck.probes.postgres import Postgres
from upcheck.servers import free_port


def at(server: PostgresServer, **options: Any) -> Postgres:
    return Postgres(server.url(), **options)


@contextlib.contextmanager
def connected(server: PostgresServer, many: int) -> Iterator[None]:
    """Have *many* connections open meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            login = {"user": "upcheck", "password": PASSWORD, "dbname": "app"}
            stack.enter_context(
                contextlib.closing(psycopg.connect(host="127.0.0.1", port=server.port, **login))  # type: ignore[arg-type]
            )
        yield


def test_a_server_that_is_well(postgres_server: PostgresServer, ask: Ask) -> None:
    result = held(ask(at(postgres_server, writable=True, connections=0.9, query="SELECT 40 + 2", value=42), log=True))
    metrics = result.metrics
    assert any(name.startswith('probe_postgres_version_info{version="1') for name in metrics)
    assert (metrics["probe_postgres_in_recovery"], metrics["probe_postgres_read_only"]) == (0, 0)
    assert 1 <= metrics["probe_postgres_connections"] <= metrics["probe_postgres_max_connections"] == MAX_CONNECTIONS
    for phase in ("login", "status", "query"):
        assert 0 < metrics[f'probe_postgres_duration_seconds{{phase="{phase}"}}'] < result.duration
    assert "probe_postgres_replication_lag_seconds" not in metrics
    assert result.address == "127.0.0.1"
    assert PASSWORD not in repr(result)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", {"rows": 1, "value": 1}),
        ("SELECT true", {"value": True}),
        ("SELECT 'a b'", {"value": "a b"}),
        ("SELECT 1 WHERE false", {"rows": 0}),
        ("SELECT generate_series(1, 10000)", {"rows": 10000}),
        ("SHOW transaction_read_only", {"value": "on"}),
    ],
)
def test_a_query(postgres_server: PostgresServer, ask: Ask, query: str, expected: dict[str, Any]) -> None:
    held(ask(at(postgres_server, query=query, **expected)))


@pytest.mark.parametrize(
    ("query", "expected", "reason", "sentence"),
    [
        ("SELECT 1", {"value": 2}, Reason.UNEXPECTED_ANSWER, "the query gave '1', wanted '2'"),
        ("SELECT 1", {"value": True}, Reason.UNEXPECTED_ANSWER, "the query gave '1', wanted 't'"),
        ("SELECT NULL", {"value": 2}, Reason.UNEXPECTED_ANSWER, "the query gave NULL, wanted '2'"),
        ("SELECT 1 WHERE false", {"value": 2}, Reason.UNEXPECTED_ANSWER, "the query gave no row, wanted '2'"),
        ("SELECT 1", {"rows": 0}, Reason.UNEXPECTED_ANSWER, "the query gave 1 rows, wanted 0"),
        ("SELEC", {}, Reason.QUERY_FAILED, 'the query failed: syntax error at or near "SELEC" (42601)'),
        ("SELECT * FROM no", {}, Reason.QUERY_FAILED, 'the query failed: relation "no" does not exist (42P01)'),
        (
            "CREATE TABLE a()",
            {},
            Reason.QUERY_FAILED,
            "the query failed: cannot execute CREATE TABLE in a read-only transaction (25006)",
        ),
        (
            "COMMIT; CREATE TABLE a()",
            {},
            Reason.QUERY_FAILED,
            "the query failed: cannot insert multiple commands into a prepared statement (42601)",
        ),
        (
            "COPY pg_class TO STDOUT",
            {},
            Reason.QUERY_FAILED,
            "the query copies, wanted one that gives rows, such as SELECT 1",
        ),
        (
            "SELECT generate_series(1, 10000000)",
            {},
            Reason.BODY_TOO_LARGE,
            "more than 10,000 rows: no more were read; put a LIMIT to the query",
        ),
    ],
)
def test_a_query_that_is_not_as_it_should_be(
    postgres_server: PostgresServer, ask: Ask, query: str, expected: dict[str, Any], reason: Reason, sentence: str
) -> None:
    assert failed(ask(at(postgres_server, query=query, **expected)), reason).sentence == sentence


def test_a_query_that_is_too_slow_ends_on_the_server_too(postgres_server: PostgresServer, ask: Ask) -> None:
    began = time.monotonic()
    late = failed(ask(at(postgres_server, query="SELECT pg_sleep(60)", deadline=0.5)), Reason.TIMEOUT)
    assert time.monotonic() - began < 2
    assert "given up after 0.5 s" in late.sentence or "statement timeout" in late.sentence
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    eventually(lambda: postgres_server(active) == [(0,)], seconds=20)


@pytest.mark.parametrize(
    ("login", "reason", "ending"),
    [
        (
            {"password": "changed"},
            Reason.AUTHENTICATION_FAILED,
            'user "upcheck": is the password in the check\'s url the current one?',
        ),
        (
            {"user": "refused"},
            Reason.AUTHENTICATION_FAILED,
            "let this machine and user in, in the server's pg_hba.conf",
        ),
        (
            {"user": "secured"},
            Reason.TLS_REQUIRED,
            'user "secured", database "app", no encryption: put tls: true beside the url',
        ),
        (
            {"database": "none"},
            Reason.UNKNOWN_DATABASE,
            'database "none" does not exist: correct the name after the last / of the url',
        ),
    ],
)
def test_a_login_that_is_refused(
    postgres_server: PostgresServer, ask: Ask, login: dict[str, str], reason: Reason, ending: str
) -> None:
    result = failed(ask(Postgres(postgres_server.url(**login)), log=True), reason)
    assert result.sentence.endswith(ending)
    assert PASSWORD not in repr(result)


def test_a_password_that_changes(postgres_server: PostgresServer, ask: Ask) -> None:
    postgres_server("ALTER ROLE upcheck PASSWORD 'changed'")
    try:
        failed(ask(at(postgres_server)), Reason.AUTHENTICATION_FAILED)
        held(ask(Postgres(postgres_server.url(password="changed"))))
    finally:
        postgres_server(f"ALTER ROLE upcheck PASSWORD '{PASSWORD}'")
    held(ask(at(postgres_server)))


def test_one_that_hangs_and_one_that_is_gone(postgres_server: PostgresServer, ask: Ask) -> None:
    with postgres_server.hung():
        began = time.monotonic()
        late = failed(ask(at(postgres_server, deadline=0.4)), Reason.TIMEOUT)
        assert time.monotonic() - began < 1.5
    assert "waiting for the answer" in late.sentence
    held(ask(at(postgres_server)))
    failed(ask(Postgres(f"postgresql://127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


def test_one_that_is_being_stopped(postgres_server: PostgresServer, ask: Ask) -> None:
    with connected(postgres_server, 1):
        postgres_server.send(signal.SIGTERM)  # it waits for who is connected
        eventually(lambda: not ask(at(postgres_server)).success)
        result = failed(ask(at(postgres_server)), Reason.SHUTTING_DOWN)
    assert result.sentence == "the database system is shutting down: start it again if that is not meant"
    postgres_server.stop()
    failed(ask(at(postgres_server)), Reason.CONNECTION_REFUSED)
    postgres_server.begin()
    held(ask(at(postgres_server)))


def test_one_that_is_starting_up(postgres_server: PostgresServer, ask: Ask) -> None:
    with folder("recovering") as home:
        server = postgres_server.replica(home)
        (server.data / "standby.signal").rename(server.data / "recovery.signal")
        server.argv = [*server.argv, "-crestore_command=sleep 60"]
        try:
            server.start(lambda: ask(at(server)).reason is Reason.STARTING_UP)
            result = failed(ask(at(server)), Reason.STARTING_UP)
        finally:
            server.stop(signal.SIGQUIT)
    assert result.sentence == "the database system is starting up: the server's log says how far its recovery is"


def test_one_that_is_read_only(postgres_server: PostgresServer, ask: Ask) -> None:
    with postgres_server.with_setting("default_transaction_read_only", "on"):
        held(ask(at(postgres_server)))
        result = failed(ask(at(postgres_server, writable=True)), Reason.READ_ONLY)
    assert result.sentence == (
        "nothing can be written, because default_transaction_read_only is on: "
        "turn it off for the server, database or role"
    )
    assert result.metrics["probe_postgres_read_only"] == 1
    held(ask(at(postgres_server, writable=True)))


def test_one_that_is_out_of_connections(postgres_server: PostgresServer, ask: Ask) -> None:
    with connected(postgres_server, MAX_CONNECTIONS - 3):
        result = failed(ask(at(postgres_server, connections=0.7)), Reason.NEAR_LIMIT)
        assert result.sentence == "8 of 10 connections in use (80 %), wanted at most 70 %"
        with connected(postgres_server, 1):
            none = failed(ask(at(postgres_server)), Reason.TOO_MANY_CONNECTIONS)
    assert none.sentence.endswith("raise max_connections, or find who keeps connections open")
    eventually(lambda: ask(at(postgres_server, connections=0.7)).success)


def test_a_replica(postgres_server: PostgresServer, postgres_replica: PostgresServer, ask: Ask) -> None:
    eventually(lambda: ask(at(postgres_replica, replication_lag="1s")).success)
    result = held(ask(at(postgres_replica, replication_lag="1s")))
    assert result.metrics["probe_postgres_in_recovery"] == 1
    assert result.metrics["probe_postgres_replication_lag_seconds"] == 0
    written = failed(ask(at(postgres_replica, writable=True)), Reason.READ_ONLY)
    assert written.sentence == "nothing can be written, because it is a replica: is this the primary's url?"
    primary = failed(ask(at(postgres_server, replication_lag="30s")), Reason.WRONG_ROLE)
    assert primary.sentence == "this is no replica, wanted one that is at most 30 s behind"


def test_a_replica_that_lags(postgres_server: PostgresServer, postgres_replica: PostgresServer, ask: Ask) -> None:
    postgres_server("CREATE TABLE early()")
    eventually(lambda: postgres_replica("SELECT pg_last_xact_replay_timestamp() IS NOT NULL") == [(True,)])
    postgres_replica("SELECT pg_wal_replay_pause()")
    postgres_server("DROP TABLE early")
    try:
        eventually(lambda: ask(at(postgres_replica, replication_lag="500ms")).reason is Reason.REPLICATION_LAG)
        result = failed(ask(at(postgres_replica, replication_lag="500ms")), Reason.REPLICATION_LAG)
    finally:
        postgres_replica("SELECT pg_wal_replay_resume()")
    assert result.sentence.startswith("the replica is ")
    assert result.sentence.endswith(" s behind, wanted at most 0.5 s")
    assert result.metrics["probe_postgres_replication_lag_seconds"] > 0.5
    eventually(lambda: ask(at(postgres_replica, replication_lag="500ms")).success)


def test_a_replica_whose_primary_is_gone(
    postgres_server: PostgresServer, postgres_replica: PostgresServer, ask: Ask
) -> None:
    postgres_server("SELECT pg_switch_wal()")
    postgres_server("CREATE TABLE late(); DROP TABLE late")
    eventually(lambda: postgres_replica("SELECT pg_last_xact_replay_timestamp() IS NOT NULL") == [(True,)])
    postgres_server.end()
    try:
        eventually(lambda: ask(at(postgres_replica, replication_lag="500ms")).reason is Reason.REPLICATION_LAG)
    finally:
        postgres_server.begin()
    eventually(lambda: ask(at(postgres_replica, replication_lag="500ms")).success)


# ---- TLS ----


def test_tls(postgres_server: PostgresServer, ask: Ask, certificates: Certificates, trusted: str) -> None:
    url = postgres_server.url("secured").replace("127.0.0.1", "localhost")
    absent = failed(ask(Postgres(url, tls=True, ca_file=trusted)), Reason.NO_STARTTLS)
    assert absent.sentence == "the server does not speak TLS: set ssl = on there, or leave out tls"
    with postgres_server.secured(certificates("good")):
        result = held(ask(Postgres(url, tls=True, ca_file=trusted)))
        held(ask(Postgres(url, tls=True, verify=False)))
        failed(ask(Postgres(url, tls=True)), Reason.CERTIFICATE_UNKNOWN_ISSUER)
    assert result.certificate_expiry is not None
    assert result.phases["tls"] > 0


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate(
    postgres_server: PostgresServer,
    ask: Ask,
    certificates: Certificates,
    trusted: str,
    case: str,
    reason: Reason,
    words: str,
) -> None:
    url = postgres_server.url("secured").replace("127.0.0.1", "localhost")
    with postgres_server.secured(certificates(case)):
        result = failed(ask(Postgres(url, tls=True, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"
    assert result.certificate_expiry is not None


# ---- fakes, for what no real server does, or not in a test's time ----


def drips(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(WELCOME + b"S\x00\x00\x03\xe8")  # a parameter without end
    for _ in range(60):
        connection.sendall(b"x")
        time.sleep(0.05)


WELCOME = b"R\x00\x00\x00\x08\x00\x00\x00\x00"
READY = b"Z\x00\x00\x00\x05I"


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (says(then=3), Reason.TIMEOUT, "no complete answer within 0.4 s (waiting for the answer"),
        (says(WELCOME, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(WELCOME, READY, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(WELCOME, READY, then=0.1), Reason.BROKEN_OFF, "the connection broke off amid the query"),
        (drips, Reason.TIMEOUT, "waiting for the answer"),
        (says(), Reason.BROKEN_OFF, "the server closed the connection before the login was done"),
        (resets(), Reason.BROKEN_OFF, "the server closed the connection before the login was done"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n", then=1), Reason.MALFORMED, "no PostgreSQL speaks so"),
    ],
    ids=[
        "hangs",
        "hangs in the login",
        "hangs after it",
        "closes after it",
        "drips",
        "closes",
        "resets",
        "speaks HTTP",
    ],
)
def test_a_server_that_is_none(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    began = time.monotonic()
    result = failed(ask(Postgres(f"postgresql://upcheck:pw@{place(serve(talk))}", deadline=0.4)), reason)
    assert words in result.sentence
    assert time.monotonic() - began < 1.5


def test_an_answer_to_tls_that_is_none(serve: Serve, ask: Ask) -> None:
    result = failed(ask(Postgres(f"postgresql://{place(serve(says(b'E', then=1)))}", tls=True)), Reason.MALFORMED)
    assert result.sentence == "TLS was asked for and b'E' came back: no PostgreSQL speaks so"


def test_nothing_of_the_environment_is_read(
    postgres_server: PostgresServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPASSWORD": PASSWORD, "PGOPTIONS": "-c nonsense=1", "PGSSLMODE": "require"}.items():
        monkeypatch.setenv(name, value)
    held(ask(at(postgres_server)))
    failed(ask(Postgres(f"postgresql://upcheck@127.0.0.1:{postgres_server.port}/app")), Reason.AUTHENTICATION_FAILED)


def test_without_the_extra(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = failed(ask(Postgres("postgresql://db")), Reason.MISSING_EXTRA)
    assert result.sentence == "not asked: psycopg is not installed: pip install 'upcheck[postgres]'"
    assert result.reason is not None
    assert result.reason.ours


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("mysql://db", {}, "url: expected postgresql://user:password@host:5432/database, not a URL of 'mysql'"),
        ("postgresql://u:sesame@db?sslmode=require", {}, "what follows a ? or # is not read: TLS and files are keys"),
        ("postgresql://u:sesame/@db", {}, "write / @ : of a password as %2F %40 %3A"),
        ("postgresql:///app", {}, "url: expected postgresql://"),
        ("postgresql://db", {"connections": 80}, "connections: expected a share above 0 and up to 1"),
        ("postgresql://db", {"replication_lag": "soon"}, "replication_lag: expected a duration"),
    ],
)
def test_what_can_t_be_meant(url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Postgres(url, **options)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_it_says_what_is_asked() -> None:
    probe = Postgres("postgres://u:sesame@db/app", query="SELECT 1")
    assert probe.asked == "postgres db:5432/app"
    assert "sesame" not in repr(replace(probe.login))
