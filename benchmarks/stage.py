"""What the benchmarks of the engine stand on: a target, a repo that is watched, what a process has cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
OURS, THEIRS = {0}, {1}  # the core that is measured, and the one that everything else runs on


class Target(asyncio.Protocol):
    """Answers each connection's request after *delay* seconds, and closes it."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(ANSWER)
        self._transport.close()


async def serve(delay: float, certificate: str) -> None:
    """Serve for ever; the port is the one line on stdout."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Target(delay), "127.0.0.1", 0, ssl=context, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def target(delay: float = 0.0, certificate: Path | None = None) -> Iterator[str]:
    """The URL of a target in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.stage", str(delay), str(certificate or "")]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, THEIRS)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextlib.contextmanager
def repo() -> Iterator[Path]:
    """A monitoring repo in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="upcheck-bench-"))
    try:
        (folder / "checks").mkdir()
        (folder / "pyproject.toml").write_text("[tool.upcheck]\n")
        yield folder
    finally:
        shutil.rmtree(folder)


def yaml_checks(url: str, count: int, every: str, ca_file: Path | None = None) -> str:
    """A file of *count* checks of *url*."""
    more = f", ca_file: {ca_file}" if ca_file else ""
    lines = [f"  - {{name: check {number}, url: '{url}/', every: {every}{more}}}" for number in range(count)]
    return "\n".join(["checks:", *lines, ""])


@contextlib.contextmanager
def watching(folder: Path, *arguments: str) -> Iterator[psutil.Process]:
    """The engine of an `upcheck watch` in *folder*, on the core that is measured."""
    argv = [sys.executable, "-m", "upcheck.cli", "watch", "--log", "lines", *arguments]
    with (folder / "log").open("w") as log, subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log) as supervisor:
        try:
            yield _engine(psutil.Process(supervisor.pid), folder / "log")
        finally:
            supervisor.terminate()


def _engine(supervisor: psutil.Process, log: Path) -> psutil.Process:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if "watching" in log.read_text():
            (engine,) = supervisor.children()
            for thread in Path(f"/proc/{engine.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), OURS)
            return engine
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


def cpu(process: psutil.Process) -> float:
    """Seconds of CPU that *process* has used."""
    times = process.cpu_times()
    return times.user + times.system


@contextlib.contextmanager
def blackbox(
    path: Path, ca_file: Path | None = None, modules: Any = None, **environ: str
) -> Iterator[tuple[str, psutil.Process]]:
    """blackbox_exporter: the URL of its /probe for module http_2xx, and its process; *modules* are beside that."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "blackbox.yml")
        http = {"tls_config": {"ca_file": str(ca_file)}} if ca_file else {}
        config.write_text(json.dumps({"modules": {"http_2xx": {"prober": "http", "http": http}, **(modules or {})}}))
        argv = [str(path), f"--config.file={config}", "--web.listen-address=127.0.0.1:9715", "--log.level=error"]
        with subprocess.Popen(argv, env=os.environ | environ, stderr=subprocess.DEVNULL) as process:
            try:
                os.sched_setaffinity(process.pid, OURS | THEIRS)
                _wait("http://127.0.0.1:9715/-/healthy")
                yield "http://127.0.0.1:9715/probe?module=http_2xx", psutil.Process(process.pid)
            finally:
                process.terminate()


@contextlib.contextmanager
def collector(*flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """The shipped collector, on the core that is measured, without a history: its URL and its process."""
    argv = [sys.executable, str(ROOT / "collector.py"), "--port", "0", *flags]
    with repo() as folder, subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, OURS)
            assert process.stdout is not None
            yield process.stdout.readline().split()[1], psutil.Process(process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def node_exporter(path: Path, *collectors: str, **environ: str) -> Iterator[tuple[str, psutil.Process]]:
    """node_exporter with these *collectors* alone: its URL and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    chosen = [f"--collector.{name}" for name in collectors]
    argv = [str(path), "--collector.disable-defaults", *chosen, f"--web.listen-address={address}"]
    with subprocess.Popen(argv, env=os.environ | environ, stderr=subprocess.DEVNULL) as process:
        try:
            os.sched_setaffinity(process.pid, OURS | THEIRS)
            _wait(f"http://{address}/")
            yield f"http://{address}", psutil.Process(process.pid)
        finally:
            process.terminate()


def _wait(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), sys.argv[2]))
