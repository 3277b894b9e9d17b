"""A directory of somebody's Prometheus rules: which files are rules, which are their tests, which are neither."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from upcheck import documents

SUFFIXES = (".yml", ".yaml")
_SKIPPED = {"node_modules", "vendor", "__pycache__", "site-packages"}
_TOP = re.compile(rb"^([A-Za-z_]+)[ \t]*:", re.MULTILINE)
_TEMPLATE = re.compile(
    rb"^[ \t]*\{\{-?[ \t]*(if|range|define|include|with|end|template|toYaml|\$)|\{%-?[ \t]*\w", re.MULTILINE
)
_PLAYS = re.compile(rb"^def test_\w+\([^)]*\b(rules|routes)\b", re.MULTILINE)
_CUSTOM = re.compile(rb"^kind[ \t]*:[ \t]*[\"']?PrometheusRule\b", re.MULTILINE)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class PathError(Exception):
    """A path that can't be looked through, and why."""


@dataclass(slots=True)
class Repository:
    """What was found: *custom* are PrometheusRule resources; *aside* are templates and other YAML, each with why.

    *python* are tests that play rules or ask routes: pytest's to run. *routes* are route tests, *alertmanager* the
    configurations that they test.
    """

    rules: list[Path] = field(default_factory=list)
    tests: list[Path] = field(default_factory=list)
    custom: list[Path] = field(default_factory=list)
    aside: dict[Path, str] = field(default_factory=dict)
    python: list[Path] = field(default_factory=list)
    routes: list[Path] = field(default_factory=list)
    alertmanager: list[Path] = field(default_factory=list)


def find(paths: Iterable[Path]) -> Repository:
    """What is in *paths*, files or folders; raises PathError for one that is not there, or can't be read."""
    found = Repository()
    for path in dict.fromkeys(file for one in paths for file in _files(one)):
        try:
            content = path.read_bytes()
            kind = kind_of(content) if path.suffix != ".py" else _kind_of_python(content)
        except OSError as error:
            raise PathError(f"{path} can't be read: {error.strerror}") from None
        if kind in ("rules", "tests", "custom", "python", "routes", "alertmanager"):
            getattr(found, kind).append(path)
        elif path.suffix != ".py":
            found.aside[path] = kind
    return found


def kind_of(content: bytes) -> str:
    """`rules`, `tests`, `custom`, `routes`, `signals`, `incidents`, `alertmanager`, or what else it is.

    By the keys at its top.
    """
    if _CUSTOM.search(content):
        return "custom"
    keys = set(_TOP.findall(content)) or _flow_keys(content)
    if {b"alertmanager", b"tests"} <= keys:
        return "routes"
    if {b"rules", b"signals"} <= keys:
        return "signals"
    if keys == {b"incidents"}:
        return "incidents"
    if b"tests" in keys and keys & {b"rule_files", b"evaluation_interval", b"group_eval_order"}:
        return "tests"
    if b"rule_files" in keys and not keys & {b"scrape_configs", b"global", b"alerting"}:
        return "tests"
    if _TEMPLATE.search(content):
        return "a template"
    if {b"route", b"receivers"} <= keys:
        return "alertmanager"
    return "rules" if b"groups" in keys else "no rules"


def _kind_of_python(content: bytes) -> str:
    return "python" if _PLAYS.search(content) else "no rules"


def _flow_keys(content: bytes) -> set[bytes]:
    """The keys of a file that begins with a brace: YAML in one line, or JSON."""
    if not content.lstrip().startswith(b"{"):
        return set()
    try:
        document = yaml.load(content, Loader=documents.Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError):
        return set()
    return {str(key).encode() for key in document} if isinstance(document, dict) else set()


def groups_of(path: Path) -> str:
    """A PrometheusRule resource's groups, as a rule file: of all such documents in *path*.

    Raises DocumentError where it can't be read.
    """
    try:
        found = [one for one in yaml.load_all(path.read_bytes(), Loader=documents.Loader) if isinstance(one, dict)]
    except (yaml.YAMLError, RecursionError) as error:
        raise documents.DocumentError(path, f"not YAML: {error}") from None
    specs = [one.get("spec") or {} for one in found if one.get("kind") == "PrometheusRule"]
    groups = [group for spec in specs for group in spec.get("groups") or []]
    text: str = yaml.dump({"groups": groups}, Dumper=_Dumper, allow_unicode=True)  # aliases stay aliases
    return text


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise PathError(f"{path}: there is no such file or folder")
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        elif entry.is_file() and (entry.suffix in SUFFIXES or entry.match("test_*.py")):
            yield entry
