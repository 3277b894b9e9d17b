"""`upcheck init`: the clone is the scaffold, so its own files are written out for a new monitoring repo."""

from __future__ import annotations

import shutil
from pathlib import Path

import upcheck

FOLDERS = ("checks", "rules_tests", "monitoring")
FILES = ("conftest.py", "collector.py", "Makefile", "pyproject.toml", ".gitignore")
_PACKAGED = Path(__file__).parent / "_scaffold"
_CLONE = Path(__file__).parents[2]
_SCHEMA = "../src/upcheck/schemas/checks.json"


class ScaffoldError(Exception):
    """The scaffold can't be written there, and why."""


def write(folder: Path) -> list[Path]:
    """Write a monitoring repo into *folder*, made if need be; the files written.

    Raises ScaffoldError where one of them is there already: nothing is written then.
    """
    source = _PACKAGED if _PACKAGED.is_dir() else _CLONE
    wanted = [Path(name) for name in FILES]
    for name in FOLDERS:
        found = (
            path for path in sorted((source / name).rglob("*")) if path.is_file() and "__pycache__" not in path.parts
        )
        wanted += [path.relative_to(source) for path in found]
    there = [str(path) for path in wanted if (folder / path).exists()]
    if there:
        raise ScaffoldError(
            f"{folder} already has {', '.join(there[:5])}: name a folder without them; nothing was written"
        )
    for path in wanted:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_adapted(path, source), encoding="utf-8")
    shutil.copyfile(Path(__file__).parent / "schemas/checks.json", folder / "checks/schema.json")
    return [folder / path for path in wanted]


def _adapted(path: Path, source: Path) -> str:
    """The text of *path* as a new repo needs it: without what makes the library, which it has from a package."""
    packaged = source / path.name.removeprefix(".") if path.name == ".gitignore" else source / path
    text = (packaged if packaged.exists() else source / path).read_text(encoding="utf-8")
    if path.name == "Makefile":
        kept = text.partition("# ---- below:")[0]
        lines = [
            f"PACKAGE := 'upcheck=={upcheck.__version__}'" if line.startswith("PACKAGE :=") else line
            for line in kept.splitlines()
        ]
        return "\n".join(lines).rstrip() + "\n"
    if path.name == "pyproject.toml":
        return text.partition("# ---- below:")[2].partition("\n")[2].lstrip()
    return text.replace(_SCHEMA, "schema.json")
