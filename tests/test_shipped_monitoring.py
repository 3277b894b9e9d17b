"""What ships, in the real Prometheus and Alertmanager, scraping the real collector."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.waiting import eventually
from upcheck import rules, run
from upcheck.rules import alerts_of, promql, repository, suite
from upcheck.servers import free_port
from upcheck.settings import Settings

MONITORING = ROOT / "monitoring"
RULES = sorted((MONITORING / "prometheus/rules").glob("*.yml"))
ALERTMANAGER = MONITORING / "alertmanager/alertmanager.yml"


def shipped(*files: Path) -> list[dict[str, Any]]:
    """The rules in *files*: all that ship, where none are named."""
    groups = [group for file in files or RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@contextlib.contextmanager
def serving(argv: list[str | Path], url: str, log: Path) -> Iterator[str]:
    """The program *argv* while it serves *url*, ended by us."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(
            lambda: httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200, lambda: log.read_text()[-2000:]
        )
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_for(true: Callable[[], object], told: Callable[[], object]) -> None:
    """Until *true* says so, of what may not listen yet."""

    def answered() -> object:
        with contextlib.suppress(httpx.TransportError):
            return true()
        return None

    eventually(answered, told)


@pytest.fixture(scope="module")
def stack(tool_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of a collector, Prometheus and Alertmanager: the shipped files, with ports and intervals substituted."""
    folder = tmp_path_factory.mktemp("stack")
    ports = {"prometheus": free_port(), "alertmanager": free_port()}
    with contextlib.ExitStack() as running:
        collector = running.enter_context(run.collector(Settings.load(ROOT, {})))
        config = (MONITORING / "prometheus/prometheus.yml").read_text()
        for old, new in (
            ("127.0.0.1:9909", collector.removeprefix("http://")),
            ("127.0.0.1:9093", f"127.0.0.1:{ports['alertmanager']}"),
            ("127.0.0.1:9090", f"127.0.0.1:{ports['prometheus']}"),
            ("rules/*.yml", str(MONITORING / "prometheus/rules/*.yml")),
            ("_interval: 15s", "_interval: 1s"),
        ):
            assert old in config
            config = config.replace(old, new)
        (folder / "prometheus.yml").write_text(config)
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        alertmanager: list[str | Path] = [
            tool_paths["alertmanager"], f"--config.file={ALERTMANAGER}", f"--storage.path={folder / 'alerts'}",
            f"--web.listen-address={addresses['alertmanager']}", "--cluster.listen-address=",
        ]  # fmt: skip
        prometheus: list[str | Path] = [
            tool_paths["prometheus"], f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={addresses['prometheus']}",
        ]  # fmt: skip
        urls = {"collector": collector}
        for name, argv in (("alertmanager", alertmanager), ("prometheus", prometheus)):
            url = f"http://{addresses[name]}"
            urls[name] = running.enter_context(serving(argv, url, folder / f"{name}.log"))
        yield urls


def ask(stack: dict[str, str], path: str, **parameters: str) -> Any:
    response = httpx.get(f"{stack['prometheus']}/api/v1/{path}", params=parameters, trust_env=False)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def test_every_target_is_up(stack: dict[str, str]) -> None:
    def health() -> dict[str, str]:
        return {one["labels"]["job"]: one["health"] for one in ask(stack, "targets")["activeTargets"]}

    ours = {"collector": "up", "prometheus": "up", "alertmanager": "up"}  # the others: tests/stack
    wait_for(lambda: health().items() >= ours.items(), health)
    assert set(health()) == {*ours, "node", "blackbox_exporter"}


def test_node_exporter_leaves_to_the_collector_what_alerts_of_hosts_read() -> None:
    jobs = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (relabelling,) = next(job for job in jobs if job["job_name"] == "node")["metric_relabel_configs"]
    dropped = re.compile(relabelling["regex"])
    assert relabelling["action"] == "drop"
    assert {name for name in read_by_the_rules() if name.startswith("node_") and not dropped.fullmatch(name)} == set()


def test_every_rule_is_loaded_and_evaluates_without_error(stack: dict[str, str]) -> None:
    def loaded() -> list[dict[str, Any]]:
        return [rule for group in ask(stack, "rules")["groups"] for rule in group["rules"]]

    wait_for(lambda: all(rule["health"] == "ok" for rule in loaded()), loaded)
    alerts = {rule["name"] for rule in loaded() if rule["type"] == "alerting"}
    assert alerts == {name for file in RULES for name in alerts_of(file)}
    assert [rule["lastError"] for rule in loaded() if rule.get("lastError")] == []


METRIC = re.compile(
    r"\b(?:node|upcheck|instance:node)_[a-zA-Z0-9_:]+\b|\binstance:[a-z0-9_:]+\b|\bup\b|\bscrape_duration_seconds\b"
)


def read_by_the_rules() -> set[str]:
    expressions = [rule["expr"] for rule in shipped(MONITORING / "prometheus/rules/system.yml")]
    return {name for expression in expressions for name in METRIC.findall(expression)}


@pytest.mark.parametrize("metric", sorted(read_by_the_rules()))
def test_every_metric_that_a_rule_reads_has_a_series(stack: dict[str, str], metric: str) -> None:
    def series() -> Any:
        return ask(stack, "query", query=metric)["result"]

    wait_for(series, lambda: f"{metric} has no series")
    assert {one["metric"]["job"] for one in series()} >= {"collector"}


def test_prometheus_found_the_alertmanager_and_it_runs_what_ships(stack: dict[str, str]) -> None:
    def found() -> list[str]:
        return [one["url"] for one in ask(stack, "alertmanagers")["activeAlertmanagers"]]

    wait_for(found, lambda: "no Alertmanager was discovered")
    assert found() == [f"{stack['alertmanager']}/api/v2/alerts"]
    status = httpx.get(f"{stack['alertmanager']}/api/v2/status", trust_env=False).json()
    assert yaml.safe_load(status["config"]["original"])["route"]["receiver"] == "warning"


@pytest.mark.parametrize("severity", ["critical", "warning", "info"])
def test_an_alert_goes_to_the_receiver_of_its_severity(tool_paths: dict[str, Path], severity: str) -> None:
    argv: list[str | Path] = [
        tool_paths["amtool"],
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER}",
        f"severity={severity}",
    ]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == severity


def test_every_shipped_alert_is_seen_to_fire_and_to_keep_silent() -> None:
    entries = [entry for file in repository.find([ROOT / "rules_tests"]).tests for entry in rules.load(file).entries]
    shipped = {alert for file in MONITORING.rglob("rules/*.yml") for alert in alerts_of(file)}
    assert {alert for entry in entries for alert in entry.fires} == shipped
    assert {alert for entry in entries for alert in entry.silent} == shipped


def test_every_alert_has_a_severity_that_is_routed_and_says_what_to_do() -> None:
    alerts = [rule for rule in shipped() if "alert" in rule]
    for alert in alerts:
        own = alert["alert"] == "CheckDown"  # each check has its own severity, which the metric brings along
        assert own or alert["labels"]["severity"] in {"critical", "high", "warning", "medium", "info", "low"}
        assert {"summary", "description"} <= set(alert["annotations"]), alert["alert"]


def test_the_rule_tests_pass_in_promtool_itself(promtool_path: Path) -> None:
    files = repository.find([ROOT / "rules_tests"]).tests
    argv = [str(promtool_path), "test", "rules", *map(str, files)]
    told = subprocess.run(argv, env=os.environ | {"GOGC": "400"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_no_rule_reads_what_another_group_records() -> None:
    found = [rule for file in RULES for rule in suite.rules_in(file)]
    group: dict[str, object] = {rule.name.text: (rule.file, rule.group) for rule in found if rule.name.kind == "record"}
    assert len(group) > 5
    group |= dict.fromkeys(("ALERTS", "ALERTS_FOR_STATE"))  # of all groups
    races = [  # groups are evaluated at once, so it would pass now and then
        (rule.name.text, name)
        for rule in found
        for name, of in group.items()
        if of != (rule.file, rule.group) and any(promql.reads(selector, name) for selector in rule.selectors)
    ]
    assert races == []


@pytest.mark.usefixtures("tool_paths")
def test_the_checks_hold_under_xdist_too(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with run.collector(Settings.load(ROOT, {})) as url:
        argv = [sys.executable, "-m", "pytest", "-n", "2", f"--target={url}", f"--results={results}"]
        argv += ["checks", "rules_tests/disk.yml", "monitoring"]
        told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout
    outcomes = [json.loads(line).get("outcome") for line in results.read_text().splitlines()]
    assert set(outcomes) - {None} == {"held", "skipped"}, "an SLA has no past here"
