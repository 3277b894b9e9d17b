"""The floors of the house: a module imports from its own floor or below, never up. See docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import upcheck

SOURCE = Path(upcheck.__file__).parent
FLOORS = {
    "words": [
        "result",
        "settings",
        "declaration",
        "documents",
        "exposition",
        "schema",
        "catalog",
        "redaction",
        "bearer",
        "state",
        "maintenance",
    ],
    "sources": [
        "prometheus",
        "command",
        "tools",
        "promtool",
        "alertmanager",
        "system",
        "history",
        "probes",
        "recording",
        "servers",
    ],
    "judgement": [
        "targets",
        "rules",
        "routes",
        "yaml_checks",
        "health",
        "metrics",
        "dependencies",
        "sla",
        "components",
        "blackbox",
    ],
    "hosts": [
        "concurrent",
        "plugin",
        "watch",
        "report",
        "collector",
        "run",
        "scaffold",
        "migration",
        "demo",
        "drill",
        "dashboards",
        "stack",
        "kubernetes",
    ],
    "doors": ["cli"],
}
FLOOR = {room: level for level, rooms in enumerate(FLOORS.values()) for room in rooms}
NEVER = {
    ("plugin", "collector"),
    ("collector", "plugin"),
    ("report", "plugin"),
    ("concurrent", "plugin"),
    ("plugin", "watch"),
    ("collector", "watch"),
}


def rooms() -> dict[str, list[Path]]:
    """The files of each room: a module, or a package with all in it."""
    found: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(room, []).append(path)
    return found


def imported(path: Path) -> Iterator[str]:
    """The rooms that the file at *path* imports from, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("upcheck.") and name.split(".")[1] in FLOOR)


def test_every_room_has_its_floor() -> None:
    assert set(rooms()) == set(FLOOR)


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_no_room_imports_from_above(room: str) -> None:
    others = {other for path in rooms()[room] for other in imported(path)} - {room}
    assert {other for other in others if FLOOR[other] > FLOOR[room] or (room, other) in NEVER} == set()


def test_a_probe_imports_words_only() -> None:
    others = {other for path in rooms()["probes"] for other in imported(path)} - {"probes"}
    assert others <= set(FLOORS["words"])


@pytest.mark.parametrize("name", ["sqlite3"])
def test_only_history_knows_sqlite(name: str) -> None:
    knowing = {room for room, paths in rooms().items() for path in paths if f"import {name}" in path.read_text()}
    assert knowing == {"history"}


def test_the_command_line_starts_without_what_only_pytest_needs() -> None:
    code = (
        "import sys, upcheck.cli; sys.exit(repr({'pytest', 'httpx', 'yaml', 'prometheus_client'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stderr == "set()\n"


@pytest.mark.parametrize("module", ["upcheck", "upcheck.collector"])
def test_the_collector_never_imports_pytest(module: str) -> None:
    code = f"import sys, {module}; sys.exit(repr({{'pytest', 'httpx', 'click', 'jsonschema'}} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stderr == "set()\n"
