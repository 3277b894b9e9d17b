"""Health components without Python: a file of checks in YAML, each asked in the background by the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upcheck import yaml_checks
from upcheck.health import Finding, Health, Status
from upcheck.result import Outcome

# What is promised of a target that answers: it is slow, nearly full or behind, but it is there.
SOFT = frozenset(("latency", "certificate_days", "connections", "memory", "replication_lag"))


class DownError(Exception):
    """What a component asks is not as it should be."""


@dataclass(frozen=True, slots=True)
class Component:
    """One check of the file as a component: *ask* returns its Finding, and raises DownError where it is unhealthy."""

    name: str
    ask: Callable[[], Finding]
    critical: bool
    interval: float
    timeout: float


def load(path: Path, target: str) -> list[Component]:
    """The components in the file at *path*; a URL that is a path is below *target*. Raises DocumentError.

    A check whose severity is `critical` is a critical component.
    """
    return [
        Component(
            check.name,
            _asking(check, target),
            check.declaration.severity == "critical",
            check.declaration.every,
            check.declaration.timeout + 1.0,  # its own deadline says more than ours
        )
        for check in yaml_checks.load(path)
    ]


def register(health: Health, path: Path, target: str) -> None:
    """Have *health* ask the components of the file at *path*. Raises DocumentError, and ValueError for a name twice."""
    for one in load(path, target):
        health.register(one.name, one.ask, critical=one.critical, interval=one.interval, timeout=one.timeout)


def _asking(check: yaml_checks.YamlCheck, target: str) -> Callable[[], Finding]:
    def ask() -> Finding:
        return _finding(yaml_checks.ask(check, check.asked(target)))

    return ask


def _finding(told: yaml_checks.Judgement) -> Finding:
    if told.outcome is Outcome.HELD:
        return Status.HEALTHY, "", _details(told.facts)
    if told.outcome is Outcome.FAILED and told.facts.get("code") in SOFT:
        return Status.DEGRADED, told.reason, _details(told.facts)
    raise DownError(told.reason)


def _details(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was found out: the numbers, without the words."""
    found = dict(facts.get("metrics", {}))
    return found | {key: facts[key] for key in ("status", "phases", "certificate_expiry") if key in facts}
