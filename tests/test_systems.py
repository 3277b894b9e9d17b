"""The alerts of the four systems: pages, rules, tests and runbooks name the same, and what is read is also said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import ROOT
from upcheck import run
from upcheck.cli import main
from upcheck.rules.play import Rules
from upcheck.settings import Settings

RULES = ROOT / "monitoring/prometheus/rules"
PAGES = sorted(page.stem for page in (ROOT / "docs/systems").glob("*.md"))
SEVERITIES = {"critical", "high", "warning", "medium", "info", "low"}
# A promise is about the same requests as the alert of the moment: one fault breaks both.
FAULTS = {
    "availability": "api-errors",
    "error-budget": "api-errors",
    "latency": "api-latency",
    "agent-success": "agents",
}
SILENT = "at once"  # the page's word for an alert without `for`


@dataclass(frozen=True)
class Row:
    """A line of a page: what the document says, and where it is here."""

    documented: str
    threshold: str
    duration: str
    severity: str
    alert: str
    file: str
    group: str
    test: str


def rows(service: str) -> list[Row]:
    """The table of alerts of *service*'s page."""
    page = (ROOT / f"docs/systems/{service}.md").read_text()
    lines = page.partition("\n## Alerts\n")[2].partition("\n## ")[0].splitlines()
    table = [re.split(r" \| ", line.strip("| ")) for line in lines if line.startswith("| ")][1:]
    made = []
    for documented, threshold, duration, severity, rule, where, test in table:
        found = re.search(r"`(\w+)`", rule)
        assert found, rule
        file, _, group = where.strip("`").partition(":")
        made.append(Row(documented, threshold.strip("`"), duration, severity, found[1], file, group, test))
    return made


ROWS = [pytest.param(row, id=f"{page}:{row.documented}") for page in PAGES for row in rows(page)]


def alerts(file: str) -> list[tuple[str, dict[str, Any]]]:
    """The alerts of a rule file, each with its group."""
    return [
        (group["name"], rule) for group in load(RULES / file)["groups"] for rule in group["rules"] if "alert" in rule
    ]


def entries(stem: str) -> list[dict[str, Any]]:
    """What is tested of the rules *stem*.yml, in all files that begin with its name."""
    files = sorted((ROOT / "rules_tests").glob(f"{stem}*.yml"))
    return [entry | {"every": read["evaluation_interval"]} for read in map(load, files) for entry in read["tests"]]


@cache
def load(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    return read


ALERTS = [pytest.param(page, rule, id=f"{page}:{rule['alert']}") for page in PAGES for _, rule in alerts(f"{page}.yml")]
ENTRIES = [pytest.param(entry, id=f"{page}:{entry['name']}") for page in PAGES for entry in entries(page)]


def test_every_service_has_a_page() -> None:
    assert sorted(path.stem for path in (ROOT / "monitoring/services").glob("*.yml")) == PAGES


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_the_rule_that_it_names(row: Row) -> None:
    found = [rule for group, rule in alerts(row.file) if (group, rule["alert"]) == (row.group, row.alert)]
    assert len(found) == 1, f"{row.file} has no {row.alert} in the group {row.group}"
    assert row.threshold in " ".join(found[0]["expr"].split())
    assert row.duration == found[0].get("for", SILENT)
    assert row.severity == found[0]["labels"]["severity"]


@pytest.mark.parametrize("row", ROWS)
def test_what_the_document_states_is_what_holds(row: Row) -> None:
    stated = re.search(r">\s*([\d.]+)(%?)", row.documented)
    if stated:
        value = float(stated[1]) / (100 if stated[2] else 1)
        assert float(row.threshold.removeprefix("> ")) == pytest.approx(value)
    minutes = re.search(r"(?:for |\()(\d+) ?m", row.documented)
    if minutes:
        assert row.duration == f"{minutes[1]}m"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_proven_by_the_test_that_it_names(row: Row) -> None:
    (entry,) = (one for one in entries(Path(row.file).stem) if one["name"] == row.test)
    asked = [one for one in entry["alert_rule_test"] if one["alertname"] == row.alert]
    assert any(one.get("exp_alerts") for one in asked)
    assert any(not one.get("exp_alerts") for one in asked), "it is not asked before its time"


@pytest.mark.parametrize("service", PAGES)
def test_no_rule_is_without_a_row(service: str) -> None:
    assert {rule["alert"] for _, rule in alerts(f"{service}.yml")} == {
        row.alert for row in rows(service) if row.file == f"{service}.yml"
    }


@pytest.mark.parametrize(("service", "rule"), ALERTS)
def test_an_alert_says_whose_it_is_what_to_do_and_where_to_read_on(service: str, rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["labels"]["resource"]
    assert rule["labels"].get("service", service) == service
    assert f'service="{service}"' in rule["expr"] or "service" in rule["labels"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert (
        rule["annotations"]["runbook_url"] == f"https://docs.example.com/runbooks/{service}.md#{rule['alert'].lower()}"
    )


@pytest.mark.parametrize("service", PAGES)
def test_each_alert_has_a_runbook_with_a_query_and_steps(service: str) -> None:
    sections = re.split(r"^## ", (ROOT / f"docs/runbooks/{service}.md").read_text(), flags=re.MULTILINE)[1:]
    assert {section.split()[0] for section in sections} == {rule["alert"] for _, rule in alerts(f"{service}.yml")}
    for section in sections:
        assert "```promql\n" in section, section
        assert "\n1. " in section, section


@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_fires_but_what_the_test_is_about(promtool_path: Path, entry: dict[str, Any]) -> None:
    files = [RULES / f"{page}.yml" for page in PAGES]
    about = {
        rule["alert"]: (page, FAULTS.get(rule["labels"]["resource"], rule["labels"]["resource"]))
        for page in PAGES
        for _, rule in alerts(f"{page}.yml")
    }
    series = {one["series"]: one["values"] for one in entry["input_series"]}
    played = Rules(promtool_path, files).play(series, interval=entry["interval"], evaluation_interval=entry["every"])
    asked = {one["alertname"] for one in entry.get("alert_rule_test", [])}
    assert {about[name] for name in played.fired} <= {about[name] for name in asked}


def test_what_the_rules_read_is_said_by_the_catalogue_the_collector_and_the_exporters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with run.collector(Settings.load(ROOT, {})) as url:
        (tmp_path / "collector.prom").write_text(httpx.get(f"{url}/metrics", trust_env=False).text)
    monkeypatch.chdir(ROOT)
    paths = ["monitoring/prometheus/prometheus.yml"]
    for page in PAGES:
        paths += [f"monitoring/prometheus/rules/{page}.yml", f"docs/runbooks/{page}.md"]
        paths += map(str, (ROOT / "rules_tests").glob(f"{page}*.yml"))
    paths += [f"monitoring/services/{page}.yml" for page in PAGES]
    exporters = [tmp_path / "collector.prom", *sorted((ROOT / "monitoring/exporters").glob("*.prom"))]
    given = [argument for page in exporters for argument in ("--exposition", str(page))]
    found = CliRunner().invoke(main, ["rules", "contract", "--strict", *paths, *given])
    assert found.exit_code == 0, found.output
