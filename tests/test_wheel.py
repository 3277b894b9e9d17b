"""The wheel, in a new virtual environment, writes a scaffold whose own `make check` passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT


def run(*argv: str | Path, cwd: Path, **environ: str) -> str:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "UPCHECK", "MAKE", "MFLAGS"))
    }
    told = subprocess.run(argv, cwd=cwd, env=kept | environ, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, f"{argv}\n{told.stdout}\n{told.stderr}"
    return told.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return folder


@pytest.mark.usefixtures("tool_paths")
def test_a_scaffold_of_the_wheel_passes_its_own_check(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    run(sys.executable, "-m", "pip", "--python", "venv/bin/python", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    here = sysconfig.get_path("purelib")  # what it depends on; `make` installs that with it, below
    assert run("venv/bin/upcheck", "--version", cwd=tmp_path, PYTHONPATH=here) == "upcheck 0.1.0\n"
    told = run("venv/bin/upcheck", "init", "repo", cwd=tmp_path, PYTHONPATH=here)
    assert told.endswith("Next: cd repo && make check\n")

    repo = tmp_path / "repo"
    for file in ("checks/endpoints.yml", "checks/schema.json", "rules_tests/system.yml", ".gitignore"):
        assert (repo / file).is_file()
    assert "src/upcheck" not in (repo / "checks/endpoints.yml").read_text()
    assert (repo / "pyproject.toml").read_text().startswith("[tool.upcheck]")
    assert "mypy" not in (repo / "Makefile").read_text()
    mirrors = f"{dist} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    told = run(
        "make", "check", f"PYTHON={sys.executable}", cwd=repo, UPCHECK_TOOLS=str(ROOT / ".tools"),
        PIP_FIND_LINKS=mirrors, PIP_CONSTRAINT=str(ROOT / "constraints.txt"), PIP_NO_COMPILE="1",
    )  # fmt: skip
    assert "checks      29 held" in told
    assert re.search(r"\d+ alerts, each seen to fire and to keep silent", told)
    assert told.splitlines()[-1].startswith("held in ")
    told = run("repo/.venv/bin/upcheck", "init", "another", cwd=tmp_path)  # with what it depends on, and no more
    assert told.endswith("Next: cd another && make check\n")
