"""YAML as users mean it: 1.2 scalars, limits before expansion, errors at file:line:column.

PyYAML reads `on` as True, `1:30` as 90 and `010` as 8, keeps the last of two equal keys, and expands alias
bombs; so its C parser gives the events here and the values are made from them.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 60
MAX_VALUES = 500_000  # counted after aliases are expanded

_INT = re.compile(r"[-+]?[0-9]+$|0x[0-9a-fA-F]+$|0o[0-7]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
_WORDS = {"null": None, "Null": None, "NULL": None, "~": None, "": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}

Mark = tuple[int, int]  # line and column, from 1


@dataclass
class DocumentError(Exception):
    """A file that can't be read as meant: where (line and column from 1) and why."""

    path: Path
    message: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class Map(dict[Any, Any]):
    """A YAML mapping that knows where its keys and values stand."""

    __slots__ = ("keys_at", "values_at")

    def __init__(self) -> None:
        super().__init__()
        self.keys_at: dict[Hashable, Mark] = {}
        self.values_at: dict[Hashable, Mark] = {}


class Seq(list[Any]):
    """A YAML sequence that knows where its elements stand."""

    __slots__ = ("values_at",)

    def __init__(self) -> None:
        super().__init__()
        self.values_at: list[Mark] = []


def load(path: Path, *, texts: bool = False) -> Any:
    """The one document in *path*, as Map, Seq and plain scalars; None where it is empty.

    With *texts*, a scalar but null stays the text that is written: `1.10` and `yes`, for programs that read it so.
    Raises DocumentError: not UTF-8, not YAML, over a limit, a custom tag, an equal key twice, several documents.
    """
    return _Reader(path, _text(path), texts=texts).document()


def load_all(path: Path) -> list[Any]:
    """All documents in *path*, as `load` has one; raises DocumentError."""
    return _Reader(path, _text(path)).documents()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentError(path, f"can't be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise DocumentError(path, f"larger than {MAX_BYTES // 2**20} MiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(path, f"not UTF-8 (byte {error.start})", raw[: error.start].count(b"\n") + 1) from None


def where(root: Any, path: Sequence[str | int], *, key: bool = False) -> Mark:
    """Where the value at *path* below *root* stands (or, with *key*, the last key itself)."""
    mark: Mark = (1, 1)
    for depth, step in enumerate(path):
        if isinstance(root, Map) and step in root.values_at:
            mark = (root.keys_at if key and depth == len(path) - 1 else root.values_at)[step]
        elif isinstance(root, Seq) and isinstance(step, int) and step < len(root.values_at):
            mark = root.values_at[step]
        else:
            return mark
        root = root[step]
    return mark


class _Reader:
    """One pass over the parser's events."""

    def __init__(self, path: Path, text: str, *, texts: bool = False) -> None:
        self.path = path
        self.texts = texts
        try:
            self.loader = Loader(text)
        except yaml.YAMLError as error:
            raise self._translated(error) from None
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.values = 0

    def document(self) -> Any:
        found, second = self._documents(most=1)
        if second is not None:
            raise self._error("a second document: put it into a file of its own", second)
        return found[0] if found else None

    def documents(self) -> list[Any]:
        return self._documents()[0]

    def _documents(self, most: int | None = None) -> tuple[list[Any], Any]:
        """The documents, up to *most*, and the event that begins one more."""
        found: list[Any] = []
        try:
            self._expect(yaml.StreamStartEvent)
            while not self.loader.check_event(yaml.StreamEndEvent):
                if len(found) == most:
                    return found, self.loader.get_event()
                self._expect(yaml.DocumentStartEvent)
                found.append(self._value(0))
                self._expect(yaml.DocumentEndEvent)
        except yaml.YAMLError as error:
            raise self._translated(error) from None
        return found, None

    def _expect(self, kind: type) -> None:
        if not isinstance(self.loader.get_event(), kind):
            raise DocumentError(self.path, "not a YAML document")

    def _value(self, depth: int) -> Any:
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._error(f"alias *{event.anchor} names no anchor above it", event)
            value, size = self.anchors[event.anchor]
            self._count(size, event)
            return value
        before = self.values
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.values - before)
        return value

    def _count(self, more: int, event: Any) -> None:
        self.values += more
        if self.values > MAX_VALUES:
            raise self._error(f"more than {MAX_VALUES:,} values once aliases are expanded", event)

    def _scalar(self, event: Any) -> Any:
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise self._error(f"tag {event.tag} is not supported", event)
        text: str = event.value
        if event.tag or not event.implicit[0]:
            return text
        if text in _WORDS and not (self.texts and _WORDS[text] is not None):
            return _WORDS[text]
        if self.texts:
            return text
        if _INT.match(text):
            return int(text, 16 if text[:2] == "0x" else 8 if text[:2] == "0o" else 10)
        if _FLOAT.match(text):
            return float(re.sub(r"\.(?=[a-zA-Z])", "", text))  # `.inf` and `.nan` are Python's without the dot
        return text

    def _sequence(self, depth: int) -> Seq:
        result = Seq()
        while not self.loader.check_event(yaml.SequenceEndEvent):
            result.values_at.append(_mark(self.loader.peek_event()))
            result.append(self._value(depth + 1))
        self.loader.get_event()
        return result

    def _mapping(self, depth: int) -> Map:
        result = Map()
        inherited: list[Map] = []
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.peek_event()
            key = self._value(depth + 1)
            if not isinstance(key, Hashable):
                raise self._error("a key must be plain text", event)
            at = _mark(self.loader.peek_event())
            value = self._value(depth + 1)
            if key == "<<":
                inherited += value if isinstance(value, Seq) else [value]
                continue
            if key in result:
                raise self._error(
                    f"key '{key}' stands here a second time (first at line {result.keys_at[key][0]})", event
                )
            result[key], result.keys_at[key], result.values_at[key] = value, _mark(event), at
        end = self.loader.get_event()
        for parent in inherited:
            if not isinstance(parent, Map):
                raise self._error("'<<' must name a mapping", end)
            for key in parent.keys() - result.keys():
                result[key], result.keys_at[key] = parent[key], parent.keys_at[key]
                result.values_at[key] = parent.values_at[key]
        return result

    def _error(self, message: str, event: Any) -> DocumentError:
        return DocumentError(self.path, message, *_mark(event))

    def _translated(self, error: yaml.YAMLError) -> DocumentError:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        message = " ".join(filter(None, (getattr(error, "problem", None), getattr(error, "context", None)))) or str(
            error
        )
        return DocumentError(self.path, f"not YAML: {message}", *((mark.line + 1, mark.column + 1) if mark else (1, 1)))


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1
