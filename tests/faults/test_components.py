"""Health components that are bad, as `/api/health` tells of them: each with its reason, its circuit open and closed."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pymysql
import pytest

from tests.collector.test_serving import running, script
from tests.conftest import Repo, answer
from tests.databases import mariadb, postgres
from tests.databases.mariadb import MariadbServer
from tests.databases.postgres import PostgresServer
from tests.databases.redis import RedisServer
from tests.probes.test_docker import VERSION, listening, replies
from tests.waiting import eventually

# The product waits thirty seconds before it asks again what failed three times: a test has no such time.
COLLECTOR = """
from pathlib import Path
from upcheck import health
from upcheck.collector import Collector

health.REST = 0.4
Collector(services=Path("none"), history=Path("none.sqlite"), components=Path({file!r})).serve()
"""
AS_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")  # root, bound by the modes of files as all are
Fault = Callable[[], AbstractContextManager[object]]
Component = Callable[[], Mapping[str, Any]]


@contextlib.contextmanager
def component(home: Path, ask: str, *through: str) -> Iterator[Component]:
    """A collector with one component, which does *ask*: what its /api/health tells of it now."""
    file = home / "health.yml"
    file.write_text(f"checks: [{{name: it, every: 100ms, timeout: 500ms, {ask}}}]\n")
    collector = script(home, COLLECTOR.format(file=str(file)))
    with running(collector, through=through) as serving, httpx.Client(base_url=serving.url, trust_env=False) as client:

        def told() -> Mapping[str, Any]:
            reply = client.get("/api/health").json()
            one: Mapping[str, Any] = next(check for check in reply["checks"] if check["name"] == "it")
            return one

        yield told


def is_well(told: Component) -> None:
    eventually(lambda: (told()["status"], told()["circuit"]) == ("healthy", "closed"))


def shows(told: Component, fault: Fault, status: str, sentence: str) -> None:
    """Under *fault* it is *status* and says *sentence*; an unhealthy one's circuit opens. Then it is well again."""
    is_well(told)
    circuit = "open" if status == "unhealthy" else "closed"
    with fault():
        eventually(lambda: (told()["status"], told()["circuit"]) == (status, circuit))
        said = told()
        assert sentence in said["error" if status == "unhealthy" else "message"]
        assert "sesame" not in str(said)
    is_well(told)


@contextlib.contextmanager
def gone(server: PostgresServer | MariadbServer | RedisServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.begin()


@contextlib.contextmanager
def said(to: Callable[[Any], object], change: Any, back: Any) -> Iterator[None]:
    """Call *to* with *change*, and in the end with *back*."""
    to(change)
    try:
        yield
    finally:
        to(back)


@contextlib.contextmanager
def renamed(path: Path) -> Iterator[None]:
    elsewhere = path.rename(path.with_suffix(".gone"))
    try:
        yield
    finally:
        elsewhere.rename(path)


@contextlib.contextmanager
def sessions(connect: Callable[[], Any], many: int) -> Iterator[None]:
    """Have *many* connections open, of a superuser's, who finds room where the component is being asked."""
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            stack.enter_context(contextlib.closing(connect()))
        yield


HANGS = "no complete answer within 0.5 s (waiting for the answer"
OVERLOADED = ": it hangs or has too much to do: see its log and its load"
REFUSES = "Connection refused: nothing listens there: start it, or correct the address"
PASSWORD = "is the password in the check's url the current one?"
RAISE = "raise max_connections, or find who keeps connections open"


def test_postgres(postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, most = postgres_server, postgres.MAX_CONNECTIONS
    changed = ("ALTER ROLE upcheck PASSWORD 'changed'", f"ALTER ROLE upcheck PASSWORD '{postgres.PASSWORD}'")
    read_only = "nothing can be written, because default_transaction_read_only is on: turn it off"
    where = f"postgres 127.0.0.1:{server.port}/app: "

    def connect() -> Any:
        return psycopg.connect(host=str(server.home), port=server.port, user="super", dbname="postgres")

    monkeypatch.setenv("DATABASE_URL", server.url())
    with component(tmp_path, 'postgres: "${DATABASE_URL}", expect: {writable: true, connections: 0.7}') as told:
        shows(told, server.hung, "unhealthy", where + HANGS)
        shows(told, lambda: said(server, *changed), "unhealthy", PASSWORD)
        shows(told, lambda: server.with_setting("default_transaction_read_only", "on"), "unhealthy", read_only)
        shows(told, lambda: sessions(connect, most - 3), "degraded", "8 of 10 connections in use (80 %), wanted")
        shows(told, lambda: sessions(connect, most - 2), "unhealthy", RAISE)
        shows(told, lambda: gone(server), "unhealthy", where + REFUSES)


def test_mysql(mariadb_server: MariadbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, most = mariadb_server, mariadb.MAX_CONNECTIONS
    set_to = "SET PASSWORD FOR upcheck@'127.0.0.1' = PASSWORD('{}')"
    changed = (set_to.format("changed"), set_to.format(mariadb.PASSWORD))
    read_only = "nothing can be written, because read_only is on: is this the primary's url?"
    where = f"mysql 127.0.0.1:{server.port}/app: "

    def connect() -> Any:
        return pymysql.connect(host="127.0.0.1", port=server.port, user="super", password="super")

    monkeypatch.setenv("DATABASE_URL", server.url())
    with component(tmp_path, 'mysql: "${DATABASE_URL}", expect: {writable: true, connections: 0.9}') as told:
        shows(told, server.hung, "unhealthy", where + HANGS)
        shows(told, lambda: said(server, *changed), "unhealthy", PASSWORD)
        shows(told, lambda: server.with_setting("read_only", "1"), "unhealthy", read_only)
        shows(told, lambda: sessions(connect, most - 1), "degraded", "10 of 10 connections in use (100 %), wanted")
        shows(told, lambda: sessions(connect, most), "unhealthy", RAISE)
        shows(told, lambda: gone(server), "unhealthy", where + REFUSES)


def test_redis(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = redis_server

    @contextlib.contextmanager
    def configured(*pairs: tuple[str, str, str]) -> Iterator[None]:
        """Have each name be a value meanwhile, and another in the end; one connection stays open for it."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
            for name, value, _ in pairs:
                line.sendall(f"CONFIG SET {name} {value}\r\n".encode())
                assert line.recv(100) == b"+OK\r\n"
            try:
                yield
            finally:
                for name, _, before in pairs:
                    line.sendall(f"CONFIG SET {name} {before}\r\n".encode())
                    assert line.recv(100) == b"+OK\r\n"

    @contextlib.contextmanager
    def a_replica() -> Iterator[None]:
        server("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            server("REPLICAOF", "NO", "ONE")

    where = f"redis 127.0.0.1:{server.port}: "
    clients = "ERR max number of clients reached: raise maxclients, or find who keeps connections open"
    full = "writes are refused (noeviction): raise maxmemory, or let keys be evicted"
    server("CONFIG", "SET", "maxmemory", "100mb")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.port}")
    ask = 'redis: "${REDIS_URL}", expect: {role: master, connections: 0.8, memory: 0.5}'
    with component(tmp_path, ask) as told:
        shows(told, server.hung, "unhealthy", where + HANGS)
        password = "NOAUTH Authentication required: put a password into the URL"
        shows(told, lambda: configured(("requirepass", "sesame", '""')), "unhealthy", password)
        shows(told, a_replica, "unhealthy", "it is a replica, wanted a master: has there been a failover?")
        shows(told, lambda: configured(("maxmemory", "1500kb", "100mb")), "degraded", "of 1,536,000 bytes in use (")
        shows(told, lambda: configured(("maxmemory", "1000", "100mb")), "unhealthy", full)
        shows(told, lambda: configured(("maxclients", "2", "100")), "degraded", "2 of 2 connections in use (100 %)")
        shows(told, lambda: configured(("maxclients", "1", "100")), "unhealthy", clients)
        shows(told, lambda: gone(server), "unhealthy", where + REFUSES)


def test_docker(tmp_path: Path) -> None:
    """Its engine is a fake: a real one must not be closed to those who use it."""
    path, ping = tmp_path / "docker.sock", [answer("200 OK", "OK")]

    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        """The engine answers with an error."""
        ping.append(answer("500 Internal Server Error", "no disk"))
        try:
            yield
        finally:
            ping.pop()

    permitted = f"{path} is closed to this user: add it to the socket's group (often docker), then log in again"
    absent = f"no engine listens at {path}: No such file or directory: does it run, and is its socket mounted here?"
    through = AS_A_USER if os.getuid() == 0 else ()
    with (
        listening(path, replies(version=VERSION, ping=lambda connection: ping[-1](connection))),
        component(tmp_path, f'docker: "unix://{path}"', *through) as told,
    ):
        shows(told, lambda: said(path.chmod, 0, 0o600), "unhealthy", permitted)
        shows(told, lambda: renamed(path), "unhealthy", absent)
        shows(told, failing, "unhealthy", "/_ping was answered with 500 Internal Server Error, 'no disk'")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (
            "monitoring/services/shop.yml",
            "service: shop\nabout: It sells.\nmetrics: {orders_total: {layer: business, help: A., type: counted}}\n",
            "monitoring/services/shop.yml:3:59: type: expected counter, gauge or histogram, not 'counted'",
        ),
        (
            "monitoring/health/shop.yml",
            "checks:\n  - name: database\n    postgres: [localhost]\n",
            "monitoring/health/shop.yml:3:15: postgres: expected ",
        ),
        (
            "monitoring/health/shop.yml",
            "checks:\n  - name: database\n    postgres: postgresql://db\n    every: often\n",
            "monitoring/health/shop.yml:4:12: every: expected a duration",
        ),
    ],
)
def test_a_file_with_a_wrong_type_ends_the_start_with_its_place(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, file: str, text: str, sentence: str
) -> None:
    repo.write("collector.py", "from upcheck.collector import Collector\n\nCollector().serve()\n")
    repo.write(file, text)
    monkeypatch.setenv("UPCHECK_HEALTH", "monitoring/health/shop.yml" if "health" in file else "")
    ran = repo.pytester.run(sys.executable, "collector.py", "--port", "0", timeout=30)
    assert ran.ret == 2
    (line,) = ran.errlines
    assert sentence in line
