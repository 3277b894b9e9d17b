"""What is proven once a stack runs: rules are loaded, and alerts find their way. Of people, nobody is told."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from upcheck import alertmanager
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.routes import ALL, Routes
from upcheck.stack.services import StackError

PATIENCE = 15.0  # seconds: Prometheus looks for its Alertmanagers each five
WATCHDOG = "Watchdog"  # the alert that always fires: docs/stack.md
_REQUESTS = "alertmanager_notification_requests"
_SILENCED = timedelta(minutes=2)  # for which the drill alert stays silent, should it not be taken back


def path(prometheus: str, receivers: str, configuration: Path, *, found: str) -> str:
    """Prove that alerts get from the Prometheus to the Alertmanager at these URLs, and there to who should be told.

    *found* is where Prometheus is to have found that Alertmanager. A drill alert is silenced before it is sent, so no
    receiver hears of it; another goes to who is told of the watchdog, a program that hears of it each minute. Returns
    a sentence that says what was proven; raises StackError with what was not.
    """
    try:
        _until(
            lambda: f"{found}/api/v2/alerts" in _known(prometheus),
            f"prometheus at {prometheus} has not found its alertmanager at {found}: see alerting in prometheus.yml",
        )
        groups = _asked(f"{prometheus}/api/v1/rules")["groups"]
        routes = Routes.load(configuration)
        told = _drilled(receivers, routes)
        heard = _delivered(receivers, routes)
    except ProbeFailure as error:
        raise StackError(f"what runs could not be proven: {error}") from None
    rules = sum(len(group["rules"]) for group in groups)
    return (
        f"prometheus has {rules} rules and sends to alertmanager, which took a silenced drill alert "
        f"and routed it to {', '.join(told)}, as the routes say"
        + (f", and had {heard} told of another" if heard else "")
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


def _delivered(receivers: str, routes: Routes) -> str:
    """The receiver of the watchdog, which took a drill alert; nothing where it has no receiver of its own.

    Raises StackError where it was not told.
    """
    labels = {"alertname": WATCHDOG, "severity": "info", "job": f"upcheck-drill-{uuid.uuid4().hex}"}
    told = routes.of(labels).told
    others = {one.receiver for one in routes.of({**labels, "alertname": "UpcheckDrill"}).notifications}
    alone = {"job", ALL} & {name for one in told for name in one.group_by}
    if len(told) != 1 or told[0].receiver in others or not alone or told[0].group_wait > PATIENCE:
        return ""
    before, now = _requests(receivers), datetime.now(UTC)
    _push(receivers, {"labels": labels, "startsAt": now.isoformat(), "endsAt": (now + _SILENCED).isoformat()})
    _until(
        lambda: all(_requests(receivers) > before for _ in range(2)),  # one is counted a moment before its failure is
        f"alertmanager could not tell {told[0].receiver} of a drill alert: `upcheck stack logs alertmanager` says why",
    )
    _push(receivers, {"labels": labels, "startsAt": now.isoformat(), "endsAt": datetime.now(UTC).isoformat()})
    return told[0].receiver


def _requests(receivers: str) -> float:
    """How many messages receivers have taken."""
    page = fetch(Request(f"{receivers}/metrics", deadline=5.0)).text
    count = {f"{_REQUESTS}_total": 1.0, f"{_REQUESTS}_failed_total": -1.0}
    samples = [one for family in text_string_to_metric_families(page) for one in family.samples]
    return sum(count.get(one.name, 0.0) * one.value for one in samples)


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
