"""What sequences of outcomes come to: tables for what is promised, a state machine for what must never happen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from upcheck.history import History
from upcheck.result import Outcome, Result
from upcheck.state import CHANGES, Alert, Condition, Flip, State, flip, step

WORD = {
    "h": Outcome.HELD, "f": Outcome.FAILED, "e": Outcome.ERROR, "s": Outcome.SKIPPED, "b": Outcome.BLOCKED,
    "m": Outcome.MAINTENANCE,
}  # fmt: skip
LETTER = {State.UP: "U", State.PENDING: "p", State.DOWN: "D", State.FLAPPING: "F", State.UNKNOWN: "?",
          State.BLOCKED: "b", State.MAINTENANCE: "m"}  # fmt: skip


def result(outcome: Outcome, at: float, failures: int = 3, successes: int = 2) -> Result:
    facts = {"failure_threshold": failures, "success_threshold": successes}
    return Result("a", outcome, at, 0.1, facts=facts)


def played(runs: str, failures: int = 3, successes: int = 2) -> tuple[str, list[Flip]]:
    """The states after each of *runs*, a letter each, and the flips on the way."""
    condition, states, flips = Condition(), "", []
    for at, letter in enumerate(runs):
        one = result(WORD[letter], 1000.0 + at, failures, successes)
        after = step(condition, one)
        if found := flip("a", condition, after, one):
            flips.append(found)
        condition = after
        states += LETTER[condition.state]
    return states, flips


@pytest.mark.parametrize(
    ("runs", "states"),
    [
        ("h", "U"),
        ("fff", "ppD"),
        ("hfffhh", "UppDDU"),
        ("hffhff", "UppUpp"),
        ("hfffhf", "UppDDD"),
        ("hffeef", "Upp??D"),
        ("hfffeeh", "UppD??D"),
        ("hffmmf", "UppmmD"),
        ("hbbbbh", "UbbbbU"),
        ("hfffbbhh", "UppDbbDU"),
        ("hsfs", "UUpp"),
        ("se", "??"),
    ],
)
def test_states(runs: str, states: str) -> None:
    assert played(runs)[0] == states


@pytest.mark.parametrize(
    ("runs", "alerts"),
    [
        ("hfff", [(3, Alert.RAISED)]),
        ("hffffff", [(3, Alert.RAISED)]),
        ("hfffhh", [(3, Alert.RAISED), (5, Alert.RESOLVED)]),
        ("hffbbbb", []),  # no alert is made of what is blocked,
        ("hffmmmm", []),  # nor of maintenance,
        ("hffmmmmf", [(7, Alert.RAISED)]),  # but of what is left when it is over
        ("hfffmmhh", [(3, Alert.RAISED), (7, Alert.RESOLVED)]),
        ("hfffbbhh", [(3, Alert.RAISED), (7, Alert.RESOLVED)]),
        ("hfffeehh", [(3, Alert.RAISED), (7, Alert.RESOLVED)]),
    ],
)
def test_alerts(runs: str, alerts: list[tuple[int, Alert]]) -> None:
    flips = played(runs)[1]
    assert [(int(one.at - 1000), one.alert) for one in flips if one.alert] == alerts


def test_flapping_is_nagios_s_with_the_thresholds_of_icinga_2() -> None:
    states, flips = played("h" * 21 + "fhfhfhfhfh" + "h" * 30, 1, 1)
    # Six changes, the newest of which weigh most, are 34% of 20; when all but five have aged away, those are 21%.
    assert states == "U" * 21 + "DUDUD" + "F" * 19 + "U" * 16
    first = 26
    told = [one.alert for one in flips if one.at >= 1000 + first]
    assert Alert.RAISED not in told, "nobody is woken by what comes and goes"
    alerts = [one.alert for one in flips if one.alert]
    assert alerts.count(Alert.RAISED) == alerts.count(Alert.RESOLVED) > 0, "and what was raised before is resolved"


def test_no_alert_is_raised_by_a_run_that_held() -> None:
    states, flips = played("h" * 21 + "ffh" * 5 + "fff" + "h" * 19, 3, 20)
    assert states.endswith("FDDDDDDDD"), "steady, and not yet up again"
    assert [one.alert for one in flips if one.alert] == []


def test_what_fails_for_good_after_flapping_is_told() -> None:
    _, flips = played("h" * 21 + "fhfhfhfhfh" + "f" * 30, 1, 1)
    assert [one.alert for one in flips if one.alert][-1] is Alert.RAISED


outcomes = st.sampled_from([*Outcome])
thresholds = st.integers(1, 5)


@given(st.lists(outcomes, max_size=80), thresholds, thresholds, st.booleans())
@settings(deadline=None)
def test_all_pasts_converge(past: list[Outcome], failures: int, successes: int, good: bool) -> None:
    condition = Condition()
    for at, outcome in enumerate(past):
        condition = step(condition, result(outcome, at, failures, successes))
    last = Outcome.HELD if good else Outcome.FAILED
    for at in range(CHANGES + 5):
        condition = step(condition, result(last, 100 + at, failures, successes))
    assert condition.state is (State.UP if good else State.DOWN)
    assert condition.alerting is not good
    assert condition == Condition.from_json(condition.to_json())


class Told(RuleBasedStateMachine):
    """A person who hears of alerts, an engine that dies and comes back now and then, and the same without dying."""

    @initialize(failures=thresholds, successes=thresholds)
    def begin(self, failures: int, successes: int) -> None:
        self.thresholds = failures, successes
        self.condition = self.undisturbed = Condition()
        self.open = False
        self.at = 0.0
        self.last = Outcome.HELD

    @rule(outcome=outcomes, times=st.integers(1, 8))
    def runs(self, outcome: Outcome, times: int) -> None:
        for _ in range(times):
            self.at += 1
            one = result(outcome, self.at, *self.thresholds)
            after = step(self.condition, one)
            found = flip("a", self.condition, after, one)
            if found and found.alert:
                assert self.open is (found.alert is Alert.RESOLVED), "told twice, or resolved what was never raised"
                self.open = found.alert is Alert.RAISED
                assert outcome is (Outcome.FAILED if self.open else Outcome.HELD), "raised without cause, or early"
            self.condition, self.undisturbed = after, step(self.undisturbed, one)
            self.last = outcome

    @rule()
    def restarts(self) -> None:
        self.condition = Condition.from_json(self.condition.to_json())

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "condition"):
            return
        assert self.condition == self.undisturbed
        assert self.condition.alerting is self.open
        if self.condition.state is State.UP:
            assert not self.open, "up, and the alert still stands"
        if self.condition.state is State.DOWN and self.last is Outcome.FAILED:
            assert self.open, "down, and nobody was told"


TestTold = Told.TestCase
TestTold.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def test_the_history_keeps_it_from_run_to_run(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    now = 1_700_000_000.0
    expected = Condition()
    for at, letter in enumerate("hffmfhfffehh"):
        one = result(WORD[letter], now + at)
        expected = step(expected, one)
        with History(file) as history:  # as cron does: each run is another process
            history.append([one])
            assert history.condition("a") == expected
            (latest,) = history.latest()
            assert latest.condition == expected
            assert history.condition("nobody") == Condition()
