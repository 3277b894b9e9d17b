"""What is known to hold: rule-test files, by their content, that of the rules they load, and the promtool."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import upcheck

MOST = 20_000  # files that are remembered


@dataclass(frozen=True, slots=True)
class Held:
    """A file that holds: how many entries it has, and the alerts that they see fire and keep silent."""

    entries: int
    fires: tuple[str, ...]
    silent: tuple[str, ...]


class Cache:
    """A file of JSON. One that can't be read is as one that is empty; one that can't be written is left as it is."""

    def __init__(self, path: Path, tool: Path) -> None:
        status = tool.stat()
        self._path = path
        self._by = f"{upcheck.__version__} {tool.resolve()} {status.st_size} {status.st_mtime_ns}"
        self._known: dict[str, list[object]] = {}
        self._new = False
        with contextlib.suppress(OSError, ValueError):
            stored = json.loads(path.read_bytes())
            if isinstance(stored, dict) and stored.get("by") == self._by:
                self._known = dict(stored["held"])

    def get(self, file: Path) -> Held | None:
        """What is known of the file at *file*, if it and all it loads are as they were."""
        content = _digest(file)
        known = self._known.get(content) if content else None
        if known is None:
            return None
        try:
            rules, patterns, entries, fires, silent = known
            if rules != _rules_digest(file, patterns):  # type: ignore[arg-type]  # as it was stored
                return None
            held = Held(int(str(entries)), tuple(map(str, list(fires))), tuple(map(str, list(silent))))  # type: ignore[call-overload]
        except (ValueError, TypeError):
            return None
        self._known[content] = self._known.pop(content)  # the last that were asked for are kept
        return held

    def put(self, file: Path, patterns: Sequence[str], held: Held) -> None:
        """Remember that *file*, which loads what *patterns* match, holds."""
        if content := _digest(file):
            rules = _rules_digest(file, patterns)
            self._known[content] = [rules, list(patterns), held.entries, list(held.fires), list(held.silent)]
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
                json.dump({"by": self._by, "held": kept}, file)
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
