"""The sinks that keep results: history, a textfile for node_exporter, lines of JSON for another process."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from upcheck.history import KEEP, History, HistoryError
from upcheck.result import Kind, Result

FLUSH = 1.0  # seconds that results may wait to be written together
MOST = 10_000  # results that may wait where the history can't be written
PRUNE = 0.2  # seconds at the end of a run for deleting what is too old


class HistorySink:
    """Appends the results of live checks to the history, in batches; what can't be written waits for the next one.

    `write_errors` counts the batches that could not be written, `lost` the results that too many others pushed out.
    """

    def __init__(self, file: Path, retention: float = KEEP) -> None:
        """*retention* is how many seconds of results are kept."""
        self._file = file
        self._retention = retention
        self._history: History | None = None
        self._waiting: deque[Result] = deque(maxlen=MOST)
        self._tried = time.monotonic()
        self.write_errors = 0
        self.lost = 0

    def pytest_upcheck_result(self, result: Result) -> None:
        """Keep *result*; write when the oldest has waited long enough."""
        if result.kind is Kind.CHECK:
            self.lost += len(self._waiting) == MOST
            self._waiting.append(result)
        if time.monotonic() - self._tried > FLUSH:
            with suppress(HistoryError):  # counted; tried again with the next batch, and told at the end
                self.flush()

    def flush(self) -> None:
        """Write what waits. Raises HistoryError; then it goes on waiting."""
        self._tried = time.monotonic()
        if not self._waiting:
            return
        try:
            if self._history is None:
                self._history = History(self._file)
            self._history.append(self._waiting)
        except HistoryError:
            self.write_errors += 1
            raise
        self._waiting.clear()

    def finish(self) -> str:
        """Write the rest, delete what is too old, and close; a sentence on what went wrong meanwhile."""
        try:
            self.flush()
            if self._history is not None:
                self._history.prune(keep=self._retention, budget=PRUNE)
        finally:
            if self._history is not None:
                self._history.close()
        if self.lost:
            return f"history {self._file} could not be written for so long that {self.lost} results are lost"
        return self._history.notice if self._history else ""


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
        self._running: set[str] = set()

    def expect(self, checks: list[str]) -> None:
        """Write which results are to come."""
        self._file.write(json.dumps({"expected": checks}) + "\n")

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Write which file is read now."""
        if isinstance(collector, pytest.File):
            self.began(collector.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write which check begins now."""
        self.began(nodeid)

    def began(self, nodeid: str) -> None:
        """Write that *nodeid* begins now, unless that was said."""
        if nodeid in self._running:
            return
        self._running.add(nodeid)
        self._file.write(json.dumps({"began": nodeid}) + "\n")

    def warn(self, texts: Sequence[str]) -> None:
        """Write what the other sinks had to say."""
        for text in texts:
            self._file.write(json.dumps({"warning": text}) + "\n")

    def pytest_upcheck_result(self, result: Result) -> None:
        """Write *result*."""
        self._running.discard(result.check)
        self._file.write(result.to_json() + "\n")

    def finish(self) -> str:
        """Close the file."""
        self._file.close()
        return ""


Sink = HistorySink | TextfileSink | LinesSink


def left_by(path: Path) -> set[str]:
    """The checks that the lines in *path* expect and tell no result of."""
    expected: set[str] = set()
    done: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        said = json.loads(line) if line.endswith("}") else {}
        expected.update(said.get("expected", ()))
        done.update([said["check"]] if "check" in said else [])
    return expected - done
