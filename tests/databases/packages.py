"""Servers of databases: those of this machine, or Debian's packages, unpacked without root into a kept folder."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from upcheck.tools import ToolError, ways

# A program, which may be on this machine, or a package that is wanted as it is: what can be had, in Debian 12.
PACKAGES: Mapping[str, Sequence[str]] = {
    "postgres": (
        *("postgresql-15", "postgresql-client-15", "libpq5", "libicu72", "libldap-2.5-0", "libxml2", "libsasl2-2"),
        *("libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libkeyutils1"),
    ),
    "redis-server": ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"),
    "busybox-static": ("busybox-static",),
    "prometheus-postgres-exporter": ("prometheus-postgres-exporter",),
    "prometheus-redis-exporter": ("prometheus-redis-exporter",),
    "docker-compose": (
        *("docker-compose", "python3-docker", "python3-dockerpty", "python3-docopt", "python3-dotenv", "python3-attr"),
        *("python3-texttable", "python3-websocket", "python3-jsonschema", "python3-pyrsistent", "python3-yaml"),
        *("python3-requests", "python3-urllib3", "python3-chardet", "python3-certifi", "python3-idna", "python3-six"),
        *("python3-distutils", "python3-distro", "python3-packaging", "python3-pkg-resources"),
    ),
    "victoria-metrics": ("victoria-metrics",),
    "nginx": ("nginx", "nginx-common", "libpcre2-8-0"),
    "mariadbd": ("mariadb-server-core", "mariadb-common", "libaio1", "libnuma1", "liburing2", "libpcre2-8-0"),
}
HOMES = ("bin", "usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")


class Programs:
    """The programs of one server: `programs["initdb"]` is a path, *environ* what they run in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        libraries = sorted(str(one) for one in root.glob("usr/lib/*-linux-gnu")) if root != Path("/") else []
        self.environ = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(libraries)}

    def __getitem__(self, name: str) -> str:
        return str(next(path for home in HOMES for path in sorted(self.root.glob(f"{home}/{name}"))))

    def has(self, name: str) -> bool:
        """Whether there is such a program."""
        return any(True for home in HOMES for _ in self.root.glob(f"{home}/{name}"))

    def run(self, name: str, *arguments: str, **options: Any) -> None:
        """Run a program to its end, within a minute."""
        done = subprocess.run(
            [self[name], *arguments], capture_output=True, timeout=60, env=self.environ, text=True, **options
        )
        assert done.returncode == 0, done.stdout + done.stderr


def unavailable(why: str) -> NoReturn:
    """Skip the test and say *why*; fail it where UPCHECK_TEST_SERVERS=required says that nothing is to be skipped."""
    if os.environ.get("UPCHECK_TEST_SERVERS") == "required":
        pytest.fail(why)
    pytest.skip(why)


@functools.cache
def programs(server: str) -> Programs:
    """The programs of *server*; skips the test, and says why, where they can't be had."""
    here = Programs(Path("/"))
    if here.has(server):
        return here
    folder = Path(tempfile.gettempdir()) / f"upcheck-servers-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        unavailable(f"{folder} is another's")
    with (folder / f"{server}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _unpack(server, folder)
        except ToolError as error:
            unavailable(f"no {server} on this machine, and Debian's package can't be had: {error}")
    return Programs(folder / server)


def _unpack(server: str, folder: Path) -> None:
    """Fetch and unpack the packages of *server*, unless that was done."""
    if (folder / server).is_dir():
        return
    with tempfile.TemporaryDirectory(dir=folder) as name:
        room = Path(name)
        environ = {**os.environ, "APT_CONFIG": str(_apt(room)), "LC_ALL": "C"}
        ways.said(["apt-get", "-qq", "update"], seconds=ways.APT_SECONDS, environ=environ, cwd=room)
        ways.said(
            ["apt-get", "-qq", "download", *PACKAGES[server]], seconds=ways.APT_SECONDS, environ=environ, cwd=room
        )
        for archive in room.glob("*.deb"):
            ways.said(["dpkg-deb", "-x", str(archive), "root"], seconds=60, cwd=room)
        (room / "root").chmod(0o755)
        (room / "root").rename(folder / server)


def _apt(room: Path) -> Path:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ToolError("no apt-get here")
    return ways._private_apt(room, os.environ)
