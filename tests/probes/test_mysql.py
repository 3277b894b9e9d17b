"""MySQL: a real MariaDB and its replica, made bad and good again; fakes for what they do not do in a test's time."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from tests.conftest import Serve
from tests.databases.mariadb import MAX_CONNECTIONS, PASSWORD, MariadbServer
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
from upcheck.probes.mysql import Mysql
from upcheck.servers import free_port


def at(server: MariadbServer, **options: Any) -> Mysql:
    return Mysql(server.url(), **options)


@contextlib.contextmanager
def connected(server: MariadbServer, many: int) -> Iterator[None]:
    """Have *many* connections open meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            made = pymysql.connect(host="127.0.0.1", port=server.port, user="upcheck", password=PASSWORD)
            stack.enter_context(contextlib.closing(made))
        yield


def test_a_server_that_is_well(mariadb_server: MariadbServer, ask: Ask) -> None:
    result = held(ask(at(mariadb_server, writable=True, connections=0.9, query="SELECT 40 + 2", value=42), log=True))
    metrics = result.metrics
    assert any(name.startswith('probe_mysql_version_info{version="MariaDB 1') for name in metrics)
    assert metrics["probe_mysql_read_only"] == 0
    assert 1 <= metrics["probe_mysql_connections"] <= metrics["probe_mysql_max_connections"] == MAX_CONNECTIONS
    for phase in ("login", "status", "query"):
        assert 0 < metrics[f'probe_mysql_duration_seconds{{phase="{phase}"}}'] < result.duration
    assert "probe_mysql_replication_lag_seconds" not in metrics
    assert result.address == "127.0.0.1"
    assert PASSWORD not in repr(result)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", {"rows": 1, "value": 1}),
        ("SELECT true", {"value": True}),
        ("SELECT 'a b'", {"value": "a b"}),
        ("SELECT x'6162'", {"value": "ab"}),
        ("SELECT 1 FROM dual WHERE false", {"rows": 0}),
        ("SELECT seq FROM seq_1_to_10000", {"rows": 10000}),
    ],
)
def test_a_query(mariadb_server: MariadbServer, ask: Ask, query: str, expected: dict[str, Any]) -> None:
    held(ask(at(mariadb_server, query=query, **expected)))


@pytest.mark.parametrize(
    ("query", "expected", "reason", "words"),
    [
        ("SELECT 1", {"value": 2}, Reason.UNEXPECTED_ANSWER, "the query gave '1', wanted '2'"),
        ("SELECT NULL", {"value": 2}, Reason.UNEXPECTED_ANSWER, "the query gave NULL, wanted '2'"),
        ("SELECT 1", {"rows": 0}, Reason.UNEXPECTED_ANSWER, "the query gave 1 rows, wanted 0"),
        ("SELEC", {}, Reason.QUERY_FAILED, "near 'SELEC' at line 1 (1064)"),
        ("SELECT * FROM no", {}, Reason.QUERY_FAILED, "the query failed: Table 'app.no' doesn't exist (1146)"),
        (
            "CREATE TABLE a(a INT)",
            {},
            Reason.QUERY_FAILED,
            "Cannot execute statement in a READ ONLY tr",
        ),
        ("COMMIT; CREATE TABLE a(a INT)", {}, Reason.QUERY_FAILED, "near 'CREATE TABLE a(a INT)' at line 1 (1064)"),
        ("SELECT seq FROM seq_1_to_900000000", {}, Reason.BODY_TOO_LARGE, "more than 10,000 rows: no more were read"),
    ],
)
def test_a_query_that_is_not_as_it_should_be(
    mariadb_server: MariadbServer, ask: Ask, query: str, expected: dict[str, Any], reason: Reason, words: str
) -> None:
    assert words in failed(ask(at(mariadb_server, query=query, **expected)), reason).sentence


def test_a_query_that_is_too_slow_ends_on_the_server_too(mariadb_server: MariadbServer, ask: Ask) -> None:
    slow = "SELECT count(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b"
    began = time.monotonic()
    failed(ask(at(mariadb_server, query=slow, deadline=0.5)), Reason.TIMEOUT)
    assert time.monotonic() - began < 2
    active = "SELECT count(*) AS it FROM information_schema.processlist WHERE info LIKE '%seq_1_to_1000000 b'"
    eventually(lambda: mariadb_server(active) == [{"it": 0}], seconds=20)


def test_logins_that_are_refused(mariadb_server: MariadbServer, ask: Ask) -> None:
    wrong = failed(ask(Mysql(mariadb_server.url(password="changed")), log=True), Reason.AUTHENTICATION_FAILED)
    assert wrong.sentence == (
        "Access denied for user 'upcheck'@'127.0.0.1' (using password: YES): "
        "is the password in the check's url the current one? MariaDB says so, too, where it wants TLS (tls: true)"
    )
    assert "changed" not in repr(wrong)
    denied = failed(ask(Mysql(mariadb_server.url("few"))), Reason.AUTHENTICATION_FAILED)
    assert denied.sentence.endswith("to database 'app': grant the user something in this database")
    none = Mysql(f"mysql://super:super@127.0.0.1:{mariadb_server.port}/none")
    assert failed(ask(none), Reason.UNKNOWN_DATABASE).sentence == (
        "Unknown database 'none': correct the name after the last / of the url"
    )


def test_a_password_that_changes(mariadb_server: MariadbServer, ask: Ask) -> None:
    mariadb_server("SET PASSWORD FOR upcheck@'127.0.0.1' = PASSWORD('changed')")
    try:
        failed(ask(at(mariadb_server)), Reason.AUTHENTICATION_FAILED)
        held(ask(Mysql(mariadb_server.url(password="changed"))))
    finally:
        mariadb_server(f"SET PASSWORD FOR upcheck@'127.0.0.1' = PASSWORD('{PASSWORD}')")
    held(ask(at(mariadb_server)))


def test_one_that_hangs_and_one_that_is_gone(mariadb_server: MariadbServer, ask: Ask) -> None:
    with mariadb_server.hung():
        began = time.monotonic()
        late = failed(ask(at(mariadb_server, deadline=0.4)), Reason.TIMEOUT)
        assert time.monotonic() - began < 1.5
    assert "waiting for the answer" in late.sentence
    held(ask(at(mariadb_server)))
    failed(ask(Mysql(f"mysql://127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


def test_one_that_is_read_only(mariadb_server: MariadbServer, ask: Ask) -> None:
    with mariadb_server.with_setting("read_only", "1"):
        held(ask(at(mariadb_server)))
        result = failed(ask(at(mariadb_server, writable=True)), Reason.READ_ONLY)
    assert result.sentence == "nothing can be written, because read_only is on: is this the primary's url?"
    assert result.metrics["probe_mysql_read_only"] == 1
    held(ask(at(mariadb_server, writable=True)))


def test_one_that_is_out_of_connections(mariadb_server: MariadbServer, ask: Ask) -> None:
    with connected(mariadb_server, MAX_CONNECTIONS - 1):
        result = failed(ask(at(mariadb_server, connections=0.9)), Reason.NEAR_LIMIT)
        assert result.sentence == "10 of 10 connections in use (100 %), wanted at most 90 %"
        with connected(mariadb_server, 1):
            none = failed(ask(at(mariadb_server)), Reason.TOO_MANY_CONNECTIONS)
    assert none.sentence == ("Too many connections: raise max_connections, or find who keeps connections open")
    eventually(lambda: ask(at(mariadb_server, connections=0.5)).success)


def test_a_replica(mariadb_source: MariadbServer, mariadb_replica: MariadbServer, ask: Ask) -> None:
    eventually(lambda: ask(at(mariadb_replica, replication_lag="1s")).success)
    eventually(lambda: ask(at(mariadb_replica)).metrics.get("probe_mysql_replication_lag_seconds") == 0)
    primary = failed(ask(at(mariadb_source, replication_lag="30s")), Reason.WRONG_ROLE)
    assert primary.sentence == "this is no replica, wanted one that is at most 30 s behind"
    unseen = Mysql(f"mysql://few:sesame%3A%2F%40@127.0.0.1:{mariadb_replica.port}", replication_lag="30s")
    hidden = failed(ask(unseen), Reason.QUERY_FAILED)
    assert hidden.sentence.endswith("GRANT REPLICATION CLIENT (MariaDB: REPLICA MONITOR)")


def test_a_replica_that_lags(mariadb_source: MariadbServer, mariadb_replica: MariadbServer, ask: Ask) -> None:
    mariadb_replica("STOP SLAVE")
    mariadb_replica("CHANGE MASTER TO master_delay=60")
    mariadb_replica("START SLAVE")
    try:
        mariadb_source("CREATE OR REPLACE TABLE app.late (a INT)")
        eventually(lambda: ask(at(mariadb_replica, replication_lag="500ms")).reason is Reason.REPLICATION_LAG)
        result = failed(ask(at(mariadb_replica, replication_lag="500ms")), Reason.REPLICATION_LAG)
    finally:
        mariadb_replica.follow(mariadb_source)
    assert result.sentence.endswith(" s behind, wanted at most 0.5 s")
    assert result.metrics["probe_mysql_replication_lag_seconds"] >= 1
    eventually(lambda: ask(at(mariadb_replica, replication_lag="500ms")).success)


def test_a_replica_that_does_not_replicate(
    mariadb_source: MariadbServer, mariadb_replica: MariadbServer, ask: Ask
) -> None:
    mariadb_replica("STOP SLAVE SQL_THREAD")
    try:
        stopped = failed(ask(at(mariadb_replica, replication_lag="30s")), Reason.REPLICATION_BROKEN)
    finally:
        mariadb_replica("START SLAVE")
    assert stopped.sentence == "the replica does not apply what it has read: START REPLICA lets it go on"
    eventually(lambda: ask(at(mariadb_replica, replication_lag="30s")).success)
    mariadb_source.stop()
    try:
        eventually(lambda: not ask(at(mariadb_replica, replication_lag="30s")).success)
        eventually(lambda: "connecting to master" in ask(at(mariadb_replica, replication_lag="30s")).sentence)
        gone = failed(ask(at(mariadb_replica, replication_lag="30s")), Reason.REPLICATION_BROKEN)
    finally:
        mariadb_source.begin()
    assert gone.sentence.startswith("the replica does not read from its source: error ")
    eventually(lambda: ask(at(mariadb_replica, replication_lag="30s")).success)


# ---- TLS ----


def test_tls(mariadb_server: MariadbServer, ask: Ask, certificates: Certificates, trusted: str) -> None:
    url = mariadb_server.url().replace("127.0.0.1", "localhost")
    absent = failed(ask(Mysql(url, tls=True, ca_file=trusted)), Reason.NO_STARTTLS)
    assert absent.sentence.endswith("have the server speak TLS, or leave out tls")
    with mariadb_server.secured(certificates("good")):
        result = held(ask(Mysql(url, tls=True, ca_file=trusted)))
        held(ask(Mysql(url, tls=True, verify=False)))
        mariadb_server("SET GLOBAL require_secure_transport = 1")
        required = failed(ask(at(mariadb_server)), Reason.AUTHENTICATION_FAILED)
        wrong = failed(ask(Mysql(url.replace("sesame", "no"), tls=True, ca_file=trusted)), Reason.AUTHENTICATION_FAILED)
    assert result.certificate_expiry is not None
    assert required.sentence.endswith("MariaDB says so, too, where it wants TLS (tls: true)")
    assert wrong.sentence.endswith("is the password in the check's url the current one?")
    held(ask(at(mariadb_server)))


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate(
    mariadb_server: MariadbServer,
    ask: Ask,
    certificates: Certificates,
    trusted: str,
    case: str,
    reason: Reason,
    words: str,
) -> None:
    url = mariadb_server.url().replace("127.0.0.1", "localhost")
    with mariadb_server.secured(certificates(case)):
        result = failed(ask(Mysql(url, tls=True, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"


def test_a_file_of_certificates_that_is_not_there(ask: Ask) -> None:
    failed(ask(Mysql("mysql://127.0.0.1", tls=True, ca_file="none.pem")), Reason.CERTIFICATE_FILE)


# ---- fakes, for what no real server does, or not in a test's time ----


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def greeting(plugin: bytes) -> bytes:
    ids = b"\x0a5.7.0\0" + b"\1\0\0\0" + b"a" * 8 + b"\0"
    return packet(0, ids + b"\xff\xf7\x21\2\0\xff\x81\x15" + b"\0" * 10 + b"b" * 12 + b"\0" + plugin + b"\0")


GREETING = greeting(b"mysql_native_password")
OK = packet(2, b"\0\0\0\2\0\0\0")


def error(code: int, words: bytes) -> bytes:
    return packet(0, b"\xff" + code.to_bytes(2, "little") + b"#08004" + words)


def drips(connection: socket.socket) -> None:
    connection.sendall(b"\xff\xff\x00\x00")
    for _ in range(60):
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (says(then=3), Reason.TIMEOUT, "no complete answer within 0.4 s (waiting for the answer"),
        (says(GREETING, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(GREETING, OK, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (drips, Reason.TIMEOUT, "waiting for the answer"),
        (says(), Reason.BROKEN_OFF, "the server closed the connection and did not answer"),
        (resets(), Reason.BROKEN_OFF, "the server closed the connection and did not answer"),
        (says(GREETING, then=0.1), Reason.BROKEN_OFF, "the server closed the connection and did not answer"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n", then=1), Reason.MALFORMED, "no MySQL speaks so: "),
        (says(packet(0, b"\x0a5"), then=1), Reason.MALFORMED, "no MySQL speaks so: "),
        (says(error(1053, b"Server shutdown in progress")), Reason.SHUTTING_DOWN, "start it again if that is not"),
        (says(error(1129, b"Host is blocked")), Reason.AUTHENTICATION_FAILED, "FLUSH HOSTS lets this machine in"),
        (says(error(1130, b"Host is not allowed")), Reason.AUTHENTICATION_FAILED, "let this machine in: CREATE USER"),
        (says(error(3159, b"Connections using insecure")), Reason.TLS_REQUIRED, "put tls: true beside the url"),
        (says(error(1203, b"User has too many")), Reason.TOO_MANY_CONNECTIONS, "raise max_user_connections"),
    ],
    ids=lambda one: "" if not isinstance(one, str) else one[:12],
)
def test_a_server_that_is_none(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    began = time.monotonic()
    result = failed(ask(Mysql(f"mysql://upcheck:pw@{place(serve(talk))}", deadline=0.4)), reason)
    assert words in result.sentence
    assert time.monotonic() - began < 1.5


def test_without_the_extra(serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(connection: socket.socket) -> None:  # MySQL's default way to log in, which MariaDB does not have
        connection.sendall(greeting(b"caching_sha2_password"))
        connection.recv(4096)
        connection.sendall(packet(2, b"\1\4"))
        connection.recv(4096)
        connection.sendall(packet(4, b"\1a public key"))
        connection.recv(4096)

    monkeypatch.setattr("pymysql._auth._have_cryptography", False)
    half = failed(ask(Mysql(f"mysql://upcheck:pw@{place(serve(talk))}")), Reason.MISSING_EXTRA)
    assert half.sentence.startswith("not asked: 'cryptography' package is required")
    assert half.sentence.endswith("pip install 'upcheck[mysql]'")
    monkeypatch.setitem(sys.modules, "pymysql", None)
    result = failed(ask(Mysql("mysql://db")), Reason.MISSING_EXTRA)
    assert result.sentence == "not asked: PyMySQL is not installed: pip install 'upcheck[mysql]'"


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("postgresql://db", {}, "url: expected mysql://user:password@host:3306/database, not a URL of 'postgresql'"),
        ("mysql://u:sesame/@db", {}, "write / @ : of a password as %2F %40 %3A"),
        ("mysql://db", {"connections": 1.5}, "connections: expected a share above 0 and up to 1"),
        ("mysql://db", {"replication_lag": 0}, "replication_lag: expected a duration above zero"),
    ],
)
def test_what_can_t_be_meant(url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Mysql(url, **options)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)
