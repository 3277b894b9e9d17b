"""The stack in containers: its configuration proven, its secrets made, and the rest left to Compose."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from upcheck.settings import Settings
from upcheck.stack.configuration import programs, propose, prove
from upcheck.stack.record import Record
from upcheck.stack.services import PORTS, StackError

ADDRESSES: Mapping[int, str] = {
    **{port: f"{name.replace('_', '-')}:{port}" for name, port in PORTS.items()},
    9187: "postgres-exporter:9187",
    9121: "redis-exporter:9121",
}
"""Where each service of monitoring/compose.yml is found by the others, by the port that it has on a host."""

PASSWORDS = ("GRAFANA_ADMIN_PASSWORD", "REDIS_PASSWORD")
_BYTES = 24  # of chance in each
_TIMEOUT = 10.0  # seconds for `docker compose version`


def prepare(settings: Settings) -> Path:
    """Prove the configuration, put it where containers read it, and make the .env that they need; where it is.

    Raises StackError (RefusedError where the configuration is not accepted), tools.ToolError, CommandError: then what
    containers read is as it was.
    """
    record = Record(settings.root)
    record.make()
    with record.alone():
        proposed, place = record.folder / "proposed", record.folder / "containers"
        propose(settings, ADDRESSES, proposed, mounted=True)
        prove(settings, proposed, programs(settings))
        for path in (proposed, *proposed.rglob("*")):  # containers are of other users, and no secret is in it
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(place, ignore_errors=True)
        proposed.replace(place)
        return _environment(settings, place)


def _environment(settings: Settings, configuration: Path) -> Path:
    """The .env beside compose.yml: what is there stays, what is missing is added, passwords by chance."""
    path = settings.monitoring / ".env"
    folder = settings.monitoring / "alertmanager/secrets"
    wanted = {
        "COMPOSE_PROJECT_NAME": "upcheck",
        "UPCHECK_CONFIGURATION": os.path.relpath(configuration, settings.monitoring),
        "UPCHECK_GID": str(os.getgid()),
        **{name: secrets.token_urlsafe(_BYTES) for name in PASSWORDS},
    }
    try:
        folder.mkdir(mode=0o750, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        there = {line.partition("=")[0].strip() for line in text.splitlines()}
        lines = [f"{name}={value}" for name, value in wanted.items() if name not in there]
        if lines:
            text = text + ("\n" if text and not text.endswith("\n") else "") + "\n".join(lines) + "\n"
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            draft.replace(path)
        path.chmod(0o600)
    except OSError as error:
        raise StackError(f"{error.filename or path} can't be written: {error.strerror}") from None
    return path


def program() -> list[str]:
    """Compose, as this machine has it: `docker compose`, or docker-compose. Raises StackError."""
    if shutil.which("docker"):
        try:
            asked = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise StackError(
                f"`docker compose version` gave no answer within {_TIMEOUT:g} s: is Docker well?"
            ) from None
        if asked.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise StackError(
        "there is neither `docker compose` nor docker-compose on this machine: install one, or leave Docker out: "
        "`upcheck stack up --provider local`"
    )


def call(settings: Settings, *arguments: str) -> int:
    """Run Compose with *arguments*, on this terminal; its exit code. Raises StackError."""
    file = settings.monitoring / "compose.yml"
    if not file.is_file():
        raise StackError(f"{file} is not there: containers need it; `upcheck init FOLDER` writes one")
    argv = [*program(), "--env-file", str(settings.monitoring / ".env"), "-f", str(file), *arguments]
    return subprocess.run(argv, cwd=settings.monitoring).returncode
