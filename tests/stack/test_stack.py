"""`upcheck stack`: real programs, started, killed, refused and stopped as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.stack.conftest import Repo, Started, made
from tests.waiting import eventually
from upcheck.servers import alertmanager
from upcheck.settings import Settings
from upcheck.stack import configuration, proof
from upcheck.stack.services import BINARIES, PORTS, StackError, addressed, addresses, ports, services

pytestmark = pytest.mark.slow


def asked(url: str, **parameters: str) -> Any:
    answer = httpx.get(url, params=parameters, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_up_names_each_service_and_proves_the_path_of_an_alert(started: Started) -> None:
    lines = started.said.stdout.splitlines()
    assert started.said.returncode == 0, started.said.stderr
    for name in PORTS:
        assert any(line.split()[:2] == [name, started.repo.url(name)] for line in lines), lines
    assert any(line.startswith("watch ") for line in lines)
    (proven,) = [line for line in lines if line.startswith("proven")]
    assert proven.endswith("routed it to info, as the routes say, and had watchdog told of another")
    (missing,) = [line for line in lines if line.startswith("missing")]
    assert "secrets/pagerduty-key, secrets/slack-url, secrets/smtp-password" in missing


ROUTES = """\
route:
  receiver: people
  routes: [{{matchers: [alertname="Watchdog"], receiver: {0}, group_wait: 0s, group_by: [job]}}]
receivers: [{{name: people}}, {{name: program, webhook_configs: [{{url: "http://127.0.0.1:1/"}}]}}]
"""


def test_the_receiver_of_the_watchdog_was_told_of_the_drill(started: Started) -> None:
    assert (started.repo.path / ".upcheck/push/watchdog.json").exists()


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        ("program", "could not tell program of a drill alert: `upcheck stack logs alertmanager` says why"),
        ("people", "routed it to people, as the routes say"),
    ],
)
def test_a_receiver_that_takes_nothing_is_told_and_people_are_left_in_peace(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: str, said: str
) -> None:
    monkeypatch.setattr(proof, "PATIENCE", 3.0)
    path = tmp_path / "alertmanager.yml"
    path.write_text(ROUTES.format(receiver))
    urls = started.repo.url("prometheus"), started.repo.url("alertmanager")
    with alertmanager(Settings.load(ROOT, {}), path, tmp_path / "data") as other:
        try:
            told = proof.path(urls[0], other, path, found=urls[1])
        except StackError as error:
            told = str(error)
    assert told.endswith(said)


def test_alertmanager_finds_each_secret_wherever_it_was_started(started: Started) -> None:
    text = (started.repo.record.configuration / "alertmanager/alertmanager.yml").read_text()
    assert f"slack_api_url_file: {started.repo.path.resolve()}/monitoring/alertmanager/secrets/slack-url" in text


def test_the_drill_alert_is_over_and_its_silence_too(started: Started) -> None:
    url = started.repo.url("alertmanager")
    alerts = asked(f"{url}/api/v2/alerts", filter="alertname=UpcheckDrill")
    assert alerts == []
    silences = asked(f"{url}/api/v2/silences")
    assert {one["status"]["state"] for one in silences if one["comment"].startswith("a drill: ")} == {"expired"}


def test_prometheus_scrapes_every_service(started: Started) -> None:
    def health() -> dict[str, str]:
        targets = asked(f"{started.repo.url('prometheus')}/api/v1/targets")["data"]["activeTargets"]
        return {one["labels"]["job"]: one["health"] for one in targets}

    jobs = dict.fromkeys(("collector", "prometheus", "alertmanager", "node", "blackbox_exporter"), "up")
    eventually(lambda: health() == jobs, health)


def test_samples_are_kept_15_days_and_10_gigabytes(started: Started) -> None:
    flags = asked(f"{started.repo.url('prometheus')}/api/v1/status/flags")["data"]
    assert flags["storage.tsdb.retention.time"] in ("15d", "2w1d")
    assert flags["storage.tsdb.retention.size"] in ("10GB", "10GiB")


def test_how_long_and_how_much_is_kept_is_a_setting() -> None:
    told = Settings.load(ROOT, {"UPCHECK_TSDB_RETENTION": "30d", "UPCHECK_TSDB_SIZE": "20GB"})
    found = dict.fromkeys(BINARIES, Path("program"))
    (prometheus,) = [one for one in services(told, PORTS, found, ROOT, ROOT) if one.name == "prometheus"]
    assert {"--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=20GB"} <= set(prometheus.argv)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("UPCHECK_TSDB_RETENTION", "15days", "tsdb_retention: '15days': expected a time such as 15d, 2w or 1y\n"),
        ("UPCHECK_TSDB_RETENTION", "", "tsdb_retention: '': expected a time such as 15d, 2w or 1y\n"),
        (
            "UPCHECK_TSDB_RETENTION",
            "6d",
            (
                "monitoring/prometheus/rules/codex-clone.yml: CodexStorageFullWithin30Days looks back 7 days, and "
                "samples are kept for 6d: give tsdb_retention more\n"
            ),
        ),
        ("UPCHECK_TSDB_SIZE", "tenGB", "tsdb_size: 'tenGB': expected a size such as 10GB\n"),
    ],
)
def test_what_prometheus_would_not_take_stops_nothing(
    started: Started, variable: str, value: str, sentence: str
) -> None:
    before = started.repo.record.state()
    told = started.repo.upcheck("restart", **{variable: value})
    assert told.returncode == 3
    assert told.stderr == f"{sentence}what runs goes on as it is\n"
    assert started.repo.record.state() == before


def test_nothing_listens_beyond_the_loopback(started: Started) -> None:
    pids = [started.repo.pid(name) for name in PORTS]
    listening = [
        one.laddr.ip for pid in pids for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"
    ]
    assert len(listening) >= len(PORTS)
    assert set(listening) == {"127.0.0.1"}


def test_status_tells_of_each_and_exits_0(started: Started) -> None:
    told = started.repo.upcheck("status")
    assert told.returncode == 0, told.stdout
    lines = {line.split()[0]: line for line in told.stdout.splitlines()}
    assert set(lines) == {*PORTS, "watch"}
    for name, line in lines.items():
        assert "  since 20" in line, name
        assert " MB" in line, name
        assert line.split()[1] == "well", line


def test_up_of_what_runs_changes_nothing(started: Started) -> None:
    before = started.repo.record.state()
    told = started.repo.upcheck("up")
    assert told.returncode == 0
    assert "runs already; `upcheck stack restart`" in told.stdout
    assert started.repo.record.state() == before


@pytest.mark.parametrize("name", ["alertmanager", "watch"])
def test_what_is_killed_is_told_and_comes_back(started: Started, name: str) -> None:
    killed, state = started.repo.pid(name), started.repo.record.state()
    assert state is not None
    os.kill(state.pid, signal.SIGSTOP)  # or it is back before we can look
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: "DOWN" in line_of(started.repo, name), lambda: line_of(started.repo, name))
    os.kill(state.pid, signal.SIGCONT)
    eventually(lambda: " well " in line_of(started.repo, name), lambda: line_of(started.repo, name))
    assert "the one before was ended by SIGKILL" in line_of(started.repo, name)
    assert started.repo.pid(name) != killed
    assert f"{name} was ended by SIGKILL" in started.repo.upcheck("logs", "supervisor").stdout


def line_of(repo: Repo, name: str) -> str:
    told = repo.upcheck("status")
    line = next(line for line in told.stdout.splitlines() if line.startswith(f"{name} "))
    assert told.returncode == (1 if "DOWN" in told.stdout else 0)
    assert "--provider" not in told.stderr, "none was given"
    return line


def test_a_rule_that_promtool_refuses_restarts_nothing(started: Started) -> None:
    rules = started.repo.path / "monitoring/prometheus/rules/system.yml"
    text, before = rules.read_text(), started.repo.record.state()
    rules.write_text(text.replace("up == 0", "up === 0"))
    try:
        told = started.repo.upcheck("restart")
    finally:
        rules.write_text(text)
    assert told.returncode == 3
    assert told.stderr.startswith("promtool refuses monitoring/prometheus/prometheus.yml: ")
    assert "monitoring/prometheus/rules/system.yml" in told.stderr
    assert told.stderr.endswith("what runs goes on as it is\n")
    assert started.repo.record.state() == before
    assert "up == 0" in (started.repo.record.configuration / "prometheus/rules/system.yml").read_text()


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "alertmanager/alertmanager.yml",
            "receiver: info",
            "receiver: nobody",
            "amtool refuses monitoring/alertmanager/",
        ),
        (
            "exporters/blackbox.yml",
            "modules:",
            "moduls:",
            "blackbox_exporter refuses monitoring/exporters/blackbox.yml:",
        ),
        ("prometheus/rules/system.yml", "up == 0", 'up{job="nobody"} == 0', "the contract is broken in 1 place"),
        (
            "prometheus/prometheus.yml",
            "- job_name: collector",
            "- job_name: collector\n    tls_config: {ca_file: ca.crt}",
            "prometheus.yml names ca.crt, not there: a path is relative to that file",
        ),
    ],
    ids=["amtool", "blackbox_exporter", "contract", "a file that is not there"],
)
def test_what_others_refuse_restarts_nothing_either(
    started: Started, file: str, old: str, new: str, sentence: str
) -> None:
    path = started.repo.path / "monitoring" / file
    text, before = path.read_text(), started.repo.record.state()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        told = started.repo.upcheck("restart")
    finally:
        path.write_text(text)
    assert told.returncode == 3
    assert sentence in told.stderr
    assert started.repo.record.state() == before


def test_a_folder_among_the_secrets_is_no_hindrance(started: Started, tmp_path: Path) -> None:
    copy = tmp_path / "monitoring"
    shutil.copytree(started.repo.path / "monitoring", copy, ignore=shutil.ignore_patterns("secrets"))
    nested = copy / "alertmanager/secrets/secrets"  # as of `cp -a secrets monitoring/alertmanager/secrets`, twice
    nested.mkdir(parents=True)
    (nested / "slack-url").write_text("https://hooks.example.com/a")
    configuration.propose(Settings.load(tmp_path, {}), addresses(PORTS), tmp_path / "proposed")
    assert (tmp_path / "proposed/alertmanager/secrets/secrets/slack-url").is_file()


def test_a_port_that_is_taken_is_named_with_its_service_and_setting(started: Started, tmp_path: Path) -> None:
    other = made(tmp_path, started.repo.ports)
    try:
        told = other.upcheck("up")
    finally:
        other.upcheck("stop")
    port = started.repo.ports["collector"]
    assert told.returncode == 3
    assert told.stderr.startswith(f"port {port} of 127.0.0.1, which collector would listen on, is in use: free it, or")
    assert 'ports = "collector=PORT" in [tool.upcheck], or UPCHECK_PORTS=collector=PORT' in told.stderr
    assert told.stderr.endswith("nothing was started\n")
    assert other.record.state() is None
    assert started.repo.upcheck("status").returncode == 0


def test_logs_of_one_and_of_all(started: Started) -> None:
    one = started.repo.upcheck("logs", "prometheus").stdout
    assert "Server is ready to receive web requests" in one
    every = started.repo.upcheck("logs").stdout
    assert {"prometheus", "watch", "node_exporter"} <= {line.split()[0] for line in every.splitlines()}
    wrong = started.repo.upcheck("logs", "promethus")
    assert wrong.returncode == 2
    assert "no service 'promethus'; did you mean 'prometheus'?" in wrong.stderr


def test_logs_follow_what_comes(started: Started) -> None:
    argv = [sys.executable, "-m", "upcheck.cli", "stack", "logs", "supervisor", "--follow"]
    with subprocess.Popen(argv, cwd=started.repo.path, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        try:
            with started.repo.record.log("supervisor").open("a") as log:
                log.write("this has come just now\n")
            line = next(line for line in following.stdout if "just now" in line)
            os.truncate(started.repo.record.log("supervisor"), 0)
            with started.repo.record.log("supervisor").open("a") as log:
                log.write("begun anew\n")
            assert next(following.stdout) == "begun anew\n"
        finally:
            following.send_signal(signal.SIGINT)
        following.communicate(timeout=10)
    assert line == "this has come just now\n"
    assert following.returncode == 0


def test_without_its_supervisor_it_is_told_stopped_and_keeps_its_data(started: Started) -> None:
    repo = started.repo
    eventually(lambda: asked_up(repo), lambda: "no sample")
    began = time.time()
    state = repo.record.state()
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    eventually(lambda: not repo.record.running, lambda: "the supervisor lives")
    told = repo.upcheck("status")
    assert "the supervisor is gone, so nothing that dies comes back" in told.stdout
    assert told.returncode == 1

    assert repo.upcheck("stop").stdout.startswith("stopped; data and logs are kept")
    assert [pid for run in state.runs.values() if (pid := run.pid) and psutil.pid_exists(pid)] == []
    told = repo.upcheck("status")
    assert (told.returncode, told.stdout) == (1, "the stack does not run: `upcheck stack up`\n")
    assert repo.upcheck("stop").stdout == "the stack does not run\n"

    assert repo.upcheck("up").returncode == 0
    assert asked_up(repo, time=str(began)), "what was scraped before is there"


def asked_up(repo: Repo, **at: str) -> Any:
    found = asked(f"{repo.url('prometheus')}/api/v1/query", query='up{job="collector"}', **at)["data"]["result"]
    return [one["value"] for one in found]


def test_a_number_that_is_another_process_is_not_ended(repo: Repo, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            folder = tmp_path / ".upcheck/stack"
            folder.mkdir(parents=True)
            (tmp_path / "pyproject.toml").write_text("[tool.upcheck]\n")
            run = {"pid": stranger.pid, "created": 1.0, "since": 1.0, "died": 0, "ended": "", "ended_at": 0.0}
            state = {"pid": stranger.pid, "created": 1.0, "runs": {"prometheus": run}}
            (folder / "state.json").write_text(json.dumps(state))
            other = Repo(tmp_path, repo.ports)
            assert other.upcheck("stop").returncode == 0
            assert stranger.poll() is None
            assert other.record.state() is None
        finally:
            stranger.kill()


def settings(said: str) -> Settings:
    return Settings.load(ROOT, {"UPCHECK_PORTS": said})


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("promethus=1", "ports: no service 'promethus' listens; did you mean 'prometheus'?"),
        ("prometheus=http", "ports: 'prometheus=http': expected a port from 1 to 65535, such as prometheus=9091"),
        ("prometheus=9909", "ports: collector and prometheus would both listen on 9909: give one of them another"),
    ],
)
def test_ports_that_make_no_sense_are_refused(said: str, sentence: str) -> None:
    with pytest.raises(StackError) as raised:
        ports(settings(said))
    assert str(raised.value) == sentence


def test_the_usual_addresses_give_way_to_those_that_are_set_and_nothing_else_does() -> None:
    places = addresses(ports(settings("prometheus=19090, alertmanager=9090")))
    text = 'a: ["127.0.0.1:9090", "localhost:9093", "10.0.0.1:9090", "127.0.0.1:90900"]'
    assert addressed(text, places) == 'a: ["127.0.0.1:19090", "127.0.0.1:9090", "10.0.0.1:9090", "127.0.0.1:90900"]'
