"""What is proven once a stack runs: rules are loaded, and an alert finds its way. Nobody is told of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upcheck import alertmanager
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.routes import Routes
from upcheck.stack.services import StackError

PATIENCE = 15.0  # seconds: Prometheus looks for its Alertmanagers each five
_SILENCED = timedelta(minutes=2)  # for which the drill alert stays silent, should it not be taken back


def path(prometheus: str, receivers: str, configuration: Path, *, found: str) -> str:
    """Prove that alerts get from the Prometheus to the Alertmanager at these URLs, and there to who should be told.

    *found* is where Prometheus is to have found that Alertmanager. A drill alert is silenced before it is sent, so no
    receiver hears of it. Returns a sentence that says what was proven; raises StackError with what was not.
    """
    try:
        _until(
            lambda: f"{found}/api/v2/alerts" in _known(prometheus),
            f"prometheus at {prometheus} has not found its alertmanager at {found}: see alerting in prometheus.yml",
        )
        groups = _asked(f"{prometheus}/api/v1/rules")["groups"]
        told = _drilled(receivers, Routes.load(configuration))
    except ProbeFailure as error:
        raise StackError(f"what runs could not be proven: {error}") from None
    rules = sum(len(group["rules"]) for group in groups)
    return (
        f"prometheus has {rules} rules and sends to alertmanager, which took a silenced drill alert "
        f"and routed it to {', '.join(told)}, as the routes say; it is over, and nobody was told"
    )


def _drilled(receivers: str, routes: Routes) -> list[str]:
    """The receivers that Alertmanager routed a drill alert to. Raises StackError where the routes name others."""
    labels = {"alertname": "UpcheckDrill", "severity": "info", "upcheck_drill": uuid.uuid4().hex}
    expected = sorted({one.receiver for one in routes.of(labels).notifications})
    mark = {"name": "upcheck_drill", "value": labels["upcheck_drill"], "isRegex": False, "isEqual": True}
    now = datetime.now(UTC)
    times = {"startsAt": now.isoformat(), "endsAt": (now + _SILENCED).isoformat()}
    silence = {"matchers": [mark], **times, "createdBy": "upcheck", "comment": "a drill: upcheck stack up"}
    body = json.dumps(silence).encode()
    headers = (("Content-Type", "application/json"),)
    made = fetch(Request(f"{receivers}/api/v2/silences", "POST", headers, body, 5.0))
    if not made.is_success:
        raise StackError(f"alertmanager at {receivers} takes no silence: {made.status} {made.text[:200]}")
    url = f"{receivers}/api/v2/silence/{json.loads(made.body)['silenceID']}"
    try:
        _push(receivers, {"labels": labels, **times})
        found = _found(receivers, labels["upcheck_drill"])
        _push(receivers, {"labels": labels, "startsAt": times["startsAt"], "endsAt": datetime.now(UTC).isoformat()})
    finally:
        fetch(Request(url, "DELETE", deadline=5.0))
    told = sorted(one["name"] for one in found["receivers"])
    if told != expected:
        raise StackError(f"alertmanager routed a drill alert to {told}, the routes say {expected}: is it another's?")
    return told


def _push(receivers: str, alert: dict[str, Any]) -> None:
    if why := alertmanager.push(receivers, [alert]):
        raise StackError(f"alertmanager at {receivers} did not take a drill alert: {why}")


def _found(receivers: str, mark: str) -> dict[str, Any]:
    """The drill alert as Alertmanager has it, once it is silenced."""
    seen: list[dict[str, Any]] = []

    def silenced() -> bool:
        seen[:] = json.loads(
            fetch(Request(f"{receivers}/api/v2/alerts?filter=upcheck_drill={mark}", deadline=5.0)).body
        )
        return bool(seen) and seen[0]["status"]["state"] == "suppressed"

    _until(silenced, f"alertmanager at {receivers} took a drill alert and does not show it")
    return seen[0]


def _known(prometheus: str) -> list[str]:
    """The Alertmanagers that a Prometheus has found."""
    return [one["url"] for one in _asked(f"{prometheus}/api/v1/alertmanagers")["activeAlertmanagers"]]


def _asked(url: str) -> Any:
    return json.loads(fetch(Request(url, deadline=5.0)).body)["data"]


def _until(true: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise StackError(otherwise)
        time.sleep(0.1)
