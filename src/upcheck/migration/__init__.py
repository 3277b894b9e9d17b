"""`upcheck import`: what others have configured, as checks in YAML, and a sentence for what can't be said in them.

a file of Gatus, blackbox_exporter, Uptime Kuma ── its module ── Carried: checks, left ── page: YAML that is read again
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Entry = dict[str, Any]


class ImportedError(ValueError):
    """A file that is not what it is said to be, in a sentence."""


@dataclass(slots=True)
class Carried:
    """What was carried over: *checks* as they stand in YAML; *left* has what was not, a sentence each."""

    checks: list[Entry] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Have a check called *name*, or a name beside it where there is one already; empty values are left out."""
        taken = {check["name"] for check in self.checks}
        free, number = name, 2
        while free in taken:
            free, number = f"{name} ({number})", number + 1
        self.checks.append(
            {"name": free} | {key: value for key, value in entry.items() if value not in (None, {}, [], "")}
        )

    def leave(self, name: str, told: str) -> None:
        """Say that something of *name* is not carried over."""
        self.left.append(f"{name}: {told}")


def page(carried: Carried, source: str) -> str:
    """The checks as a file of YAML, which says where they come from."""
    head = f"# Carried over from {source} by `upcheck import`; what could not be is told there.\n"
    plain = json.loads(json.dumps(carried.checks))  # texts that know their place in a file are no YAML
    text = yaml.dump({"checks": plain}, sort_keys=False, allow_unicode=True, width=110, Dumper=_Dumper)
    return head + text.replace("\n- ", "\n\n- ").replace("checks:\n\n- ", "checks:\n- ")


class _Dumper(yaml.SafeDumper):
    """Lists of plain values on one line."""

    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        items = list(sequence)
        plain = all(isinstance(item, str | int | float) for item in items)
        return super().represent_sequence(tag, items, flow_style=plain or flow_style)


def duration(seconds: float) -> str:
    """*seconds* as people write them: `90s`, `5m`, `250ms`."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


_SPAN = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: object) -> float:
    """Seconds in one of Go's durations, such as `1m30s`. Raises ImportedError."""
    parts = _SPAN.findall(str(text))
    if not parts or _SPAN.sub("", str(text)):
        raise ImportedError(f"{text!r} is no duration such as 30s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def statuses(codes: Iterable[range]) -> list[str | int]:
    """Ranges of status codes as a check has them: whole classes by name, others one by one."""
    found: list[str | int] = []
    for one in codes:
        hundreds = [n for n in range(1, 6) if n * 100 in one and n * 100 + 99 in one]
        found += [f"{n}xx" for n in hundreds]
        found += [code for code in one if code // 100 not in hundreds and 100 <= code <= 599]
    return found


ANY_STATUS = ["1xx", "2xx", "3xx", "4xx", "5xx"]  # where the other tool asks for none
