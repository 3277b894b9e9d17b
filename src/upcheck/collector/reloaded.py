"""Files that are read again when they change, without a restart."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

_LOOK = 1.0  # seconds at least between two looks at the files

_log = logging.getLogger("upcheck.collector")


class FileError(ValueError):
    """A file that can't be used, in a sentence that names it and what is expected."""


class Reloaded(Generic[T]):
    """What *read* makes of some files: called, it looks whether they have changed, and if so reads them again.

    *read* returns its value and the files it comes from, and raises FileError: at the start to the caller; later it is
    logged, once for each sentence, and the old value stays.
    """

    def __init__(
        self, read: Callable[[], tuple[T, Sequence[Path]]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._looked = clock()
        self._complaint = ""
        self._seen: dict[Path, _Stamp] = {}
        self._value = self._take({})

    def __call__(self) -> T:
        now = self._clock()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._look()
        return self._value

    def _look(self) -> None:
        stamps = {file: _stamp(file) for file in self._seen}
        if stamps == self._seen and not self._complaint:
            return
        try:
            self._value = self._take(stamps)
        except FileError as error:
            if str(error) != self._complaint:  # again at each look: what was missing may be in no file we know of
                _log.warning("%s; what was read before still holds", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    def _take(self, before: dict[Path, _Stamp]) -> T:
        """Read; *before* are the stamps of before the reading, so that a change after it is seen at the next look."""
        value, files = self._read()
        self._seen = {file: before[file] if file in before else _stamp(file) for file in files}
        return value


_Stamp = tuple[int, ...] | None  # None for a file that can't be seen


def _stamp(file: Path) -> _Stamp:
    """What tells two versions of *file* apart."""
    try:
        seen = file.stat()
    except OSError:  # reading it again says why
        return None
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
