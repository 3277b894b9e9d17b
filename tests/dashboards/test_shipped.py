"""The dashboards that ship: what Grafana is given, held against rules, runbooks and objectives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_docs import anchors
from upcheck import catalog
from upcheck.dashboards import COLUMNS, UNITS, Dashboard, Panel, files
from upcheck.dashboards.reading import load_all
from upcheck.rules.promql import parse

MONITORING = ROOT / "monitoring"
SHIPPED = load_all(MONITORING)
EACH = [(one, panel) for one in SHIPPED for panel in one.panels]
PANELS = [pytest.param(*one, id=f"{one[0].name}:{one[1].title}") for one in EACH]
WITH_ALERTS = [pytest.param(*one, id=f"{one[0].name}:{one[1].title}") for one in EACH if one[1].conditions]

# As the documents of the four systems name them; how many panels each has, where they say so.
DOCUMENTED = {
    "coderunner": (
        "CodeRunner", None,
        ["System Overview", "API Performance", "Deployment Metrics", "WebSocket Activity", "Health Status",
         "Resource Costs"],
    ),
    "codesync": (
        "CodeSync", 10,
        ["Request Rate", "Error Rate", "Response Time (p95)", "Active Connections", "Active Sessions", "Memory Usage",
         "CPU Usage", "Database Queries", "Redis Operations", "Rate Limit Hits"],
    ),
    "codex-system-overview": (
        "System Overview", None, ["Request rates", "Error rates", "Response times", "Active users"],
    ),
    "codex-database": (
        "Database Performance", None, ["Query rates", "Connection pool", "Cache hit rates", "Table sizes"],
    ),
    "codex-agents": (
        "Agent Executions", None, ["Execution rates", "Token usage", "Success rates", "Workflow status"],
    ),
    "codex-health": (
        "System Health", None, ["CPU usage", "Memory usage", "Disk usage", "Health check status"],
    ),
    "codex-sla": ("SLA Monitoring", None, ["Availability", "Response time compliance", "Error budget left"]),
    "codex-capacity": ("Capacity Planning", None, ["Growth trends", "Forecasts", "Resource recommendations"]),
    "vibebox-overview": (
        "VibeBox - Overview", 10,
        ["Service status", "Uptime", "Request rate", "Request distribution", "Response time percentiles",
         "Top 10 busiest routes", "Environment distribution", "CPU usage", "Memory usage"],
    ),
    "vibebox-api": (
        "API Performance", 11,
        ["Latency p50", "Latency p95", "Latency p99", "Request rate by status code", "Error rate by type",
         "Error rate by route", "Top 10 slowest routes", "Active HTTP connections", "Active WebSocket connections",
         "Database query performance", "Event loop lag"],
    ),
    "vibebox-environments": (
        "Environments", 17,
        ["Running", "Stopped", "Starting", "In error", "Docker operations", "Docker operation duration",
         "VS Code sessions", "tmux sessions", "Shell sessions", "Extension installations", "Log entries by stream"],
    ),
    "upcheck-checks": ("Checks", None, []),
    "upcheck-slo": ("Objectives", None, []),
    "upcheck-alerts": ("Alert quality", None, []),
    "upcheck-monitors": ("Monitoring the monitors", None, []),
}  # fmt: skip


def shown(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana is given of *dashboard*."""
    path = MONITORING / "grafana/dashboards" / dashboard.folder / f"{dashboard.name}.json"
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def given(dashboard: Dashboard, panel: Panel) -> dict[str, Any]:
    (found,) = (one for one in shown(dashboard)["panels"] if one["title"] == panel.title and one["type"] != "row")
    assert isinstance(found, dict)
    return found


def rules() -> dict[str, list[dict[str, Any]]]:
    """The alerts of all rule files by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((MONITORING / "prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], []).append(rule)
    return found


RULES = rules()


def test_what_is_written_is_what_would_be_made() -> None:
    assert files.drifted(MONITORING) == {}, "type `upcheck dashboards`"


def test_every_documented_dashboard_is_there() -> None:
    assert {one.name for one in SHIPPED} == DOCUMENTED.keys()


@pytest.mark.parametrize("dashboard", SHIPPED, ids=lambda one: one.name)
def test_it_has_the_rows_and_panels_of_its_document(dashboard: Dashboard) -> None:
    title, count, wanted = DOCUMENTED[dashboard.name]
    there = [row.title for row in dashboard.rows] + [panel.title for panel in dashboard.panels]
    assert dashboard.title == title
    assert [one for one in wanted if one not in there] == []
    assert count in (None, len(dashboard.panels))


@pytest.mark.parametrize("dashboard", SHIPPED, ids=lambda one: one.name)
def test_grafana_can_load_it(dashboard: Dashboard) -> None:
    told = shown(dashboard)
    assert (told["uid"], told["title"], told["tags"]) == (dashboard.name, dashboard.title, [dashboard.folder])
    assert len(told["uid"]) <= 40, "Grafana's limit"
    assert told["refresh"] == "30s"
    assert "id" not in told, "a number of one Grafana's database"
    assert 36 <= told["schemaVersion"] <= 41, "Grafana 10 to 12"
    assert len({one["id"] for one in told["panels"]}) == len(told["panels"])
    assert next(one["name"] for one in told["templating"]["list"]) == "datasource"


@pytest.mark.parametrize("dashboard", SHIPPED, ids=lambda one: one.name)
def test_no_panel_lies_on_another(dashboard: Dashboard) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in shown(dashboard)["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in taken) < COLUMNS
        assert not taken & cells, panel["title"]
        cells |= taken


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_says_what_it_shows_and_reads_the_source_that_was_chosen(dashboard: Dashboard, panel: Panel) -> None:
    told = given(dashboard, panel)
    assert told["description"].endswith(".")
    assert told["fieldConfig"]["defaults"]["unit"] == UNITS[panel.unit].grafana
    assert told["datasource"]["uid"] == "${datasource}"
    assert [(one["legendFormat"], one["expr"]) for one in told["targets"]] == list(panel.queries)
    for one in told["targets"]:
        parse(one["expr"])
        assert one["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize(("dashboard", "panel"), WITH_ALERTS)
def test_its_colours_change_where_its_alerts_fire(dashboard: Dashboard, panel: Panel) -> None:
    told = given(dashboard, panel)["fieldConfig"]["defaults"]
    steps = [one["value"] for one in told["thresholds"]["steps"]]
    words: dict[str, Any] = next((one["options"] for one in told.get("mappings", ())), {})
    for condition in panel.conditions:
        limit = f"{condition.threshold.value:g}"
        expressions = [" ".join(rule["expr"].split()) for rule in RULES[condition.alert]]
        number = re.compile(rf"{re.escape(condition.threshold.op)} {re.escape(limit)}0*(?![\d.])")
        assert any(number.search(expr) for expr in expressions), (condition, expressions)
        if condition.threshold.op == "==":
            assert words[limit]["color"] == "red"
        else:
            assert condition.threshold.value in steps


@pytest.mark.parametrize(("dashboard", "panel"), WITH_ALERTS)
def test_it_leads_to_the_runbooks_of_its_alerts(dashboard: Dashboard, panel: Panel) -> None:
    links = [one["url"] for one in given(dashboard, panel).get("links", ())]
    assert links == [one.runbook for one in panel.conditions if one.runbook]
    for condition in panel.conditions:
        known = {rule["annotations"].get("runbook_url", "") for rule in RULES[condition.alert]}
        assert condition.runbook in known
    for url in links:
        page, _, anchor = url.partition("/runbooks/")[2].partition("#")
        assert anchor in anchors(ROOT / "docs/runbooks" / page), url


def test_each_alert_with_a_threshold_of_the_four_services_is_on_a_dashboard() -> None:
    there = {one.alert for dashboard in SHIPPED for panel in dashboard.panels for one in panel.conditions}
    with_runbook = {name for name, found in RULES.items() if any("runbook_url" in one["annotations"] for one in found)}
    assert with_runbook - there == {"Watchdog"}  # which compares nothing


def test_the_objectives_are_those_of_the_catalogue() -> None:
    (dashboard,) = (one for one in SHIPPED if one.name == "upcheck-slo")
    asked = [text for panel in dashboard.panels for _, text in panel.queries]
    for service in catalog.load_all(MONITORING / "services"):
        for slo in service.slos.values():
            good, total, objective = slo["good"], slo["total"], slo["objective"]
            kept = f"sum(increase({good}[30d])) / sum(increase({total}[30d]))"
            burnt = f"(1 - sum(rate({good}[1h])) / sum(rate({total}[1h]))) / (1 - {objective:g})"
            left = f"1 - (1 - {kept}) / (1 - {objective:g})"
            assert {kept, burnt, left} <= set(asked), (service.name, slo)


def test_grafana_finds_them_and_the_prometheus_that_is_named() -> None:
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/default.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/default.yml").read_text())["providers"]
    assert (source["type"], source["url"], source["name"]) == ("prometheus", "$PROMETHEUS_URL", "$GRAFANA_DATASOURCE")
    assert provider["options"] == {"path": "$GRAFANA_DASHBOARD_PATH", "foldersFromFilesStructure": True}
    folders = {path.name for path in (MONITORING / "grafana/dashboards").iterdir()}
    assert folders == {one.folder for one in SHIPPED}


def test_a_new_clone_needs_no_sdk_to_have_them(tmp_path: Path) -> None:
    from upcheck import scaffold

    scaffold.write(tmp_path / "repo")
    assert {path.name for path in (tmp_path / "repo/monitoring/grafana/dashboards").rglob("*.json")} == {
        f"{one.name}.json" for one in SHIPPED
    }
    assert (tmp_path / "repo/monitoring/grafana/schema.json").is_file()
