"""A backup: one tar, gzipped, of what a stack keeps, and at its end a manifest with the hash of each file.

prometheus/...  alertmanager/...  upcheck/history.sqlite  grafana/...  redis/...  manifest.json
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, cast

from upcheck.stack.services import StackError

STORES = ("prometheus", "alertmanager", "upcheck", "grafana", "redis")
"""What may be in one. Prometheus' lock and its list of running queries are of a process, and never are."""
_LEFT_OUT = re.compile(r"prometheus/(lock|queries\.active|.*\.tmp(-for-\w+)?(/.*)?)")
NOTHING = "nothing to save here: the stack was never started: `upcheck stack up`"
_MANIFEST = "manifest.json"
_FORMAT = 1
_LEVEL = 1  # of gzip: samples are compressed already
_BLOCK = 1 << 20  # bytes read at a time
_LONGEST = 1 << 28  # bytes of a manifest: two million files


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a backup: its *name* in it, *size* in bytes, when it *changed* in Unix time, and what is in it."""

    name: str
    size: int
    changed: float
    content: IO[bytes]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself: the upcheck that *made* it, and when; the size and SHA-256 of its *files*."""

    made: str
    at: float
    files: dict[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(size for size, _ in self.files.values())

    @property
    def stores(self) -> list[str]:
        """The stores that it has files of."""
        there = {name.partition("/")[0] for name in self.files}
        return [store for store in STORES if store in there]


def prove(file: Path) -> None:
    """Raise StackError where *file* can't be written, before anything stands still for it."""
    draft = _draft(file)
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StackError(f"{file} can't be written: {error.strerror}; nothing was changed") from None
    draft.unlink()


def aside(folder: Path, ending: str = "") -> Path:
    """Where in *folder* to keep what a restore replaces: another place each time."""
    return folder / f"before-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09}{ending}"


def write(file: Path, entries: Generator[Entry]) -> Manifest:
    """Write *entries* into *file*, which only its owner may read, and which is as it was until all is written.

    Raises StackError, as where the disk is full.
    """
    draft = _draft(file)
    files: dict[str, tuple[int, str]] = {}
    made = Manifest(version("upcheck"), time.time(), files)
    try:
        with (
            closing(entries),
            os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", compresslevel=_LEVEL) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            for entry in entries:
                if not _LEFT_OUT.fullmatch(entry.name):
                    hashed = _Hashed(entry.content)
                    tar.addfile(_header(entry.name, entry.size, entry.changed), cast(IO[bytes], hashed))
                    files[entry.name] = (entry.size, hashed.digest)
            _end(tar, made)
            tar.close()
            packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        draft.replace(file)
    except OSError as error:
        raise StackError(f"{file} can't be written: {error.strerror or error}; nothing was changed") from None
    finally:
        draft.unlink(missing_ok=True)
    return made


def some(entries: Generator[Entry]) -> Generator[Entry]:
    """*entries*, of which there has to be one: else a backup of nothing would take a good one's place.

    Raises StackError.
    """
    with closing(entries):
        first = next(entries, None)
        if first is None:
            raise StackError(NOTHING)
        yield first
        yield from entries


def verified(file: Path) -> Manifest:
    """The manifest of *file*, all of which is as it was written. Raises StackError where it is not, or empty."""
    found: dict[str, tuple[int, str]] = {}
    said: bytes | None = None
    with _opened(file) as tar:
        for member in tar:
            content = tar.extractfile(member) if _safe(member) else None
            if content is None:
                raise StackError(
                    f"{file} is no backup that upcheck made: {member.name!r} would not be a file of a store"
                )
            if member.name == _MANIFEST:
                said = content.read(_LONGEST)
            else:
                hashed = _Hashed(content)
                while hashed.read(_BLOCK):
                    pass
                found[member.name] = (member.size, hashed.digest)
    if said is None:
        raise StackError(f"{file} is no backup that upcheck made, or its end is missing: it has no {_MANIFEST}")
    manifest = _manifest(file, said)
    if manifest.files != found:
        wrong = sorted(name for name in {*manifest.files, *found} if manifest.files.get(name) != found.get(name))
        raise StackError(f"{file} is damaged: {wrong[0]} is not as it was written; take another backup")
    if not manifest.files:
        raise StackError(f"{file} has nothing in it: the stack that it was made of had never been started")
    return manifest


def entries(file: Path, stores: list[str]) -> Iterator[Entry]:
    """The files of *stores* in *file*, in their order, each to be read before the next. Raises StackError."""
    with _opened(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and member.name.partition("/")[0] in stores and _safe(member):
                yield Entry(member.name, member.size, member.mtime, content)


def _draft(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def _header(name: str, size: int, changed: float) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = size, int(changed), 0o600
    return header


def _end(tar: tarfile.TarFile, made: Manifest) -> None:
    """Add the manifest."""
    text = json.dumps({"format": _FORMAT, "upcheck": made.made, "at": made.at, "files": made.files}, indent=1).encode()
    tar.addfile(_header(_MANIFEST, len(text), made.at), io.BytesIO(text))


def _manifest(file: Path, said: bytes) -> Manifest:
    try:
        told = json.loads(said)
        if told["format"] > _FORMAT:
            raise StackError(f"{file} was made by upcheck {told['upcheck']}, which is newer: use that one")
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in told["files"].items()}
        return Manifest(str(told["upcheck"]), float(told["at"]), files)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StackError(f"{file} is no backup that upcheck made: its {_MANIFEST} is another's") from None


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with gzip.open(file) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            yield tar
            while packed.read(_BLOCK):  # to the end, where gzip's own checksum is
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise StackError(f"{file} is no backup, or damaged: {error}") from None
    except OSError as error:
        raise StackError(f"{file} can't be read: {error.strerror or error}") from None


def _safe(member: tarfile.TarInfo) -> bool:
    """Whether it is a file inside one of the stores."""
    first, *rest = member.name.split("/")
    inside = first in STORES and bool(rest) and not {"", ".", ".."} & set(rest)
    return member.isreg() and (inside or member.name == _MANIFEST)


class _Hashed:
    """A file whose *digest* is that of what was read of it."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        read = self._content.read(size)
        self._hash.update(read)
        return read

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
