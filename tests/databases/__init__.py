"""Real servers of databases for the tests, as fixtures: each is started once, and only where a test wants it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docker import DockerClient

from tests.databases.engine import engine, image
from tests.databases.mariadb import MariadbServer
from tests.databases.packages import programs
from tests.databases.postgres import PostgresServer
from tests.databases.redis import RedisServer
from tests.databases.servers import folder


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own: it starts within a tenth of a second."""
    with folder("redis") as home, RedisServer(programs("redis-server"), home) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests: each leaves it as it was."""
    with folder("postgres") as home:
        server = PostgresServer(programs("postgres"), home)
        try:
            server.make()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="session")
def postgres_replica(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A replica of that, which streams."""
    with folder("replica") as home:
        server = postgres_server.replica(home)
        try:
            server.begin()
            yield server
        finally:
            server.end()


@contextlib.contextmanager
def _mariadb(name: str) -> Iterator[MariadbServer]:
    with folder(name) as home:
        server = MariadbServer(programs("mariadbd"), home)
        try:
            server.make()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """A MariaDB for all tests: each leaves it as it was."""
    with _mariadb("mariadb") as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_source() -> Iterator[MariadbServer]:
    """Another, which has a replica: that is one of its few connections, from then on."""
    with _mariadb("mariadb-source") as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_replica(mariadb_source: MariadbServer) -> Iterator[MariadbServer]:
    """A replica of that."""
    with _mariadb("mariadb-replica") as server:
        server.follow(mariadb_source)
        yield server


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerClient]:
    """A Docker engine."""
    with engine() as client:
        yield client


@pytest.fixture(scope="session")
def busybox(docker_engine: DockerClient) -> Iterator[str]:
    """An image with BusyBox in it."""
    with image(docker_engine, programs("busybox-static")) as tag:
        yield tag
