"""The exporters of databases, for real: they give what ships for them says, and what rules read."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.databases.packages import programs
from tests.databases.postgres import PostgresServer
from tests.databases.redis import RedisServer
from tests.waiting import eventually
from upcheck.rules.promql import parse, selectors
from upcheck.servers import free_port

EXPORTERS = ROOT / "monitoring/exporters"
QUERIES = yaml.safe_load((EXPORTERS / "postgres-queries.yml").read_text())


@contextlib.contextmanager
def exporter(name: str, *flags: str, **environ: str) -> Iterator[str]:
    """The URL of the page of an exporter."""
    address = f"127.0.0.1:{free_port()}"
    argv = [programs(name)[name], f"--web.listen-address={address}", *flags]
    process = subprocess.Popen(argv, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(f"http://{address}/metrics"))
        yield f"http://{address}/metrics"
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).is_success
    return False


def families(page: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))


def value(page: str, series: str) -> float:
    (line,) = (line for line in page.splitlines() if line.startswith(series))
    return float(line.rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def postgres_page(postgres_server: PostgresServer) -> Iterator[str]:
    """What postgres_exporter says with the queries that ship."""
    postgres_server("CREATE TABLE exported AS SELECT generate_series(1, 1000) AS n")
    postgres_server("ANALYZE exported")
    url = f"host={postgres_server.home} port={postgres_server.port} user=super dbname=postgres"
    flags = [f"--extend.query-path={EXPORTERS / 'postgres-queries.yml'}"]
    try:
        with exporter("prometheus-postgres-exporter", *flags, DATA_SOURCE_NAME=url) as page:
            yield httpx.get(page, trust_env=False).text
    finally:
        postgres_server("DROP TABLE exported")


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_ships_gives_its_metrics(postgres_page: str, query: str) -> None:
    said = {name for one in QUERIES[query]["metrics"] for name, about in one.items() if about["usage"] != "LABEL"}
    assert {f"{query}_{name}" for name in said} <= families(postgres_page)
    assert value(postgres_page, "pg_exporter_user_queries_load_error") == 0


def test_what_postgres_is_like_is_told(postgres_page: str) -> None:
    assert value(postgres_page, "pg_up") == 1
    assert value(postgres_page, "pg_replication_lag_seconds") == 0
    assert value(postgres_page, "pg_connections_max") == 10
    assert 1 <= value(postgres_page, "pg_connections_used") <= 10
    assert value(postgres_page, 'pg_tables_size_bytes{relname="exported"') > 1000 * 4
    assert 0 < value(postgres_page, 'pg_cache_hit_ratio{datname="postgres"') <= 1


def test_what_redis_is_like_is_told(redis_server: RedisServer) -> None:
    redis_server("SET", "a", "b")
    with exporter("prometheus-redis-exporter", f"--redis.addr=redis://127.0.0.1:{redis_server.port}") as page:
        text = httpx.get(page, trust_env=False).text
        assert value(text, "redis_up ") == 1
        assert value(text, "redis_connected_clients ") >= 1
        assert families((EXPORTERS / "redis.prom").read_text()) <= families(text)
        redis_server.stop()
        eventually(lambda: value(httpx.get(page, trust_env=False).text, "redis_up ") == 0)


def test_what_the_rules_read_of_databases_is_told(postgres_page: str) -> None:
    rules = (ROOT / "monitoring/prometheus/rules").glob("*.yml")
    groups = [group for path in rules for group in yaml.safe_load(path.read_text())["groups"]]
    read = {one.name for group in groups for rule in group["rules"] for one in selectors(parse(str(rule["expr"])))}
    asked = {name for name in read if name.startswith(("pg_", "redis_"))}
    assert "pg_up" in asked
    assert asked <= families(postgres_page)
    assert families((EXPORTERS / "postgres.prom").read_text()) <= families(postgres_page)
