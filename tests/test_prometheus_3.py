"""What ships means the same to Prometheus 2.42 and 3: what can be told without a 3. docs/stack.md says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from upcheck.rules import promql, suite
from upcheck.settings import Settings
from upcheck.stack.services import BINARIES, PORTS, services

MONITORING = ROOT / "monitoring"
CONFIGURATION: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text())
RULES = [rule for file in sorted((MONITORING / "prometheus/rules").glob("*.yml")) for rule in suite.rules_in(file)]
KNOWN = {
    "config.file",
    "storage.tsdb.path",
    "storage.tsdb.retention.time",
    "storage.tsdb.retention.size",
    "web.listen-address",
}
GONE = {"holt_winters"}  # double_exponential_smoothing there, behind a flag
COUNTING = {"count_over_time", "sum_over_time", "present_over_time", "changes", "resets"}  # one sample less, or none


def nodes() -> Iterator[tuple[str, promql.Expr]]:
    for rule in RULES:
        assert rule.tree is not None, rule.expr
        for _, node in promql.walk(rule.tree):
            yield rule.name.text, node


def test_no_function_is_gone_and_none_counts_the_sample_at_the_left_end_of_its_range() -> None:
    called = {(name, node.function) for name, node in nodes() if isinstance(node, promql.Call)}
    assert {(name, function) for name, function in called if function in GONE | COUNTING} == set()


def test_each_range_has_enough_samples_without_that_at_its_left_end() -> None:
    ranges = {node.range for _, node in nodes() if isinstance(node, promql.Selector) and node.range is not None}
    every = suite.seconds(CONFIGURATION["global"]["scrape_interval"])
    assert len(ranges) > 3
    assert min(ranges) >= 4 * every


@pytest.mark.parametrize("path", [path for path in sorted(MONITORING.rglob("*")) if path.suffix in (".yml", ".json")])
def test_buckets_have_the_bounds_that_both_store(path: Path) -> None:
    assert re.findall(r"\ble=\\?\"[0-9]+\\?\"", path.read_text()) == [], 'write le="1.0"'


def test_no_regular_expression_has_a_dot_where_a_line_feed_could_be() -> None:
    matchers = [one for _, node in nodes() if isinstance(node, promql.Selector) for one in node.matchers]
    dotted = {one.value for one in matchers if one.op in ("=~", "!~") and "." in one.value.replace("\\.", "")}
    assert dotted == {"5..", "fixture .+"}, "a status, and the name of a fixture, which is one line"


def test_names_need_no_quotes() -> None:
    names = {node.name for _, node in nodes() if isinstance(node, promql.Selector)}
    assert {name for name in names if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name)} == set()


def test_each_target_has_its_port_and_no_label_a_variable() -> None:
    groups = [one for job in CONFIGURATION["scrape_configs"] for one in job.get("static_configs", ())]
    groups += [one for group in CONFIGURATION["alerting"]["alertmanagers"] for one in group["static_configs"]]
    places = [place for one in groups for place in one["targets"]]
    assert len(places) > 5
    assert [place for place in places if not re.search(r":[0-9]+$", place)] == []
    assert [value for value in CONFIGURATION["global"]["external_labels"].values() if "$" in value] == []


def test_flags_are_known_to_both(tmp_path: Path) -> None:
    found = dict.fromkeys(BINARIES, Path("program"))
    argvs = {one.name: one.argv for one in services(Settings.load(ROOT, {}), PORTS, found, tmp_path, tmp_path)}
    container = yaml.safe_load((MONITORING / "compose.yml").read_text())["services"]["prometheus"]["command"]
    flags = {flag.partition("=")[0] for flag in (*argvs["prometheus"][1:], *container)}
    assert flags == {f"--{name}" for name in KNOWN}
