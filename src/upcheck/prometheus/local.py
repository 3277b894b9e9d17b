"""A Prometheus of our own, on a free port of this machine, for as long as it is needed."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.prometheus import PrometheusError

START = 20.0  # seconds that it may take; what it reads from a write-ahead log is beside that
_READING = 600.0


@contextlib.contextmanager
def serving(program: Path, folder: Path, configuration: str, *, kept: str = "15d") -> Iterator[str]:
    """The URL of Prometheus with that *configuration*, whose data are in *folder*/data and kept for *kept*.

    Raises PrometheusError where it does not get ready.
    """
    file, told = folder / "prometheus.yml", folder / "log"
    file.write_text(configuration, encoding="utf-8")
    url = f"http://127.0.0.1:{_free_port()}"
    argv = [
        str(program), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={kept}", f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
    ]  # fmt: skip
    with told.open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        _wait(process, url, told, START if not (folder / "data/wal").is_dir() else _READING)
        yield url
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, most: float) -> None:
    """Until Prometheus is ready. Raises PrometheusError."""
    end = time.monotonic() + most
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ProbeFailure):  # not yet
            if fetch(Request(f"{url}/-/ready", deadline=1.0)).is_success:
                return
        time.sleep(0.1)
    told = log.read_text(errors="replace").strip().splitlines()
    raise PrometheusError(f"prometheus did not get ready: {told[-1] if told else 'it says nothing'}")
