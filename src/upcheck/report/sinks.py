"""The sinks that keep results: history, a textfile for node_exporter, lines of JSON for another process."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from upcheck.history import History
from upcheck.result import Kind, Result

FLUSH = 1.0  # seconds that results may wait to be written together


class HistorySink:
    """Appends the results of live checks to the history, in batches."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._history: History | None = None
        self._waiting: list[Result] = []
        self._written = time.monotonic()

    def pytest_upcheck_result(self, result: Result) -> None:
        """Keep *result*; write when the oldest has waited long enough."""
        if result.kind is Kind.CHECK:
            self._waiting.append(result)
        if time.monotonic() - self._written > FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises HistoryError."""
        self._written = time.monotonic()
        if not self._waiting:
            return
        results, self._waiting = self._waiting, []
        if self._history is None:
            self._history = History(self._file)
        self._history.append(results)

    def finish(self) -> str:
        """Write the rest and close; a sentence where a damaged history had to be set aside."""
        try:
            self.flush()
        finally:
            if self._history is not None:
                self._history.close()
        aside = self._history.set_aside if self._history else None
        return f"history {self._file} was damaged: kept as {aside.name}, and begun anew" if aside else ""


class TextfileSink:
    """Writes the results of live checks to a file that node_exporter's textfile collector reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: list[Result] = []

    def pytest_upcheck_result(self, result: Result) -> None:
        """Keep *result* for the end."""
        if result.kind is Kind.CHECK:
            self._results.append(result)

    def finish(self) -> str:
        """Write the file, whole. Raises OSError."""
        from upcheck.metrics import write_textfile  # prometheus_client is 90 ms that other runs need not pay

        write_textfile(self._path, self._results)
        return ""


class LinesSink:
    """Writes each result as a line of JSON as it comes, so that a parent process misses none if this one dies."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def expect(self, checks: list[str]) -> None:
        """Write which results are to come."""
        self._file.write(json.dumps({"expected": checks}) + "\n")

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Write which file is read now."""
        if isinstance(collector, pytest.File):
            self._began(collector.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write which check begins now."""
        self._began(nodeid)

    def _began(self, nodeid: str) -> None:
        self._file.write(json.dumps({"began": nodeid}) + "\n")

    def warn(self, texts: Sequence[str]) -> None:
        """Write what the other sinks had to say."""
        for text in texts:
            self._file.write(json.dumps({"warning": text}) + "\n")

    def pytest_upcheck_result(self, result: Result) -> None:
        """Write *result*."""
        self._file.write(result.to_json() + "\n")

    def finish(self) -> str:
        """Close the file."""
        self._file.close()
        return ""


Sink = HistorySink | TextfileSink | LinesSink
