"""What runs: each service's command, where it listens, and how to ask whether it is well."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upcheck import bearer
from upcheck.settings import Settings, nearest

HOST = "127.0.0.1"
PORTS: Mapping[str, int] = {
    "collector": 9909,
    "prometheus": 9090,
    "alertmanager": 9093,
    "node_exporter": 9100,
    "blackbox_exporter": 9115,
}
ACCESS_FLAG = "--token-file"  # of the collector
OPTIONAL: Mapping[str, int] = {"grafana": 3001, "postgres_exporter": 9187, "redis_exporter": 9121}
"""What listens in containers only."""
KEPT: Mapping[str, tuple[str, str]] = {
    "tsdb_retention": (
        r"(?=\d)(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?",
        "a time such as 15d, 2w or 1y",
    ),
    "tsdb_size": (r"\d+[KMGTPE]?B", "a size such as 10GB"),
}
"""The pattern of each setting of what Prometheus keeps, and what is expected: it would not start with another."""
BINARIES = ("prometheus", "alertmanager", "node_exporter", "blackbox_exporter")
_READY = {"collector": "/ready", "node_exporter": "/", "blackbox_exporter": "/-/healthy"}


class StackError(Exception):
    """The stack can't do what was asked: a sentence with what would help."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program that is kept running. *port* is None where it listens nowhere, as `upcheck watch`."""

    name: str
    argv: tuple[str, ...]
    port: int | None = None

    @property
    def url(self) -> str:
        """Where it listens, or nothing."""
        return f"http://{HOST}:{self.port}" if self.port is not None else ""

    @property
    def ready(self) -> str:
        """The URL that answers 200 when it is well, or nothing."""
        return f"{self.url}{_READY.get(self.name, '/-/ready')}" if self.url else ""


def ports(settings: Settings, usual: Mapping[str, int] = PORTS) -> dict[str, int]:
    """Where each service listens: its *usual* port, or the one that the setting `ports` gives it. Raises StackError."""
    found, known = dict(usual), {**PORTS, **OPTIONAL}
    for one in settings.ports.replace(",", " ").split():
        name, _, number = one.partition("=")
        if name not in known:
            raise StackError(f"ports: no service '{name}' listens{nearest(name, known)}")
        if not (number.isdecimal() and 1 <= int(number) <= 65535):
            raise StackError(f"ports: '{one}': expected a port from 1 to 65535, such as {name}={known[name] + 1}")
        if name in usual:
            found[name] = int(number)
    for name, port in found.items():
        if other := next((each for each in found if each != name and found[each] == port), None):
            raise StackError(f"ports: {name} and {other} would both listen on {port}: give one of them another")
    return found


def prove_kept(settings: Settings) -> None:
    """Raises StackError where Prometheus would not take how long, or how much, it is to keep."""
    for name, (pattern, expected) in KEPT.items():
        if not re.fullmatch(pattern, value := getattr(settings, name)):
            raise StackError(f"{name}: {value!r}: expected {expected}")


def addresses(numbers: Mapping[str, int]) -> dict[int, str]:
    """Where each service listens, by its usual port."""
    return {usual: f"{HOST}:{numbers[name]}" for name, usual in PORTS.items()}


def addressed(text: str, places: Mapping[int, str]) -> str:
    """*text* with the addresses of this host at each port of *places* replaced by the place."""
    known = "|".join(map(str, places))
    return re.sub(rf"\b(?:127\.0\.0\.1|localhost):({known})\b", lambda found: places[int(found[1])], text)


def modules(settings: Settings, monitoring: Path) -> Path:
    """The modules file of blackbox_exporter in *monitoring*, a copy of the repo's, or where it lies elsewhere."""
    own, probes = settings.monitoring.resolve(), settings.probes.resolve()
    return monitoring / probes.relative_to(own) if probes.is_relative_to(own) else probes


def services(
    settings: Settings,
    numbers: Mapping[str, int],
    programs: Mapping[str, Path],
    monitoring: Path,
    data: Path,
    token: Path | None = None,
) -> list[Service]:
    """All services, with the configuration in *monitoring*; what they keep lies in *data*. The collector's *token*."""
    root = settings.root
    flags = {
        "prometheus": [
            f"--config.file={monitoring / 'prometheus/prometheus.yml'}",
            f"--storage.tsdb.path={data / 'prometheus'}",
            f"--storage.tsdb.retention.time={settings.tsdb_retention}",
            f"--storage.tsdb.retention.size={settings.tsdb_size}",
        ],
        "alertmanager": [
            f"--config.file={monitoring / 'alertmanager/alertmanager.yml'}",
            f"--storage.path={data / 'alertmanager'}",
            "--cluster.listen-address=",
        ],
        "node_exporter": [],
        "blackbox_exporter": [f"--config.file={modules(settings, monitoring)}"],
    }
    python, port = sys.executable, numbers["collector"]
    target = addressed(settings.target, addresses(numbers))
    stack = [f"STACK_URL=http://{HOST}:{numbers['prometheus']}"]  # which checks/stack asks
    stack += [f"STACK_ALERTMANAGER_URL=http://{HOST}:{numbers['alertmanager']}"]
    asked = []
    if token is not None:
        asked = [ACCESS_FLAG, str(token)]
        stack.append(f"{bearer.FILE}={token}")  # checks show it
    return [
        Service("collector", (python, str(root / "collector.py"), "--port", str(port), *asked), port),
        Service("watch", ("env", *stack, python, "-m", "upcheck.cli", "watch", "--log=lines", f"--target={target}")),
        *(
            Service(
                name,
                (str(programs[name]), f"--web.listen-address={HOST}:{numbers[name]}", *flags[name]),
                numbers[name],
            )
            for name in BINARIES
        ),
    ]
