"""What must hold of the stack itself, asked of its Prometheus at STACK_URL. What it alerts on is nothing without it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from upcheck import check, documents, settings
from upcheck.prometheus import Prometheus, Sample
from upcheck.rules.suite import seconds
from upcheck.stack.configuration import missing_secrets

MOST_SERIES = 1_000_000  # in the head: 2 GB of memory
LEAST_DISK = 0.10  # of the file system that has the samples
SKEW = 5.0  # seconds between two clocks
UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")  # Prometheus': of 1,024 each

URL = os.environ["STACK_URL"].rstrip("/")
if not re.match(r"https?://[^/]", URL):
    raise pytest.UsageError(f"STACK_URL: expected http://HOST:PORT, not {URL!r}")
SETTINGS = settings.here()
CONFIGURATION = SETTINGS.monitoring / "prometheus/prometheus.yml"

Ask = Callable[[str], Any]


@pytest.fixture
def ask(http: httpx.Client) -> Ask:
    """`ask("targets")`: the data of /api/v1/targets."""

    def asked(path: str) -> Any:
        answer = http.get(f"{URL}/api/v1/{path}")
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}"
        return answer.json()["data"]

    return asked


def query(expression: str) -> list[Sample]:
    """What *expression* comes to now."""
    return Prometheus(URL).query(expression)


def bad(expression: str, *names: str) -> Mapping[str, float]:
    """The series of *expression*, which has some where something is wrong, by the values of the labels *names*."""
    return {" ".join(one.labels.get(name, "") for name in names): one.value for one in query(expression)}


def said(found: Mapping[str, object]) -> str:
    """What is wrong, in a line: of what, and what is known of it."""
    return "; ".join(f"{name}: {value}" for name, value in found.items())


def missing() -> list[str]:
    """A sentence for each secret of Alertmanager's that is not there; none in a container, which may not look."""
    secrets = SETTINGS.monitoring / "alertmanager/secrets"
    if secrets.is_dir() and not os.access(secrets, os.X_OK):
        return []
    return [f"{path} is missing" for path in missing_secrets(SETTINGS)]


def rules_of_repo() -> list[tuple[str, str]]:
    """Group and name of each rule that the repo's prometheus.yml loads."""
    patterns = documents.load(CONFIGURATION).get("rule_files") or ()
    files = sorted({file for pattern in patterns for file in CONFIGURATION.parent.glob(str(pattern))})
    groups = [group for file in files for group in documents.load(file)["groups"]]
    return sorted(
        (str(group["name"]), str(rule.get("alert") or rule["record"])) for group in groups for rule in group["rules"]
    )


def jobs_of_repo() -> set[str]:
    """The jobs for which the repo's prometheus.yml itself names targets."""
    jobs = documents.load(CONFIGURATION).get("scrape_configs") or ()
    return {job["job_name"] for job in jobs if any(one.get("targets") for one in job.get("static_configs") or ())}


@check(every="15s", timeout="5s")
def test_every_target_is_up(ask: Ask) -> None:
    targets = ask("targets?state=active")["activeTargets"]
    assert targets, "Prometheus scrapes nothing: prometheus.yml names no target"
    left_out = jobs_of_repo() - {one["scrapePool"] for one in targets}
    assert not left_out, f"Prometheus has no target of {', '.join(sorted(left_out))}: its log says why"
    down = {one["scrapeUrl"]: one["lastError"] for one in targets if one["health"] == "down"}
    assert not down, f"can't be scraped: {said(down)}"


@check(every="1m", timeout="5s")
def test_the_rules_of_the_repo_are_loaded(ask: Ask) -> None:
    groups = ask("rules")["groups"]
    loaded = sorted((group["name"], rule["name"]) for group in groups for rule in group["rules"])
    assert loaded == rules_of_repo(), "`upcheck stack restart` takes over what has changed"


@check(every="1m", timeout="5s")
def test_every_rule_is_evaluated(ask: Ask) -> None:
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    broken = {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] == "err"}
    assert not broken, f"can't be evaluated: {said(broken)}"


@check(every="1m", timeout="5s", severity="warning")
def test_rules_are_evaluated_within_their_interval(ask: Ask) -> None:
    groups = ask("rules")["groups"]
    slow = {one["name"]: one["evaluationTime"] for one in groups if one["evaluationTime"] > one["interval"]}
    assert not slow, f"groups that take longer than their interval, in seconds: {said(slow)}"


@check(every="15s", timeout="5s")
def test_prometheus_has_an_alertmanager(ask: Ask) -> None:
    assert ask("alertmanagers")["activeAlertmanagers"], "Prometheus finds none: `alerting` in prometheus.yml names it"


@check(every="1m", timeout="5s")
def test_every_alert_reaches_alertmanager() -> None:
    # What is dropped at the start, or as a configuration is taken over, is sent again within the minute.
    begun = "unless on (instance) (time() - prometheus_config_last_reload_success_timestamp_seconds < 330)"
    dropped = f"increase(prometheus_notifications_dropped_total[5m]) > 0 {begun}"
    found = bad(f"increase(prometheus_notifications_errors_total[5m]) > 0 or {dropped}", "instance", "alertmanager")
    assert not found, f"alerts lost in 5 min, `upcheck stack logs prometheus` says why: {said(found)}"


@check(every="1m", timeout="5s")
def test_every_receiver_takes_its_messages() -> None:
    failed = "sum by (integration) (increase(alertmanager_notifications_failed_total[5m])) > 0"
    # What is told of this check itself fails there, too: alone, it would keep itself going for ever.
    fired = 'max_over_time(ALERTS{alertstate="firing", alertname!="Watchdog", check%s".*::test_every_receiver.*"}[5m])'
    fed = f"{fired % '=~'} unless on () {fired % '!~'}"
    counts = bad(f"{failed} unless on () ({fed})", "integration")
    found = [f"{name}: {count:.2f} failed in 5 min" for name, count in counts.items()]
    assert not found, f"{'; '.join([*found, *missing()])}: `upcheck stack logs alertmanager` says why"


@check(every="1m", timeout="5s")
def test_configurations_were_taken_over() -> None:
    told = query('{__name__=~"(prometheus|alertmanager)_config_last_reload_successful"}')
    assert len(told) >= 2
    refused = [one.labels["job"] for one in told if one.value != 1]
    assert not refused, f"the last configuration was refused by {', '.join(refused)}: its log says why"


@check(every="1m", timeout="5s")
def test_samples_are_kept_as_set(ask: Ask, http: httpx.Client) -> None:
    assert seconds(ask("status/flags")["storage.tsdb.retention.time"]) == seconds(SETTINGS.tsdb_retention)
    number, unit = re.findall(r"[0-9]+|[A-Z]+", SETTINGS.tsdb_size)
    wanted = int(number) * 1024 ** UNITS.index(unit)
    page = http.get(f"{URL}/metrics").text  # a sample of it may be of before a restart
    limits = re.findall(r"^prometheus_tsdb_retention_limit_bytes (.*)$", page, re.MULTILINE)
    assert [float(one) for one in limits] == [wanted]


@check(every="1m", timeout="5s", severity="warning")
def test_series_are_not_too_many(ask: Ask) -> None:
    assert ask("status/tsdb")["headStats"]["numSeries"] <= MOST_SERIES


@check(every="1m", timeout="5s")
def test_what_is_written_down_is_whole() -> None:
    broken = '{__name__=~"prometheus_tsdb_(wal_corruptions|wal_writes_failed|compactions_failed)_total"}'
    assert query(broken)
    found = bad(f"{broken} > 0", "__name__", "instance")
    assert not found, f"samples may be lost, `upcheck stack logs prometheus` says which: {said(found)}"


@check(every="1m", timeout="5s")
def test_disk_has_room_for_samples(ask: Ask) -> None:
    data = Path(ask("status/flags")["storage.tsdb.path"])
    share = query("node_filesystem_avail_bytes / node_filesystem_size_bytes")
    left = {one.labels["mountpoint"]: one.value for one in share}
    mountpoint = max((one for one in left if data.is_relative_to(one)), key=len, default=None)
    assert mountpoint, f"no collector, and no node_exporter, tells of the file system that has {data}"
    assert left[mountpoint] >= LEAST_DISK, f"{data} is on {mountpoint}"


@check(every="1m", timeout="5s", severity="warning")
def test_clocks_agree() -> None:
    began = time.time()
    (told,) = query("time()")
    assert began - SKEW <= told.value <= time.time() + SKEW
