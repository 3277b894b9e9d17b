"""What promtool said before: by the content of a file of rule tests, that of the rules it loads, and the promtool."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from upcheck.rules.remembered import Remembered

MOST = 20_000  # files that are remembered


class Told(NamedTuple):
    """One entry: the alerts that it sees fire and keep silent; what promtool *said*, which is nothing if it holds."""

    name: str
    line: int
    fires: tuple[str, ...]
    silent: tuple[str, ...]
    said: str


class Cache:
    """What is known of files, whose content and whose rules' are as they were."""

    def __init__(self, path: Path, tool: Path) -> None:
        self._known = Remembered(path, tool, MOST)

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
            return [Told(name, line, tuple(fires), tuple(silent), said) for name, line, fires, silent, said in entries]
        except (ValueError, TypeError):
            return None

    def put(self, file: Path, patterns: Sequence[str], entries: Sequence[Told]) -> None:
        """Remember what *entries* say of *file*, which loads what *patterns* match."""
        if content := _digest(file):
            self._known.put(content, [_rules_digest(file, patterns), list(patterns), list(entries)])

    def save(self) -> None:
        """Write what is new."""
        self._known.save()


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
