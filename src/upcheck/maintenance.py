"""Windows of maintenance: when what does not hold is nobody's business. `[[tool.upcheck.maintenance]]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from upcheck.declaration import seconds
from upcheck.settings import nearest

_KEYS = ("name", "checks", "start", "end", "cron", "duration", "timezone")


@dataclass(frozen=True, slots=True)
class Window:
    """Once, from *start* to *end*; or at each time that *cron* names in *zone*, for *duration* seconds.

    *checks* are names, node IDs, or patterns of either with `*`; none are all.
    """

    name: str
    checks: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    cron: str = ""
    duration: float = 0.0
    zone: tzinfo = UTC

    def covers(self, check: str, name: str, at: float) -> bool:
        """Whether *check* (a node ID) that is called *name* is under maintenance *at* (unix seconds)."""
        if self.checks and not any(fnmatchcase(one, pattern) for pattern in self.checks for one in (check, name)):
            return False
        return self.open(at)

    def open(self, at: float) -> bool:
        """Whether the window is open *at* (unix seconds); its end is outside."""
        moment = datetime.fromtimestamp(at, self.zone)
        if self.start is not None and self.end is not None:
            return self.start <= moment < self.end
        # Backwards from the next minute, because a time that cron names is inside.
        after = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        begun = next(CronSim(self.cron, after, reverse=True), None)
        return begun is not None and at - begun.timestamp() < self.duration


def covering(windows: Iterable[Window], check: str, name: str, at: float) -> str:
    """The name of the first of *windows* that covers *check*; empty where none does."""
    return next((window.name for window in windows if window.covers(check, name, at)), "")


def window(table: Mapping[str, Any]) -> Window:
    """The window in a table of the configuration. Raises ValueError with a sentence that names the key."""
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"no key '{key}'{nearest(key, _KEYS)}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("name: say what the window is for")
    checks = table.get("checks", [])
    if not isinstance(checks, list) or not all(isinstance(one, str) and one for one in checks):
        raise ValueError(f"checks: expected a list of names, not {checks!r}")
    zone = _zone(table.get("timezone", "UTC"))
    once, often = {"start", "end"} & table.keys(), {"cron", "duration"} & table.keys()
    if len(once) + len(often) != 2 or (once and often):
        raise ValueError("say either start and end, or cron and duration")
    if once:
        start, end = _moment("start", table["start"], zone), _moment("end", table["end"], zone)
        if start >= end:
            raise ValueError(f"end: {end.isoformat()} is not after start: {start.isoformat()}")
        return Window(name, tuple(checks), start, end, zone=zone)
    return Window(name, tuple(checks), cron=_cron(table["cron"]), duration=_duration(table["duration"]), zone=zone)


def _zone(name: object) -> tzinfo:
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone: no zone is called {name!r}: try such as 'Europe/Berlin' or 'UTC'") from None


def _moment(key: str, given: object, zone: tzinfo) -> datetime:
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise ValueError(f"{key}: expected a date and a time such as 2026-12-01T22:00:00+01:00, not {given!r}")
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _cron(given: object) -> str:
    try:
        CronSim(str(given), datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"cron: {given!r}: {error}; expected five fields such as '0 3 * * SUN'") from None
    return str(given)


def _duration(given: object) -> float:
    try:
        return seconds(given)
    except ValueError as error:
        raise ValueError(f"duration: {error}") from None
