"""`@check`: the validated mark that says how often, how long and how bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import pytest

from upcheck.declaration import Declaration

F = TypeVar("F", bound=Callable[..., object])


@overload
def check(function: F, /) -> F: ...
@overload
def check(
    *,
    every: str | float = ...,
    timeout: str | float = ...,
    severity: str = ...,
    retries: int = ...,
    failure_threshold: int = ...,
    success_threshold: int = ...,
    depends_on: str | Sequence[str] = ...,
    uplink: bool = ...,
) -> pytest.MarkDecorator: ...


def check(function: Any = None, /, **arguments: Any) -> Any:
    """Declare a test a check: `every` and `timeout` are durations ("30s", "1m30s", or seconds).

    `severity` is "critical", "warning" or "info"; `retries` is how often `upcheck watch` tries again before it
    believes a failure; `failure_threshold` and `success_threshold` are how many runs in a row make it down, and up
    again. `depends_on` names checks (`test_name`, `file.py::test_name`, or what a YAML check is called) without which
    this one can't hold; `uplink` says that it tells whether we can reach the world at all. See docs/state.md. Raises
    DeclarationError for anything else.
    """
    Declaration.of(arguments)
    mark = pytest.mark.check(**arguments)
    return mark if function is None else mark(function)


def declaration_of(item: pytest.Item) -> Declaration:
    """What the check marks of *item* say, the closest to it winning; raises DeclarationError."""
    arguments: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("check"))):
        arguments.update(mark.kwargs)
    return Declaration.of(arguments, caller=f"{item.nodeid}: @check")
