"""The real servers, Prometheus and Alertmanager, on a free port of loopback for as long as a block lasts."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from upcheck import tools
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.settings import Settings

START = 20.0  # seconds that a server may take to be ready
_READING = 600.0  # seconds, where it has a write-ahead log to read
STOP = 5.0  # seconds that it may take to end


class ServerError(Exception):
    """A server is not to be had; the sentence says why, and what would help."""


def prometheus(
    settings: Settings, configuration: Path, data: Path, *flags: str
) -> contextlib.AbstractContextManager[str]:
    """The URL of a Prometheus with the file *configuration*, which keeps its series in the folder *data*.

    Raises ServerError.
    """
    return _server(
        settings, "prometheus", data, f"--config.file={configuration}", f"--storage.tsdb.path={data}", *flags
    )


def alertmanager(
    settings: Settings, configuration: Path, data: Path, *flags: str, cluster: str = ""
) -> contextlib.AbstractContextManager[str]:
    """The URL of an Alertmanager with the file *configuration*, which keeps its state in the folder *data*.

    *cluster* is the address at which its peers find it; without one it is alone. Raises ServerError.
    """
    said = (f"--config.file={configuration}", f"--storage.path={data}", f"--cluster.listen-address={cluster}", *flags)
    return _server(settings, "alertmanager", data, *said)


@contextlib.contextmanager
def _server(settings: Settings, name: str, data: Path, *flags: str) -> Iterator[str]:
    found = tools.find(name, settings)
    if found is None:
        raise ServerError(f"there is no {name}: type `upcheck tools install`")
    address = f"127.0.0.1:{free_port()}"
    data.mkdir(parents=True, exist_ok=True)
    log = data.with_name(f"{data.name}.log")
    with log.open("wb") as output:
        argv = [str(found.path), f"--web.listen-address={address}", "--log.level=warn", *flags]
        process = subprocess.Popen(argv, stdout=output, stderr=output)
    try:
        _wait(process, name, f"http://{address}", log, _READING if (data / "wal").is_dir() else START)
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:  # one that waits for a receiver which hangs
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of loopback that nothing listens on. On Linux nobody is given it by chance while this process lives."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that sets it, too, can listen there
        reserved.bind(("127.0.0.1", 0))
        port = int(reserved.getsockname()[1])
        if sys.platform == "linux":  # elsewhere nobody can listen where another is bound
            reserved.detach()
        return port


def _wait(process: subprocess.Popen[bytes], name: str, url: str, log: Path, most: float) -> None:
    end = time.monotonic() + most
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ProbeFailure):  # not yet
            if fetch(Request(f"{url}/-/ready", deadline=1.0)).is_success:
                return
        time.sleep(0.05)
    told = log.read_text(errors="replace").strip().splitlines()
    raise ServerError(f"{name} did not get ready: {told[-1] if told else 'it says nothing'}")
