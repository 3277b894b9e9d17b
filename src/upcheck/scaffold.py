"""`upcheck init`: the clone is the scaffold, so its own files are written out for a new monitoring repo."""

from __future__ import annotations

import re
from pathlib import Path

import upcheck

FOLDERS = ("checks", "rules_tests", "monitoring")
FILES = ("conftest.py", "collector.py", "Makefile", "pyproject.toml", ".gitignore")
KINDS = {".py", ".yml"}  # what is written, so that nothing comes along that lies there by chance
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
        wanted += [path.relative_to(source) for path in sorted((source / name).rglob("*")) if path.suffix in KINDS]
    there = [str(path) for path in wanted if (folder / path).exists()]
    if there:
        some = ", ".join(there[:5])
        raise ScaffoldError(f"{folder} already has {some}: name a folder without them; nothing was written")
    texts = {folder / path: _adapted(path, source) for path in wanted}
    texts[folder / "checks/schema.json"] = (Path(__file__).parent / "schemas/checks.json").read_text(encoding="utf-8")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{path} can't be written: {error.strerror}; name a folder that can") from None
    return list(texts)


def _adapted(path: Path, source: Path) -> str:
    """The text of *path* as a new repo needs it: without what makes the library, which it has from a package."""
    text = (source / path).read_text(encoding="utf-8")
    if path.name == "Makefile":
        kept = text.partition("# ---- below:")[0]
        package = f"'upcheck=={upcheck.__version__}'"
        if source == _CLONE:  # of no release: then what is asked for is the clone
            package = f"--constraint '{_CLONE}/constraints.txt' '{_CLONE}'"
        return re.sub(r"^PACKAGE :=.*", lambda _: f"PACKAGE := {package}", kept, flags=re.MULTILINE).rstrip() + "\n"
    if path.name == "pyproject.toml":
        return text.partition("# ---- below:")[2].partition("\n")[2].lstrip()
    return text.replace(_SCHEMA, "schema.json")
