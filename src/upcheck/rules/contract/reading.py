"""Everything that has PromQL in it: rule files, rule tests, services' objectives, dashboards, pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upcheck import catalog, documents
from upcheck.documents import DocumentError, Map, Mark, Seq
from upcheck.rules import configs, repository
from upcheck.rules.contract.place import File, Passage, maps
from upcheck.rules.contract.produced import Configuration, duration, read_configuration

VARIABLE = "upcheck_variable"  # stands for a dashboard's variable, whose value is not known
_FENCE = re.compile(r"^```promql *\n(.*?)^``` *$", re.MULTILINE | re.DOTALL)


@dataclass(slots=True)
class Query:
    """An expression. *kind* is record, alert, test, series (of a test), panel, slo or page.

    *key_line* is the line of its key; *place* its panel and JSON path; *allows* what a panel's description allows.
    """

    passage: Passage
    kind: str
    key_line: int = 0
    place: str = ""
    rule: Rule | None = None
    allows: tuple[str, ...] = ()
    label: str = ""


@dataclass(slots=True)
class Rule:
    """A rule; *interval* is its group's, in seconds, None where it is the configuration's."""

    file: File
    node: Map
    name: str
    is_alert: bool
    group: str
    interval: float | None
    query: Query
    mark: Mark

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that it gives."""
        return _texts(self.node.get("labels"))

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return _texts(self.node.get("annotations"))


@dataclass(slots=True)
class Found:
    """What was read. *unreadable* are files, each with why."""

    files: list[File] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    services: list[tuple[catalog.Service, File, Map]] = field(default_factory=list)
    configuration: Configuration | None = None
    unreadable: list[DocumentError] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Found:
    """Read what is in *paths*, files or folders; raises repository.PathError for one that can't be looked through."""
    from upcheck.rules.contract import dashboards

    given = list(dict.fromkeys(paths))
    found = Found()
    repo = repository.find(given)
    for path in [*repo.rules, *repo.custom]:
        _read(path, _rule_file, found)
    for path in repo.tests:
        _read(path, _test_file, found)
    for path in repo.aside:
        if path.suffix in repository.SUFFIXES:  # a dashboard or a page can be named by itself
            _read(path, _other, found)
    for path in _others(given):
        _read(path, dashboards.read if path.suffix == ".json" else _page, found)
    return found


def _others(paths: Iterable[Path]) -> list[Path]:
    """The dashboards and pages in *paths*."""
    found: set[Path] = set()
    for path in paths:
        inside = [path] if path.is_file() else [one for end in ("json", "md") for one in path.rglob(f"*.{end}")]
        found |= {one for one in inside if one.suffix in (".json", ".md") and not _hidden(one, path)}
    return sorted(found)


def _hidden(path: Path, below: Path) -> bool:
    parts = path.relative_to(below).parts
    return any(part.startswith(".") or part in ("node_modules", "vendor", "site-packages") for part in parts)


def _read(path: Path, reader: Any, found: Found) -> None:
    try:
        reader(path, found)
    except DocumentError as error:
        found.unreadable.append(error)
    except (OSError, UnicodeDecodeError) as error:
        found.unreadable.append(DocumentError(path, f"can't be read: {error}"))


def _rule_file(path: Path, found: Found) -> None:
    file = File(path)
    found.files.append(file)
    for root in documents.load_all(path):
        spec = root.get("spec") if isinstance(root, Map) and "groups" not in root else root
        for group in maps(spec.get("groups") if isinstance(spec, Map) else None):
            for node in maps(group.get("rules")):
                if "expr" in node and ("alert" in node or "record" in node):
                    found.rules.append(_rule(file, group, node))
                    found.queries.append(found.rules[-1].query)


def _rule(file: File, group: Map, node: Map) -> Rule:
    is_alert = "alert" in node
    key = "alert" if is_alert else "record"
    query = Query(file.at(node, ["expr"]), key, node.keys_at["expr"][0])
    interval = duration(group.get("interval")) or None
    mark = node.values_at[key]
    if file.lines[mark[0] - 1][mark[1] - 1 : mark[1]] in ("'", '"'):
        mark = (mark[0], mark[1] + 1)
    query.rule = Rule(file, node, str(node[key]), is_alert, str(group.get("name")), interval, query, mark)
    return query.rule


def _test_file(path: Path, found: Found) -> None:
    root = documents.load(path)
    file = File(path)
    found.files.append(file)
    for test in maps(root.get("tests") if isinstance(root, Map) else None):
        for node in maps(test.get("input_series")):
            if isinstance(node.get("series"), str):
                found.queries.append(Query(file.at(node, ["series"]), "series", node.keys_at["series"][0]))
        for node in maps(test.get("promql_expr_test")):
            if isinstance(node.get("expr"), str):
                found.queries.append(Query(file.at(node, ["expr"]), "test", node.keys_at["expr"][0]))


def _other(path: Path, found: Found) -> None:
    kind = configs.kind(path)
    if kind == "prometheus" and found.configuration is None:
        found.configuration = read_configuration(path)
    elif kind == "service":
        root = documents.load(path)
        file = File(path)
        found.files.append(file)
        found.services.append((catalog.load(path), file, root))
        for section, keys in (("slos", ("good", "total")), ("capacity", ("used", "limit"))):
            for one in (root.get(section) or Map()).values():
                for key in keys:
                    if isinstance(one.get(key), str):
                        found.queries.append(Query(file.at(one, [key]), "slo", one.keys_at[key][0]))


def _page(path: Path, found: Found) -> None:
    """The blocks of PromQL in a page."""
    file = File(path)
    text = "\n".join(file.lines)
    for match in _FENCE.finditer(text):
        first = text.count("\n", 0, match.start(1)) + 1
        marks = [
            (first + row, column + 1)
            for row, line in enumerate(match[1].splitlines(keepends=True))
            for column in range(len(line))
        ]
        found.files += [file] if file not in found.files else []
        found.queries.append(Query(Passage(file, match[1], marks), "page"))


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(one) for key, one in value.items()} if isinstance(value, Map) else {}


def mappings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Map]]:
    """Every mapping in *value*, with its way from the root."""
    if isinstance(value, Map):
        yield path, value
        for key, one in value.items():
            yield from mappings(one, (*path, str(key)))
    elif isinstance(value, Seq):
        for index, one in enumerate(value):
            yield from mappings(one, (*path, index))
