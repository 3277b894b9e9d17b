"""CodeRunner's objectives and conditions, asked of the Prometheus that `sla_source` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck import catalog, check
from upcheck.sla import Objectives

SERVICE = catalog.load(Path(__file__).parents[2] / "monitoring/services/coderunner.yml")
MOST = {"cpu": 0.80, "memory": 0.85}  # of each resource


@check(every="5m")
@pytest.mark.parametrize("name", SERVICE.slos)
def test_objective_is_kept(sla: Objectives, name: str) -> None:
    slo = SERVICE.slos[name]
    assert sla.kept(slo) >= slo["objective"]


@check(every="1m", severity="warning")
def test_few_requests_fail(sla: Objectives) -> None:
    failed = '(sum(rate(coderunner_api_requests_total{status="5xx"}[5m])) or vector(0))'
    assert sla.query(f"{failed} / sum(rate(coderunner_api_requests_total[5m]))") <= 0.05


@check(every="5m", severity="warning")
def test_deployments_succeed(sla: Objectives) -> None:
    failed = '(sum(increase(coderunner_deployments_total{status=~"FAILED|failed"}[15m])) or vector(0))'
    ended = 'coderunner_deployments_total{status=~"RUNNING|completed|success|FAILED|failed"}'
    assert sla.query(f"{failed} / sum(increase({ended}[15m]))") <= 0.10


@check(every="1m")
def test_database_is_up(sla: Objectives) -> None:
    assert sla.query('min(pg_up{service="coderunner"})') == 1


@check(every="1m", severity="warning")
@pytest.mark.parametrize("resource", SERVICE.capacity)
def test_resource_has_room(sla: Objectives, resource: str) -> None:
    assert sla.used(SERVICE.capacity[resource]) <= MOST[resource]


@check(every="1m", severity="warning")
def test_websocket_errs_seldom(sla: Objectives) -> None:
    assert (
        sla.query('sum(rate(coderunner_errors_total{type="websocket"}[5m])) or 0 * sum(coderunner_api_requests_total)')
        <= 1
    )


@check(every="1m")
def test_it_tells_of_itself(sla: Objectives) -> None:
    assert sla.query(f'time() - upcheck_last_recorded_timestamp_seconds{{service="{SERVICE.name}"}}') <= 60
