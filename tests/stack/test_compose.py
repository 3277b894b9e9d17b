"""monitoring/compose.yml and Dockerfile, read as Compose reads them; nothing here needs an engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import upcheck
from tests.conftest import ROOT
from tests.databases.packages import programs
from tests.stack.conftest import Repo, made
from upcheck import tools
from upcheck.settings import Settings
from upcheck.stack import compose, credentials
from upcheck.stack.services import OPTIONAL, PORTS, StackError, addressed

FILE = ROOT / "monitoring/compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_what_the_documents_name_is_there() -> None:
    own, exporters = (
        {"collector", "watch"},
        {"node-exporter", "blackbox-exporter", "postgres-exporter", "redis-exporter"},
    )
    assert set(SERVICES) == {*own, *exporters, "prometheus", "alertmanager", "grafana", "redis"}
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {
        "postgres-exporter", "redis-exporter", "redis",
    }  # fmt: skip
    assert set(COMPOSE["volumes"]) >= {"prometheus-data", "alertmanager-data", "grafana-data", "redis-data"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"]), "a version, no digest"
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert not service.get("privileged")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_ports_are_those_of_the_documents() -> None:
    published = {name: one.get("ports", []) for name, one in SERVICES.items()}
    assert published == {
        "watch": [], "redis": [],
        **{
            name.replace("_", "-"): [
                f"127.0.0.1:${{UPCHECK_PORT_{name.upper()}:-{port}}}:{3000 if name == 'grafana' else port}"
            ]
            for name, port in {**PORTS, **OPTIONAL}.items()
        },
    }  # fmt: skip
    assert {**PORTS, **OPTIONAL} == {
        "collector": 9909, "prometheus": 9090, "alertmanager": 9093, "grafana": 3001, "node_exporter": 9100,
        "blackbox_exporter": 9115, "postgres_exporter": 9187, "redis_exporter": 9121,
    }  # fmt: skip


def test_redis_has_no_way_out() -> None:
    assert SERVICES["redis"]["networks"] == ["data"]
    assert COMPOSE["networks"]["data"] == {"internal": True}


def test_the_versions_are_those_that_upcheck_is_tried_with() -> None:
    images = {one["image"] for one in SERVICES.values()}
    assert {f"{product.image}:v{product.release}" for product in tools.PRODUCTS} <= images
    assert f"upcheck:{upcheck.__version__}" in images


def test_no_password_has_a_default() -> None:
    said = {key: value for one in SERVICES.values() for key, value in one.get("environment", {}).items()}
    passwords = {key: value for key, value in said.items() if re.search("PASSWORD|AUTH", key)}
    assert set(passwords) == {"GF_SECURITY_ADMIN_PASSWORD", "REDIS_PASSWORD", "REDISCLI_AUTH"}
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value) for value in passwords.values())
    assert "admin123" not in FILE.read_text()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repo whose configuration is as containers read it."""
    repo = made(tmp_path_factory.mktemp("repo"), {})
    prepare(repo)
    return repo


def prepare(repo: Repo) -> None:
    repo.record.make()
    place = repo.record.folder / "containers"
    compose.prepare(settings(repo), place, place)


def settings(repo: Repo) -> Settings:
    return Settings.load(repo.path, {"UPCHECK_TOOLS": str(ROOT / ".tools")})


def environment(repo: Repo) -> dict[str, str]:
    lines = (repo.path / "monitoring/.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_passwords_are_made_once_and_are_nobody_else_s_to_read(repo: Repo) -> None:
    path = repo.path / "monitoring/.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = environment(repo)
    assert all(len(before[name]) >= 32 for name in compose.PASSWORDS)
    assert len({before[name] for name in compose.PASSWORDS}) == len(compose.PASSWORDS)
    path.write_text(path.read_text().replace("UPCHECK_GID", "# UPCHECK_GID") + "POSTGRES_DSN=postgresql://mine")
    prepare(repo)
    after = environment(repo)
    assert {name: after[name] for name in before} == before
    assert after["POSTGRES_DSN"] == "postgresql://mine"
    ignored = subprocess.run(["git", "check-ignore", "-q", "monitoring/.env"], cwd=ROOT)
    assert ignored.returncode == 0


def test_prometheus_and_alertmanager_find_each_other_by_service(repo: Repo) -> None:
    folder = repo.path / "monitoring" / environment(repo)["UPCHECK_CONFIGURATION"]
    read = yaml.safe_load((folder / "prometheus/prometheus.yml").read_text())
    groups = [one for job in read["scrape_configs"] for one in job.get("static_configs", ())]
    groups += read["alerting"]["alertmanagers"][0]["static_configs"]
    targets = {target for group in groups for target in group["targets"]}
    served = {f"{name}:{port.rpartition(':')[2]}" for name, one in SERVICES.items() for port in one.get("ports", [])}
    assert targets <= served
    assert {target.partition(":")[0] for target in targets} == {
        "collector", "prometheus", "alertmanager", "node-exporter", "blackbox-exporter",
    }  # fmt: skip
    assert "127.0.0.1" not in str(targets)


def test_a_target_that_is_added_for_a_host_leads_to_its_container() -> None:
    text = 'targets: ["127.0.0.1:9187", "localhost:9121", "127.0.0.1:5432"]'
    said = 'targets: ["postgres-exporter:9187", "redis-exporter:9121", "127.0.0.1:5432"]'
    assert addressed(text, compose.ADDRESSES) == said


def test_what_is_mounted_is_there(repo: Repo) -> None:
    (repo.path / "conftest.py").touch()
    configuration = environment(repo)["UPCHECK_CONFIGURATION"]
    mounts = {mount for one in SERVICES.values() for mount in one.get("volumes", [])}
    sources = {re.sub(r"\$\{UPCHECK_CONFIGURATION:\?[^}]*\}", configuration, mount).split(":")[0] for mount in mounts}
    bound = {source for source in sources if source.startswith(".")}
    assert len(bound) >= 8
    assert [source for source in bound if not (repo.path / "monitoring" / source).exists()] == []
    assert {source for source in sources if not source.startswith((".", "/"))} == set(COMPOSE["volumes"])


def test_the_secrets_of_alertmanager_are_mounted_never_copied(repo: Repo) -> None:
    folder = repo.path / "monitoring/alertmanager/secrets"
    (folder / "slack-url").write_text("https://hooks.example/secret")
    (repo.path / "monitoring/prometheus/prometheus.yml").chmod(0o600)
    prepare(repo)
    copied = repo.path / ".upcheck/stack/containers"
    assert list((copied / "alertmanager/secrets").iterdir()) == []
    assert not any("hooks.example/secret" in path.read_text() for path in copied.rglob("*") if path.is_file())
    assert not (copied / ".env").exists()
    # Alertmanager looks for Slack's beside its working directory.
    assert (
        "slack_api_url_file: /etc/alertmanager/secrets/slack-url"
        in (copied / "alertmanager/alertmanager.yml").read_text()
    )
    assert stat.S_IMODE((copied / "prometheus/prometheus.yml").stat().st_mode) == 0o644, "for another user to read"


def test_the_token_of_the_collector_is_shown_from_where_it_is_mounted(repo: Repo) -> None:
    token = repo.path / "monitoring/secrets/token"
    token.write_text("sesame")
    token.chmod(0o640)
    named = Settings.load(
        repo.path, {"UPCHECK_TOOLS": str(ROOT / ".tools"), "UPCHECK_METRICS_TOKEN_FILE": "monitoring/secrets/token"}
    )
    place = repo.record.folder / "containers"
    compose.prepare(named, place, place)
    prometheus, alertmanager = ((place / f"{name}/{name}.yml").read_text() for name in ("prometheus", "alertmanager"))
    assert prometheus.count("credentials_file: /etc/upcheck/secrets/token\n") == 1, "the collector"
    assert alertmanager.count("credentials_file: /etc/upcheck/secrets/token\n") >= 1, "the watchdog"
    assert "sesame" not in prometheus + alertmanager
    for name in ("prometheus", "alertmanager"):
        assert "./secrets:/etc/upcheck/secrets:ro" in SERVICES[name]["volumes"]
    with pytest.raises(StackError, match=r"the collector asked for the token in monitoring/secrets/token, and would"):
        prepare(repo)
    assert credentials.shown(place) is not None, "and nothing is changed"
    token.unlink()
    shutil.rmtree(place)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "GRAFANA_ADMIN_PASSWORD=",
            "1: GRAFANA_ADMIN_PASSWORD has no value: delete the line, and a strong one is made",
        ),
        ("sesame", "1: expected NAME=VALUE, or # and a comment"),
        ("UPCHECK_TSDB_RETENTION=long", "1: UPCHECK_TSDB_RETENTION is 'long': a time such as 15d, 2w or 1y"),
        ("UPCHECK_TSDB_SIZE=10 GB", "1: UPCHECK_TSDB_SIZE is '10 GB': a size such as 10GB"),
        ("UPCHECK_CONFIGURATION=/etc", " UPCHECK_CONFIGURATION is '/etc': delete the line, and it is made anew"),
    ],
    ids=lambda value: value.partition("=")[0],
)
def test_an_env_that_makes_no_sense_is_refused_and_left_as_it_is(tmp_path: Path, line: str, sentence: str) -> None:
    repo = made(tmp_path, {})
    path = repo.path / "monitoring/.env"
    path.write_text(line)
    with pytest.raises(StackError) as raised:
        prepare(repo)
    assert str(raised.value) == f"{path}:{sentence}"
    assert path.read_text() == line


def test_an_env_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.mkdir()
    with pytest.raises(StackError, match=r"\.env can't be read: Is a directory; it is to be a file of yours, mode 600"):
        compose.environment(path)
    path.rmdir()
    path.write_bytes(b"A=\xff")
    with pytest.raises(StackError, match=r"\.env can't be read: it is not UTF-8 text"):
        compose.environment(path)


def docker_compose(repo: Repo, *arguments: str) -> subprocess.CompletedProcess[str]:
    """docker-compose 1.29, as Debian has it, which needs no engine to read files."""
    found = programs("docker-compose")
    argv = [found["docker-compose"], "--profile", "redis", "--profile", "postgres", *arguments]
    environ = {"PATH": os.environ["PATH"]}
    if found.root != Path("/"):  # unpacked: its modules are in no path of this Python's
        argv = [sys.executable, "-S", "-c", "from compose.cli.main import main; main()", *argv[1:]]
        environ["PYTHONPATH"] = str(found.root / "usr/lib/python3/dist-packages")
    return subprocess.run(argv, cwd=repo.path / "monitoring", env=environ, capture_output=True, text=True, timeout=30)


def test_docker_compose_reads_it(repo: Repo) -> None:
    told = docker_compose(repo, "-f", "compose.yml", "config")
    assert told.returncode == 0, told.stderr
    read = yaml.safe_load(told.stdout)["services"]
    assert set(read) == set(SERVICES)
    assert read["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == environment(repo)["GRAFANA_ADMIN_PASSWORD"]
    assert "exec redis-server - <<END\nrequirepass $$REDISCLI_AUTH\n" in read["redis"]["command"][2]


def test_without_its_env_docker_compose_says_what_to_type(repo: Repo) -> None:
    path = repo.path / "monitoring/.env"
    path.rename(path.with_name("away"))
    try:
        told = docker_compose(repo, "-f", "compose.yml", "config")
    finally:
        path.with_name("away").rename(path)
    assert told.returncode == 1
    assert "type upcheck stack up --provider docker" in told.stderr


def typed(repo: Repo, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": str(path), "UPCHECK_TOOLS": str(ROOT / ".tools"), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "upcheck.cli", "stack", *arguments, "--provider", "docker"]
    return subprocess.run(argv, cwd=repo.path, env=environ, capture_output=True, text=True, timeout=60)


def test_without_docker_it_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    repo = made(tmp_path / "repo", {})
    (tmp_path / "bin").mkdir()
    told = typed(repo, tmp_path / "bin", "up")
    assert told.returncode == 3
    assert told.stderr == (
        "this machine has no docker with `docker compose` or docker-compose: install them, or leave Docker out: "
        "`upcheck stack up --provider local`\nnothing was started\n"
    )
    assert not (repo.path / "monitoring/.env").exists()


def test_the_image_is_small_pinned_and_not_root_s() -> None:
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["65532:65532"]
    assert "--no-cache-dir" in DOCKERFILE
    assert f"COPY --from={SERVICES['prometheus']['image']} /bin/promtool " in DOCKERFILE, "a check asks it"
    assert SERVICES["collector"]["user"] == "65532:65532"


def test_the_image_gets_neither_secrets_nor_history() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {"monitoring/.env", "**/secrets"} <= set(lines[lines.index("!monitoring") :])
    assert not any(line.startswith(("!.upcheck", "!.git/")) for line in lines)


def test_how_long_prometheus_keeps_is_the_variable_s_then_the_env_s_then_the_repo_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = made(tmp_path / "repo", {})
    program = tmp_path / "docker"  # a stand-in: what Compose reads is asked, not what it starts
    program.write_text("#!/bin/sh\necho $UPCHECK_TSDB_RETENTION $UPCHECK_TSDB_SIZE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("UPCHECK_TSDB_RETENTION", raising=False)

    def told(**environ: str) -> str:
        return compose.Compose(Settings.load(repo.path, environ)).ask("config").strip()

    text = (repo.path / "pyproject.toml").read_text()
    (repo.path / "pyproject.toml").write_text(text.replace("[tool.upcheck]", '[tool.upcheck]\ntsdb_retention = "30d"'))
    assert told() == "30d 10GB"
    (repo.path / "monitoring/.env").write_text("UPCHECK_TSDB_RETENTION=2w\n")
    assert told().endswith("10GB")
    assert "30d" not in told()
    monkeypatch.setenv("UPCHECK_TSDB_RETENTION", "1y")
    assert told(UPCHECK_TSDB_RETENTION="1y") == "1y 10GB"
    with pytest.raises(StackError, match="tsdb_size: 'tenGB': expected a size such as 10GB"):
        told(UPCHECK_TSDB_SIZE="tenGB")
