"""What the local stack keeps, at one moment and while it runs; and its way back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

from upcheck.history import History, HistoryError
from upcheck.history.engine import Claim
from upcheck.settings import Settings
from upcheck.stack import archive
from upcheck.stack.archive import Entry, Manifest
from upcheck.stack.record import Record
from upcheck.stack.services import StackError

HERE = ("prometheus", "alertmanager", "upcheck")
_TRIES = 5


def taken(settings: Settings, record: Record, into: Path) -> None:
    """Put what is kept into the folder *into*. Raises StackError.

    Samples are linked, or copied to another file system: Prometheus only appends to its newest files, and changes no
    other. Alertmanager has to have ended meanwhile, or before: it writes its silences then.
    """
    try:
        _linked(record.data / "prometheus", into / "prometheus")
        shutil.copytree(record.data / "alertmanager", into / "alertmanager")
        if settings.history.exists():
            (into / "upcheck").mkdir()
            with History(settings.history, read_only=True) as history:
                history.copy(into / "upcheck/history.sqlite")
    except (OSError, shutil.Error) as error:
        raise StackError(f"a snapshot can't be made in {into}: {error}; nothing was changed") from None
    except HistoryError as error:
        raise StackError(f"{error}; nothing was changed") from None


def entries(folder: Path) -> Generator[Entry]:
    """The files below *folder*, as large as they are now: the newest may grow while they are read."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        with path.open("rb") as content:
            told = os.fstat(content.fileno())
            yield Entry(str(path.relative_to(folder)), told.st_size, told.st_mtime, content)


def restore(settings: Settings, record: Record, file: Path) -> tuple[Manifest, Path]:
    """Put what is in the backup *file* in the place of what is kept; its manifest, and where that was moved.

    Raises StackError: then all is as it was.
    """
    manifest = archive.verified(file)
    fresh, aside = record.folder / "restored", archive.aside(record.folder)
    try:
        with Claim(settings.history, "1/1"):
            shutil.rmtree(fresh, ignore_errors=True)
            room = shutil.disk_usage(record.folder).free
            if manifest.size > room:
                raise StackError(
                    f"{file} needs {manifest.size >> 20} MB below {record.folder}, where {room >> 20} MB are left: "
                    "free some; nothing was changed"
                )
            _unpack(file, [store for store in manifest.stores if store in HERE], fresh)
            aside.mkdir()
            _exchange(settings, record, fresh, aside)
    except OSError as error:
        raise StackError(f"{file} can't be restored: {error.strerror}: {error.filename or fresh}") from None
    except HistoryError as error:
        raise StackError(f"{error}; nothing was changed") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest, aside


def _linked(source: Path, into: Path) -> None:
    """Link the files of a running Prometheus; again where it has made a block, or taken one away, meanwhile."""
    same = source.stat().st_dev == into.parent.stat().st_dev
    for _ in range(_TRIES):
        before = _blocks(source)
        shutil.rmtree(into, ignore_errors=True)
        try:
            shutil.copytree(
                source,
                into,
                copy_function=os.link if same else shutil.copy2,
                ignore=shutil.ignore_patterns("*.tmp*", "lock"),
            )
        except (shutil.Error, FileNotFoundError):
            continue  # what was there is not any more
        if _blocks(source) == before:
            return
    raise StackError(f"{source} changes too fast to be saved: try again in a minute; nothing was changed")


def _blocks(source: Path) -> list[str]:
    """What Prometheus replaces: blocks, checkpoints, and the first file of what it appends to."""
    first = [min((one.name for one in source.glob(f"{part}/0*")), default="") for part in ("wal", "chunks_head")]
    return sorted(one.name for one in (*source.glob("0*"), *source.glob("wal/checkpoint.*"))) + first


def _unpack(file: Path, stores: list[str], into: Path) -> None:
    for entry in archive.entries(file, stores):
        path = into / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as made:
            shutil.copyfileobj(entry.content, made)


def _exchange(settings: Settings, record: Record, fresh: Path, aside: Path) -> None:
    """Move what is kept *aside*, and what is *fresh* in its place: only of stores that the backup has."""
    for name in ("prometheus", "alertmanager"):
        if (fresh / name).is_dir():
            (record.data / name).rename(aside / name)
            (fresh / name).rename(record.data / name)
    history = settings.history
    if (fresh / "upcheck/history.sqlite").is_file():
        for suffix in ("", "-wal", "-shm"):
            if (path := history.with_name(history.name + suffix)).exists():
                shutil.move(path, aside / path.name)
        shutil.move(fresh / "upcheck/history.sqlite", history)
