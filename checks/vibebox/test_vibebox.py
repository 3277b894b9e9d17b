"""VibeBox's objectives and conditions, asked of the Prometheus that `sla_source` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck import catalog, check
from upcheck.sla import Objectives

SERVICE = catalog.load(Path(__file__).parents[2] / "monitoring/services/vibebox.yml")
MOST = {"memory": 0.90, "connections": 0.80}  # of each resource
QUANTILE = "histogram_quantile(0.95, sum by (le) (rate({}_bucket[5m])))"
SLOWEST = {  # seconds that 95% of each may take
    "vibebox_http_request_duration_seconds": 1,
    "vibebox_db_query_duration_seconds": 1,
    "vibebox_docker_operation_duration_seconds": 30,
}
FAILED_LOGINS = 'sum(rate(vibebox_auth_attempts_total{status="failure"}[5m])) or 0 * sum(vibebox_auth_attempts_total)'


@check(every="5m")
@pytest.mark.parametrize("name", SERVICE.slos)
def test_objective_is_kept(sla: Objectives, name: str) -> None:
    slo = SERVICE.slos[name]
    assert sla.kept(slo) >= slo["objective"]


@check(every="1m", severity="warning")
@pytest.mark.parametrize("histogram", SLOWEST)
def test_most_are_quick(sla: Objectives, histogram: str) -> None:
    assert sla.query(QUANTILE.format(histogram)) <= SLOWEST[histogram]


@check(every="1m", severity="warning")
def test_errors_are_few(sla: Objectives) -> None:
    assert sla.query("sum(rate(vibebox_api_errors_total[5m])) or 0 * sum(vibebox_http_requests_total)") <= 10


@check(every="1m", severity="warning")
def test_docker_does_as_it_is_told(sla: Objectives) -> None:
    failed = '(sum(rate(vibebox_docker_operations_total{status="failure"}[5m])) or vector(0))'
    assert sla.query(f"{failed} / sum(rate(vibebox_docker_operations_total[5m]))") <= 0.10


@check(every="1m", severity="warning")
def test_environments_are_well(sla: Objectives) -> None:
    assert sla.query('sum(vibebox_environments{status="error"}) or 0 * sum(vibebox_environments)') <= 5


@check(every="1m", severity="warning")
def test_logins_succeed(sla: Objectives) -> None:
    assert sla.query(f"({FAILED_LOGINS}) / sum(rate(vibebox_auth_attempts_total[5m]))") <= 0.50


@check(every="1m")
def test_nobody_guesses_passwords(sla: Objectives) -> None:
    assert sla.query(FAILED_LOGINS) <= 10


@check(every="1m", severity="warning")
def test_cpu_has_room(sla: Objectives) -> None:
    assert sla.query('rate(process_cpu_seconds_total{service="vibebox"}[5m])') <= 0.80


@check(every="1m", severity="warning")
@pytest.mark.parametrize("resource", SERVICE.capacity)
def test_resource_has_room(sla: Objectives, resource: str) -> None:
    assert sla.used(SERVICE.capacity[resource]) <= MOST[resource]


@check(every="1m", severity="warning")
def test_event_loop_keeps_up(sla: Objectives) -> None:
    assert sla.query("max(nodejs_eventloop_lag_seconds)") <= 0.1


@check(every="1m")
def test_it_tells_of_itself(sla: Objectives) -> None:
    assert sla.query(f'time() - upcheck_last_recorded_timestamp_seconds{{service="{SERVICE.name}"}}') <= 60
