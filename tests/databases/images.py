"""Images out of this machine's programs or Debian's packages, and their libraries, as none can be pulled."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

LIBRARIES = "/libraries"


@contextlib.contextmanager
def image(
    client: DockerClient,
    name: str,
    lines: Sequence[str],
    *,
    programs: Sequence[Path | str],
    files: Mapping[str, Path | str] = {},
    environ: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The tag of an image `FROM scratch` with *programs* and *files* in their places, then the *lines* of a Dockerfile.

    The libraries are those that `ldd` finds in *environ*.
    """
    tag = f"upcheck-{name}-{os.getpid()}"
    paths: dict[str, Path | str] = {**files, **{str(Path(one).resolve()): Path(one).resolve() for one in programs}}
    for program in programs:
        for library in libraries([Path(program)], environ):
            place = str(library) if library.name.startswith("ld-") else f"{LIBRARIES}/{library.name}"
            paths[place] = library.resolve()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for place, path in sorted(paths.items()):
            tar.add(path, f"root{place}")
        dockerfile = "\n".join(["FROM scratch", "COPY root /", f"ENV LD_LIBRARY_PATH={LIBRARIES}", *lines, ""]).encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile))
    packed.seek(0)
    client.images.build(fileobj=packed, custom_context=True, tag=tag, rm=True)
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


def libraries(programs: Sequence[Path], environ: Mapping[str, str] | None = None) -> list[Path]:
    """The libraries that *programs* are linked with, and what loads them; none where they stand alone."""
    if not programs:
        return []
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=60, env=environ)
    words = [line.split() for line in told.stdout.splitlines() if line.startswith("\t")]
    found = [line[2] if "=>" in line else line[0] for line in words if len(line) >= 2]
    return [Path(one) for one in dict.fromkeys(found) if one.startswith("/")]
