"""One run of everything: a collector of our own, pytest in a process of its own, and a verdict that misses nothing.

pytest runs apart, because a check that calls `os._exit(0)` would otherwise end us with exit code 0: its results
come line by line through a file, and what was collected but never reported is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from upcheck.result import Kind, Outcome, Result
from upcheck.settings import Settings

START = 15.0  # seconds that a collector may take to say where it listens
STOP = 6.0  # seconds that it may take to drain

MAX_DEATHS = 5  # how often pytest is started again for the checks that one of them has cut off

_PYTEST_USAGE = 4
_ENDED = "ended the whole of pytest"


class RunError(Exception):
    """Nothing could be told, and why."""


@dataclass(slots=True)
class Report:
    """What a run came to: the results in their order, and what pytest printed (its exit code is *code*)."""

    results: list[Result] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    output: str = ""
    code: int = 0

    @property
    def usage(self) -> bool:
        """Whether pytest could not make sense of what it was asked to run."""
        return self.code == _PYTEST_USAGE


@contextlib.contextmanager
def collector(settings: Settings, **said: str) -> Iterator[str]:
    """The URL of the repo's own collector.py, started on a free port and drained at the end. Raises RunError.

    *said* are variables of its environment.
    """
    script = settings.root / "collector.py"
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:  # a pipe that nobody reads can fill
        argv = [sys.executable, str(script), "--port", "0"]
        # Not the token of the one that serves for ever, whoever names it: this one is asked by the checks alone.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("METRICS_TOKEN")}
        environ |= {"UPCHECK_METRICS_TOKEN_FILE": "", **said}
        process = subprocess.Popen(argv, cwd=settings.root, env=environ, stdout=stdout, stderr=stderr)
        try:
            yield _address(process, script, stdout, stderr)
        finally:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], script: Path, stdout: IO[bytes], stderr: IO[bytes]) -> str:
    end = time.monotonic() + START
    while time.monotonic() < end:
        ended = process.poll() is not None
        line, whole, _ = os.pread(stdout.fileno(), 4096, 0).decode(errors="replace").partition("\n")
        if whole:
            return line.split()[1]
        if ended:
            said = os.pread(stderr.fileno(), 65536, 0).decode(errors="replace").strip().splitlines()
            why = f"it ended with {process.returncode}: {said[-1] if said else 'without a word'}"
            break
        time.sleep(0.005)
    else:
        why = f"it said nothing within {START:g} s"
    raise RunError(f"{script} did not start to serve: {why}; try it alone: {sys.executable} {script}")


def pytest(
    settings: Settings,
    arguments: Sequence[str],
    *,
    terminal: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run pytest with *arguments* in the repo. Without *terminal* it prints errors of its own only.

    *progress* hears of each result: how many are there, of how many.
    """
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        lines, output = Path(folder, "results"), Path(folder, "output")
        argv = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", f"--results={lines}", *arguments]
        if not terminal:
            argv += ["-p", "no:terminal"]
        if not os.access(settings.root, os.W_OK):
            argv += ["-p", "no:cacheprovider"]  # a read-only checkout has no place for it
        show = (lambda: progress(*_count(lines))) if progress is not None else None
        code = _execute(argv, settings.root, output, show)
        told = _read(lines)
        for _ in range(MAX_DEATHS):
            if not (missing := told.missing):
                break
            with lines.open("a", encoding="utf-8") as file:
                for check in told.running if len(told.running) == 1 else ():
                    missing.remove(check)
                    file.write(_error(check, f"{_ENDED} (exit code {code})", settings).to_json() + "\n")
            if not missing:
                break
            # The others are run after all; where it may have been one of several, one by one, which tells.
            again = [f"--resume={lines}", "--concurrency=1"]
            code = _execute([*argv, *again], settings.root, output, show)
            told = _read(lines)
        told = _read(lines)
        report = Report(told.results, told.warnings, output.read_text(encoding="utf-8", errors="replace"), code)
        report.results += [
            _error(check, f"not reached: pytest ended (exit code {code})", settings) for check in told.missing
        ]
    return report


def _execute(argv: Sequence[str], folder: Path, output: Path, show: Callable[[], None] | None) -> int:
    """Run *argv*, with what it prints going to *output*; the exit code."""
    with output.open("ab") as sink:
        process = subprocess.Popen(argv, cwd=folder, stdout=sink, stderr=subprocess.STDOUT)
        try:
            while show is not None and process.poll() is None:
                time.sleep(0.1)
                show()
            return process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@dataclass(slots=True)
class _Told:
    """What pytest has left in its lines: results, warnings, which checks were to come, and which were running."""

    results: list[Result] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    expected: dict[str, None] = field(default_factory=dict)
    running: dict[str, None] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """The checks that never came to a result."""
        done = {result.check for result in self.results}
        return [check for check in self.expected if check not in done]


def _read(lines: Path) -> _Told:
    told = _Told()
    collected = False
    for line in lines.read_text(encoding="utf-8").splitlines(keepends=True) if lines.exists() else []:
        if not line.endswith("\n"):
            continue  # pytest ended as it wrote it
        said = json.loads(line)
        if "check" in said:
            told.results.append(Result.from_json(line))
            told.running.pop(said["check"], None)
        elif "warning" in said:
            told.warnings += [said["warning"]] if said["warning"] not in told.warnings else []
        elif "began" in said:
            if not collected:
                told.running.clear()  # files are read one after the other
            told.running[said["began"]] = None
        else:
            collected = True
            told.running.clear()
            told.expected.update(dict.fromkeys(said["expected"]))
    if not collected:
        told.expected = dict(told.running)  # it ended before it had collected everything
    return told


def _count(lines: Path) -> tuple[int, int]:
    """How many results are there, of how many."""
    try:
        said = lines.read_bytes().splitlines()
        expected = next(line for line in said if line.startswith(b'{"expected"'))
        return sum(line.startswith(b'{"check"') for line in said), len(json.loads(expected)["expected"])
    except (OSError, ValueError, StopIteration):
        return 0, 0


def _error(check: str, reason: str, settings: Settings) -> Result:
    """The error of a check that was collected and never came to a result."""
    file, _, name = check.partition("::")
    folders = {settings.rules_tests: Kind.RULE, settings.monitoring: Kind.CONFIG}
    kind = next((k for folder, k in folders.items() if (settings.root / file).is_relative_to(folder)), Kind.CHECK)
    facts = {"name": name or file, "file": file, "got": reason}
    return Result(check, Outcome.ERROR, time.time(), 0.0, kind, reason, facts)
