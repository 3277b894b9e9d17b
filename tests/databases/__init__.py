"""Real servers of databases for the tests, as fixtures: each is started once, and only where a test wants it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases.packages import programs
from tests.databases.redis import RedisServer
from tests.databases.servers import folder


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own: it starts within a tenth of a second."""
    with folder("redis") as home, RedisServer(programs("redis-server"), home) as server:
        yield server
