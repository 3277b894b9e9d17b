"""What a sequence of outcomes means: up, down, pending, flapping, and what is to be told of it.

One failure is not an outage and one success is no recovery: a check is down after `failure_threshold` failures in a
row and up again after `success_threshold` successes. Alerts are suppressed as they are created, never as they are
resolved: what was raised is taken back whenever the check is up again, in maintenance, blocked or flapping.

Flap detection is Nagios' (the share of changes among the last 21 runs, newer ones weighing more), with the thresholds
of Icinga 2.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from enum import StrEnum

from upcheck.result import Outcome, Result

CHANGES = 20  # between the last 21 runs that told
FLAPPING, STEADY = 0.30, 0.25  # flapping from more than the one, until less than the other
_WEIGHTS = tuple(1.2 - 0.4 * age / (CHANGES - 1) for age in range(CHANGES))  # the newest first
_MASK = (1 << CHANGES) - 1


class State(StrEnum):
    """How a check stands, after all of its runs."""

    UP = "up"
    PENDING = "pending"  # it has failed, but not yet often enough in a row
    DOWN = "down"
    FLAPPING = "flapping"
    UNKNOWN = "unknown"  # nothing was told yet, or the last run could not tell
    BLOCKED = "blocked"
    MAINTENANCE = "maintenance"


class Alert(StrEnum):
    """What is to be told to people."""

    RAISED = "raised"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Condition:
    """All that is remembered of a check's runs. Times are unix seconds.

    *up* is the confirmed verdict, None before there is one. *run* counts the runs in a row that held (above zero) or
    failed (below). *changes* has a bit for each of the last 20 pairs of runs, the newest lowest: 1 where they differ.
    *alerting* is whether an alert was raised and not resolved since; *because* names what blocks the check, or the
    window of maintenance.
    """

    state: State = State.UNKNOWN
    since: float = 0.0
    up: bool | None = None
    run: int = 0
    changes: int = 0
    alerting: bool = False
    because: str = ""

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(astuple(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Condition:
        """The Condition that `to_json` wrote; that of a check which has never run where *text* is empty."""
        if not text:
            return cls()
        state, *rest = json.loads(text)
        return cls(State(state), *rest)


@dataclass(frozen=True, slots=True)
class Flip:
    """A check stands otherwise than before, or an alert is raised or resolved.

    *at* is in unix seconds; *lasted* is how many seconds the old state has, None before the first run.
    """

    check: str
    old: State
    new: State
    at: float
    reason: str
    lasted: float | None = None
    alert: Alert | None = None


def step(before: Condition, result: Result) -> Condition:
    """The condition after *result*, whose facts may say `failure_threshold` and `success_threshold` (1 each)."""
    outcome = result.outcome
    if outcome is Outcome.SKIPPED or (outcome is Outcome.HELD and before.state is State.UP and not before.changes):
        return before  # as nearly always
    up, run, changes = before.up, before.run, before.changes
    if outcome in (Outcome.HELD, Outcome.FAILED):
        held = outcome is Outcome.HELD
        changed = run != 0 and (run > 0) is not held
        changes = (changes << 1 | changed) & _MASK
        run = (1 if held else -1) if changed or run == 0 else run + (1 if held else -1)
        if held and (up is None or run >= int(result.facts.get("success_threshold", 1))):
            up = True
        elif not held and -run >= int(result.facts.get("failure_threshold", 1)):
            up = False
    state = _state(up, run, changes, outcome, was_flapping=before.state is State.FLAPPING)
    alerting = (before.alerting and up is not True) or (state is State.DOWN and outcome is Outcome.FAILED)
    since = before.since if state is before.state and before.since else result.started
    return Condition(state, since, up, run, changes, alerting, _because(result))


def flip(check: str, before: Condition, after: Condition, result: Result) -> Flip | None:
    """What is to be told of the step from *before* to *after* by *result*; None where all is as it was."""
    alert = None
    if before.alerting is not after.alerting:
        alert = Alert.RAISED if after.alerting else Alert.RESOLVED
    if before.state is after.state and alert is None:
        return None
    lasted = max(0.0, result.started - before.since) if before.since else None
    return Flip(check, before.state, after.state, result.started, result.reason, lasted, alert)


def _because(result: Result) -> str:
    if result.outcome is Outcome.BLOCKED:
        return str(result.facts.get("blocked_by", ""))
    return str(result.facts.get("maintenance", "")) if result.outcome is Outcome.MAINTENANCE else ""


def _state(up: bool | None, run: int, changes: int, outcome: Outcome, *, was_flapping: bool) -> State:
    if outcome in _EXCUSED:
        return _EXCUSED[outcome]
    share = flapping(changes)
    if share > FLAPPING or (was_flapping and share >= STEADY):
        return State.FLAPPING
    if up is False:
        return State.DOWN
    return State.PENDING if run < 0 else State.UP


def flapping(changes: int) -> float:
    """The weighted share of *changes*, 0 to 1."""
    return sum(weight for age, weight in enumerate(_WEIGHTS) if changes >> age & 1) / CHANGES if changes else 0.0


_EXCUSED = {
    Outcome.ERROR: State.UNKNOWN,
    Outcome.BLOCKED: State.BLOCKED,
    Outcome.MAINTENANCE: State.MAINTENANCE,
}
