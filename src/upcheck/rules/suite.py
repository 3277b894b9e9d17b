"""A test file and the rules it loads, as they are written: to be taken apart and written anew.

A scalar keeps its text and whether it was plain, because `1.10` is a number here and a label's value there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from upcheck import documents
from upcheck.documents import DocumentError
from upcheck.rules import promql, repository

DEFAULT_INTERVAL = 60.0  # seconds, promtool's evaluation_interval
_STRING = "tag:yaml.org,2002:str"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


class Plain(str):
    """A text that stands in the file as it is: a number, a boolean, or a part that is written already."""

    __slots__ = ()


class Name(NamedTuple):
    """What a rule is known by: *kind* is `alert` or `record`."""

    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule: *value* is its mapping as written, *line* that of its expression; *number* counts rules of its name.

    *group_settings* are what its group says beside the rules.
    """

    file: Path
    group: int
    index: int
    number: int
    line: int
    value: Mapping[str, Any]
    group_settings: Mapping[str, Any]

    @property
    def name(self) -> Name:
        """Its kind and name."""
        kind = "alert" if "alert" in self.value else "record"
        return Name(kind, str(self.value.get(kind, "")))

    @property
    def key(self) -> tuple[Path, int, int]:
        """Where it stands: the same for each suite that loads its file."""
        return self.file, self.group, self.index

    @property
    def expr(self) -> str:
        """Its expression as written."""
        return str(self.value.get("expr", ""))

    @cached_property
    def tree(self) -> promql.Expr | None:
        """Its expression; None where the parser doesn't know it."""
        return tree_of(self.expr)

    @cached_property
    def selectors(self) -> tuple[promql.Selector, ...]:
        """What it reads; of an expression that can't be parsed, the names in it."""
        return selectors_of(self.expr)


@dataclass(frozen=True, eq=False)
class Suite:
    """A test file at *path*, with the rule files it loads; *evaluation_interval* in seconds."""

    path: Path
    document: Mapping[str, Any]
    files: Mapping[Path, Mapping[str, Any]]
    rules: tuple[Rule, ...]
    lines: tuple[int, ...]

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """What stands under `tests`."""
        return list(self.document.get("tests") or ())

    @property
    def evaluation_interval(self) -> float:
        """How often promtool evaluates the rules."""
        return seconds(str(self.document.get("evaluation_interval") or "")) or DEFAULT_INTERVAL


def read(path: Path) -> Suite:
    """The test file at *path* and its rules; raises DocumentError where one can't be read as such."""
    document, node = _read(path)
    _expect_maps(path, document, "tests")
    for entry in document.get("tests") or ():
        _expect_maps(path, entry, "input_series", "alert_rule_test", "promql_expr_test")
        for test in (*alert_tests(entry), *expr_tests(entry)):
            _expect_maps(path, test, "exp_alerts", "exp_samples")
    patterns = document.get("rule_files") or ()
    if not isinstance(patterns, list | tuple) or not all(isinstance(pattern, str) for pattern in patterns):
        raise DocumentError(path, "rule_files: expected a list of paths")
    rule_files: dict[Path, Mapping[str, Any]] = {}
    rules: list[Rule] = []
    for pattern in patterns:
        for found in sorted(Path("/").glob(str(path.parent.absolute() / pattern).lstrip("/"))):
            file = found.resolve()
            if file not in rule_files:
                content, rules_node = _read_rules(file)
                rule_files[file] = content
                rules += _rules(file, content, rules_node)
    tests = _child(node, "tests")
    lines = tuple(one.start_mark.line + 1 for one in tests.value) if isinstance(tests, yaml.SequenceNode) else ()
    return Suite(path, document, rule_files, tuple(rules), lines)


def rules_in(path: Path) -> list[Rule]:
    """The rules of the rule file at *path*; raises DocumentError."""
    return list(_rules(path, *_read_rules(path)))


def plain(suite: Suite, folder: Path) -> list[Path]:
    """The rule files of *suite* as promtool reads them: PrometheusRule resources are written into *folder* as such."""
    found: list[Path] = []
    for number, (path, content) in enumerate(suite.files.items()):
        if repository.kind_of(path.read_bytes()) == "custom":
            found.append(folder / f"{number}.yml")
            found[-1].write_text(written(content), encoding="utf-8")
        else:
            found.append(path)
    return found


def tree_of(text: str) -> promql.Expr | None:
    """The tree of *text*; None where the parser doesn't know it."""
    try:
        return promql.parse(text)
    except promql.PromQLError:
        return None  # promtool may know it: newer functions


def selectors_of(text: str) -> tuple[promql.Selector, ...]:
    """What the expression *text* reads."""
    tree = tree_of(text)
    if tree is None:
        return tuple(promql.Selector(token.text) for token in promql.positions(text) if token.kind == "metric")
    return tuple(promql.selectors(tree))


def written(value: Any) -> str:
    """*value* in YAML's flow style: mappings, lists, texts, None, and Plain as it is."""
    if value is None:
        return "null"
    if isinstance(value, Plain):
        return value
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ",\n".join(f"{json.dumps(key)}: {written(one)}" for key, one in value.items()) + "}"
    return "[" + ",\n".join(map(written, value)) + "]"


def short(path: Path) -> str:
    """*path* from here, where it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def seconds(text: str) -> float:
    """A duration as Prometheus writes it, in seconds; 0 where it is none."""
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(ms|[smhdwy])", text))


def alert_tests(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What stands under `alert_rule_test`."""
    return list(entry.get("alert_rule_test") or ())


def expr_tests(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What stands under `promql_expr_test`."""
    return list(entry.get("promql_expr_test") or ())


def _read(path: Path) -> tuple[Mapping[str, Any], yaml.Node]:
    documents.load(path)  # which has limits, and says where what is wrong
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=documents.Loader)
    if not isinstance(node, yaml.MappingNode):
        raise DocumentError(path, "expected a mapping")
    return _value(node), node


def _read_rules(path: Path) -> tuple[Mapping[str, Any], yaml.Node]:
    """A rule file, or as one the groups of all PrometheusRule resources in *path*."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DocumentError(path, f"can't be read: {error.strerror}") from None
    if repository.kind_of(content) != "custom":
        return _read(path)
    repository.groups_of(path)  # which says where what is no YAML
    groups: list[yaml.Node] = []
    for node in yaml.compose_all(content, Loader=documents.Loader):
        kind = _child(node, "kind")
        if isinstance(kind, yaml.ScalarNode) and kind.value == "PrometheusRule":
            groups += _items(_child(_child(node, "spec"), "groups"))
    listed = yaml.SequenceNode("tag:yaml.org,2002:seq", groups)
    whole = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode(_STRING, "groups"), listed)])
    return _value(whole), whole


def _expect_maps(path: Path, value: Mapping[str, Any], *names: str) -> None:
    """Raise DocumentError where what stands under one of *names* is no list of mappings."""
    for name in names:
        found = value.get(name)
        if found is not None and not (isinstance(found, list) and all(isinstance(one, dict) for one in found)):
            raise DocumentError(path, f"{name}: expected a list of mappings")


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith(":null"):
            return None
        return node.value if node.tag == _STRING or node.style else Plain(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    found: dict[str, Any] = {}
    for key, value in node.value:
        if key.value == "<<":
            parents = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found = {**{name: one for parent in reversed(parents) for name, one in _value(parent).items()}, **found}
        else:
            found[key.value] = _value(value)
    return found


def _rules(file: Path, document: Mapping[str, Any], node: yaml.Node) -> Iterator[Rule]:
    _expect_maps(file, document, "groups")
    for value in document.get("groups") or ():
        _expect_maps(file, value, "rules")
        for one in value.get("rules") or ():
            if any(not isinstance(one.get(name) or {}, dict) for name in ("labels", "annotations")):
                raise DocumentError(file, "labels and annotations: expected mappings")
    groups = _child(node, "groups")
    counted: dict[Name, int] = {}
    for group, (value, group_node) in enumerate(zip(document.get("groups") or (), _items(groups), strict=False)):
        settings = {key: one for key, one in value.items() if key != "rules"}
        for index, (one, at) in enumerate(
            zip(value.get("rules") or (), _items(_child(group_node, "rules")), strict=False)
        ):
            expr = _child(at, "expr") or at
            rule = Rule(file, group, index, 0, expr.start_mark.line + 1, one, settings)
            number = counted[rule.name] = counted.get(rule.name, -1) + 1
            yield Rule(file, group, index, number, rule.line, one, settings)


def _items(node: yaml.Node | None) -> Iterable[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)
