"""The demonstration under all faults at once: each one's alerts fire, and each one's checks are red, for its reason."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from tests.demo.test_demo import APART, SCENARIOS, SETTINGS, SPAN
from tests.test_system_checks import addresses, checked
from upcheck.demo import stage
from upcheck.rules.timelapse import Lapse

pytestmark = pytest.mark.slow

FACTOR, LEAD = 30.0, 12.0  # half as fast as for one service: a busy machine can play all four

OWN_DISK = "codex-clone/test_codex_clone.py::test_resource_has_room[storage]"  # that of this machine, however full
FAILS = {
    "coderunner": {
        "error-rate": ["test_objective_is_kept[availability]", "test_few_requests_fail"],
        "database-down": ["test_database_is_up"],
        "deployment-failures": ["test_deployments_succeed"],
        "cpu": ["test_resource_has_room[cpu]"],
        "memory": ["test_resource_has_room[memory]"],
    },
    "codesync": {
        "error-rate": ["test_objective_is_kept[availability]", "test_few_requests_fail"],
        "latency": ["test_objective_is_kept[latency]", "test_responses_are_quick"],
        "cpu": ["test_cpu_has_room"],
        "memory": ["test_resource_has_room[memory]"],
    },
    "codex-clone": {
        "database-down": ["test_database_is_up"],
        "database-errors": ["test_few_queries_fail"],
        "slow-database": ["test_queries_are_quick"],
        "replication-lag": ["test_replicas_follow"],
        "cache": ["test_cache_answers"],
        "error-rate": ["test_objective_is_kept[availability]", "test_few_requests_fail", "test_error_budget_lasts"],
        "latency": ["test_objective_is_kept[latency]"],
        "agent-failures": ["test_objective_is_kept[agents]", "test_every_agent_succeeds"],
        "slow-agents": ["test_agents_are_quick"],
        "connections": ["test_resource_has_room[connections]"],
        "cpu": ["test_resource_has_room[cpu]"],
        "memory": ["test_resource_has_room[memory]"],
        "telemetry-lost": ["test_it_tells_of_itself"],
        "api-rate": ["test_resource_has_room[api_rate]"],
    },
    "vibebox": {
        "error-rate": ["test_objective_is_kept[availability]", "test_errors_are_few"],
        "latency": [
            "test_objective_is_kept[latency]", "test_most_are_quick[vibebox_http_request_duration_seconds]",
        ],
        "cpu": ["test_cpu_has_room"],
        "memory": ["test_resource_has_room[memory]"],
        "event-loop": ["test_event_loop_keeps_up"],
        "slow-database": ["test_most_are_quick[vibebox_db_query_duration_seconds]"],
        "docker-failures": ["test_docker_does_as_it_is_told"],
        "slow-docker": ["test_most_are_quick[vibebox_docker_operation_duration_seconds]"],
        "environments": ["test_environments_are_well"],
        "brute-force": ["test_logins_succeed", "test_nobody_guesses_passwords"],
        "service-down": ["test_it_tells_of_itself"],
    },
}  # fmt: skip


@contextlib.contextmanager
def lapsed(prometheus: str) -> Iterator[str]:
    """A Prometheus' API at which each query is one of the time that is played there: the checks know no time-lapse."""
    lapse = Lapse(FACTOR, wall_clock=True)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (query,) = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"]
            made = httpx.post(f"{prometheus}{self.path}", data={"query": lapse.promql(query)}, trust_env=False)
            self.send_response(made.status_code)
            self.send_header("Content-Length", str(len(made.content)))
            self.end_headers()
            self.wfile.write(made.content)

        def log_message(self, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def named(faults: dict[str, list[str]]) -> set[str]:
    """The checks that fail under *faults*, which are names by service."""
    return {
        f"{service}/test_{service.replace('-', '_')}.py::{check}"
        for service, names in faults.items() for fault in names for check in FAILS[service][fault]
    }  # fmt: skip


def test_every_fault_of_the_demonstration_has_its_checks() -> None:
    assert {service: set(faults) for service, faults in FAILS.items()} == {
        service: set(scenario.faults) for service, scenario in SCENARIOS.items()
    }


@pytest.mark.usefixtures("tool_paths")
def test_the_checks_of_all_services_against_the_demonstration(tmp_path: Path) -> None:
    with stage(SETTINGS, list(SCENARIOS.values()), FACTOR) as made, lapsed(made.prometheus) as source:

        def run() -> dict[str, str]:
            """Play on while the checks run; what does not hold of them, and why."""
            ended = threading.Event()
            player = threading.Thread(target=lambda: [made.play(LEAD / 2) for _ in iter(ended.is_set, True)])
            player.start()
            (tmp_path / "lines").unlink(missing_ok=True)
            try:
                told = checked(tmp_path, UPCHECK_SLA_SOURCE=source, **addresses(made.collector))
            finally:
                ended.set()
                player.join()
            assert len(told) > 50
            return {name: one["reason"] for name, one in told.items() if one["outcome"] != "held" and name != OWN_DISK}

        def failing(expected: set[str]) -> dict[str, str]:
            """What does not hold, once that is as *expected*: a machine that is busy falls behind the time-lapse."""
            for _ in range(3):
                found = run()
                if {name for name in found if ".py::" in name} == expected:
                    break
            return found

        made.play(LEAD)
        assert made.until(["Watchdog"], SPAN) == {"Watchdog"}
        assert failing(set()) == {}
        # Those apart would hide the others: test_demo.py has their alerts, tests/test_system_checks.py what they do.
        there = {service: [one for one in FAILS[service] if one not in APART[service]] for service in FAILS}
        made.fault(*{fault for faults in there.values() for fault in faults})
        alerts = {
            one for name, faults in there.items() for fault in faults for one in SCENARIOS[name].faults[fault].alerts
        }
        assert len(alerts) > 25
        assert made.until(alerts, SPAN) - {"Watchdog"} == alerts
        found = failing(named(there))
        assert {name for name in found if ".py::" in name} == named(there)
        # The collector is each service's address here, and its component `system` has no memory left.
        asked = {name: reason for name, reason in found.items() if ".yml::" in name}
        assert {name.partition("::")[2] for name in asked} == {
            "health", "health of each component", "readiness", "backend", "frontend",
        }  # fmt: skip
        assert all("503 Service Unavailable" in reason for reason in asked.values()), asked
