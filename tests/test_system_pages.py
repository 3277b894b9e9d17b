"""docs/systems/*.md: each row leads to what it names, is proven by a test that exists, and nothing is left out."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.collector.test_environment import DOCUMENTED
from tests.conftest import ROOT
from tests.test_docs import anchors
from upcheck.cli import main
from upcheck.settings import Settings

PAGES = sorted((ROOT / "docs/systems").glob("*.md"))
HEADER = "| in its document | where | test |"
ABSENT = ("## Not here yet", "No settings here:")
NAMES = ("name", "alert", "record", "job_name")  # whose values are names in YAML


def tables(page: Path) -> list[tuple[str, list[str], list[str]]]:
    """The rows of the page's tables but that of its alerts: what is documented, where it is, which tests prove it."""
    found, inside = [], False
    for line in page.read_text().splitlines():
        inside = line == HEADER or (inside and line.startswith("|"))
        if inside and line != HEADER and not line.startswith("|---"):
            documented, where, test = line.strip("| ").split(" | ")
            found.append((documented, re.findall(r"`([^`]+)`", where), re.findall(r"`([^`]+)`", test)))
    return found


ROWS = [pytest.param(where, test, id=f"{page.stem}:{what}") for page in PAGES for what, where, test in tables(page)]


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """What a file has names for: the definitions of Python; the keys, and the names of entries, of YAML."""
    if path.suffix == ".py":
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))
    return frozenset(said(yaml.safe_load(path.read_text())))


def said(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            if key in NAMES:
                yield str(one)
            yield from said(one)
    elif isinstance(value, list):
        for one in value:
            yield from said(one)


def leads_somewhere(where: str) -> bool:
    """Whether *where* is a page's heading, a name in a file, a command, a variable or a setting."""
    if where.startswith("upcheck "):
        command: click.Command | None = main
        for word in where.split()[1:]:
            command = command.commands.get(word) if isinstance(command, click.Group) else None
        return command is not None
    path, mark, name = where.partition("#" if "#" in where else ":")
    if (ROOT / path).is_file():
        return not name or name in (anchors(ROOT / path) if mark == "#" else names_of(ROOT / path))
    settings = {f"UPCHECK_{field.name.upper()}" for field in fields(Settings)}
    return where in {*DOCUMENTED, *settings}


@functools.cache
def entries() -> frozenset[str]:
    """The names of all tests of rules and routes."""
    files = (ROOT / "rules_tests").glob("*.yml")
    return frozenset(one["name"] for file in files for one in yaml.safe_load(file.read_text()).get("tests", []))


def is_a_test(test: str) -> bool:
    """Whether *test* is `file.py::function` below tests/, a file that no other ends like, or an entry's name."""
    file, mark, function = test.partition("::")
    if not mark:
        return test in entries()
    named = Path(file.removeprefix("tests/"))
    files = [path for path in (ROOT / "tests").rglob(named.name) if path.match(file) or path == ROOT / file]
    return len(files) == 1 and function.startswith("test_") and function in names_of(files[0])


@pytest.mark.parametrize(("where", "test"), ROWS)
def test_a_row_leads_somewhere_and_is_proven(where: list[str], test: list[str]) -> None:
    assert where
    assert test
    assert [one for one in where if not leads_somewhere(one)] == []
    assert [one for one in test if not is_a_test(one)] == []


def listed(page: Path) -> list[str]:
    """What the documents of a page's service name."""
    lines = (ROOT / f"tests/systems/{page.stem}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("# ", "["))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_all_that_the_documents_name_is_on_the_page(page: Path) -> None:
    text = page.read_text()
    names = listed(page)
    assert len(names) > 50
    assert [name for name in names if not re.search(rf"(?<![\w/-]){re.escape(name)}(?![\w/])", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_here_is_told_in_a_line_each_and_has_no_row(page: Path) -> None:
    text = page.read_text()
    absent = text.partition(ABSENT[0])[2]
    assert absent
    assert all(line.startswith("- ") for line in absent.strip().splitlines())
    told = set(re.findall(r"`([^`]+)`", absent))
    assert told
    documented = {name for what, _, _ in tables(page) for name in re.findall(r"`([^`]+)`", what)}
    assert told & documented == set()
