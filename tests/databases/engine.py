"""A Docker engine, where one answers, and a container out of a Debian package."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.databases.packages import Programs
from upcheck.tools import ToolError, ways

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SECOND = 1_000_000_000  # in the engine's nanoseconds
DOCKERFILE = 'FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT ["/bin/busybox"]\n'


def host() -> str:
    """Where the engine is, as a check has it."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


@contextlib.contextmanager
def engine() -> Iterator[DockerClient]:
    """The engine; skips the test, and says why, where none answers."""
    docker = pytest.importorskip("docker")
    try:
        ways._knock(host())
        client: DockerClient = docker.from_env()
    except (ToolError, docker.errors.DockerException) as error:
        pytest.skip(str(error))
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def image(client: DockerClient, programs: Programs) -> Iterator[str]:
    """An image with BusyBox in it, and no more."""
    tag = f"upcheck-busybox-{os.getpid()}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(programs["busybox"], "busybox")
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(DOCKERFILE)
        tar.addfile(entry, io.BytesIO(DOCKERFILE.encode()))
    packed.seek(0)
    client.images.build(fileobj=packed, custom_context=True, tag=tag)
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


@contextlib.contextmanager
def container(client: DockerClient, tag: str, *command: str, **options: Any) -> Iterator[Container]:
    """A container that has been started, and is gone afterwards."""
    made = client.containers.create(tag, list(command), network_mode="none", **options)
    try:
        made.start()
        yield made
    finally:
        made.remove(force=True)
