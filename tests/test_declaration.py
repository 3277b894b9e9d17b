from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import upcheck
from upcheck.declaration import Declaration, DeclarationError, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("800ms", 0.8), ("1m30s", 90), ("1.5h", 5400), ("1d", 86400), (2, 2), (0.5, 0.5)],
)
def test_durations(text: object, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@given(st.integers(1, 10**6))
def test_a_number_of_seconds_is_itself(number: int) -> None:
    assert seconds(f"{number}s") == seconds(number) == number


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1 m", "five", "0s", 0, -3, True, None, float("nan"), float("inf")]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"evry": "30s"}, "check() has no argument 'evry'; did you mean 'every'?"),
        ({"colour": "red"}, "check() has no argument 'colour'; valid: depends_on, every, failure_threshold, retries, "),
        ({"every": "often"}, "check(): every: expected a duration such as '30s', '800ms' or '1m30s', not 'often'"),
        ({"severity": "critcal"}, "check(): severity: 'critcal'; did you mean 'critical'?"),
        ({"retries": 11}, "check(): retries: expected a number from 0 to 10, not 11"),
        ({"retries": True}, "check(): retries: expected a number from 0 to 10, not True"),
        ({"severity": ["critical"]}, "check(): severity: ['critical']"),
    ],
)
def test_a_typo_is_named_with_its_cure(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        upcheck.check(**arguments)  # type: ignore[call-overload]
    assert str(caught.value).startswith(sentence)


def test_the_mark_carries_what_was_said() -> None:
    assert upcheck.check(every="1m").mark.kwargs == {"every": "1m"}
    assert Declaration.of({"every": "1m", "severity": "info"}) == Declaration(60, 10, "info")


def test_a_bare_mark_is_one() -> None:
    @upcheck.check
    def test_something() -> None: ...

    assert [mark.name for mark in test_something.pytestmark] == ["check"]  # type: ignore[attr-defined]
