"""The signal that an alert looks at, and what its series are while a fault of some shape lasts.

Each kind of signal comes to series that have a value when all is well and another when all is bad; a fault's shape says
how much is bad at each sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from upcheck.rules import promql
from upcheck.rules.promql import Matcher, Selector

RATE = 100.0  # requests a second, where a signal does not say
TURN = 120.0  # seconds that flapping is bad, and then well
DOWN, RAMP, FLAPPING, ABSENT = "hard down", "slow ramp", "flapping", "absent"
_ERRORS = {"1% errors": 0.01, "10% errors": 0.1, "50% errors": 0.5}
SHAPES = (DOWN, *_ERRORS, RAMP, FLAPPING, ABSENT)
_HAIR = 1 - 1e-6  # of a share: a threshold of 10% that asks for more is not met by the rounding of a quotient
_SHARELESS = dict.fromkeys(_ERRORS, "a level has no share that fails")
_WELL_OR_NOT = dict.fromkeys((*_ERRORS, RAMP), "it is well or not, with nothing between")
_BLANK = {"ratio": {}, "latency": {}, "counter": _SHARELESS, "gauge": _SHARELESS} | dict.fromkeys(
    ("state", "timestamp"), _WELL_OR_NOT
)
KINDS = tuple(_BLANK)


class SignalError(ValueError):
    """A signal that is none, in a sentence."""


@dataclass(frozen=True, slots=True)
class Fault:
    """When it begins and ends, in samples each *step* seconds, of which there are *samples*."""

    begin: int
    end: int
    samples: int
    step: float

    def shares(self, shape: str) -> list[float | None]:
        """How much is bad from each sample to the next, 0 to 1; None where the series are absent."""
        length = self.end - self.begin
        during: list[float | None] = [_HAIR * _ERRORS.get(shape, 0.0)] * length
        if shape == DOWN:
            during = [1.0] * length
        elif shape == ABSENT:
            during = [None] * length
        elif shape == RAMP:
            during = [min(1.0, 2 * (number + 1) / length) for number in range(length)]
        elif shape == FLAPPING:
            turn = max(1, round(TURN / self.step))
            during = [0.0 if number // turn % 2 else 1.0 for number in range(length)]
        return [*[0.0] * self.begin, *during, *[0.0] * (self.samples - self.end)]


@dataclass(frozen=True, slots=True)
class Line:
    """One series: what it is when all is well and when all is bad, a second if it *counts*; None is no sample."""

    series: Selector
    well: float | None
    bad: float | None
    counts: bool = False

    def values(self, shares: Sequence[float | None], step: float) -> list[float | None]:
        """Its samples, a share each."""
        if self.well is None or self.bad is None:
            return [self.bad if share else self.well for share in shares]
        levels = [self.well + (self.bad - self.well) * (share or 0.0) for share in shares]
        if self.counts:
            levels = list(accumulate((level * step for level in levels[:-1]), initial=0.0))
        return [None if share is None else level for share, level in zip(shares, levels, strict=True)]


@dataclass(frozen=True, slots=True)
class Clock:
    """A series that is the time of something that happens while all is well."""

    series: Selector

    def values(self, shares: Sequence[float | None], step: float) -> list[float | None]:
        """Its samples, a share each."""
        last, found = 0.0, list[float | None]()
        for number, share in enumerate(shares):
            last = last if share else number * step
            found.append(None if share is None else last)
        return found


@dataclass(frozen=True, slots=True)
class Signal:
    """Series of a *kind*, and those *beside* them, which never change."""

    kind: str
    lines: tuple[Line | Clock, ...]
    beside: Mapping[Selector, float]

    @classmethod
    def of(cls, kind: str, said: Any, beside: Mapping[str, float]) -> Signal:
        """What the file of signals says of one; raises SignalError."""
        return cls(kind, tuple(_MAKERS[kind](said)), {_series(name): value for name, value in beside.items()})

    @property
    def metrics(self) -> set[str]:
        """The names of all metrics that it has."""
        return {one.series.name for one in self.lines} | {one.name for one in self.beside}

    def blank(self, shape: str) -> str:
        """Why a fault of that shape means nothing for it; empty where it means something."""
        if shape == ABSENT and any(isinstance(one, Line) and one.well is None for one in self.lines):
            return "it has no series while all is well"
        return _BLANK[self.kind].get(shape, "")

    def series(self, shares: Sequence[float | None], step: float) -> dict[str, str]:
        """Its series as promtool writes them."""
        still = {str(series): f"{_number(value)}x{len(shares) - 1}" for series, value in self.beside.items()}
        return still | {str(one.series): " ".join(_written(one.values(shares, step))) for one in self.lines}


def _ratio(said: Mapping[str, Any]) -> Iterator[Line]:
    rate = float(said.get("rate", RATE))
    yield Line(_series(said["bad"]), 0.0, rate, counts=True)
    if "good" in said:
        yield Line(_series(said["good"]), rate, 0.0, counts=True)


def _latency(said: Mapping[str, Any]) -> Iterator[Line]:
    rate, fast, slow = float(said.get("rate", RATE)), float(said["fast"]), float(said["slow"])
    histogram = _series(said["histogram"])
    for bound in (*map(float, said["buckets"]), float("inf")):
        le = "+Inf" if bound == float("inf") else promql.number(bound)
        bucket = Selector(f"{histogram.name}_bucket", (*histogram.matchers, Matcher("le", "=", le)))
        yield Line(bucket, rate if fast <= bound else 0.0, rate if slow <= bound else 0.0, counts=True)
    yield Line(Selector(f"{histogram.name}_count", histogram.matchers), rate, rate, counts=True)
    yield Line(Selector(f"{histogram.name}_sum", histogram.matchers), rate * fast, rate * slow, counts=True)


def _level(said: Mapping[str, Any], *, counts: bool = False) -> Iterator[Line]:
    well, bad = (None if said[name] == "absent" else float(said[name]) for name in ("healthy", "failed"))
    yield Line(_series(said["series"]), well, bad, counts)


_MAKERS: Mapping[str, Any] = {
    "ratio": _ratio,
    "latency": _latency,
    "counter": lambda said: _level(said, counts=True),
    "gauge": _level,
    "state": _level,
    "timestamp": lambda said: (Clock(_series(said)),),
}


def _series(text: str) -> Selector:
    """The series that *text* names."""
    try:
        found = promql.parse(text)
    except promql.PromQLError as error:
        raise SignalError(f"{text} is no series: {error}") from None
    if not isinstance(found, Selector) or not found.name or any(one.op != "=" for one in found.matchers):
        raise SignalError(f"{text} is no series: write a name and labels, as in up{{job='api'}}")
    return Selector(found.name, found.matchers)


def _written(values: Sequence[float | None]) -> Iterator[str]:
    """*values* in promtool's notation: runs that grow evenly are one word; a series that ends is stale."""
    number = 0
    while number < len(values):
        value = values[number]
        if value is None:
            yield "stale" if number and values[number - 1] is not None else "_"
            number += 1
            continue
        following = values[number + 1] if number + 1 < len(values) else None
        growth = 0.0 if following is None else following - value
        last, expected = number, value + growth
        while last + 1 < len(values) and values[last + 1] == expected:
            last += 1
            expected += growth
        sign = "-" if growth < 0 else "+"
        yield _number(value) + (f"{sign}{_number(abs(growth))}x{last - number}" if last > number else "")
        number = last + 1


def _number(value: float) -> str:
    return repr(float(value))
