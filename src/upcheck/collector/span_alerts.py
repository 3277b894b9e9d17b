"""The alerts that spans raise, on their way to Alertmanager: one for each set of labels, sent until it is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from upcheck.exposition import Block, Family
from upcheck.health import in_thread
from upcheck.recording.otlp.spans import Raised

RESEND = 60.0  # seconds; Prometheus' own --rules.alert.resend-delay
GATHER = 0.5  # seconds, in which further news joins the first
RETRY = (1.0, 30.0)  # seconds after a failure, doubled up to the second
_BATCH = 500  # alerts of one request

ACTIVE = Family("upcheck_span_alerts_active", "gauge", (), "Alerts that spans have raised, and that are not over.")
SENT = Family("upcheck_span_alert_pushes_total", "counter", ("outcome",), "Requests to Alertmanager, by outcome.")
DROPPED = Family("upcheck_span_alerts_dropped_total", "counter", (), "Alerts that were one too many.")

Push = Callable[[str, Sequence[dict[str, Any]]], str | None]

_log = logging.getLogger("upcheck.collector")


@dataclass(slots=True)
class _Alert:
    raised: Raised
    since: float
    until: float
    delivered: float = 0.0  # unix time; 0 while Alertmanager does not know of it


class SpanAlerts:
    """The alerts that are active. `run()` keeps Alertmanager told; a source of /metrics.

    An alert ends *resolve_after* seconds after the last span that raised it: Alertmanager is told so with each push
    (`endsAt`). One that could not be delivered is kept until it is, however old. At most *most* are kept.
    """

    def __init__(self, url: str | None, *, most: int, push: Push, clock: Callable[[], float] = time.time) -> None:
        """*url* is Alertmanager's; None sends nothing."""
        self._url = url
        self._most = most
        self._push = push
        self._clock = clock
        self._active: dict[tuple[tuple[str, str], ...], _Alert] = {}
        self._news = asyncio.Event()
        self._sent = {"ok": 0, "failed": 0}
        self._dropped = 0

    def raise_(self, raised: Raised) -> None:
        """Take in an alert, or that it is still there."""
        now = self._clock()
        key = tuple(sorted(raised.labels.items()))
        known = self._active.get(key)
        if known is not None and (known.until > now or not known.delivered):
            known.raised, known.until = raised, now + raised.resolve_after
            return
        if known is None and len(self._active) >= self._most:
            self._dropped += 1
            return
        self._active[key] = _Alert(raised, now, now + raised.resolve_after)
        self._news.set()

    def blocks(self) -> Iterator[Block]:
        """How many are active, were sent, were dropped."""
        now = self._clock()
        yield ACTIVE, f"{ACTIVE.name} {sum(one.until > now for one in self._active.values())}\n"
        lines = [f'{SENT.name}{{outcome="{outcome}"}} {count}\n' for outcome, count in self._sent.items()]
        yield SENT, "".join(lines)
        yield DROPPED, f"{DROPPED.name} {self._dropped}\n"

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        if self._url is None:
            return
        wait = RETRY[0]
        while True:
            with contextlib.suppress(TimeoutError):  # nothing new: what is active is due again
                async with asyncio.timeout(self._pause()):
                    await self._news.wait()
                await asyncio.sleep(GATHER)
            self._news.clear()
            failure = await self._send(self._url)
            if failure is None:
                wait = RETRY[0]
                continue
            _log.warning("alerts of spans could not be sent to Alertmanager, next try in %g s: %s", wait, failure)
            await asyncio.sleep(wait)
            self._news.set()
            wait = min(2 * wait, RETRY[1])

    def _pause(self) -> float:
        """Seconds until what is active is due again: well before Alertmanager takes one for resolved."""
        return min([RESEND, *(one.raised.resolve_after / 3 for one in self._active.values())])

    async def _send(self, url: str) -> str | None:
        """Send all that Alertmanager has to know; why not, if that failed. What is over and known is forgotten."""
        now = self._clock()
        for key in [key for key, one in self._active.items() if one.until <= now and one.delivered]:
            del self._active[key]
        due = list(self._active.values())
        for start in range(0, len(due), _BATCH):
            batch = due[start : start + _BATCH]
            told = [_told(one, now) for one in batch]
            failure = await in_thread(partial(self._push, url, told))
            self._sent["ok" if failure is None else "failed"] += 1
            if failure is not None:
                return failure
            for one in batch:
                one.delivered = now
        return None


def _told(alert: _Alert, now: float) -> dict[str, Any]:
    """As Alertmanager's API takes it. One that was over before it was ever told still gets its time."""
    until = alert.until if alert.until > now or alert.delivered else now + alert.raised.resolve_after
    return {
        "labels": dict(alert.raised.labels),
        "annotations": dict(alert.raised.annotations),
        "startsAt": _iso(alert.since),
        "endsAt": _iso(until),
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
