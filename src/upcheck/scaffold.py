"""`upcheck init`: the clone is the scaffold, so its own files are written out for a new monitoring repo."""

from __future__ import annotations

import re
from pathlib import Path

import upcheck

FOLDERS = ("checks", "rules_tests", "monitoring")
FILES = ("conftest.py", "collector.py", "Makefile", "pyproject.toml", ".gitignore", "Dockerfile", ".dockerignore")
# What is written; no more: nothing comes along that lies there by chance.
KINDS = {".py", ".yml", ".csv", ".json", ".tmpl"}
_PACKAGED = Path(__file__).parent / "_scaffold"
_CLONE = Path(__file__).parents[2]
_SCHEMAS = Path(__file__).parent / "schemas"


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
    texts[folder / "checks/schema.json"] = _schema("checks")
    texts[folder / "monitoring/services/schema.json"] = _schema("service")
    texts[folder / "monitoring/grafana/schema.json"] = _schema("dashboard")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{path} can't be written: {error.strerror}; name a folder that can") from None
    return list(texts)


def write_service(folder: Path, name: str) -> list[Path]:
    """Write the catalogue's file of a new service *name* into the repo at *folder*; raises ScaffoldError."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        raise ScaffoldError(f"'{name}' can't be a service's name: lower-case letters, digits, - and _")
    if not (folder / "monitoring").is_dir():
        raise ScaffoldError(f"{folder} has no folder monitoring: name a monitoring repo, or make one: upcheck init")
    path = folder / "monitoring/services" / f"{name}.yml"
    if path.exists():
        raise ScaffoldError(f"{path} is there already; nothing was written")
    text = (_SCHEMAS / "service.yml").read_text(encoding="utf-8")
    text = text.replace("SERVICE", name).replace("PREFIX", name.replace("-", "_"))
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (path.parent / "schema.json").write_text(_schema("service"), encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{path} can't be written: {error.strerror}; name a folder that can") from None
    return [path]


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
    if path.name == "Dockerfile":  # which installs the library: here from its source, there from its package
        text = text.replace("COPY . /source\n", "").replace("    && rm -rf /source \\\n", "")
        text = re.sub(r"--constraint \S+ '/source(\[.*\])'", rf"'upcheck\1=={upcheck.__version__}'", text)
    if path.name == "detection.yml":  # the page is one of the library's
        text = re.sub(r"^page: .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"(\.\./)+src/upcheck/schemas/\w+\.json", "schema.json", text)


def _schema(name: str) -> str:
    return (_SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
