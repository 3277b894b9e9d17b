"""Dashboards as Grafana exports them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rules.contract.conftest import Run, marked

HERE = Path(__file__).parent
OVERVIEW = (HERE / "overview.json").read_text()


def found(held: Run, text: str) -> list[tuple[str, str, str, int]]:
    """Each finding's check, what is under its caret, its place and its line."""
    report = held({"dashboard.json": text})
    assert [str(one) for one in report.unreadable] == []
    under = [text for _, text in marked(report.findings)]
    return [(one.check, what, one.place, one.line) for one, what in zip(report.findings, under, strict=True)]


def test_every_expression_of_a_dashboard_is_held_against_what_is_produced(held: Run) -> None:
    assert found(held, OVERVIEW) == [
        ("unknown-metric", "http_request_total", "'Errors' $.__elements.f1b0c3.model.targets[0].expr", 10),
        ("unknown-label", "zone", "'Requests' $.panels[0].panels[0].targets[0].expr", 38),
        ("short-range", "$__interval", "'Requests' $.panels[0].panels[0].targets[1].expr", 42),
        ("unknown-label", "http_requests_total", "'route' $.templating.list[1].definition", 73),
        ("unknown-metric", "http_in_fligt", "'heavy' $.templating.list[3].query", 79),
    ]


def test_what_a_variable_hides_could_not_be_checked_and_is_no_finding(held: Run) -> None:
    report = held({"dashboard.json": OVERVIEW})
    assert [one.sentence for one in report.unknown] == [
        "no exporter was given that has metrics beginning with process_"
    ]


def test_an_expression_is_shown_as_it_is_written(held: Run) -> None:
    report = held({"dashboard.json": OVERVIEW})
    assert [one.excerpt for one in report.findings] == [
        'sum(rate(http_request_total{status=~"5.."}[$__rate_interval]))',
        '  rate(http_requests_total{job=~"$job", status=~"[[status]]", "zone"="a"}[${window:raw}])',
        'rate(http_requests_total{method="${method:regex}"}[$__interval])',
        'label_values(http_requests_total{job="$job"}, route)',
        "query_result(topk(3, http_in_fligt))",
    ]


def test_a_position_in_json_is_that_of_the_character(held: Run) -> None:
    report = held({"dashboard.json": OVERVIEW})
    line = OVERVIEW.split("\n")
    places = [line[one.line - 1][one.column - 1 :] for one in report.findings]
    assert [place.split("{")[0].split("[")[0] for place in places] == [
        "http_request_total",
        'zone\\"=\\"a\\"}',
        '$__interval])", "refId": "B"},',
        "http_requests_total",
        'http_in_fligt))", "type": "query"},',
    ]


def test_a_dashboard_of_old_and_without_line_ends(held: Run) -> None:
    text = (HERE / "classic.json").read_text()
    assert found(held, text) == [
        ("unknown-metric", "node_load50", "'Load' $.dashboard.rows[0].panels[0].targets[1].expr", 1)
    ]
    (finding,) = held({"dashboard.json": text}).findings
    assert text[finding.column - 1 :].startswith("node_load50")


def test_a_dashboard_reads_what_rules_record(held: Run) -> None:
    rules = "groups: [{name: g, rules: [{record: 'a:load:sum', expr: sum(node_load5)}]}]"
    assert marked(held({"a.yml": rules}).findings) == [("dead-recording-rule", "a:load:sum")]
    board = json.dumps({"panels": [{"title": "A", "targets": [{"expr": "a:load:sum"}]}]})
    assert held({"a.yml": rules, "b.json": board}).findings == []


@pytest.mark.parametrize("text", ['{"name": "package"}', "[1, 2]", '{"panels": []}'])
def test_other_json_is_left_alone(held: Run, text: str) -> None:
    report = held({"a.json": text})
    assert (report.queries, report.findings, report.unreadable) == (0, [], [])


def test_what_is_no_json_is_told(held: Run) -> None:
    report = held({"a.json": '{"panels": [}'})
    assert "a.json:1:13: not JSON" in str(report.unreadable[0])
