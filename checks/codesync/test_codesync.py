"""CodeSync's objectives and conditions, asked of the Prometheus that `sla_source` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck import catalog, check
from upcheck.sla import Objectives

SERVICE = catalog.load(Path(__file__).parents[2] / "monitoring/services/codesync.yml")
MOST = {"memory": 0.90, "files": 0.80}  # of each resource


@check(every="5m")
@pytest.mark.parametrize("name", SERVICE.slos)
def test_objective_is_kept(sla: Objectives, name: str) -> None:
    slo = SERVICE.slos[name]
    assert sla.kept(slo) >= slo["objective"]


@check(every="1m")
def test_few_requests_fail(sla: Objectives) -> None:
    failed = '(sum(rate(http_requests_total{status=~"5.."}[5m])) or vector(0))'
    assert sla.query(f"{failed} / sum(rate(http_requests_total[5m]))") <= 0.05


@check(every="1m", severity="warning")
def test_responses_are_quick(sla: Objectives) -> None:
    assert sla.query("histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))") <= 2


@check(every="1m", severity="warning")
def test_cpu_has_room(sla: Objectives) -> None:
    assert sla.query('rate(process_cpu_seconds_total{service="codesync"}[5m])') <= 0.80


@check(every="1m", severity="warning")
@pytest.mark.parametrize("resource", SERVICE.capacity)
def test_resource_has_room(sla: Objectives, resource: str) -> None:
    assert sla.used(SERVICE.capacity[resource]) <= MOST[resource]


@check(every="1m", severity="warning")
def test_few_requests_meet_a_rate_limit(sla: Objectives) -> None:
    limited = "(sum(rate(rate_limit_hits_total[5m])) or vector(0))"
    assert sla.query(f"{limited} / sum(rate(http_requests_total[5m]))") <= 0.05


@check(every="1m", severity="warning")
def test_open_websockets_are_used(sla: Objectives) -> None:
    idle = "sum(ws_connections_active) unless sum(rate(ws_messages_total[5m])) > 0"
    assert sla.query(f"({idle}) or 0 * sum(ws_connections_active)") == 0


@check(every="1m")
def test_it_tells_of_itself(sla: Objectives) -> None:
    assert sla.query(f'time() - upcheck_last_recorded_timestamp_seconds{{service="{SERVICE.name}"}}') <= 60
