"""Database servers on free ports of the loopback interface, which end with the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.databases.packages import Programs

NOBODY = 65534
READY = 30.0  # seconds


def unprivileged() -> dict[str, Any]:
    """Who a server runs as: PostgreSQL refuses root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}


def give_away(path: Path) -> None:
    """Let the servers have *path*, a file or a folder with all in it."""
    if os.getuid() == 0:
        for one in (path, *path.rglob("*")):
            os.chown(one, NOBODY, NOBODY)


@contextlib.contextmanager
def folder(name: str) -> Iterator[Path]:
    """A folder that the servers can reach, which pytest's own are not where root runs it."""
    path = Path(tempfile.mkdtemp(prefix=f"upcheck-{name}-"))
    path.chmod(0o700)
    give_away(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Server:
    """A server's process, listening on *port*; what it says is in *log*."""

    def __init__(self, programs: Programs, argv: Sequence[str], port: int, home: Path) -> None:
        self.programs = programs
        self.argv = argv
        self.port = port
        self.home = home
        self.log = home / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is *ready*."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.programs.environ,
                cwd=self.home, **unprivileged(),
            )  # fmt: skip
        ends = time.monotonic() + READY
        while not ready():
            alive = self.process.poll() is None and time.monotonic() < ends
            assert alive, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """It accepts, and does nothing more."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, by force where it won't."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def listens(port: int) -> bool:
    """Whether something listens on *port*."""
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0
