"""Alertmanager's time intervals: whether a moment lies within."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Range = tuple[int, int]
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = tuple(name.lower() for name in calendar.month_name[1:])
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z|(24):(00)\Z")
NAMED: Mapping[str, Mapping[str, int]] = {
    "weekdays": {name: number for number, name in enumerate(WEEKDAYS)},
    "months": {name: number for number, name in enumerate(MONTHS, 1)},
}
_BOUNDS = {"weekdays": (0, 6), "days_of_month": (-31, 31), "months": (1, 12), "years": (0, 9999)}
FIELDS = tuple(_BOUNDS)


@dataclass(frozen=True, slots=True)
class Span:
    """One entry of an interval: all that is given must hold; None is any, an empty tuple is never.

    *times* are minutes of the day, the end not included. Other ranges include it; days of the month that are negative
    count from its end.
    """

    line: int
    times: tuple[Range, ...] | None = None
    weekdays: tuple[Range, ...] | None = None
    days_of_month: tuple[Range, ...] | None = None
    months: tuple[Range, ...] | None = None
    years: tuple[Range, ...] | None = None
    location: str = "UTC"

    def contains(self, at: datetime) -> bool:
        """Whether *at*, which has a time zone, lies within."""
        local = at.astimezone(zone(self.location))
        minute = local.hour * 60 + local.minute
        return (
            (self.times is None or any(first <= minute < end for first, end in self.times))
            and _within(self.days_of_month, local.day, calendar.monthrange(local.year, local.month)[1])
            and _within(self.months, local.month)
            and _within(self.weekdays, local.isoweekday() % 7)
            and _within(self.years, local.year)
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """A time interval by its *name*: any of its *spans*."""

    name: str
    line: int
    spans: tuple[Span, ...]

    def contains(self, at: datetime) -> bool:
        """Whether *at*, which has a time zone, lies within."""
        return any(span.contains(at) for span in self.spans)


def zone(location: str) -> tzinfo | None:
    """The time zone by its IANA name; None is the machine's own. Raises ValueError for one that is not known."""
    if location in ("", "UTC"):
        return UTC
    if location == "Local":
        return None
    try:
        return ZoneInfo(location)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        told = f"location: {location!r} is no time zone that is known here: write one such as Europe/Berlin"
        raise ValueError(told) from None


def minutes(text: str) -> int:
    """`09:30` as minutes of the day, up to 24:00; raises ValueError."""
    found = _TIME.match(text)
    if found is None:
        raise ValueError(f"expected a time such as 09:00, up to 24:00, not {text!r}")
    hour, minute = (one for one in found.groups() if one is not None)
    return int(hour) * 60 + int(minute)


def clock(minute: int) -> str:
    """Minutes of the day as `09:30`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def parse(field: str, text: str) -> Range:
    """A range of *field* as `monday:friday`, `1:5`, `-3:-1` or a single one; raises ValueError."""
    first, colon, last = text.strip().lower().partition(":")
    return _number(field, first), _number(field, last if colon else first)


def _number(field: str, text: str) -> int:
    named = NAMED.get(field, {})
    low, high = _BOUNDS[field]
    if text in named:
        return named[text]
    if field != "weekdays" and re.fullmatch(r"[-+]?[0-9]+", text) and low <= int(text) <= high:
        return int(text)
    wanted = f"{field}: expected one of {', '.join(named)}" if named else f"{field}: expected {low} to {high}"
    raise ValueError(f"{wanted}, or two with a colon between, not {text!r}")


def _within(ranges: tuple[Range, ...] | None, value: int, days: int = 0) -> bool:
    """Whether *value* is in one of *ranges*; negative bounds count from the end of *days*."""
    if ranges is None:
        return True
    for first, last in ranges:
        begin = days + first + 1 if first < 0 else first
        end = days + last + 1 if last < 0 else last
        if days and begin > days:
            continue
        if begin <= value <= end:
            return True
    return False
