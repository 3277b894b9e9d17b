"""checks/stack: all hold of a real stack that is well; where something is broken, the check that is about it fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.stack.conftest import Repo, Started
from tests.waiting import eventually
from upcheck import alertmanager as api
from upcheck.history import History
from upcheck.prometheus import Prometheus
from upcheck.servers import free_port, prometheus
from upcheck.servers.exporter import exporter
from upcheck.servers.loopback import Answer, Loopback
from upcheck.settings import Settings

pytestmark = pytest.mark.slow

WATCHDOG = {"alertname": "Watchdog", "severity": "info", "resource": "alerting"}
BROKEN = "groups: [{name: broken, rules: [{record: a:b, expr: node_cpu_seconds_total + on () node_cpu_seconds_total}]}]"


def checked(repo: Repo, **environ: str) -> dict[str, str]:
    """Run checks/stack: what came of each, by its name."""
    results = repo.path / "results"
    results.unlink(missing_ok=True)
    told = {
        **{name: value for name, value in os.environ.items() if not name.startswith("UPCHECK_")},
        "STACK_URL": repo.url("prometheus"), "STACK_ALERTMANAGER_URL": repo.url("alertmanager"),
        "UPCHECK_HISTORY": str(repo.path / "history-of-tests"),
    } | environ  # fmt: skip
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--results={results}", "checks/stack"]
    ran = subprocess.run(argv, cwd=repo.path, env=told, capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    found = {one["check"].rpartition("::")[2]: one["outcome"] for one in lines if "outcome" in one}
    assert found, ran.stdout
    return found


def failing(repo: Repo, **environ: str) -> set[str]:
    return {name for name, outcome in checked(repo, **environ).items() if outcome != "held"}


@pytest.fixture(scope="module")
def well(stack: Started) -> Repo:
    """The repo of a stack whose watchdog has been told, and whose Prometheus has scraped itself and Alertmanager."""
    repo = stack.repo
    assert stack.said.returncode == 0, stack.said.stderr
    # As Prometheus does it, which would take a minute: it fired before Alertmanager had been found.
    assert api.push(repo.url("alertmanager"), [{"labels": WATCHDOG}]) is None
    report = repo.path / ".upcheck/push/watchdog.json"
    eventually(report.exists, lambda: "the watchdog is not told")
    asked = Prometheus(repo.url("prometheus"))
    eventually(lambda: len(asked.query("up == 1")) == 5, lambda: asked.query("up"))
    eventually(lambda: asked.query("instance:node_memory_utilisation:ratio"), lambda: "no rule was evaluated")
    return repo


@pytest.fixture(autouse=True)
def found(well: Repo) -> None:
    """A test before this may have reloaded Prometheus."""
    wait_for_alertmanager(well)


def wait_for_alertmanager(well: Repo) -> None:
    """Prometheus looks for Alertmanagers anew when it has been reloaded."""
    url = f"{well.url('prometheus')}/api/v1/alertmanagers"
    eventually(lambda: httpx.get(url, trust_env=False).json()["data"]["activeAlertmanagers"], lambda: "no Alertmanager")


def test_all_hold_where_all_is_well(well: Repo) -> None:
    found = checked(well)
    assert {name: outcome for name, outcome in found.items() if outcome != "held"} == {}
    assert len(found) == 16


def test_the_watch_of_the_stack_runs_them(well: Repo) -> None:
    def known() -> set[str]:
        with History(well.path / ".upcheck/history.sqlite", read_only=True) as history:
            return {one.partition("checks/stack/")[2] for one in history.names()}

    wanted = {"test_stack.py::test_every_target_is_up", "alertmanager.yml::alertmanager is ready"}
    eventually(lambda: wanted <= known(), known, 40)


@contextlib.contextmanager
def edited(path: Path, text: str, told: Callable[[], object]) -> Iterator[None]:
    """*path* with *text*, of which somebody is *told*, as long as the block lasts."""
    before = path.read_text() if path.exists() else None
    path.write_text(text)
    try:
        told()
        yield
    finally:
        path.unlink() if before is None else path.write_text(before)
        told()


def reload(repo: Repo, name: str = "prometheus") -> None:
    os.kill(repo.pid(name), signal.SIGHUP)


def test_up_of_a_stack_that_runs_has_it_scrape_what_the_catalogue_says_now(well: Repo) -> None:
    asked = Prometheus(well.url("prometheus"))
    place = well.path / "monitoring/services/coderunner.yml"
    with exporter(lambda _: "coderunner_up 1\n") as service:
        text = f"{place.read_text()}\nscrape: [http://{service.address}/metrics]\n"
        with edited(place, text, lambda: well.upcheck("up")):
            eventually(lambda: asked.query('up{job="services", service="coderunner"} == 1'), lambda: asked.query("up"))
    eventually(lambda: not asked.query('up{job="services"}'), lambda: asked.query("up"))


def test_a_target_that_hangs(well: Repo) -> None:
    os.kill(well.pid("node_exporter"), signal.SIGSTOP)
    try:
        asked = Prometheus(well.url("prometheus"))
        eventually(lambda: asked.query('up{job="node"} == 0'), lambda: asked.query("up"))
        assert failing(well) == {"test_every_target_is_up"}
    finally:
        os.kill(well.pid("node_exporter"), signal.SIGCONT)
    eventually(lambda: asked.query('up{job="node"} == 1'), lambda: asked.query("up"))


def test_a_rule_that_fails_and_rules_that_are_not_the_repo_s(well: Repo) -> None:
    name = "prometheus/rules/broken.yml"
    asked = Prometheus(well.url("prometheus"))
    failed = "prometheus_rule_evaluation_failures_total > 0"
    with edited(well.record.configuration / name, BROKEN, lambda: reload(well)):
        with edited(well.path / "monitoring" / name, BROKEN, lambda: None):
            eventually(lambda: asked.query(failed), lambda: "it does not fail")
            wait_for_alertmanager(well)
            assert failing(well) == {"test_every_rule_is_evaluated"}
        assert failing(well) == {"test_every_rule_is_evaluated", "test_the_rules_of_the_repo_are_loaded"}


def test_a_configuration_that_is_refused(well: Repo) -> None:
    asked = Prometheus(well.url("prometheus"))
    place = well.record.configuration / "prometheus/prometheus.yml"
    with edited(place, "nothing: of this", lambda: reload(well)):
        eventually(lambda: asked.query("prometheus_config_last_reload_successful == 0"), lambda: "it was taken")
        assert failing(well) == {"test_configurations_were_taken_over"}
    eventually(lambda: asked.query("prometheus_config_last_reload_successful == 1"), lambda: "it was not taken")


@pytest.mark.parametrize("name", ["UPCHECK_TSDB_RETENTION", "UPCHECK_TSDB_SIZE"])
def test_samples_that_are_kept_otherwise_than_set(well: Repo, name: str) -> None:
    assert failing(well, **{name: {"UPCHECK_TSDB_SIZE": "512MB"}.get(name, "30d")}) == {"test_samples_are_kept_as_set"}


def test_a_watchdog_that_is_told_no_more(well: Repo, tmp_path: Path) -> None:
    said = json.loads((well.path / ".upcheck/push/watchdog.json").read_text())
    (tmp_path / "watchdog.json").write_text(json.dumps(said | {"moment": time.time() - 150}))
    assert failing(well, UPCHECK_PUSH=str(tmp_path)) == {"the watchdog is told"}


def test_an_alertmanager_that_is_gone(well: Repo) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    assert failing(well, STACK_ALERTMANAGER_URL=gone) == {"alertmanager is ready"}


def test_grafana_its_data_source_and_its_dashboards(well: Repo) -> None:
    """Grafana is a stand-in: no package has it."""
    answers: dict[str, Any] = {
        "/api/health": {"database": "ok"},
        "/api/datasources/uid/prometheus/health": {"status": "OK"},
    }
    for file in (ROOT / "monitoring/grafana/dashboards").rglob("*.json"):
        known = json.loads(file.read_text())
        told = {"meta": {"folderTitle": file.parent.name}, "dashboard": known}
        answers[f"/api/dashboards/uid/{known['uid']}"] = told

    def answer(path: str, _: bytes) -> Answer:
        return 200 if path in answers else 404, "application/json", json.dumps(answers.get(path)).encode()

    with Loopback(answer) as grafana:
        url = f"http://admin:secret@{grafana.address}"
        found = checked(well, STACK_GRAFANA_URL=url)
        assert (found["grafana is well"], found["grafana reaches prometheus"]) == ("held", "held")
        shown = {name for name, outcome in found.items() if name.startswith("test_dashboard_") and outcome == "held"}
        assert len(shown) == 15
        answers["/api/datasources/uid/prometheus/health"] = {"status": "ERROR"}
        del answers["/api/dashboards/uid/coderunner"]
        answers["/api/dashboards/uid/codesync"]["dashboard"]["panels"].pop()
        assert failing(well, STACK_GRAFANA_URL=url) == {
            "grafana reaches prometheus",
            "test_dashboard_is_as_the_repo_has_it[coderunner]",
            "test_dashboard_is_as_the_repo_has_it[codesync]",
        }


@contextlib.contextmanager
def scraping(page: Callable[[str], str], folder: Path, rising: str) -> Iterator[str]:
    """A real Prometheus that scrapes *page*, once it knows that the counter *rising* does."""
    with exporter(page) as trouble:
        said = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: trouble, static_configs: [{targets: "
        (folder / "p.yml").write_text(f"{said}['{trouble.address}']}}]}}]\n")
        with prometheus(Settings.load(ROOT, {}), folder / "p.yml", folder / "p") as url:
            asked = Prometheus(url)
            eventually(lambda: asked.query(f"increase({rising}[5m]) > 0"), lambda: "nothing is scraped")
            yield url


def test_what_a_prometheus_says_of_itself_that_is_not_well(well: Repo, tmp_path: Path) -> None:
    """A real Prometheus scrapes what one would say that is in trouble: such can't be made in seconds."""
    began = time.monotonic()

    def page(_: str) -> str:
        grown = time.monotonic() - began
        return (
            "prometheus_tsdb_wal_corruptions_total 1\n"
            f'prometheus_notifications_errors_total{{alertmanager="a"}} {grown}\n'
            f'alertmanager_notifications_failed_total{{integration="slack"}} {grown}\n'
            'node_filesystem_avail_bytes{mountpoint="/"} 9\nnode_filesystem_size_bytes{mountpoint="/"} 100\n'
        )

    with scraping(page, tmp_path, "prometheus_notifications_errors_total") as url:
        assert failing(well, STACK_URL=url) >= {
            "test_what_is_written_down_is_whole",
            "test_every_alert_reaches_alertmanager",
            "test_every_receiver_takes_its_messages",
            "test_disk_has_room_for_samples",
            "test_prometheus_has_an_alertmanager",
        }


@pytest.mark.parametrize(("age", "outcome"), [(60, "held"), (600, "failed")])
def test_what_is_dropped_as_a_configuration_is_taken_over_is_sent_again(
    well: Repo, tmp_path: Path, age: float, outcome: str
) -> None:
    began = time.time()

    def page(_: str) -> str:
        taken = f"prometheus_config_last_reload_success_timestamp_seconds {began - age}\n"
        return f"{taken}prometheus_notifications_dropped_total {time.time() - began}\n"

    with scraping(page, tmp_path, "prometheus_notifications_dropped_total") as url:
        assert checked(well, STACK_URL=url)["test_every_alert_reaches_alertmanager"] == outcome


OWN = 'ALERTS{alertstate="firing",alertname="CheckDown",check="a.py::test_every_receiver_takes_its_messages"} 1'
OTHER = 'ALERTS{alertstate="firing",alertname="TargetDown"} 1'
ALWAYS = 'ALERTS{alertstate="firing",alertname="Watchdog"} 1'


@pytest.mark.parametrize(
    ("alerts", "outcome"),
    [((OWN, ALWAYS), "held"), ((OWN, OTHER), "failed"), ((ALWAYS,), "failed")],
    ids=["its own alone", "another's too", "nobody knows whose"],
)
def test_what_is_told_of_receivers_does_not_keep_itself_going(
    well: Repo, tmp_path: Path, alerts: tuple[str, ...], outcome: str
) -> None:
    """Failures as Alertmanager counts them, whoever's message it was; which alerts fire is what differs."""
    began = time.monotonic()

    def page(_: str) -> str:
        failed = f'alertmanager_notifications_failed_total{{integration="pagerduty"}} {time.monotonic() - began}'
        return "\n".join((failed, *alerts, ""))

    with scraping(page, tmp_path, "alertmanager_notifications_failed_total") as url:
        assert checked(well, STACK_URL=url)["test_every_receiver_takes_its_messages"] == outcome
    told = (well.path / "results").read_text()
    assert ("pagerduty: " in told and "secrets/pagerduty-key is missing" in told) is (outcome == "failed")


def test_an_address_that_is_none_is_told_in_one_sentence(well: Repo) -> None:
    assert set(checked(well, STACK_URL="127.0.0.1:9090").values()) == {"error", "held"}
    told = (well.path / "results").read_text()
    assert "STACK_URL: expected http://HOST:PORT, not '127.0.0.1:9090'" in told
    assert "::test_" not in told
