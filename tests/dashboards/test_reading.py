"""A dashboard's YAML: how it is laid out, what it takes from alerts, and what is told of mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.test_docs import blocks
from upcheck.cli import main
from upcheck.dashboards import Dashboard, files
from upcheck.dashboards.conditions import Conditions
from upcheck.dashboards.reading import load
from upcheck.documents import DocumentError

RULES = """
groups:
  - name: shop
    rules:
      - alert: Slow
        expr: histogram_quantile(0.95, sum by (le) (rate(shop_seconds_bucket[5m]))) > 1
        labels: {severity: warning}
        annotations: {runbook_url: "https://docs.example.com/runbooks/shop.md#slow"}
      - alert: VerySlow
        expr: 5 < histogram_quantile(0.95, sum by (le) (rate(shop_seconds_bucket[5m])))
        labels: {severity: critical}
      - alert: CacheCold
        expr: (shop_cache_ratio < 0.9) and on () shop_open == 1
        labels: {severity: low}
      - alert: CacheDead
        expr: shop_cache_ratio <= -0.5
        labels: {severity: critical}
      - alert: Down
        expr: shop_up == 0
        labels: {severity: critical}
      - alert: Odd
        expr: shop_state{state="odd"}
"""
HEAD = "title: Shop\nfolder: Shop\nabout: The shop.\nrows:\n  - title: One\n    panels:\n"
Read = Callable[..., Dashboard]


@pytest.fixture
def monitoring(tmp_path: Path) -> Path:
    (tmp_path / "monitoring/prometheus/rules").mkdir(parents=True)
    (tmp_path / "monitoring/grafana").mkdir()
    (tmp_path / "monitoring/prometheus/rules/shop.yml").write_text(RULES)
    (tmp_path / "pyproject.toml").write_text("[tool.upcheck]\n")
    return tmp_path / "monitoring"


@pytest.fixture
def read(monitoring: Path) -> Read:
    def panels(*told: str) -> Dashboard:
        path = monitoring / "grafana/shop.yml"
        path.write_text(HEAD + "".join(f"      - {{{one}}}\n" for one in told))
        return load(path, Conditions(monitoring / "prometheus/rules"))

    return panels


def panel(title: str, *more: str) -> str:
    return ", ".join((f"title: {title}", "about: It is so.", *more))


def made(monitoring: Path) -> dict[str, Any]:
    (text,) = files.made(monitoring).values()
    read: dict[str, Any] = json.loads(text)
    return read["panels"][1]["fieldConfig"]["defaults"]  # type: ignore[no-any-return]


def test_a_panel_has_what_its_alert_compares_unless_it_says_otherwise(read: Read) -> None:
    own, other = read(
        panel("A", "unit: seconds, alert: [Slow, VerySlow]"), panel("B", "unit: ratio, alert: CacheCold, query: up")
    ).panels
    assert own.queries == (("A", "histogram_quantile(0.95, sum by (le) (rate(shop_seconds_bucket[5m])))"),)
    assert [one.threshold for one in own.conditions] == [(">", 1.0, "orange"), (">", 5.0, "red")]
    assert [one.runbook for one in own.conditions] == ["https://docs.example.com/runbooks/shop.md#slow", ""]
    assert other.queries == (("B", "up"),)
    assert [one.threshold for one in other.conditions] == [("<", 0.9, "yellow")]


@pytest.mark.parametrize(
    ("told", "steps", "words"),
    [
        (
            "unit: seconds, alert: [VerySlow, Slow]",
            [(None, "green"), (1.0, "orange"), (5.0, "red")],
            {"1": "green", "5": "orange"},  # at the threshold itself the alert does not fire
        ),
        (
            "unit: ratio, alert: [CacheCold, CacheDead]",
            [(None, "red"), (-0.5, "yellow"), (0.9, "green")],
            {"-0.5": "red"},
        ),
        ("unit: up, alert: Down", [(None, "green")], {"0": "red", "1": "green"}),
        ("unit: count, query: up", [(None, "blue")], {}),
    ],
)
def test_colours_change_where_alerts_fire(
    read: Read, monitoring: Path, told: str, steps: list[tuple[float | None, str]], words: dict[str, str]
) -> None:
    read(panel("A", told))
    defaults = made(monitoring)
    assert [(one["value"], one["color"]) for one in defaults["thresholds"]["steps"]] == steps
    options = defaults["mappings"][0]["options"] if words else {}
    assert {value: one["color"] for value, one in options.items()} == words


def test_the_example_of_the_page_is_read(monitoring: Path) -> None:
    (text,) = blocks(ROOT / "docs/dashboards.md", "yaml")
    (monitoring / "prometheus/rules/shop.yml").write_text(
        RULES.replace(" Slow\n", " ShopSlow\n").replace("VeryS", "ShopVeryS")
    )
    (monitoring / "grafana/example.yml").write_text(text)
    dashboard = load(monitoring / "grafana/example.yml", Conditions(monitoring / "prometheus/rules"))
    assert [one.title for one in dashboard.panels] == ["Latency", "Requests by route"]
    assert [one.threshold.value for one in dashboard.panels[0].conditions] == [1.0, 5.0]


def test_a_variable_is_a_choice_in_grafana_and_stands_for_all_elsewhere(monitoring: Path) -> None:
    told = HEAD.replace("rows:", "variables: {route: shop_total}\nrows:")
    (monitoring / "grafana/shop.yml").write_text(
        told + """      - {title: A, about: It., unit: count, query: 'shop_total{route=~"$route"}'}\n"""
    )
    dashboard = load(monitoring / "grafana/shop.yml", Conditions(monitoring / "prometheus/rules"))
    assert dashboard.with_all().panels[0].queries == (("A", 'shop_total{route=~".*"}'),)
    (text,) = files.made(monitoring).values()
    (_, variable) = json.loads(text)["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("route", "label_values(shop_total, route)")
    assert variable["includeAll"]


def test_panels_stand_side_by_side_for_as_long_as_there_is_room(read: Read) -> None:
    found = read(
        panel("A", "unit: up, query: up, kind: stat"),
        panel("B", "unit: up, query: up, width: 18"),
        panel("C", "unit: up, query: up"),
    ).panels
    assert [(one.x, one.y, one.width, one.height) for one in found] == [(0, 1, 6, 8), (6, 1, 18, 8), (0, 9, 12, 8)]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("unit: seconds, alert: »Slwo", "alert: there is no alert 'Slwo'; did you mean 'Slow'?"),
        ("unit: seconds, alert: [Slow, »Dwn]", "alert: there is no alert 'Dwn'; did you mean 'Down'?"),
        ("unit: seconds, alert: »shp/Slow", "alert: shp.yml has no alert 'Slow'; did you mean 'shop'?"),
        ("unit: count, alert: »Odd", "the alert 'Odd' compares nothing with a number"),
        ("unit: ratio, alert: [Slow, »CacheCold]", "'Slow' fires at > and 'CacheCold' at <: give each a panel"),
        ("unit: »secnds, query: up", "unit: there is no unit 'secnds'; did you mean 'seconds'?"),
        ("unit: count, query: »'rate(up[5m)'", "query: not PromQL: "),
        ("unit: count, queries: {a: up, b: »sum(}", "b: not PromQL: "),
        ("unit: count, query: up, queries: »{a: up}", "queries: there is a query, too"),
        ("unit: count, queries: {a: up}, legend: »b", "legend: the keys of queries are the legends"),
        ("unit: count, kind: »pie, query: up", "kind: expected lines (the default), stat or bars, not 'pie'"),
        ("unit: count, »qery: up", "unknown key 'qery'; did you mean 'query'?"),
    ],
)
def test_a_mistake_is_told_with_its_place(read: Read, told: str, sentence: str) -> None:
    text = panel("A", told)
    with pytest.raises(DocumentError) as error:
        read(text.replace("»", ""))
    assert sentence in error.value.message
    assert (error.value.line, error.value.column) == (7, len("      - {") + text.index("»") + 1)


def test_a_panel_that_shows_nothing_is_told(read: Read) -> None:
    with pytest.raises(DocumentError, match=r"shop.yml:7:9: 'A' shows nothing: give it a query, queries or an alert"):
        read(panel("A", "unit: count"))


def test_two_panels_of_one_title_are_told(read: Read) -> None:
    with pytest.raises(DocumentError, match=r"shop.yml:8:17: title: a second panel is called 'A'"):
        read(panel("A", "unit: up, query: up"), panel("A", "unit: up, query: up"))


def test_an_alert_of_two_files_must_say_which(read: Read, monitoring: Path) -> None:
    (monitoring / "prometheus/rules/host.yml").write_text(RULES.replace("> 1", "> 2"))
    with pytest.raises(DocumentError, match="several files have an alert 'Slow': write host/Slow or shop/Slow"):
        read(panel("A", "unit: seconds, alert: Slow"))
    (found,) = read(panel("A", "unit: seconds, alert: host/Slow")).panels
    assert [one.threshold.value for one in found.conditions] == [2.0]


def test_the_command_writes_what_changed_and_tells_of_drift(
    read: Read, monitoring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upcheck(*arguments: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(main, ["dashboards", *arguments])
        return result.exit_code, result.output.splitlines()

    monkeypatch.chdir(monitoring.parent)
    read(panel("A", "unit: up, query: up"))
    name = "monitoring/grafana/dashboards/Shop/shop.json"
    assert upcheck("--check") == (1, [f"missing          {name}", "1 to write: type `upcheck dashboards`"])
    assert upcheck() == (0, [f"written          {name}"])
    assert upcheck("--check") == (0, ["nothing to write"])
    path = monitoring.parent / name
    path.write_text(path.read_text().replace('"up"', '"down"'))
    path.with_name("old.json").write_text("{}")
    old = name.replace("shop.json", "old.json")
    assert upcheck("--check")[1][:2] == [f"differs          {name}", f"of no dashboard  {old}"]
    assert upcheck() == (0, [f"written          {name}", f"removed          {old}"])
    assert [one.name for one in path.parent.iterdir()] == ["shop.json"]
    (monitoring / "grafana/shop.yml").write_text(HEAD + f"      - {{{panel('A', 'unit: up, query: up(')}}}\n")
    code, lines = upcheck()
    assert (code, "shop.yml:7:" in lines[-1]) == (2, True)
    (monitoring / "grafana/shop.yml").unlink()
    assert "there is no dashboard in" in upcheck()[1][-1]


def test_without_the_sdk_the_extra_is_named(read: Read, monitoring: Path) -> None:
    read(panel("A", "unit: up, query: up"))
    code = (
        "import sys; sys.modules['grafana_foundation_sdk'] = None; from upcheck.cli import main; main(['dashboards'])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=monitoring.parent, capture_output=True, text=True)
    assert told.returncode == 2
    assert "the extra `grafana` is not installed: pip install 'upcheck[grafana]'" in told.stderr
