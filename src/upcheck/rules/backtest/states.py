"""When an alert is pending and firing, of the evaluations at which its expression has it: as Prometheus decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert with its *labels*: active *since*, *fired*, *over* (the first evaluation at which it is inactive).

    Seconds since 1970. *fired* is None where it did not last for its `for`, *over* where it was active to the end.
    """

    labels: Mapping[str, str]
    since: float
    fired: float | None
    over: float | None


@dataclass(frozen=True, slots=True)
class Timing:
    """How an alert is evaluated, in seconds: each *step*, with its `for` and `keep_firing_for`, up to *end*."""

    step: float
    hold: float
    keep: float
    end: float


def episodes(labels: Mapping[str, str], times: Iterable[float], timing: Timing) -> Iterator[Episode]:
    """The episodes of an alert whose expression has it at *times*, in their order."""
    hold, keep = (math.ceil(span / timing.step - _ROUNDING) for span in (timing.hold, timing.keep))
    since = fired = last = None
    for number in (round(time / timing.step) for time in times):
        if since is None or last is None or number > _until(last, fired, keep):
            if since is not None and last is not None:
                yield _episode(labels, since, fired, _until(last, fired, keep), timing)
            since, fired = number, None
        if fired is None and number - since >= hold:
            fired = number
        last = number
    if since is not None and last is not None:
        yield _episode(labels, since, fired, _until(last, fired, keep), timing)


def _until(last: int, fired: int | None, keep: int) -> int:
    """The evaluation at which it is inactive, if the expression does not have it again by then."""
    return last + 1 + (keep if fired is not None else 0)


def _episode(labels: Mapping[str, str], since: int, fired: int | None, over: int, timing: Timing) -> Episode:
    step = timing.step
    return Episode(
        labels,
        since * step,
        None if fired is None else fired * step,
        over * step if over * step <= timing.end + _ROUNDING else None,
    )
