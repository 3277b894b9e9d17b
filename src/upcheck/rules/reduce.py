"""A large file of rule tests as many small ones: each entry with the rules that its series can reach.

promtool evaluates every rule of the loaded files for every entry: 100 entries over 100 rules are 10,000. A rule that
reads nothing an entry has gives nothing, and is only left out then. What can give something out of nothing (`absent`,
`vector`, a selector without a name) stays, and so does what could fail.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from upcheck import documents
from upcheck.rules import promql

WORTH = 300  # entries times rules, from which the small files cost less
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TEXT = "tag:yaml.org,2002:str"
_FROM_NOTHING = re.compile(r"\b(absent|absent_over_time|vector|scalar|time|minute|hour|days?_\w+|month|year)\s*\(")
_NAME = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?")


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule's *node*; the names that it *reads*, None where that can be any; the names that it *makes*."""

    node: yaml.Node
    reads: frozenset[str] | None
    makes: frozenset[str]


def reduced(root: yaml.Node | None, rule_files: Sequence[Path], folder: Path) -> list[Path] | None:
    """The small files, in *folder*, of the test file with the node *root*; None where they are not worth it."""
    tests = _value(root, "tests")
    if not isinstance(root, yaml.MappingNode) or not isinstance(tests, yaml.SequenceNode) or len(tests.value) < 2:
        return None
    loaded = list(map(_composed, rule_files))
    rules = [rule for document in loaded for group in _groups(document) for rule in _rules(group)]
    if len(tests.value) * len(rules) < WORTH:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    known = {id(rule): _read(rule) for rule in rules}
    written = []
    for index, test in enumerate(tests.value):
        kept = _reached([known[id(rule)] for rule in rules], _series(test))
        names = [
            _without(document, kept, folder / f"{index}-{number}.rules.yml") for number, document in enumerate(loaded)
        ]
        written.append(_entry(root, test, names, folder / f"{index}.yml"))
    return written


def _reached(rules: Sequence[_Rule], series: Collection[str]) -> set[int]:
    """The ids of the nodes of the rules that can give something where *series* are there."""
    there, kept = set(series), set[int]()
    while more := [one for one in rules if id(one.node) not in kept and (one.reads is None or one.reads & there)]:
        kept |= {id(one.node) for one in more}
        there |= {name for one in more for name in one.makes}
    return kept


def _read(rule: yaml.Node) -> _Rule:
    text = _text(rule, "expr")
    record, alert = _text(rule, "record"), _text(rule, "alert")
    makes = frozenset({record} if record else {"ALERTS", "ALERTS_FOR_STATE"} if alert else ())
    try:
        found = promql.selectors(promql.parse(text))
    except promql.PromQLError:  # promtool will say so, too
        found = []
    named = all(one.name for one in found)
    names = frozenset(one.name for one in found) if found and named and not _FROM_NOTHING.search(text) else None
    return _Rule(rule, names, makes)


def _series(test: yaml.Node) -> set[str]:
    """The names of the series that an entry gives; one that can't be read is as all names."""
    found = set()
    series = _value(test, "input_series")
    for one in series.value if isinstance(series, yaml.SequenceNode) else ():
        text = _text(one, "series")
        name = _NAME.match(text)
        found.add(name[1] if name and name[1] else _quoted_name(text))
    return found


def _quoted_name(text: str) -> str:
    name = re.search(r'__name__\s*=\s*"([^"]*)"', text)
    return name[1] if name else text


def _without(document: yaml.Node | None, kept: set[int], path: Path) -> str:
    """A copy of a rule file with the rules that are *kept*; its name."""
    groups = []
    for group in _groups(document):
        rules = yaml.SequenceNode("tag:yaml.org,2002:seq", [one for one in _rules(group) if id(one) in kept])
        pairs = [(key, rules if key.value == "rules" else value) for key, value in group.value]
        groups.append(yaml.MappingNode(group.tag, pairs))
    key = yaml.ScalarNode(_TEXT, "groups")
    root = yaml.MappingNode("tag:yaml.org,2002:map", [(key, yaml.SequenceNode("tag:yaml.org,2002:seq", groups))])
    path.write_text(yaml.serialize(root, Dumper=_DUMPER), encoding="utf-8")
    return str(path)


def _entry(root: yaml.MappingNode, test: yaml.Node, rule_files: Sequence[str], path: Path) -> Path:
    """A test file with one entry, which loads *rule_files*."""
    replaced = {"tests": [test], "rule_files": [yaml.ScalarNode(_TEXT, file) for file in rule_files]}
    pairs = [
        (key, yaml.SequenceNode(value.tag, replaced[key.value]) if key.value in replaced else value)
        for key, value in root.value
    ]
    path.write_text(yaml.serialize(yaml.MappingNode(root.tag, pairs), Dumper=_DUMPER), encoding="utf-8")
    return path


def _composed(file: Path) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(file.read_bytes(), Loader=documents.Loader)
    return node


def _groups(document: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    groups = _value(document, "groups")
    if isinstance(groups, yaml.SequenceNode):
        yield from (group for group in groups.value if isinstance(group, yaml.MappingNode))


def _rules(group: yaml.MappingNode) -> list[yaml.Node]:
    rules = _value(group, "rules")
    return list(rules.value) if isinstance(rules, yaml.SequenceNode) else []


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _text(node: yaml.Node, key: str) -> str:
    value = _value(node, key)
    return str(value.value) if isinstance(value, yaml.ScalarNode) else ""
