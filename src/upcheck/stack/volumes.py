"""What containers keep in volumes, saved and brought back through Docker's own copies."""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from upcheck.stack import archive
from upcheck.stack.archive import STORES, Entry
from upcheck.stack.compose import docker
from upcheck.stack.services import StackError

_BLOCK = 1 << 16  # bytes
_STOP = "30"  # seconds in which a container is to end
Containers = Mapping[str, dict[str, Any]]
"""What Docker knows of each container, by its service."""


def entries(found: Containers) -> Generator[Entry]:
    """The files of all volumes. The containers that write to one stand still while it is read. Raises StackError."""
    for store in STORES:
        if writers := [one for one in found.values() if _mounts(one, store)]:
            with _still([one["Id"] for one in writers if one["State"]["Running"]]):
                yield from _read(writers[0], store)


def names(found: Containers, stores: Sequence[str]) -> list[str]:
    """The volumes of *stores*, as Docker calls them."""
    return sorted(
        {one["Name"] for container in found.values() for store in stores for one in _mounts(container, store)}
    )


def fill(found: Containers, file: Path, stores: Sequence[str]) -> None:
    """Put the files of *stores* in the backup *file* into their volumes, which are empty. Raises StackError.

    The containers were made and do not run.
    """
    for store in stores:
        if writers := [one for one in found.values() if _mounts(one, store)]:
            _write(writers[0], store, archive.entries(file, [store]))


def _mounts(container: dict[str, Any], store: str) -> list[dict[str, Any]]:
    """Where a container may write into the volume of *store*."""
    mounts = [one for one in container["Mounts"] if one["Type"] == "volume" and one["RW"]]
    return [one for one in mounts if one["Name"].endswith(f"_{store}-data")]


def _read(container: dict[str, Any], store: str) -> Generator[Entry]:
    """The files of a volume, as `docker cp` streams them: below the folder's own name."""
    place = _mounts(container, store)[0]["Destination"]
    argv = ["docker", "cp", f"{container['Id']}:{place}", "-"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:
                        inside = PurePosixPath(member.name).parts[1:]
                        yield Entry("/".join((store, *inside)), member.size, member.mtime, content)
            while process.stdout.read(_BLOCK):  # what fills the last block: it would not end otherwise
                pass
        except tarfile.TarError as error:
            process.kill()
            said = _said(process)
            raise StackError(f"docker cp of {place} in {container['Name'][1:]}: {error}{said}") from None
    if process.returncode:
        raise StackError(f"docker cp of {place} in {container['Name'][1:]} ended with {process.returncode}")


def _write(container: dict[str, Any], store: str, files: Iterator[Entry]) -> None:
    """Have `docker cp` unpack *files* where the volume is, as the container's own user's."""
    place = _mounts(container, store)[0]["Destination"]
    user, _, group = container["Config"]["User"].partition(":")
    owner = {"uid": int(user), "gid": int(group)}
    argv = ["docker", "cp", "-", f"{container['Id']}:{place}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        made: set[str] = set()
        with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
            with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
                for entry in files:
                    inside = PurePosixPath(entry.name).relative_to(store)
                    for folder in reversed(inside.parents[:-1]):
                        if str(folder) not in made:
                            made.add(str(folder))
                            tar.addfile(_header(str(folder), owner, tarfile.DIRTYPE, 0o755))
                    header = _header(str(inside), owner, tarfile.REGTYPE, 0o644)
                    header.size, header.mtime = entry.size, int(entry.changed)
                    tar.addfile(header, entry.content)
            process.stdin.close()
        said = _said(process)
    if process.returncode:
        raise StackError(f"docker cp into {place} of {container['Name'][1:]} ended with {process.returncode}{said}")


def _header(name: str, owner: Mapping[str, int], kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.uid, header.gid = kind, mode, owner["uid"], owner["gid"]
    return header


def _said(process: subprocess.Popen[bytes]) -> str:
    said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
    return f": {said.splitlines()[-1]}" if said else ""


@contextlib.contextmanager
def _still(ids: Sequence[str]) -> Iterator[None]:
    """Stop containers: each then writes what it has in memory, as Alertmanager its silences; and start them again."""
    try:
        if ids:
            docker("stop", "-t", _STOP, *ids)
        yield
    finally:
        if ids:
            docker("start", *ids)
