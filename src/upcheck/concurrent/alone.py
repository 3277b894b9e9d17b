"""Which items can't run beside others, because they change or watch what the whole process shares."""

from __future__ import annotations

import types

import pytest

_FIXTURES = frozenset(
    ("monkeypatch", "recwarn", "caplog", "capsys", "capsysbinary", "capteesys", "capfd", "capfdbinary", "pytester")
)
_MARKS = ("serial", "filterwarnings")
_NAMES = frozenset(
    ("warns", "deprecated_call", "catch_warnings", "simplefilter", "chdir", "redirect_stdout", "tracemalloc")
)


def why_alone(item: pytest.Item, kinds: tuple[type[pytest.Item], ...] = ()) -> str:
    """Why *item* must run alone; empty where it can run beside others.

    Functions and items of *kinds* can; of what else is collected (doctests, ...) nobody knows.
    """
    if not isinstance(item, (pytest.Function, *kinds)):
        return f"it is a {type(item).__name__}"
    for mark in _MARKS:
        if item.get_closest_marker(mark):
            return f"it is marked {mark}"
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return "it is a hypothesis test"  # which parses source, and ast.parse is not safe beside itself in 3.11
    used = _FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if used:
        return f"it uses the fixture {min(used)}"
    code = getattr(getattr(item, "function", None), "__code__", None)
    named = _NAMES & _names(code) if code else None
    return f"it uses {min(named)}" if named else ""


def _names(code: types.CodeType) -> set[str]:
    """The names that *code* and the functions within it use."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
