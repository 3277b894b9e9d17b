"""What a promtool has said, kept in a file from one run to the next."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import upcheck


class Remembered:
    """JSON by key, as long as it is the same promtool and the same version of ours; the *most* asked for last are kept.

    A file that can't be read is as one that is empty; one that can't be written is left as it is; None is no file.
    """

    def __init__(self, path: Path | None, tool: Path, most: int) -> None:
        status = tool.stat()
        self._path = path
        self._most = most
        self._by = f"{upcheck.__version__} {tool.resolve()} {status.st_size} {status.st_mtime_ns}"
        self._known: dict[str, Any] = {}
        self._new = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                stored = json.loads(path.read_bytes())
                self._known = dict(stored["known"]) if stored["by"] == self._by else {}

    def get(self, key: str) -> Any:
        """What is known under *key*; None where nothing is."""
        if key in self._known:
            self._known[key] = self._known.pop(key)
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Remember *value*, which JSON can have."""
        self._known[key] = value
        self._new = True

    def save(self) -> None:
        """Write what is new; whole or not at all."""
        if self._path is None or not self._new:
            return
        kept = dict(list(self._known.items())[-self._most :])
        with contextlib.suppress(OSError):  # a read-only place: then nothing is remembered
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".remembered")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"by": self._by, "known": kept}, file)
            Path(name).replace(self._path)
