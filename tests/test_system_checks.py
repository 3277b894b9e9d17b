"""checks/<service>: held where all is well; under each fault the checks that are about it fail, for its reason."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websockets_serve

from tests.conftest import ROOT, Serve, answer
from tests.databases.postgres import PostgresServer
from tests.databases.redis import RedisServer
from tests.probes.test_docker import VERSION, listening, replies
from tests.test_shipped_monitoring import serving
from tests.waiting import eventually
from upcheck import run
from upcheck.demo.host import Host
from upcheck.servers import free_port
from upcheck.settings import Settings

SERVICES = ("coderunner", "codesync", "codex-clone", "vibebox")
COMPONENTS = "coderunner/endpoints.yml::health of each component"  # needs the health beside it
QUERIES = "codex-clone/database.yml::query performance"  # needs the database
GONE = 120.0  # seconds since a service told something that is silent

EVENTS = [
    {"service": "coderunner", "event": "user_activity", "action": "login", "plan_type": "free"},
    {"service": "codesync", "event": "http_request", "method": "GET", "path": "/", "status": 200, "seconds": 0.1},
    {"service": "codex-clone", "event": "database_connections", "state": "active", "count": 5},
    {"service": "vibebox", "event": "auth_attempt", "method": "password", "status": "success"},
]

# A counter's growth a second, or a gauge's value.
WELL = {
    'coderunner_api_requests_total{status="2xx"}': 10.0,
    'coderunner_api_requests_total{status="5xx"}': 0.001,
    'coderunner_api_duration_seconds_bucket{le="1.0"}': 9.9,
    "coderunner_api_duration_seconds_count": 10.0,
    'coderunner_deployments_total{status="RUNNING"}': 0.09,
    'coderunner_deployments_total{status="FAILED"}': 0.001,
    'coderunner_system_cpu_usage_ratio{core="total"}': 0.5,
    'coderunner_system_memory_usage_bytes{type="used"}': 50.0,
    'coderunner_system_memory_usage_bytes{type="total"}': 100.0,
    'coderunner_errors_total{type="websocket"}': 0.1,
    'pg_up{service="coderunner"}': 1.0,
    'pg_up{service="codex-clone"}': 1.0,
    'http_requests_total{status="200"}': 10.0,
    'http_requests_total{status="500"}': 0.1,
    'http_request_duration_seconds_bucket{le="2.0"}': 9.9,
    'http_request_duration_seconds_bucket{le="5.0"}': 10.0,
    'http_request_duration_seconds_bucket{le="+Inf"}': 10.0,
    "http_request_duration_seconds_count": 10.0,
    'process_cpu_seconds_total{service="codesync"}': 0.5,
    'process_resident_memory_bytes{service="codesync"}': 40.0,
    'process_open_fds{service="codesync"}': 100.0,
    "rate_limit_hits_total": 0.1,
    "ws_connections_active": 5.0,
    "ws_messages_total": 3.0,
    "node_memory_MemTotal_bytes": 100.0,
    "node_memory_MemAvailable_bytes": 50.0,
    'node_filesystem_size_bytes{mountpoint="/"}': 100.0,
    'node_filesystem_avail_bytes{mountpoint="/"}': 50.0,
    'codex_http_requests_total{status_code="200"}': 10.0,
    'codex_http_requests_total{status_code="500"}': 0.001,
    'codex_http_request_duration_seconds_bucket{le="0.5"}': 9.9,
    "codex_http_request_duration_seconds_count": 10.0,
    'codex_db_queries_total{status="success"}': 10.0,
    'codex_db_queries_total{status="error"}': 0.1,
    'codex_db_query_duration_seconds_bucket{le="1.0"}': 9.9,
    'codex_db_query_duration_seconds_bucket{le="5.0"}': 10.0,
    'codex_db_query_duration_seconds_bucket{le="+Inf"}': 10.0,
    "codex_replication_lag_seconds": 2.0,
    "codex_db_cache_hit_ratio": 0.97,
    'codex_agent_executions_total{agent="writer",status="success"}': 0.5,
    'codex_agent_executions_total{agent="reader",status="success"}': 0.48,
    'codex_agent_executions_total{agent="reader",status="failure"}': 0.01,
    'codex_agent_execution_duration_seconds_bucket{agent="reader",le="120.0"}': 0.99,
    'codex_agent_execution_duration_seconds_bucket{agent="reader",le="300.0"}': 1.0,
    'codex_agent_execution_duration_seconds_bucket{agent="reader",le="+Inf"}': 1.0,
    'codex_system_cpu_usage_ratio{core="total"}': 0.5,
    'codex_db_connections{state="active"}': 5.0,
    'codex_db_connections{state="max"}': 20.0,
    'vibebox_http_requests_total{status="200"}': 10.0,
    'vibebox_http_requests_total{status="500"}': 0.001,
    'vibebox_http_request_duration_seconds_bucket{le="1.0"}': 9.9,
    'vibebox_http_request_duration_seconds_bucket{le="5.0"}': 10.0,
    'vibebox_http_request_duration_seconds_bucket{le="+Inf"}': 10.0,
    "vibebox_http_request_duration_seconds_count": 10.0,
    'vibebox_db_query_duration_seconds_bucket{le="1.0"}': 9.9,
    'vibebox_db_query_duration_seconds_bucket{le="5.0"}': 10.0,
    'vibebox_db_query_duration_seconds_bucket{le="+Inf"}': 10.0,
    'vibebox_docker_operation_duration_seconds_bucket{le="30.0"}': 0.99,
    'vibebox_docker_operation_duration_seconds_bucket{le="60.0"}': 1.0,
    'vibebox_docker_operation_duration_seconds_bucket{le="+Inf"}': 1.0,
    'vibebox_docker_operations_total{status="success"}': 1.0,
    'vibebox_docker_operations_total{status="failure"}': 0.01,
    'vibebox_environments{status="error"}': 2.0,
    'vibebox_auth_attempts_total{status="success"}': 30.0,
    'vibebox_auth_attempts_total{status="failure"}': 1.0,
    'process_cpu_seconds_total{service="vibebox"}': 0.5,
    'process_resident_memory_bytes{service="vibebox"}': 40.0,
    'vibebox_db_connection_pool_size{state="active"}': 2.0,
    'vibebox_db_connection_pool_size{state="total"}': 10.0,
    "nodejs_eventloop_lag_seconds": 0.01,
    **{f'upcheck_last_recorded_timestamp_seconds{{service="{service}"}}': 0.0 for service in SERVICES},
}
Fault = tuple[Mapping[str, float], Mapping[str, float]]  # what it changes, and what each check then fails with
# Two worlds, so that every check is seen to fail in one and to hold in the other.
FAILING: list[Fault] = [
    ({'pg_up{service="coderunner"}': 0.0}, {"test_coderunner.py::test_database_is_up": 0}),
    ({'pg_up{service="codex-clone"}': 0.0}, {"test_codex_clone.py::test_database_is_up": 0}),
    (
        {'coderunner_api_requests_total{status="5xx"}': 2.5},
        {
            "test_coderunner.py::test_objective_is_kept[availability]": 0.8,
            "test_coderunner.py::test_few_requests_fail": 0.2,
        },
    ),
    ({'coderunner_deployments_total{status="FAILED"}': 0.03}, {"test_coderunner.py::test_deployments_succeed": 0.25}),
    ({'coderunner_errors_total{type="websocket"}': 4.0}, {"test_coderunner.py::test_websocket_errs_seldom": 4}),
    (
        {'http_requests_total{status="500"}': 2.5},
        {
            "test_codesync.py::test_objective_is_kept[availability]": 0.8,
            "test_codesync.py::test_few_requests_fail": 0.2,
        },
    ),
    ({"rate_limit_hits_total": 5.0}, {"test_codesync.py::test_few_requests_meet_a_rate_limit": 0.4}),
    ({"ws_messages_total": 0.0}, {"test_codesync.py::test_open_websockets_are_used": 5}),
    (
        {'codex_http_requests_total{status_code="500"}': 2.5},
        {
            "test_codex_clone.py::test_objective_is_kept[availability]": 0.8,
            "test_codex_clone.py::test_few_requests_fail": 0.2,
            "test_codex_clone.py::test_error_budget_lasts": 0.8,
        },
    ),
    ({'codex_db_queries_total{status="error"}': 2.5}, {"test_codex_clone.py::test_few_queries_fail": 0.2}),
    (
        {'codex_agent_executions_total{agent="reader",status="failure"}': 0.12},
        {
            "test_codex_clone.py::test_objective_is_kept[agents]": 0.98 / 1.1,
            "test_codex_clone.py::test_every_agent_succeeds": 0.2,
        },
    ),
    (
        {'vibebox_http_requests_total{status="500"}': 2.5},
        {"test_vibebox.py::test_objective_is_kept[availability]": 0.8},
    ),
    ({"vibebox_api_errors_total": 12.0}, {"test_vibebox.py::test_errors_are_few": 12}),
    (
        {'vibebox_docker_operations_total{status="failure"}': 0.25},
        {"test_vibebox.py::test_docker_does_as_it_is_told": 0.2},
    ),
    (
        {'vibebox_auth_attempts_total{status="failure"}': 70.0},
        {"test_vibebox.py::test_logins_succeed": 0.7, "test_vibebox.py::test_nobody_guesses_passwords": 70},
    ),
    ({'vibebox_environments{status="error"}': 6.0}, {"test_vibebox.py::test_environments_are_well": 6}),
]
SLOW_AND_FULL: list[Fault] = [
    (
        {'coderunner_api_duration_seconds_bucket{le="1.0"}': 5.0},
        {"test_coderunner.py::test_objective_is_kept[latency]": 0.5},
    ),
    (
        {'coderunner_system_cpu_usage_ratio{core="total"}': 0.9},
        {"test_coderunner.py::test_resource_has_room[cpu]": 0.9},
    ),
    (
        {'coderunner_system_memory_usage_bytes{type="used"}': 90.0},
        {"test_coderunner.py::test_resource_has_room[memory]": 0.9},
    ),
    (
        {'http_request_duration_seconds_bucket{le="2.0"}': 5.0},
        {"test_codesync.py::test_objective_is_kept[latency]": 0.5, "test_codesync.py::test_responses_are_quick": 4.7},
    ),
    ({'process_cpu_seconds_total{service="codesync"}': 0.9}, {"test_codesync.py::test_cpu_has_room": 0.9}),
    (
        {'process_resident_memory_bytes{service="codesync"}': 95.0},
        {"test_codesync.py::test_resource_has_room[memory]": 0.95},
    ),
    (
        {'process_open_fds{service="codesync"}': 1000.0},
        {"test_codesync.py::test_resource_has_room[files]": 1000 / 1024},
    ),
    (
        {'codex_http_request_duration_seconds_bucket{le="0.5"}': 5.0},
        {"test_codex_clone.py::test_objective_is_kept[latency]": 0.5},
    ),
    ({'codex_db_query_duration_seconds_bucket{le="1.0"}': 5.0}, {"test_codex_clone.py::test_queries_are_quick": 4.6}),
    (
        {'codex_agent_execution_duration_seconds_bucket{agent="reader",le="120.0"}': 0.5},
        {"test_codex_clone.py::test_agents_are_quick": 282},
    ),
    ({"codex_replication_lag_seconds": 45.0}, {"test_codex_clone.py::test_replicas_follow": 45}),
    ({"codex_db_cache_hit_ratio": 0.6}, {"test_codex_clone.py::test_cache_answers": 0.6}),
    (
        {'node_filesystem_avail_bytes{mountpoint="/"}': 10.0},
        {"test_codex_clone.py::test_resource_has_room[storage]": 0.9},
    ),
    ({"node_memory_MemAvailable_bytes": 10.0}, {"test_codex_clone.py::test_resource_has_room[memory]": 0.9}),
    ({'codex_system_cpu_usage_ratio{core="total"}': 0.9}, {"test_codex_clone.py::test_resource_has_room[cpu]": 0.9}),
    (
        {'codex_db_connections{state="active"}': 19.0},
        {"test_codex_clone.py::test_resource_has_room[connections]": 0.95},
    ),
    (
        {'codex_http_requests_total{status_code="200"}': 900.0},
        {"test_codex_clone.py::test_resource_has_room[api_rate]": 0.9},
    ),
    (
        {'vibebox_http_request_duration_seconds_bucket{le="1.0"}': 5.0},
        {
            "test_vibebox.py::test_objective_is_kept[latency]": 0.5,
            "test_vibebox.py::test_most_are_quick[vibebox_http_request_duration_seconds]": 4.6,
        },
    ),
    (
        {'vibebox_db_query_duration_seconds_bucket{le="1.0"}': 5.0},
        {"test_vibebox.py::test_most_are_quick[vibebox_db_query_duration_seconds]": 4.6},
    ),
    (
        {'vibebox_docker_operation_duration_seconds_bucket{le="30.0"}': 0.5},
        {"test_vibebox.py::test_most_are_quick[vibebox_docker_operation_duration_seconds]": 57},
    ),
    ({'process_cpu_seconds_total{service="vibebox"}': 0.9}, {"test_vibebox.py::test_cpu_has_room": 0.9}),
    (
        {'process_resident_memory_bytes{service="vibebox"}': 95.0},
        {"test_vibebox.py::test_resource_has_room[memory]": 0.95},
    ),
    (
        {'vibebox_db_connection_pool_size{state="active"}': 9.0},
        {"test_vibebox.py::test_resource_has_room[connections]": 0.9},
    ),
    ({"nodejs_eventloop_lag_seconds": 0.3}, {"test_vibebox.py::test_event_loop_keeps_up": 0.3}),
]
SLOW_AND_FULL += [
    (
        {f'upcheck_last_recorded_timestamp_seconds{{service="{service}"}}': -seconds},
        {f"test_{service.replace('-', '_')}.py::test_it_tells_of_itself": seconds},
    )
    for service, seconds in (("coderunner", GONE), ("codesync", GONE), ("codex-clone", 3 * GONE), ("vibebox", GONE))
]


@contextlib.contextmanager
def prometheus(series: Mapping[str, float], tools: Mapping[str, Path], home: Path) -> Iterator[str]:
    """The URL of a real Prometheus that remembers an hour of *series*, a sample a minute."""
    now = int(time.time())
    lines = []
    for name, value in series.items():
        counts = name.partition("{")[0].endswith(("_total", "_bucket", "_count"))
        for at in range(now - 66 * 60, now + 1, 60):
            since = (at - now) * value + 66 * 60 * value if counts else value
            lines.append(f"{name} {now + value if 'timestamp' in name else since} {at}")
    page = home / "page.om"
    page.write_text("\n".join([*lines, "# EOF\n"]))
    argv: list[str | Path] = [tools["promtool"], "tsdb", "create-blocks-from", "openmetrics", page, home / "data"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    (home / "prometheus.yml").write_text("")
    port = free_port()
    with serving(
        [tools["prometheus"], f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        f"http://127.0.0.1:{port}", home / "prometheus.log",
    ) as url:  # fmt: skip
        yield url


def checked(home: Path, **environ: str) -> dict[str, dict[str, Any]]:
    """Run checks/<service> of all four: the results by name, without the folder."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--results={home}/lines"]
    argv += [f"checks/{service}" for service in SERVICES]
    told = os.environ | {"UPCHECK_HISTORY": f"{home}/history.sqlite"} | environ
    ran = subprocess.run(argv, cwd=ROOT, env=told, capture_output=True, text=True, timeout=100)
    lines = [json.loads(line) for line in (home / "lines").read_text().splitlines()]
    assert "rror" not in ran.stderr, ran.stderr
    return {one["check"].removeprefix("checks/"): one for one in lines if "outcome" in one}


def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for message in connection:
            connection.send(message)


@pytest.fixture(scope="module")
def websocket() -> Iterator[str]:
    with websockets_serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join(5)


def addresses(url: str, **others: str) -> dict[str, str]:
    """The variables of all four services, as checks/*/*.yml name them: *url* is where each is, *others* the rest."""
    told = {}
    for service in SERVICES:
        named = service.upper().replace("-", "_")
        told[f"{named}_URL"] = url
        told |= {f"{named}_{name}": value for name, value in others.items()}
    return told


def test_all_hold_where_all_is_well(
    tool_paths: dict[str, Path],
    postgres_server: PostgresServer,
    postgres_replica: PostgresServer,
    redis_server: RedisServer,
    websocket: str,
    tmp_path: Path,
) -> None:
    replica = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = sent_lsn"
    eventually(lambda: postgres_server(replica) == [(1,)])
    with (
        prometheus(WELL, tool_paths, tmp_path) as source,
        Host(tmp_path / "proc", 1.0) as host,  # not as busy as ours may be
        run.collector(
            Settings.load(ROOT, {}), UPCHECK_HISTORY=f"{tmp_path}/none.sqlite", UPCHECK_PROCFS=str(host.proc)
        ) as collector,
        listening(tmp_path / "docker.sock", replies(version=VERSION, ping=answer("200 OK", "OK"))),
    ):
        assert httpx.post(f"{collector}/api/events", json=EVENTS, trust_env=False).json()["accepted"] == len(EVENTS)
        told = checked(
            tmp_path,
            UPCHECK_SLA_SOURCE=source,
            **addresses(
                collector, DATABASE_URL=postgres_server.url(), REPLICA_URL=postgres_replica.url(),
                REDIS_URL=f"redis://127.0.0.1:{redis_server.port}", WEBSOCKET_URL=websocket, METRICS_TOKEN="any",
                DOCKER_HOST=f"unix://{tmp_path}/docker.sock",
            ),
        )  # fmt: skip
    assert {name: one["reason"] for name, one in told.items() if one["outcome"] != "held"} == {}
    assert len(told) > 65


def bad(faults: list[Fault], tools: dict[str, Path], home: Path, **variables: str) -> dict[str, dict[str, Any]]:
    """What all checks come to under *faults*. Those of Prometheus fail where a fault says so, with its figure."""
    series = WELL | {name: value for changed, _ in faults for name, value in changed.items()}
    expected = {check: figure for _, failing in faults for check, figure in failing.items()}
    with prometheus(series, tools, home) as source:
        told = checked(home, UPCHECK_SLA_SOURCE=source, **variables)
    asked = {name.partition("/")[2]: one for name, one in told.items() if ".py::" in name}
    assert {name for name, one in asked.items() if one["outcome"] == "failed"} == set(expected)
    assert {one["outcome"] for name, one in asked.items() if name not in expected} == {"held"}
    for name, figure in expected.items():
        late = 30.0 if name.endswith("tells_of_itself") else 0.0  # seconds that the world is older by when it is asked
        assert float(asked[name]["facts"]["got"]) == pytest.approx(figure, rel=0.03, abs=late), name
    return {name: one for name, one in told.items() if ".yml::" in name}


def test_what_fails_is_told_and_what_is_gone(tool_paths: dict[str, Path], tmp_path: Path) -> None:
    nowhere = addresses(
        "http://127.0.0.1:1", DATABASE_URL="postgresql://127.0.0.1:1/app", REPLICA_URL="postgresql://127.0.0.1:1/app",
        REDIS_URL="redis://127.0.0.1:1", WEBSOCKET_URL="ws://127.0.0.1:1/", METRICS_TOKEN="any",
        DOCKER_HOST=f"unix://{tmp_path}/docker.sock",
    )  # fmt: skip
    asked = bad(FAILING, tool_paths, tmp_path, **nowhere)
    assert {name for name, one in asked.items() if one["outcome"] == "blocked"} == {QUERIES, COMPONENTS}
    for name in asked.keys() - {QUERIES, COMPONENTS}:
        assert ("No such file" if "docker" in name else "Connection refused") in asked[name]["reason"], name


def test_what_is_slow_full_or_wrong_is_told(
    tool_paths: dict[str, Path],
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    serve: Serve,
    tmp_path: Path,
) -> None:
    refusing = serve(answer("503 Service Unavailable", "unhealthy"))
    redis_server("REPLICAOF", "127.0.0.1", "1")
    with (
        postgres_server.with_setting("default_transaction_read_only", "on"),
        listening(tmp_path / "docker.sock", replies(ping=answer("500 Internal Server Error", "no disk"))),
    ):
        asked = bad(
            SLOW_AND_FULL, tool_paths, tmp_path,
            **addresses(
                refusing, DATABASE_URL=postgres_server.url(), REPLICA_URL=postgres_server.url(),
                REDIS_URL=f"redis://127.0.0.1:{redis_server.port}", METRICS_TOKEN="any",
                WEBSOCKET_URL=refusing.replace("http", "ws"), DOCKER_HOST=f"unix://{tmp_path}/docker.sock",
            ),
        )  # fmt: skip
    reasons = {
        "endpoints": "503 Service Unavailable", "metrics": "503 Service Unavailable", "replica": "this is no replica",
        "redis": "it is a replica, wanted a master", "websocket": "the handshake was refused: 503",
        "database": "default_transaction_read_only is on", "docker": "'no disk'",
    }  # fmt: skip
    outcomes = {"held": {QUERIES}, "blocked": {COMPONENTS}}
    for outcome, names in outcomes.items():
        assert {name for name, one in asked.items() if one["outcome"] == outcome} == names
    for name in asked.keys() - {QUERIES, COMPONENTS}:
        assert reasons[Path(name.partition("::")[0]).stem] in asked[name]["reason"], name


def test_what_has_no_address_is_not_there_and_says_so(tmp_path: Path) -> None:
    named = {f"{service.upper().replace('-', '_')}_URL" for service in SERVICES}
    environ = {name: value for name, value in os.environ.items() if name not in named}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]

    def told(*arguments: str, code: int = 0, **more: str) -> str:
        mine = environ | {"UPCHECK_HISTORY": f"{tmp_path}/history.sqlite"} | more
        ran = subprocess.run([*argv, *arguments], cwd=ROOT, env=mine, capture_output=True, text=True, timeout=60)
        assert ran.returncode == code, ran.stdout
        return ran.stdout

    nothing = told("checks/test_services.py")
    assert "checks      5 skipped" in nothing
    assert "checks/vibebox is there in part or not at all: set VIBEBOX_URL, VIBEBOX_DATABASE_URL, VIBEBOX_" in nothing
    asked = told("checks/vibebox", code=1)
    assert "checks/vibebox asks VIBEBOX_URL, which is not set" in asked
    some = told("checks", "--collect-only", CODERUNNER_URL="http://127.0.0.1:1")
    assert "coderunner/endpoints.yml::health" in some
    assert "coderunner/test_coderunner.py::test_deployments_succeed" in some
    assert "database.yml" not in some
    assert "codesync/" not in some
