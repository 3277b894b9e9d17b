"""What a demonstration plays: the files that ship say what the documents name, and a mistake is told at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from upcheck import catalog
from upcheck.demo.scenario import Play, load
from upcheck.documents import DocumentError

SERVICES = catalog.load_all(ROOT / "monitoring/services")
CODESYNC = next(service for service in SERVICES if service.name == "codesync")
# What no fault of a demonstration can show: a disk's week; codex-clone's spans are the collector's, not Prometheus's.
NOT_SHOWN = {"CodexStorageFullWithin30Days"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_alert_of_a_service_is_of_a_fault(service: catalog.Service) -> None:
    rules = yaml.safe_load((ROOT / f"monitoring/prometheus/rules/{service.name}.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    faults = load(service, ROOT / "monitoring/demo").faults.values()
    assert alerts - NOT_SHOWN <= {alert for fault in faults for alert in fault.alerts}


def test_a_fault_says_only_what_is_otherwise() -> None:
    healthy = Play(
        {"request": ({"rate": 2, "status": 200},), "users": ({"kind": "a"}, {"kind": "b"})},
        {"fds": 10},
        {"pg_up": 1},
        host={"cpu": 0.2, "memory": 0.4},
    )
    fault = Play({"request": ({"status": 500},), "users": ({"kind": "c"},)}, {"fds": 99}, {"pg_up": 0}, host={"cpu": 1})
    made = healthy.but(fault)
    assert made.events == {"request": ({"rate": 2, "status": 500},), "users": ({"kind": "c"},)}
    assert (made.metrics, made.exporters, made.host) == ({"fds": 99}, {"pg_up": 0}, {"cpu": 1, "memory": 0.4})


def test_a_series_of_an_exporter_has_a_value_or_grows(tmp_path: Path) -> None:
    fault = "{about: It., alerts: [A], exporters: {pg_xact: {rate: 0}}}"
    text = f"healthy: {{exporters: {{pg_up: 1, pg_xact: {{rate: 35}}}}}}\nfaults: {{a: {fault}}}"
    (tmp_path / "codesync.yml").write_text(text)
    scenario = load(CODESYNC, tmp_path)
    assert (scenario.play().exporters, scenario.play().growing) == ({"pg_up": 1}, {"pg_xact": 35})
    assert scenario.play(["a"]).growing == {"pg_xact": 0}


def test_a_service_without_a_file_is_made_up_and_nothing_fails(tmp_path: Path) -> None:
    scenario = load(CODESYNC, tmp_path)
    assert (scenario.play(["error-rate"]), scenario.faults) == (Play(), {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "healthy: {events: {http_requst: {}}}\nfaults: {}",
            "1:20: codesync has no event 'http_requst'; did you mean 'http_request'?",
        ),
        (
            "healthy: {events: {http_request: {sttus: 500}}}\nfaults: {}",
            "1:35: codesync has no field of http_request 'sttus'; did you mean 'status'?",
        ),
        (
            "healthy: {events: {http_request: [{status: 200}, {sttus: 500}]}}\nfaults: {}",
            "1:51: codesync has no field of http_request 'sttus'; did you mean 'status'?",
        ),
        (
            "healthy: {metrics: {process_open_fd: 5}}\nfaults: {}",
            "1:21: codesync has no metric 'process_open_fd'; did you mean 'process_open_fds'?",
        ),
        (
            "healthy: {}\nfaults:\n  slow: {about: slow, alerts: [A], events: {http_reqest: {seconds: 9}}}",
            "3:45: codesync has no event 'http_reqest'; did you mean 'http_request'?",
        ),
        ("healthy: {}\nfaults: {slow: {about: slow}}", "2:16: lacks 'alerts': a list of the alerts that fire then"),
        ("healthy: {}\nfaults: {slow: {about: slow, alerts: []}}", "expected a list of the alerts that fire then"),
        ("healthy: {host: {cpu: 98}}\nfaults: {}", "1:23: cpu: expected a share from 0 to 1"),
        (
            "healthy: {events: {http_request: {rate: 0}}}\nfaults: {}",
            "1:41: rate: expected how many a second, above zero",
        ),
        ("heathy: {}\nfaults: {}", "unknown key 'heathy'; did you mean 'healthy'?"),
    ],
)
def test_a_mistake_is_told_at_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "codesync.yml").write_text(text)
    with pytest.raises(DocumentError) as told:
        load(CODESYNC, tmp_path)
    assert sentence in str(told.value)
