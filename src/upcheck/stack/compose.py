"""Docker and Compose, as this machine has them: the .env that they read, what they are asked, what they do."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from upcheck import bearer, command
from upcheck.settings import Settings
from upcheck.stack import credentials
from upcheck.stack.configuration import programs, propose, prove
from upcheck.stack.services import KEPT, OPTIONAL, PORTS, StackError, ports, prove_kept

ADDRESSES: Mapping[int, str] = {
    **{port: f"{name.replace('_', '-')}:{port}" for name, port in PORTS.items()},
    9187: "postgres-exporter:9187",
    9121: "redis-exporter:9121",
}
"""Where each service of monitoring/compose.yml is found by the others, by the port that it has on a host."""

PASSWORDS = ("GRAFANA_ADMIN_PASSWORD", "REDIS_PASSWORD")
_BYTES = 24  # of chance in each
TIMEOUT = 60.0  # seconds for an answer
_SHAPES = {
    **dict.fromkeys(PASSWORDS, (r".+", "delete the line, and a strong one is made")),
    "COMPOSE_PROJECT_NAME": (r"[a-z0-9][a-z0-9_-]*", "small letters and digits, such as upcheck"),
    "UPCHECK_GID": (r"\d+", f"the number of a group, such as yours, {os.getgid()}"),
    **{f"UPCHECK_{name.upper()}": shape for name, shape in KEPT.items()},
}


class Compose:
    """Compose with monitoring/compose.yml and the .env beside it."""

    def __init__(self, settings: Settings) -> None:
        """Raises StackError where there is no Docker, Compose or file, or where settings or .env make no sense."""
        self.file = settings.monitoring / "compose.yml"
        self._environment = settings.monitoring / ".env"
        if not self.file.is_file():
            raise StackError(f"{self.file} is not there: containers need it; `upcheck init FOLDER` writes one")
        prove_kept(settings)
        self.ports = ports(settings, {**PORTS, **OPTIONAL})
        self._argv = [*program(), "--env-file", str(self._environment), "-f", str(self.file)]
        self._environ = {f"UPCHECK_PORT_{name.upper()}": str(port) for name, port in self.ports.items()}
        there = environment(self._environment)  # which has the last word, but for the variable itself
        named = {f"UPCHECK_{name.upper()}": str(getattr(settings, name)) for name in KEPT}
        self._environ |= {name: value for name, value in named.items() if name in os.environ or name not in there}
        token = bearer.file(settings, os.environ)
        self._environ["UPCHECK_TOKEN"] = f"/srv/monitoring/{credentials.SECRETS}/{token[1].name}" if token else ""

    @property
    def project(self) -> str:
        """The name under which Docker knows these containers. Raises StackError."""
        return os.environ.get("COMPOSE_PROJECT_NAME") or environment(self._environment)["COMPOSE_PROJECT_NAME"]

    def ask(self, *arguments: str) -> str:
        """What Compose answers. Raises StackError with what it says where it refuses, CommandError."""
        told = command.run([*self._argv, *arguments], timeout=TIMEOUT, environ=self._environ, cwd=self.file.parent)
        if told.code:
            raise StackError(_refused(arguments, told.code, (told.stderr or told.stdout).splitlines()))
        return told.stdout

    def do(self, *arguments: str, said: Callable[[str], None]) -> None:
        """Have Compose do something that takes long; *said* hears its lines as they come. Raises StackError."""
        argv: list[str] = [*self._argv, *arguments]
        lines: list[str] = []
        with subprocess.Popen(
            argv,
            env={**os.environ, **self._environ},
            cwd=self.file.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                said(lines[-1])
        if process.returncode:
            raise StackError(_refused(arguments, process.returncode, lines))

    def call(self, *arguments: str) -> int:
        """Run Compose on this terminal; its exit code."""
        return subprocess.run(
            [*self._argv, *arguments], env={**os.environ, **self._environ}, cwd=self.file.parent
        ).returncode


def docker(*arguments: str) -> str:
    """What Docker answers. Raises StackError with what it says where it refuses, CommandError."""
    told = command.run(["docker", *arguments], timeout=TIMEOUT)
    if told.code:
        raise StackError(f"docker {arguments[0]}: {(told.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return told.stdout


def program() -> list[str]:
    """Compose, as this machine has it: `docker compose`, or docker-compose. Raises StackError, CommandError."""
    if shutil.which("docker"):
        if command.run(["docker", "compose", "version"], timeout=TIMEOUT).code == 0:
            return ["docker", "compose"]
        if shutil.which("docker-compose"):
            return ["docker-compose"]
    raise StackError(
        "this machine has no docker with `docker compose` or docker-compose: install them, or leave Docker out: "
        "`upcheck stack up --provider local`"
    )


def environment(path: Path) -> dict[str, str]:
    """What the .env at *path* says; nothing where there is none. Raises StackError where it makes no sense."""
    found: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not re.fullmatch(r"\w+", name):
            raise StackError(f"{path}:{number}: expected NAME=VALUE, or # and a comment")  # the line may be a secret
        found[name] = value = value.strip("'\"")
        pattern, expected = _SHAPES.get(name, (".*", ""))
        if not re.fullmatch(pattern, value):
            shown = "has no value" if not value else f"is {value!r}"
            raise StackError(f"{path}:{number}: {name} {shown}: {expected}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except OSError as error:
        raise StackError(f"{path} can't be read: {error.strerror}; it is to be a file of yours, mode 600") from None
    except UnicodeDecodeError:
        raise StackError(f"{path} can't be read: it is not UTF-8 text; write it anew, or delete it") from None


def prepare(settings: Settings, proposed: Path, place: Path) -> Path:
    """Prove the configuration as containers are to read it, *proposed* for its *place*, and make their .env; its path.

    Raises StackError (RefusedError where the configuration is not accepted), tools.ToolError, CommandError.
    """
    token = credentials.token_file(os.environ, settings)
    credentials.prove_closed(credentials.shown(place), token, os.environ)
    propose(settings, ADDRESSES, proposed, mounted=True)
    if token is not None:
        credentials.show(token, ADDRESSES[PORTS["collector"]], proposed)
    prove(settings, proposed, programs(settings))
    made = _complete(settings, place)
    if token is not None:
        there = credentials.seen(token, settings, int(environment(made)["UPCHECK_GID"]))
        credentials.moved(token, there, proposed)
    for path in (proposed, *proposed.rglob("*")):  # containers are of other users, and no secret is in it
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def _complete(settings: Settings, configuration: Path) -> Path:
    """The .env beside compose.yml: what is there stays, what is missing is added, passwords by chance.

    Raises StackError where what is there makes no sense, or can't be written.
    """
    path = settings.monitoring / ".env"
    folders = settings.monitoring / "alertmanager/secrets", settings.monitoring / credentials.SECRETS
    wanted = {
        "COMPOSE_PROJECT_NAME": "upcheck",
        "UPCHECK_CONFIGURATION": os.path.relpath(configuration, settings.monitoring),
        "UPCHECK_GID": str(os.getgid()),
        **{name: secrets.token_urlsafe(_BYTES) for name in PASSWORDS},
    }
    there, text = environment(path), _read(path)
    if there.get("UPCHECK_CONFIGURATION", "") not in ("", wanted["UPCHECK_CONFIGURATION"]):
        raise StackError(
            f"{path}: UPCHECK_CONFIGURATION is {there['UPCHECK_CONFIGURATION']!r}: delete the line, and it is made anew"
        )
    try:
        for folder in folders:
            folder.mkdir(mode=0o750, exist_ok=True)
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


def _refused(arguments: tuple[str, ...], code: int, lines: list[str]) -> str:
    said = next((line for line in reversed(lines) if line.strip()), "no reason given")
    return f"`compose {' '.join(arguments)}` ended with exit code {code}: {said.strip()}"
