"""`--nagios`: pytest silenced, and a monitoring plugin's answer instead."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from upcheck.report.nagios import line, status
from upcheck.result import Result


class Nagios:
    """Silences pytest, answers in one line, and exits as a monitoring plugin does."""

    def __init__(self, config: pytest.Config, results: Sequence[Result], warnings: Sequence[str]) -> None:
        self._results = results
        self._warnings = warnings
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
            config.pluginmanager.register(type(reporter)(config, io.StringIO()), "terminalreporter")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit code."""
        session.exitstatus = status(self._results)

    def pytest_unconfigure(self) -> None:
        """Print the line, after everything that would have been printed."""
        print(line(self._results, self._warnings))  # noqa: T201 - this is the answer
