"""The collector's environment variables: each is read, and each wrong value is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from tests.collector.test_serving import ROOT, SHIPPED, running
from upcheck.collector import Collector
from upcheck.collector.environment import Environment, EnvironmentVariableError

DOCUMENTED = {
    "METRICS_SYSTEM_INTERVAL": "2500",
    "METRICS_APP_INTERVAL": "1000",
    "METRICS_BUSINESS_INTERVAL": "30000.5",
    "METRICS_BUFFER_SIZE": "50",
    "METRICS_CPU_BUDGET": "0.5",
    "METRICS_TOKEN": " t0ken-of-mine \n",
    "HEALTH_CHECK_INTERVAL": "15000",
    "HEALTH_CHECK_TIMEOUT": "700",
    "HEALTH_ENABLE_PROBES": "No",
    "PROMETHEUS_ENABLED": "0",
    "PROMETHEUS_PORT": "9464",
    "PROMETHEUS_PATH": "/prometheus/metrics",
    "ALERT_MANAGER_ENABLED": "yes",
    "ALERT_MANAGER_URL": "https://alerts.example:9093/",
    "WEBHOOK_SECRET": "correct-horse",
    "SERVICE_NAME": "shop",
    "SERVICE_VERSION": "1.2.3",
}


def test_every_variable_is_read_into_seconds() -> None:
    assert Environment.read(DOCUMENTED) == Environment(
        system_interval=2.5,
        app_interval=1.0,
        business_interval=30.0005,
        buffer_size=50,
        cpu_budget=0.5,
        token="t0ken-of-mine",
        health_interval=15.0,
        health_timeout=0.7,
        probes=False,
        metrics=False,
        port=9464,
        metrics_path="/prometheus/metrics",
        alertmanager=True,
        alertmanager_url="https://alerts.example:9093",
        webhook_secret="correct-horse",
        service_name="shop",
        service_version="1.2.3",
    )
    assert Environment.read({"METRICS_TOKEN_FILE": "/run/token"}).token_file == Path("/run/token")
    assert Environment.read({}) == Environment()


def test_every_field_has_a_variable() -> None:
    told = Environment.read(DOCUMENTED)
    default = Environment()
    same = {one.name for one in fields(told) if getattr(told, one.name) == getattr(default, one.name)}
    assert same == {"token_file"}, "which excludes the token"


def test_the_docs_page_names_every_variable() -> None:
    page = (ROOT / "docs/collector.md").read_text()
    assert [name for name in [*DOCUMENTED, "METRICS_TOKEN_FILE"] if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("METRICS_SYSTEM_INTERVAL", "", "is empty: expected milliseconds from 100 to 3600000, or leave it unset"),
        ("METRICS_SYSTEM_INTERVAL", "nan", "='nan': expected milliseconds from 100 to 3600000, or leave it unset"),
        ("METRICS_APP_INTERVAL", "0", "='0': expected milliseconds from 100"),
        ("METRICS_BUSINESS_INTERVAL", "-5", "='-5': expected milliseconds"),
        ("METRICS_BUSINESS_INTERVAL", "9" * 400, ": expected milliseconds"),
        ("METRICS_APP_INTERVAL", "10s", "='10s': expected milliseconds"),
        ("METRICS_APP_INTERVAL", "1_000", "='1_000': expected milliseconds"),
        ("METRICS_BUFFER_SIZE", "10.5", "='10.5': expected a number of entries from 1 to 1000000"),
        ("METRICS_BUFFER_SIZE", "²", "='²': expected a number of entries"),
        ("METRICS_CPU_BUDGET", "inf", "='inf': expected percent of one CPU from 0.1 to 100"),
        ("METRICS_TOKEN", "", "is empty: expected up to 4096"),
        ("METRICS_TOKEN_FILE", " ", "is empty: expected the path"),
        ("HEALTH_CHECK_TIMEOUT", "1e3", "='1e3': expected milliseconds from 10 to 600000"),
        ("HEALTH_ENABLE_PROBES", "maybe", "='maybe': expected true or false"),
        ("PROMETHEUS_ENABLED", "", "is empty: expected true or false"),
        ("PROMETHEUS_PORT", "0", "='0': expected a port from 1 to 65535"),
        ("PROMETHEUS_PORT", "65536", "='65536': expected a port"),
        ("PROMETHEUS_PATH", "metrics", "='metrics': expected a path such as /metrics"),
        ("PROMETHEUS_PATH", "/", "='/': expected a path"),
        ("PROMETHEUS_PATH", "/a?b", "='/a?b': expected a path"),
        ("ALERT_MANAGER_ENABLED", "on", "='on': expected true or false"),
        ("ALERT_MANAGER_URL", "localhost:9093", "='localhost:9093': expected a URL such as http://localhost:9093"),
        ("ALERT_MANAGER_URL", "http://[", "='http://[': expected a URL"),
        ("SERVICE_NAME", "a\nb", "expected text of up to 200 printable characters"),
        ("SERVICE_VERSION", " ", "is empty: expected text"),
    ],
)
def test_a_wrong_value_is_a_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(EnvironmentVariableError) as told:
        Environment.read({name: value})
    assert str(told.value).startswith(name)
    assert sentence in str(told.value)
    assert len(str(told.value)) < 200


def test_no_secret_is_told() -> None:
    secret = "s3cret-t0ken"
    assert secret not in repr(Environment.read({"METRICS_TOKEN": secret}))
    assert secret not in repr(Environment.read({"ALERT_MANAGER_URL": f"http://me:{secret}@alerts"}))
    for wrong in ({"METRICS_TOKEN": f"{secret} twice"}, {"ALERT_MANAGER_URL": f"ftp://me:{secret}@alerts"}):
        with pytest.raises(EnvironmentVariableError) as told:
            Environment.read(wrong)
        assert secret not in str(told.value)


def test_a_token_stands_in_one_place() -> None:
    with pytest.raises(EnvironmentVariableError, match="both set"):
        Environment.read({"METRICS_TOKEN": "a", "METRICS_TOKEN_FILE": "b"})


def test_what_the_environment_says_of_health_is_the_default_of_components() -> None:
    collector = Collector(environment=Environment(health_interval=0.5, health_timeout=0.25))
    collector.health.register("one", lambda: None)
    collector.health.register("two", lambda: None, interval=7, timeout=6)
    registered = collector.health._components
    assert [(registered[name].interval, registered[name].timeout) for name in ("one", "two")] == [(0.5, 0.25), (7, 6)]


@pytest.mark.parametrize(
    ("variables", "gone", "there"),
    [
        ({"HEALTH_ENABLE_PROBES": "false"}, ["/live", "/ready"], ["/metrics", "/health"]),
        ({"PROMETHEUS_ENABLED": "false", "PROMETHEUS_PATH": "/prom"}, ["/metrics", "/prom"], ["/live", "/health"]),
        ({"PROMETHEUS_PATH": "/prom/metrics"}, ["/prom"], ["/prom/metrics", "/metrics"]),
    ],
)
def test_paths_open_and_closed(
    variables: dict[str, str], gone: list[str], there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with running() as collector, httpx.Client(base_url=collector.url) as client:
        assert [client.get(path).status_code for path in gone] == [404] * len(gone)
        assert [client.get(path).status_code for path in there] == [200] * len(there)
        assert not set(gone) & set(client.get("/nowhere").json()["paths"])


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PROMETHEUS_PORT": "http"}, "PROMETHEUS_PORT='http': expected a port from 1 to 65535, or leave it unset"),
        ({"PROMETHEUS_PATH": "/health"}, "PROMETHEUS_PATH='/health': expected a path that nothing else stands under"),
    ],
)
def test_a_wrong_variable_is_one_sentence_and_exit_code_2(variables: dict[str, str], sentence: str) -> None:
    command = [sys.executable, str(SHIPPED), "--port", "0"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **variables}
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"collector: {sentence}\n")


def test_the_port_is_the_flag_s_default() -> None:
    command = [sys.executable, str(SHIPPED), "--help"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PROMETHEUS_PORT": "9464"}
    )
    assert "0 takes a free one (default: 9464)" in ended.stdout
