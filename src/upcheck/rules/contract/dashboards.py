"""Grafana's dashboards as it exports them: the expression of every target, annotation and variable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from upcheck.documents import DocumentError, Map, Mark, Seq
from upcheck.rules.contract.expression import parse
from upcheck.rules.contract.place import File, Passage
from upcheck.rules.contract.produced import Configuration
from upcheck.rules.contract.reading import VARIABLE, Found, Query, mappings
from upcheck.rules.promql import PromQLError

_VARIABLE = re.compile(r"\$\{(\w+)(?:\.[\w.]+)?(?::[^}]*)?\}|\[\[(\w+)(?::[^\]]*)?\]\]|\$(\w+)")
_FUNCTION = re.compile(r"\s*(label_values|query_result|metrics|label_names)\s*\((.*)\)\s*$", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_MIXED = ("datasource", "mixed")  # whose targets name their own
_ANY_TIME = "5m"  # for a variable that stands for a duration


def read(path: Path, found: Found) -> None:
    """Add what the JSON file at *path* asks to *found*, if it is a dashboard; raises DocumentError."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r'"(?:panels|rows|targets)"\s*:', text):
        return
    root = _Reader(path, text).document()
    interval = (found.configuration or Configuration()).scrape_interval
    file = File(path)
    found.files.append(file)
    titles: dict[tuple[str | int, ...], Map] = {}
    defined: set[tuple[str | int, ...]] = set()  # variables whose `query` says the same once more
    for place, node in mappings(root):
        if "title" in node or "name" in node:
            titles[place] = node
        for key in ("expr", "definition", "query"):
            query = None if place[:-1] in defined else _query(file, place, node, key, titles, interval)
            if query is not None:
                found.queries.append(query)
                defined |= {place} if key == "definition" else set()
                break


def _query(
    file: File,
    place: tuple[str | int, ...],
    node: Map,
    key: str,
    titles: dict[tuple[str | int, ...], Map],
    every: float,
) -> Query | None:
    value = node.get(key)
    if not isinstance(value, str) or not value.strip() or _other_source(place, node, titles):
        return None
    above = next((titles[place[:end]] for end in range(len(place), 0, -1) if place[:end] in titles), Map())
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*place, key))
    name = str(above.get("title") or above.get("name") or "")
    where = f"{name!r} {path}" if name else path
    allows = tuple(str(above.get("description") or "").split("\n"))
    passage, label = file.scalar(value, node.values_at[key]), ""
    if key != "expr":
        function = _FUNCTION.match(value)
        if function is None or function[1] in ("metrics", "label_names"):
            return None  # a list of names, or another source's query
        passage, label = _asked(passage, function)
        if not passage.text.strip():
            return None
    return Query(_resolved(passage, every), "panel", node.keys_at[key][0], where, None, allows, label)


def _other_source(place: tuple[str | int, ...], node: Map, titles: dict[tuple[str | int, ...], Map]) -> bool:
    """Whether *node*, or the panel that it is in, names a source of another kind than Prometheus."""
    above = [titles[place[:end]] for end in range(len(place), 0, -1) if place[:end] in titles][:1]
    for one in (node, *above):
        source = one.get("datasource")
        kind = source.get("type") if isinstance(source, Map) else None
        if kind is not None:
            return "prometheus" not in str(kind) and kind not in _MIXED
    return False


def _asked(passage: Passage, function: re.Match[str]) -> tuple[Passage, str]:
    """The series that a variable's function asks about, and the label whose values it wants."""
    inside, begin = function[2], function.start(2)
    if function[1] == "query_result":
        return passage.replaced([(inside, begin)]), ""
    series, comma, label = inside.rpartition(",")
    return passage.replaced([(series, begin)]) if comma else passage.replaced([]), label.strip() if comma else ""


def _resolved(passage: Passage, every: float) -> Passage:
    """*passage* with something of the right kind in the place of each variable."""
    first = passage
    for word in (VARIABLE, "1"):  # where a number is wanted, no name will do
        first = passage.replaced(_pieces(passage.text, every, word))
        try:
            parse(first.text)
        except PromQLError:
            continue  # the next, or the check that reads it says so
        return first
    return first


def _pieces(text: str, every: float, word: str) -> Iterator[tuple[str, int]]:
    done = 0
    for match in _VARIABLE.finditer(text):
        yield text[done : match.start()], done
        yield _value(text, match, every, word), match.start()
        done = match.end()
    yield text[done:], done


def _value(text: str, match: re.Match[str], every: float, word: str) -> str:
    name = match[1] or match[2] or match[3]
    before = text[: match.start()]
    known = {
        "__rate_interval": f"{4 * every:.0f}s",  # as Grafana makes it: four scrapes
        "__interval": f"{every:.0f}s",  # the least that it can be
        "__range": "1h",
        "__interval_ms": f"{every * 1000:.0f}",
        "__range_s": "3600",
        "__range_ms": "3600000",
    }
    if name in known:
        return known[name]
    if any(len(re.findall(rf"(?<!\\){quote}", before)) % 2 for quote in "\"'"):
        return VARIABLE
    if re.search(r"(?:\[[^\]]*|\boffset\s+-?)$", before):
        return _ANY_TIME
    grouped = re.search(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*$", before)
    return VARIABLE if grouped else word


class _Reader:
    """JSON with positions, which the standard library's reader has not."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text, self._at = path, text, 0
        self._line, self._line_at = 1, 0

    def document(self) -> Any:
        """All of it."""
        try:
            json.loads(self._text)
        except ValueError as error:
            line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
            raise DocumentError(self._path, f"not JSON: {error}", line, column) from None
        except RecursionError:
            raise DocumentError(self._path, "not JSON: nested too deep") from None
        return self._value()

    def _peek(self) -> str:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches the empty text
        return self._text[self._at]

    def _mark(self) -> Mark:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        return self._line, self._at - self._text.rfind("\n", 0, self._at)

    def _value(self) -> Any:
        first = self._peek()
        if first == "{":
            return self._object()
        if first == "[":
            return self._array()
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _string(self) -> str:
        text, self._at = _DECODER.raw_decode(self._text, self._at)
        return str(text)

    def _object(self) -> Map:
        made = Map()
        while self._separator("}"):
            self._peek()
            key_at = self._mark()
            key = self._string()
            self._peek()
            self._at += 1
            self._peek()
            at = self._mark()
            made[key], made.keys_at[key], made.values_at[key] = self._value(), key_at, at
        return made

    def _array(self) -> Seq:
        made = Seq()
        while self._separator("]"):
            self._peek()
            made.values_at.append(self._mark())
            made.append(self._value())
        return made

    def _separator(self, end: str) -> bool:
        """Pass over what opens or separates elements; False, past it, at the *end*."""
        if self._peek() != end:
            self._at += 1
        if self._peek() == end:
            self._at += 1
            return False
        return True
