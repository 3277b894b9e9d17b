"""The engine's process: `python -m upcheck.watch OPTIONS ARGUMENTS...`, started by the supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from upcheck.result import ExitCode
from upcheck.settings import Settings
from upcheck.watch import Options
from upcheck.watch.engine import Engine
from upcheck.watch.link import Link


def main(argv: list[str]) -> int:
    """Run pytest with the engine as its loop; the exit code."""
    engine = Engine(Options.from_json(argv[0]), Link.inherited())
    checks = Settings.load(Path.cwd()).checks
    # What a check left open, or raised in a thread of its own, is no reason for the engine to end with a traceback.
    without = [f"-pno:{name}" for name in ("terminal", "cacheprovider", "unraisableexception", "threadexception")]
    arguments = [*without, "--continue-on-collection-errors", *argv[1:], str(checks)]
    code = pytest.main(arguments, plugins=[engine])
    if engine.problem:
        sys.stderr.write(f"{engine.problem}\n")
        return ExitCode.UNKNOWN
    if code == pytest.ExitCode.USAGE_ERROR:
        return ExitCode.USAGE
    return engine.code if engine.began else ExitCode.UNKNOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
