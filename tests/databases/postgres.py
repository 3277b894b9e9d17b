"""A PostgreSQL server, and a replica of it."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.databases.packages import Programs
from tests.databases.servers import Server, give_away, listens, unprivileged
from tests.waiting import eventually
from upcheck.servers import free_port

PASSWORD = "sesame:/@"  # as a URL would not have it
ACCESS = """\
local all all trust
host all,replication upcheck 127.0.0.1/32 scram-sha-256
host all,replication replicator 127.0.0.1/32 scram-sha-256
hostssl all secured 127.0.0.1/32 scram-sha-256
host all refused 127.0.0.1/32 reject
"""
ROLES = f"""\
CREATE ROLE upcheck LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE secured LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE refused LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD '{PASSWORD}';
CREATE DATABASE app;
"""
MAX_CONNECTIONS = 10


class PostgresServer(Server):
    """A PostgreSQL on *port*, whose superuser is asked through its socket: `server("SELECT 1")` gives rows."""

    def __init__(self, programs: Programs, home: Path) -> None:
        super().__init__(programs, [], free_port(), home)
        self.data = home / "data"
        self.begin_with()

    def begin_with(self) -> None:
        """The options that are always there."""
        always = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.home}
        small = {"max_connections": MAX_CONNECTIONS, "superuser_reserved_connections": 2}
        quick = {"fsync": "off", "wal_retrieve_retry_interval": "200ms"}
        options = [f"-c{name}={value}" for name, value in (always | small | quick).items()]
        self.argv = [self.programs["postgres"], "-D", str(self.data), *options]

    def make(self) -> None:
        """Make a cluster, and start it."""
        options = ("-U", "super", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "--no-instructions")
        self.programs.run("initdb", "-D", str(self.data), *options, cwd=self.home, **unprivileged())
        (self.data / "pg_hba.conf").write_text(ACCESS)
        self.begin()
        for statement in ROLES.strip().splitlines():
            self(statement)

    def begin(self) -> None:
        """Start it, and wait until it answers."""
        self.start(self._answers)

    def _answers(self) -> bool:
        import psycopg

        try:
            self("SELECT 1")
        except psycopg.OperationalError:
            return False
        return listens(self.port)

    def __call__(self, statement: str) -> list[tuple[Any, ...]]:
        import psycopg

        where = f"host={self.home} port={self.port} user=super dbname=postgres connect_timeout=10"
        with contextlib.closing(psycopg.connect(where, autocommit=True)) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def setting(self, name: str, value: str | None) -> None:
        """Have *name* be *value*, or what it was."""
        self(f"ALTER SYSTEM SET {name} = '{value}'" if value is not None else f"ALTER SYSTEM RESET {name}")
        self("SELECT pg_reload_conf()")

    @contextlib.contextmanager
    def with_setting(self, name: str, value: str) -> Iterator[None]:
        """Have *name* be *value* meanwhile."""
        before = self(f"SHOW {name}")
        self.setting(name, value)
        eventually(lambda: self(f"SHOW {name}") != before)
        try:
            yield
        finally:
            self.setting(name, None)
            eventually(lambda: self(f"SHOW {name}") == before)

    @contextlib.contextmanager
    def secured(self, certificate: Path) -> Iterator[None]:
        """Have it speak TLS meanwhile, with the key and the certificates in *certificate*."""
        shutil.copy(certificate, self.data / "server.pem")
        (self.data / "server.pem").chmod(0o600)
        give_away(self.data)
        for name in ("ssl_cert_file", "ssl_key_file"):
            self.setting(name, "server.pem")
        try:
            with self.with_setting("ssl", "on"):
                yield
        finally:
            for name in ("ssl_cert_file", "ssl_key_file"):
                self.setting(name, None)

    def replica(self, home: Path) -> PostgresServer:
        """A replica in *home*, not yet started."""
        copy = PostgresServer(self.programs, home)
        where = f"host=127.0.0.1 port={self.port} user=replicator password='{PASSWORD}'"
        options = ("-D", str(copy.data), "-R", "-X", "stream", "-c", "fast", "-d", where)
        self.programs.run("pg_basebackup", *options, cwd=home, **unprivileged())
        return copy

    def url(self, user: str = "upcheck", password: str = "sesame%3A%2F%40", database: str = "app") -> str:
        """Where it is, as a check has it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def end(self) -> None:
        """End it at once, whoever is connected."""
        self.stop(signal.SIGINT)
