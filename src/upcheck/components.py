"""Health components without Python: a file of checks in YAML, each asked in the background by the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upcheck import yaml_checks
from upcheck.health import Finding, Health, Status, UnhealthyError
from upcheck.probes import ProbeError, Reason
from upcheck.result import Outcome

# What is promised of a target that answers: it is slow, nearly full or behind, but it is there.
SOFT = frozenset(("latency", "certificate_days", Reason.NEAR_LIMIT, Reason.REPLICATION_LAG))

# Where the system's own words end before what to do.
ADVICE = {
    Reason.CONNECTION_REFUSED: "nothing listens there: start it, or correct the address",
    Reason.CONNECT_TIMEOUT: "see whether its machine runs, and what drops packets on the way",
    Reason.TIMEOUT: "it hangs or has too much to do: see its log and its load",
    Reason.NAME_NOT_FOUND: "correct the name, or the zone that lacks it",
    Reason.UNREACHABLE: "see to the route to its machine",
    Reason.RESET: "it broke off: see its log",
}


@dataclass(frozen=True, slots=True)
class Component:
    """One check of the file as a component: *ask* returns its Finding, and raises UnhealthyError where it is."""

    name: str
    ask: Callable[[], Finding]
    critical: bool
    interval: float
    timeout: float
    failures: int


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
            check.declaration.failure_threshold,
        )
        for check in yaml_checks.load(path)
    ]


def register(health: Health, path: Path, target: str) -> None:
    """Have *health* ask the components of the file at *path*. Raises DocumentError, and ValueError for a name twice."""
    for one in load(path, target):
        health.register(
            one.name,
            one.ask,
            critical=one.critical,
            interval=one.interval,
            timeout=one.timeout,
            failures=one.failures,
        )


def _asking(check: yaml_checks.YamlCheck, target: str) -> Callable[[], Finding]:
    def ask() -> Finding:
        try:
            asked = check.asked(target)
        except ProbeError as error:
            raise UnhealthyError(str(error)) from None
        return _finding(yaml_checks.ask(check, asked))

    return ask


def _finding(told: yaml_checks.Judgement) -> Finding:
    if told.outcome is Outcome.HELD:
        return Status.HEALTHY, "", _details(told.facts)
    code, asked = told.facts["code"], told.facts["asked"]
    if told.outcome is Outcome.FAILED and code in SOFT:
        return Status.DEGRADED, told.reason, _details(told.facts)
    advice = f": {ADVICE[code]}" if code in ADVICE else ""
    raise UnhealthyError(f"{asked}: {told.reason}{advice}")


def _details(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was found out: the numbers, without the words."""
    found = dict(facts.get("metrics", {}))
    return found | {key: facts[key] for key in ("status", "phases", "certificate_expiry") if key in facts}
