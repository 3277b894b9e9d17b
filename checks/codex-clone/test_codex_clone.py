"""codex-clone's objectives, error budget and conditions, asked of the Prometheus that `sla_source` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck import catalog, check
from upcheck.sla import Objectives

SERVICE = catalog.load(Path(__file__).parents[2] / "monitoring/services/codex-clone.yml")
MOST = {"storage": 0.85, "memory": 0.80, "cpu": 0.70, "connections": 0.80, "api_rate": 0.80}  # of each resource


@check(every="5m")
@pytest.mark.parametrize("name", SERVICE.slos)
def test_objective_is_kept(sla: Objectives, name: str) -> None:
    slo = SERVICE.slos[name]
    assert sla.kept(slo) >= slo["objective"]


@check(every="1m")
def test_error_budget_lasts(sla: Objectives) -> None:
    slo = SERVICE.slos["availability"]
    burnt = (1 - sla.kept({**slo, "window": "1h"})) / (1 - slo["objective"])
    assert burnt <= 14.4  # at which two days have used up a month's


@check(every="1m")
def test_few_requests_fail(sla: Objectives) -> None:
    failed = '(sum(rate(codex_http_requests_total{status_code=~"5.."}[5m])) or vector(0))'
    assert sla.query(f"{failed} / sum(rate(codex_http_requests_total[5m]))") <= 0.05


@check(every="1m")
def test_database_is_up(sla: Objectives) -> None:
    assert sla.query('min(pg_up{service="codex-clone"})') == 1


@check(every="1m", severity="warning")
def test_few_queries_fail(sla: Objectives) -> None:
    failed = '(sum(rate(codex_db_queries_total{status="error"}[5m])) or vector(0))'
    assert sla.query(f"{failed} / sum(rate(codex_db_queries_total[5m]))") <= 0.05


@check(every="1m", severity="warning")
def test_queries_are_quick(sla: Objectives) -> None:
    assert sla.query("histogram_quantile(0.95, sum by (le) (rate(codex_db_query_duration_seconds_bucket[5m])))") <= 1


@check(every="1m")
def test_replicas_follow(sla: Objectives) -> None:
    assert sla.query("max(codex_replication_lag_seconds)") <= 30


@check(every="5m", severity="warning")
def test_cache_answers(sla: Objectives) -> None:
    assert sla.query("min(codex_db_cache_hit_ratio)") >= 0.90


@check(every="5m", severity="warning")
def test_every_agent_succeeds(sla: Objectives) -> None:
    failed = 'sum by (agent) (rate(codex_agent_executions_total{status=~"failure|timeout"}[15m]))'
    ended = 'sum by (agent) (rate(codex_agent_executions_total{status!="cancelled"}[15m]))'
    assert sla.query(f"max({failed} / {ended} or 0 * {ended})") <= 0.10


@check(every="5m", severity="warning")
def test_agents_are_quick(sla: Objectives) -> None:
    took = "sum by (agent, le) (rate(codex_agent_execution_duration_seconds_bucket[15m]))"
    assert sla.query(f"max(histogram_quantile(0.95, {took}))") <= 120


@check(every="1m", severity="warning")
@pytest.mark.parametrize("resource", SERVICE.capacity)
def test_resource_has_room(sla: Objectives, resource: str) -> None:
    assert sla.used(SERVICE.capacity[resource]) <= MOST[resource]


@check(every="1m")
def test_it_tells_of_itself(sla: Objectives) -> None:
    assert sla.query(f'time() - upcheck_last_recorded_timestamp_seconds{{service="{SERVICE.name}"}}') <= 300
