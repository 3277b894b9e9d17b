"""What promtool said before: by the content of a file of rule tests, that of the rules it loads, and the promtool."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import upcheck

MOST = 20_000  # files that are remembered


class Told(NamedTuple):
    """One entry: the alerts that it sees fire and keep silent; what promtool *said*, which is nothing if it holds."""

    name: str
    line: int
    fires: tuple[str, ...]
    silent: tuple[str, ...]
    said: str


class Cache:
    """A file of JSON. One that can't be read is as one that is empty; one that can't be written is left as it is."""

    def __init__(self, path: Path, tool: Path) -> None:
        status = tool.stat()
        self._path = path
        self._by = f"{upcheck.__version__} {tool.resolve()} {status.st_size} {status.st_mtime_ns}"
        self._known: dict[str, list[Any]] = {}
        self._new = False
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            stored = json.loads(path.read_bytes())
            if isinstance(stored, dict) and stored.get("by") == self._by:
                self._known = dict(stored["known"])

    def get(self, file: Path) -> list[Told] | None:
        """What is known of the entries of *file*, if it and all it loads are as they were."""
        content = _digest(file)
        known = self._known.get(content) if content else None
        if known is None:
            return None
        try:
            rules, patterns, entries = known
            if rules != _rules_digest(file, patterns):
                return None
            told = [Told(name, line, tuple(fires), tuple(silent), said) for name, line, fires, silent, said in entries]
        except (ValueError, TypeError):
            return None
        self._known[content] = self._known.pop(content)  # the last that were asked for are kept
        return told

    def put(self, file: Path, patterns: Sequence[str], entries: Sequence[Told]) -> None:
        """Remember what *entries* say of *file*, which loads what *patterns* match."""
        if content := _digest(file):
            self._known[content] = [_rules_digest(file, patterns), list(patterns), list(entries)]
            self._new = True

    def save(self) -> None:
        """Write what is new; whole or not at all."""
        if not self._new:
            return
        kept = dict(list(self._known.items())[-MOST:])
        with contextlib.suppress(OSError):  # a read-only place: then nothing is remembered
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".rules")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"by": self._by, "known": kept}, file)
            Path(name).replace(self._path)


def _digest(file: Path) -> str:
    """Of the content and the place: what a file loads is relative to it."""
    try:
        return hashlib.sha256(bytes(file.absolute()) + b"\0" + file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _rules_digest(file: Path, patterns: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for pattern in patterns:
        for rules in sorted(Path("/").glob(str(file.parent.absolute() / pattern).lstrip("/"))):
            digest.update(bytes(rules) + b"\0" + rules.read_bytes() + b"\0")
        digest.update(b"\n")
    return digest.hexdigest()
