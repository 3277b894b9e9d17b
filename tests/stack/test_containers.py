"""All of monitoring/compose.yml in a real engine, started, killed, refused, saved and stopped as a person would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import upcheck
from tests.conftest import ROOT
from tests.databases.packages import programs
from tests.stack.images import COMPOSE, images
from tests.stack.test_backup import silenced, silences
from tests.waiting import eventually
from upcheck.servers import free_port
from upcheck.stack import archive
from upcheck.stack.services import OPTIONAL, PORTS

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = pytest.mark.slow

PROJECT = f"upcheck-test-{os.getpid()}"
OURS: dict[str, str | list[str] | bool] = {"label": f"com.docker.compose.project={PROJECT}"}
SOURCE = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "Makefile", ".gitignore", ".dockerignore",
          "Dockerfile", "conftest.py", "collector.py")  # fmt: skip
ENV = f"""\
COMPOSE_PROJECT_NAME={PROJECT}
COMPOSE_PROFILES=postgres,redis
POSTGRES_DSN=postgresql://nobody@host.docker.internal:1/none
"""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repo whose containers publish *ports*."""

    path: Path
    ports: dict[str, int]
    environ: dict[str, str]
    engine: DockerClient

    def upcheck(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Type `upcheck stack ... --provider docker` in the repo."""
        argv = [sys.executable, "-m", "upcheck.cli", "stack", *arguments, "--provider", "docker"]
        return subprocess.run(argv, cwd=self.path, env=self.environ, capture_output=True, text=True, timeout=180)

    def container(self, service: str) -> Container:
        label = "com.docker.compose"
        named = [f"{label}.project={PROJECT}", f"{label}.service={service}"]
        (found,) = self.engine.containers.list(all=True, filters={"label": named})
        return found

    def asked(self, name: str, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.ports[name]}{path}"
        answer = httpx.get(url, params=parameters, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sampled(self, query: str, **at: str) -> list[str]:
        found = self.asked("prometheus", "/api/v1/query", query=query, **at)["data"]["result"]
        return [one["value"][1] for one in found]

    def standing(self, name: str) -> str:
        """What `status` says of a service."""
        return next(line for line in self.upcheck("status").stdout.splitlines() if line.startswith(f"{name} "))


def docker_compose(folder: Path) -> Path:
    """A folder with Compose: docker-compose 1.29, as Debian has it, where there is no other."""
    found = programs("docker-compose")
    if found.root != Path("/"):  # unpacked: its modules are in no path of this Python's
        script = folder / "docker-compose"
        packages = found.root / "usr/lib/python3/dist-packages"
        code = "from compose.cli.main import main; main()"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S -c "{code}" "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def repo(docker_engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    """A repo as a clone is, but for a scrape each second and one check; nothing runs yet."""
    folder = tmp_path_factory.mktemp("repo")
    for name in SOURCE:
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("src", "monitoring", "rules_tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("secrets", ".env", "__pycache__"))
    configuration = folder / "monitoring/prometheus/prometheus.yml"
    configuration.write_text(configuration.read_text().replace("_interval: 15s", "_interval: 1s"))
    (folder / "checks").mkdir()
    (folder / "checks/a.yml").write_text("checks:\n  - {name: alive, url: /live, every: 1s}\n")
    (folder / "monitoring/.env").write_text(ENV)
    token = folder / "monitoring/secrets/metrics-token"
    token.parent.mkdir()
    token.write_text("sesame")
    token.chmod(0o640)
    table = '[tool.upcheck]\nmetrics_token_file = "monitoring/secrets/metrics-token"\n'
    written = (folder / "pyproject.toml").read_text()
    assert "\n[tool.upcheck]\n" in written
    (folder / "pyproject.toml").write_text(written.replace("[tool.upcheck]\n", table))
    ports = {name: free_port() for name in (*PORTS, *OPTIONAL)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UPCHECK_")}
    environ = {
        **kept,
        "PATH": f"{docker_compose(tmp_path_factory.mktemp('bin'))}:{os.environ['PATH']}",
        "UPCHECK_TOOLS": str(ROOT / ".tools"),
        "UPCHECK_PORTS": ",".join(f"{name}={port}" for name, port in ports.items()),
    }
    with images(docker_engine):
        yield Repo(folder, ports, environ, docker_engine)


@dataclass(frozen=True, slots=True)
class Started:
    """A repo whose containers run, and what `up` said."""

    repo: Repo
    said: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def containers(repo: Repo) -> Iterator[Started]:
    tag = f"upcheck:{upcheck.__version__}"
    there = bool(repo.engine.images.list(name=tag))
    try:
        yield Started(repo, repo.upcheck("up"))
    finally:
        for container in repo.engine.containers.list(all=True, filters=OURS):
            container.remove(force=True)
        for network in repo.engine.networks.list(filters=OURS):
            network.remove()
        for volume in repo.engine.volumes.list(filters=OURS):
            volume.remove(force=True)
        if not there and repo.engine.images.list(name=tag):
            repo.engine.images.remove(tag, force=True)


@pytest.fixture
def started(containers: Started) -> Started:
    """The containers, started again where a test before has left one down."""
    repo = containers.repo
    if {one.status for one in repo.engine.containers.list(all=True, filters=OURS)} != {"running"}:
        repo.upcheck("restart")
    return containers


def test_up_names_each_container_and_proves_the_path_of_an_alert(started: Started) -> None:
    assert started.said.returncode == 0, started.said.stdout + started.said.stderr
    lines = started.said.stdout.splitlines()
    well = {line.split()[0]: line.split()[1] for line in lines if " well after " in line}
    assert set(well) == set(COMPOSE["services"])
    ports = {name.replace("_", "-"): port for name, port in started.repo.ports.items()}
    assert {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}.items() <= well.items()
    (proven,) = [line for line in lines if line.startswith("proven")]
    assert proven.endswith("routed it to info, as the routes say, and had watchdog told of another")


def test_the_collector_asks_for_its_token_and_prometheus_shows_it(started: Started) -> None:
    url = f"http://127.0.0.1:{started.repo.ports['collector']}/metrics"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, trust_env=False, headers={"Authorization": "Bearer sesame"}).status_code == 200
    eventually(lambda: started.repo.sampled('up{job="collector"}') == ["1"])


def test_status_tells_of_each_container_and_exits_0(started: Started) -> None:
    told = started.repo.upcheck("status")
    assert told.returncode == 0, told.stdout + told.stderr
    lines = {line.split()[0]: line for line in told.stdout.splitlines()}
    assert set(lines) == set(COMPOSE["services"])
    assert all(line.split()[1] == "well" and "  since 20" in line for line in lines.values()), told.stdout


def test_up_of_what_runs_changes_nothing(started: Started) -> None:
    before = started.repo.container("prometheus").id
    told = started.repo.upcheck("up")
    assert told.returncode == 0, told.stderr
    assert "runs already; `upcheck stack restart`" in told.stdout
    assert started.repo.container("prometheus").id == before


def test_logs_of_one_and_of_nobody(started: Started) -> None:
    assert "Server is ready to receive web requests" in started.repo.upcheck("logs", "prometheus").stdout
    wrong = started.repo.upcheck("logs", "promethus")
    assert wrong.returncode == 2
    assert "no service 'promethus'; did you mean 'prometheus'?" in wrong.stderr


def test_a_rule_that_promtool_refuses_restarts_nothing(started: Started) -> None:
    repo = started.repo
    rules = repo.path / "monitoring/prometheus/rules/system.yml"
    text, before = rules.read_text(), repo.container("prometheus").attrs
    rules.write_text(text.replace("up == 0", "up === 0"))
    try:
        told = repo.upcheck("restart")
    finally:
        rules.write_text(text)
    assert told.returncode == 3
    assert told.stderr.startswith("promtool refuses monitoring/prometheus/prometheus.yml: ")
    assert told.stderr.endswith("what runs goes on as it is\n")
    after = repo.container("prometheus").attrs
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    assert "up == 0" in (repo.path / ".upcheck/stack/containers/prometheus/rules/system.yml").read_text()


def test_what_compose_can_not_start_leaves_what_containers_have_mounted(started: Started) -> None:
    repo = started.repo
    file = repo.path / "Dockerfile"
    text, mounted = file.read_text(), (repo.path / ".upcheck/stack/containers").stat().st_ino
    file.write_text("FROM scratch\nRUN nothing\n")
    try:
        told = repo.upcheck("restart")
    finally:
        file.write_text(text)
    assert told.returncode == 3
    assert "`compose build` ended with exit code 1: " in told.stderr
    assert (repo.path / ".upcheck/stack/containers").stat().st_ino == mounted
    assert repo.upcheck("status").returncode == 0


def test_a_port_that_is_taken_is_named_with_its_service_and_setting(started: Started) -> None:
    repo = started.repo
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ = {**repo.environ, "UPCHECK_PORTS": repo.environ["UPCHECK_PORTS"] + f",grafana={port}"}
        told = replace(repo, environ=environ).upcheck("restart")
    assert told.returncode == 3
    assert told.stderr.startswith(f"port {port} of 127.0.0.1, which grafana would listen on, is in use: free it, or")
    assert repo.upcheck("status").returncode == 0


def test_a_container_whose_process_is_killed_comes_back_and_was_noticed(started: Started) -> None:
    repo = started.repo
    eventually(lambda: repo.sampled('up{job="blackbox_exporter"}') == ["1"])
    container = repo.container("blackbox-exporter")
    os.kill(container.attrs["State"]["Pid"], signal.SIGSTOP)  # so that it is away for longer than a scrape takes
    eventually(lambda: repo.sampled('up{job="blackbox_exporter"}') == ["0"])
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
    eventually(lambda: repo.sampled('up{job="blackbox_exporter"}') == ["1"])
    eventually(lambda: " well " in repo.standing("blackbox-exporter"))
    assert "came back once: the one before ended at " in repo.standing("blackbox-exporter")


def test_a_container_that_was_stopped_is_told(started: Started) -> None:
    repo = started.repo
    repo.container("grafana").stop(timeout=0)
    try:
        told = repo.upcheck("status")
        assert told.returncode == 1
        assert re.search("^grafana .*DOWN.* ended with exit code ", told.stdout, re.MULTILINE)
    finally:
        repo.container("grafana").start()


def test_volumes_come_back_from_a_backup(started: Started, tmp_path: Path) -> None:
    repo = started.repo
    url = f"http://127.0.0.1:{repo.ports['alertmanager']}"
    silenced(url, "kept")
    assert repo.container("redis").exec_run(["redis-cli", "set", "key", "kept"]).output == b"OK\n"
    assert repo.container("grafana").exec_run(["mkdir", "-p", "/var/lib/grafana/csv/kept"]).exit_code == 0
    wrote = repo.container("grafana").exec_run(["sh", "-c", "echo kept > /var/lib/grafana/csv/kept/a"])
    assert wrote.exit_code == 0, wrote.output
    eventually(lambda: repo.sampled('up{job="collector"}') == ["1"])
    file = tmp_path / "backup.tar.gz"
    told = repo.upcheck("backup", str(file))
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{file}: prometheus, alertmanager, upcheck, grafana, redis in " in told.stdout
    at = archive.verified(file).at
    eventually(lambda: repo.upcheck("status").returncode == 0)

    assert repo.upcheck("restore", str(file)).stderr.startswith("the stack runs: ")
    assert repo.upcheck("stop").stdout.endswith("stopped; data are kept in volumes\n")
    assert repo.upcheck("status").stdout == "the stack does not run: `upcheck stack up`\n"
    for volume in repo.engine.volumes.list(filters=OURS):
        volume.remove()  # a lost disk
    told = repo.upcheck("restore", str(file))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "what was there before is in " in told.stdout
    told = repo.upcheck("up")
    assert told.returncode == 0, told.stdout + told.stderr

    assert silences(url) == {"kept"}
    assert repo.container("redis").exec_run(["redis-cli", "get", "key"]).output == b"kept\n"
    read = repo.container("grafana").exec_run(["grep", "", "/var/lib/grafana/csv/kept/a"])
    assert read.output == b"kept\n"
    assert repo.sampled('up{job="collector"}', time=str(at - 5)) == ["1"], "what was scraped before the backup is there"
    results = "H(here().history, read_only=True).results('checks/a.yml::alive')"
    older = (
        "import sys; from upcheck.history import History as H; from upcheck.settings import here; "
        f"sys.exit(not [1 for one in {results} if one.started < {at}])"
    )
    assert repo.container("watch").exec_run(["python", "-c", older]).exit_code == 0


def test_a_container_that_can_not_run_is_told_with_what_it_said_last(started: Started) -> None:
    repo = started.repo
    file = repo.path / "monitoring/compose.yml"
    text = file.read_text()
    file.write_text(text.replace("- --storage.tsdb.path=/prometheus", "- --storage.tsdb.path=/proc/none"))
    try:
        told = repo.upcheck("restart")
    finally:
        file.write_text(text)
        repo.container("prometheus").stop(timeout=0)  # it would be started over and over
    assert told.returncode == 1, told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("prometheus ") and "DOWN" in line]
    assert re.search(r"ended with exit code \d: \S", line), line
    assert "more of it: `upcheck stack logs prometheus --provider docker`" in told.stderr
