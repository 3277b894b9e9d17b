"""A real stack of what ships, on free ports, for the tests of a module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from upcheck import tools
from upcheck.servers import free_port
from upcheck.settings import Settings
from upcheck.stack.record import Record
from upcheck.stack.services import BINARIES, PORTS


@dataclass(frozen=True, slots=True)
class Repo:
    """A monitoring repo whose stack listens on *ports*."""

    path: Path
    ports: dict[str, int]

    @property
    def record(self) -> Record:
        return Record(self.path)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def upcheck(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Type `upcheck stack ...` in the repo."""
        argv = [sys.executable, "-m", "upcheck.cli", "stack", *arguments]
        return subprocess.run(argv, cwd=self.path, env=_environ() | environ, capture_output=True, text=True, timeout=90)

    def pid(self, name: str) -> int:
        """The process of a service, as the supervisor has written."""
        state = self.record.state()
        assert state is not None
        pid = state.runs[name].pid
        assert pid is not None
        return pid


def _environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UPCHECK_")}
    return {**kept, "UPCHECK_TOOLS": str(ROOT / ".tools")}


def made(folder: Path, ports: dict[str, int]) -> Repo:
    """A repo in *folder* with all that ships for monitoring, scraped each second, and a check beside the stack's."""
    shutil.copytree(ROOT / "monitoring", folder / "monitoring", ignore=shutil.ignore_patterns("secrets"))
    shutil.copyfile(ROOT / "collector.py", folder / "collector.py")
    configuration = folder / "monitoring/prometheus/prometheus.yml"
    text = configuration.read_text()
    assert "_interval: 15s" in text
    configuration.write_text(text.replace("_interval: 15s", "_interval: 1s"))
    shutil.copyfile(ROOT / "conftest.py", folder / "conftest.py")
    shutil.copytree(ROOT / "checks/stack", folder / "checks/stack")
    (folder / "checks/a.yml").write_text("checks:\n  - {name: alive, url: /live, every: 1s}\n")
    listed = ", ".join(f"{name}={port}" for name, port in ports.items())
    (folder / "pyproject.toml").write_text(
        f'[tool.upcheck]\nports = "{listed}"\n\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n'
    )
    return Repo(folder, ports)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repo whose stack does not run yet; the servers are provided where this machine has none."""
    tools.ensure((*BINARIES, "promtool", "amtool"), Settings.load(ROOT, {}))
    return made(tmp_path_factory.mktemp("repo"), {name: free_port() for name in PORTS})


@dataclass(frozen=True, slots=True)
class Started:
    """A repo whose stack runs, and what `up` said."""

    repo: Repo
    said: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def stack(repo: Repo) -> Iterator[Started]:
    said = repo.upcheck("up")
    try:
        yield Started(repo, said)
    finally:
        repo.upcheck("stop")


def again(stack: Started) -> Started:
    """The *stack*, started again where a test has stopped it."""
    if not stack.repo.record.running:
        stack.repo.upcheck("up")
    return stack


@pytest.fixture
def started(stack: Started) -> Started:
    """A stack that runs, whatever the test before has done with it."""
    return again(stack)
