"""What route tests have seen of a configuration: routes, inhibition, intervals, and where alerts go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import ROOT
from upcheck.cli import main
from upcheck.routes.coverage import measure
from upcheck.rules import suite
from upcheck.rules.repository import find

ALERTMANAGER = """\
route:
  receiver: team
  routes:
    - matchers: [severity="critical"]
      receiver: pager
    - matchers: [severity="warning"]
      mute_time_intervals: [nights]
inhibit_rules:
  - {source_matchers: [severity="critical"], target_matchers: [severity="warning"], equal: [job]}
time_intervals:
  - {name: nights, time_intervals: [{times: [{start_time: "22:00", end_time: "24:00"}]}]}
  - {name: unused, time_intervals: [{months: [may]}]}
receivers: [{name: team}, {name: pager}]
"""
RULES = """\
groups:
  - name: one
    rules:
      - {alert: Bad, expr: a > 1, labels: {severity: critical, team: db}}
      - {alert: Odd, expr: a > 1, labels: {severity: warning}}
"""
WARNING = "{name: w, alert: {alertname: Odd, severity: warning, job: a}, "


def kinds(folder: Path, tests: str) -> set[tuple[str, str, str]]:
    """What is not covered."""
    (folder / "alertmanager.yml").write_text(ALERTMANAGER)
    (folder / "rules.yml").write_text(RULES)
    (folder / "routes.yml").write_text(f"alertmanager: alertmanager.yml\ntests: [{tests}]\n")
    told = measure([folder / "routes.yml"], [], suite.rules_in(folder / "rules.yml"))
    assert len(told.points) == 3 + 2 + 2 + 2
    return {(one.subject, one.title.rpartition(" ")[2], one.kind) for one in told.points if not one.covered}


INHIBITION = ("inhibition", '{severity="warning"}')
NIGHTS = ("interval", "nights")


def test_what_is_covered(tmp_path: Path) -> None:
    everything = {
        ("route", "route", "taken"), ("route", '{severity="critical"}', "taken"),
        ("route", '{severity="warning"}', "taken"), (*INHIBITION, "inhibits"), (*INHIBITION, "spares"),
        (*NIGHTS, "inside"), (*NIGHTS, "outside"), ("alert", "Bad", "destination"), ("alert", "Odd", "destination"),
    }  # fmt: skip
    root = {("route", "route", "taken")}
    assert kinds(tmp_path, "{name: a, alert: {alertname: Bad}, receivers: [team]}") == everything - root
    critical = {("route", '{severity="critical"}', "taken"), ("alert", "Bad", "destination")}
    told = kinds(tmp_path, "{name: a, alert: {alertname: Bad, severity: critical}, receivers: [pager]}")
    assert told == everything - critical
    warning = {("route", '{severity="warning"}', "taken"), ("alert", "Odd", "destination")}
    told = kinds(tmp_path, WARNING + "at: '2026-01-01T23:00', receivers: []}")
    assert told == everything - warning - {(*NIGHTS, "inside")}
    told = kinds(tmp_path, WARNING + "at: '2026-01-01T21:00', receivers: [team]}")
    assert told == everything - warning - {(*NIGHTS, "outside")}
    told = kinds(tmp_path, WARNING + "beside: [{severity: critical, job: a}], receivers: []}")
    assert told == everything - warning - {(*INHIBITION, "inhibits")}
    told = kinds(tmp_path, WARNING + "beside: [{severity: critical, job: b}], receivers: [team]}")
    assert told == everything - warning - {(*INHIBITION, "spares")}


def run(folder: Path, *arguments: str) -> Result:
    """What `upcheck rules coverage` says."""
    return CliRunner().invoke(main, ["rules", "coverage", str(folder), *arguments])


def test_what_is_not_covered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPCHECK_TOOLS", str(ROOT / ".tools"))
    monkeypatch.chdir(tmp_path)
    kinds(tmp_path, "{name: a, alert: {alertname: Badd, severity: critical}, receivers: [pager]}")
    told = run(tmp_path, "--fail-under=0.5")
    assert told.exit_code == 1
    for line in (
        'route {severity="warning"}  alertmanager.yml:6\n  no test sends an alert that ends up here\n',
        "time interval nights  alertmanager.yml:11\n  no test stands inside it on a route that names it: ",
        "alert Bad  rules.yml:4\n  no route test says who is told of it\n",
        "note  routes.yml:2: no rule has the alert Badd; did you mean 'Bad'?\n",
        "2 rules, 3 routes   1 of ",
    ):
        assert line in told.output
    facts = json.loads(run(tmp_path, "--json").output)
    routes = [one for one in facts["points"] if "route" in one]
    assert [(one["route"], one["state"]) for one in routes] == [
        ("route", "never"), ('route {severity="critical"}', "asserted"), ('route {severity="warning"}', "never"),
    ]  # fmt: skip


def test_a_configuration_that_no_test_names_counts(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text(ALERTMANAGER)
    told = measure([], [tmp_path / "alertmanager.yml"])
    assert len(told.points) == 7
    assert not any(one.covered for one in told.points)


def test_each_alert_that_ships_has_a_destination() -> None:
    there = find([ROOT / "monitoring", ROOT / "rules_tests"])
    rules = [rule for path in there.rules for rule in suite.rules_in(path)]
    told = measure(there.routes, there.alertmanager, rules)
    assert {one.title for one in told.points if one.subject == "alert"} == {
        rule.name.text for rule in rules if rule.name.kind == "alert"
    }
    assert [f"{one.title}: {one.missing}" for one in told.points if not one.covered] == []
