"""The one hook of our own. A sink is any pytest plugin that implements it."""

from __future__ import annotations

import pytest

from upcheck.result import Result


@pytest.hookspec
def pytest_upcheck_result(result: Result, config: pytest.Config) -> None:
    """Called once for each Result, in the process that runs the session (under xdist: the controller).

    What it raises is printed as a warning and changes no verdict.
    """
