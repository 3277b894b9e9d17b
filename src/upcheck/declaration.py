"""What a check says of itself, whether by `@check(...)` in Python or as keys in YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upcheck.settings import nearest

SEVERITIES = ("critical", "warning", "info")
_COUNTS = {"retries": (0, 10), "failure_threshold": (1, 20), "success_threshold": (1, 20)}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class DeclarationError(ValueError):
    """An argument of a check that can't be meant, in a sentence that names it."""


def seconds(value: object) -> float:
    """Seconds in a duration: `30s`, `800ms`, `1m30s`, `1.5h`, or a plain number of seconds.

    Raises ValueError for anything else, and for what is not positive.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = float(value)
    elif isinstance(value, str) and value and not _PART.sub("", value):
        total = math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    else:
        raise ValueError(f"expected a duration such as '30s', '800ms' or '1m30s', not {value!r}")
    if not 0 < total < math.inf:
        raise ValueError(f"expected a duration above zero, not {value!r}")
    return total


@dataclass(frozen=True, slots=True)
class Declaration:
    """How often a check runs and how long it may take (both in seconds), and how bad its failure is.

    *retries*: how often `upcheck watch` tries again before it believes a failure. *failure_threshold* failures in a
    row take it down, *success_threshold* successes bring it up again. *depends_on* names checks without which it can't
    hold, *uplink* says that it tells whether we can reach the world at all.
    """

    every: float = 60.0
    timeout: float = 10.0
    severity: str = "critical"
    retries: int = 0
    failure_threshold: int = 3
    success_threshold: int = 2
    depends_on: tuple[str, ...] = ()
    uplink: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any], *, caller: str = "check()") -> Declaration:
        """The declaration in *arguments*; raises DeclarationError naming *caller* and what is wrong."""
        for name in arguments:
            if name not in cls.__slots__:
                raise DeclarationError(f"{caller} has no argument '{name}'{nearest(name, cls.__slots__)}")
        values = dict(arguments)
        for name in ("every", "timeout"):
            if name in values:
                try:
                    values[name] = seconds(values[name])
                except ValueError as error:
                    raise DeclarationError(f"{caller}: {name}: {error}") from None
        severity = values.get("severity", cls().severity)
        if severity not in SEVERITIES:
            raise DeclarationError(f"{caller}: severity: {severity!r}{nearest(str(severity), SEVERITIES)}")
        _refuse_counts(values, caller)
        if "depends_on" in values:
            values["depends_on"] = _names(values["depends_on"], caller)
        if not isinstance(values.get("uplink", False), bool):
            raise DeclarationError(f"{caller}: uplink: expected True or False, not {values['uplink']!r}")
        return cls(**values)


def _refuse_counts(values: Mapping[str, Any], caller: str) -> None:
    for name, (least, most) in _COUNTS.items():
        count = values.get(name, least)
        if not isinstance(count, int) or isinstance(count, bool) or not least <= count <= most:
            raise DeclarationError(f"{caller}: {name}: expected a number from {least} to {most}, not {count!r}")


def _names(given: object, caller: str) -> tuple[str, ...]:
    """The names of checks in *given*: one, or several."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise DeclarationError(f"{caller}: depends_on: expected the name of a check, or a list of them, not {given!r}")
    return tuple(names)
