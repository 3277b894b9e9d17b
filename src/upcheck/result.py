"""The words: an Outcome, the Result that carries it, and the exit code that a set of them means."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Protocol


class Outcome(StrEnum):
    """What a run of a check tells of its target."""

    HELD = "held"
    FAILED = "failed"  # the target is bad
    ERROR = "error"  # we could not tell: a broken fixture, a missing tool, a dead worker
    SKIPPED = "skipped"
    BLOCKED = "blocked"  # it did not hold, and what it depends on is down: that is the one to look at
    MAINTENANCE = "maintenance"  # it did not hold, and nobody expected it to

    @property
    def bad(self) -> bool:
        """Whether somebody should look at it."""
        return self in (Outcome.FAILED, Outcome.ERROR)


class Unknown(Exception):
    """Something is missing that is needed to tell whether a check holds."""


class Kind(StrEnum):
    """What was checked: a live target, the alert rules, or a configuration file."""

    CHECK = "check"
    RULE = "rule"
    CONFIG = "config"


class ExitCode(IntEnum):
    """What the commands of upcheck exit with."""

    HELD = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one check, folded from pytest's setup, call and teardown.

    *check* is pytest's node ID, *started* unix seconds, *duration* the seconds that the call took.
    *reason* says in one line why it did not hold; *facts* are plain JSON values (file, line, severity,
    every, timeout in seconds, and what was asked, got and wanted).
    """

    check: str
    outcome: Outcome
    started: float
    duration: float
    kind: Kind = Kind.CHECK
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> Result:
        """The Result that `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "outcome": Outcome(values["outcome"]), "kind": Kind(values["kind"])})


class PhaseReport(Protocol):
    """The part of pytest's TestReport that a Result is made from."""

    nodeid: str
    start: float
    duration: float

    @property
    def when(self) -> str | None: ...
    @property
    def outcome(self) -> str: ...
    @property
    def user_properties(self) -> list[tuple[str, Any]]: ...
    @property
    def longreprtext(self) -> str: ...


UNKNOWN = "unknown"  # the fact that a call failed through a fault of our own
PLANNED = "maintenance"  # the fact that it did not hold while this window of maintenance was open
FACT = "upcheck."  # prefix of our entries in a report's user_properties


def facts_of(report: PhaseReport) -> dict[str, Any]:
    """Our facts among the report's user properties, without their prefix; the last of a name wins."""
    return {name.removeprefix(FACT): value for name, value in report.user_properties if name.startswith(FACT)}


def fold(reports: Iterable[PhaseReport]) -> Result:
    """The one Result of an item's phase reports (at least one).

    A failed call is `failed`, or `error` where it says that it could not tell; a failed setup or teardown, or an
    unknown phase (a worker that died), is `error`; a failed call wins over a failed teardown, because it says more
    about the target.
    """
    phases = list(reports)
    by_name = {report.when: report for report in phases}
    call = by_name.get("call")
    broken = [report for report in phases if report.outcome == "failed" and report is not call]
    if call is not None and call.outcome == "failed":
        outcome, telling = Outcome.ERROR if facts_of(call).get(UNKNOWN) else Outcome.FAILED, call
    elif broken:
        outcome, telling = Outcome.ERROR, broken[0]
    elif any(report.outcome == "skipped" for report in phases):
        outcome, telling = Outcome.SKIPPED, next(report for report in phases if report.outcome == "skipped")
    else:
        outcome, telling = Outcome.HELD, call or phases[-1]
    facts: dict[str, Any] = {}
    for report in phases:
        facts.update(facts_of(report))
    facts.update(facts_of(telling))
    facts.pop(UNKNOWN, None)
    if outcome is Outcome.SKIPPED and PLANNED in facts:
        outcome = Outcome.MAINTENANCE
    kind = Kind(facts.pop("kind", Kind.CHECK))
    reason = str(facts.pop("reason", "")) if outcome is not Outcome.HELD else ""
    if outcome is Outcome.ERROR and telling.when not in ("setup", "call", "teardown"):
        reason = telling.longreprtext.strip().splitlines()[-1] if telling.longreprtext.strip() else "the worker died"
    timed = call or phases[0]
    return Result(
        check=telling.nodeid,
        outcome=outcome,
        started=timed.start or time.time(),  # a dead worker's report has none
        duration=timed.duration if call is not None else 0.0,
        kind=kind,
        reason=reason,
        facts=facts,
    )


def exit_code(results: Collection[Result]) -> ExitCode:
    """1 if anything failed, 3 if something could not be told or nothing held at all, else 0.

    What did not hold during its maintenance is as good as skipped.
    """
    outcomes = {result.outcome for result in results}
    if Outcome.FAILED in outcomes:
        return ExitCode.FAILED
    if outcomes & {Outcome.ERROR, Outcome.BLOCKED} or not outcomes & {Outcome.HELD, Outcome.MAINTENANCE}:
        return ExitCode.UNKNOWN
    return ExitCode.HELD
