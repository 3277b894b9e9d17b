"""Alertmanager's webhook: which alerts fire, by fingerprint, whatever is sent twice, late or out of order."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from upcheck.collector.limits import BodyError, RateLimit, client_of, parsed, read_body
from upcheck.collector.signature import HEADER, Signatures
from upcheck.exposition import Block, Family

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/api/monitoring/alerts"
MAX_BODY = 24 * 1024 * 1024  # bytes: 20,000 alerts of a kilobyte each
DEADLINE = 10.0  # seconds for a body to arrive
RATE, BURST = 200, 2000  # notifications a second, and at once, of one client
MAX_FIRING = 10_000
MAX_RESOLVED = 1000  # the last ones, so that what comes late does not fire again
SHOWN = 1000
SEVERITIES = ("critical", "high", "warning", "medium", "info", "low")

FIRING = Family("upcheck_alerts_firing", "gauge", ("severity",), "Alerts that fire, as Alertmanager's webhook told.")
TAKEN = Family("upcheck_webhook_alerts_total", "counter", ("status",), "Alerts that the webhook took in, by status.")
REFUSED = Family("upcheck_webhook_refused_total", "counter", ("code",), "Notifications that the webhook refused.")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification."""

    fingerprint: str
    firing: bool
    starts: datetime
    labels: Mapping[str, str]
    told: Mapping[str, Any]  # as it came


class Webhook:
    """The endpoint, and a source of /metrics. A notification (of version 4) is taken whole or not at all."""

    def __init__(self, signatures: Signatures | None = None) -> None:
        """With *signatures*, only what they believe is taken."""
        self._signatures = signatures
        self._limit = RateLimit(RATE, BURST)
        self._firing: OrderedDict[str, Alert] = OrderedDict()
        self._resolved: OrderedDict[str, Alert] = OrderedDict()
        self._taken = Counter({"firing": 0, "resolved": 0, "duplicate": 0})
        self._refused: Counter[int] = Counter()

    async def take(self, request: Request) -> Response:
        """POST: a notification."""
        try:
            if wait := self._limit.take(client_of(request.scope)):
                sentence = f"more than {RATE} notifications a second: come again in {max(1, wait):.0f} s"
                return self._refuse(429, sentence, {"Retry-After": f"{max(1, wait):.0f}"})
            body = await read_body(request, limit=MAX_BODY, deadline=DEADLINE)
            if self._signatures and (why := self._signatures.refusal(request.headers.get(HEADER), body)):
                return self._refuse(401, why)
            alerts = _alerts(body)
            self._room(alerts)
        except BodyError as error:
            return self._refuse(error.status, str(error))
        for alert in alerts:
            self._taken[self._put(alert)] += 1
        return JSONResponse({"status": "ok", "alerts": len(alerts)})

    async def show(self, _: Request) -> Response:
        """GET: what fires, the latest first."""
        latest = sorted(self._firing.values(), key=lambda alert: alert.starts, reverse=True)
        shown = [alert.told for alert in latest[:SHOWN]]
        return JSONResponse({"firing": len(latest), "alerts": shown}, headers={"Cache-Control": "no-store"})

    def blocks(self) -> Iterator[Block]:
        """How many fire, and what became of what was sent."""
        counts = Counter(alert.labels.get("severity", "") for alert in self._firing.values())
        other = sum(counts.values()) - sum(counts[severity] for severity in SEVERITIES)
        firing = {severity: counts[severity] for severity in SEVERITIES} | {"other": other}
        for family, label, values in (
            (FIRING, "severity", firing), (TAKEN, "status", self._taken), (REFUSED, "code", self._refused),
        ):  # fmt: skip
            yield family, "".join(f'{family.name}{{{label}="{key}"}} {value}\n' for key, value in values.items())

    def _put(self, alert: Alert) -> str:
        """Take in one alert; what became of it."""
        fingerprint = alert.fingerprint
        known = self._firing.get(fingerprint) or self._resolved.get(fingerprint)
        if known is not None and (alert.starts < known.starts or (alert.starts == known.starts and not known.firing)):
            return "duplicate"  # it was over already: this is late, or was sent twice
        if alert.firing:
            self._resolved.pop(fingerprint, None)
            again = fingerprint in self._firing and known is not None and known.starts == alert.starts
            self._firing[fingerprint] = alert
            return "duplicate" if again else "firing"
        self._firing.pop(fingerprint, None)
        self._resolved[fingerprint] = alert
        if len(self._resolved) > MAX_RESOLVED:
            self._resolved.popitem(last=False)
        return "resolved"

    def _room(self, alerts: list[Alert]) -> None:
        new = {alert.fingerprint for alert in alerts if alert.firing} - self._firing.keys()
        if len(new) > MAX_FIRING:
            raise BodyError(413, f"{len(new)} alerts in one notification: at most {MAX_FIRING} are kept")
        if len(self._firing) + len(new) > MAX_FIRING:
            kept = f"{len(self._firing)} alerts fire, and at most {MAX_FIRING} are kept"
            raise BodyError(503, f"{kept}: send these again later")

    def _refuse(self, code: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
        self._refused[code] += 1
        return JSONResponse({"error": sentence}, code, headers=headers)


def _alerts(body: bytes) -> list[Alert]:
    """The alerts of a notification; raises BodyError naming what is missing or of a wrong type."""
    told = parsed(body)
    if not isinstance(told, dict) or not isinstance(told.get("alerts"), list):
        raise BodyError(400, "expected Alertmanager's notification: an object with a list under 'alerts'")
    if str(told.get("version", "4")) != "4":
        raise BodyError(400, f"version {told['version']!r:.20}: expected Alertmanager's notification of version 4")
    return [_alert(index, one) for index, one in enumerate(told["alerts"])]


def _alert(index: int, told: Any) -> Alert:
    if not isinstance(told, dict):
        raise BodyError(400, f"alerts[{index}]: expected an object")
    status, labels = told.get("status"), told.get("labels")
    if status not in ("firing", "resolved"):
        raise BodyError(400, f"alerts[{index}].status: expected firing or resolved, not {status!r:.40}")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise BodyError(400, f"alerts[{index}].labels: expected an object of text")
    try:
        starts = datetime.fromisoformat(told.get("startsAt"))  # type: ignore[arg-type]  # refused below
        starts = starts if starts.tzinfo else starts.replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise BodyError(400, f"alerts[{index}].startsAt: expected a time such as 2024-01-01T00:00:00Z") from None
    fingerprint = told.get("fingerprint") or json.dumps(labels, sort_keys=True)
    if not isinstance(fingerprint, str) or len(fingerprint) > 10_000:
        raise BodyError(400, f"alerts[{index}].fingerprint: expected text")
    return Alert(fingerprint, status == "firing", starts, labels, told)
