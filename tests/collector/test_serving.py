"""The collector as a process: its one line, its address, its signals, its end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from upcheck.collector.serve import listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "collector.py"

SLOW_METRIC = """
import threading, time
from pathlib import Path
from upcheck.collector import Collector

collector = Collector()

class Slow:
    def collect(self):
        Path({entered!r}).touch()
        time.sleep({seconds})
        Path({entered!r}).write_text(str(collector.health.not_ready()))
        return []

collector.registry.register(Slow())
collector.serve()
"""


@dataclass(frozen=True)
class Running:
    """A collector that serves. *url* is from its line on stdout."""

    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        assert url.port
        return url.host, url.port

    def ended(self, seconds: float) -> tuple[int, str]:
        """Exit code and stderr; fails when the process lives longer than *seconds*."""
        _, stderr = self.process.communicate(timeout=seconds)
        return self.process.returncode, stderr


@contextmanager
def running(script: Path = SHIPPED, *flags: str, through: Sequence[str] = ()) -> Iterator[Running]:
    """*script* as a process of its own, on a free port, until the block ends; *through* is a program that starts it."""
    command = [*through, sys.executable, str(script), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line and process.stderr:
                pytest.fail(f"{script} did not start:\n{process.stderr.read()}")
            yield Running(process, line.split()[1])
        finally:
            watchdog.cancel()
            process.kill()


def script(folder: Path, text: str) -> Path:
    file = folder / "collector.py"
    file.write_text(text)
    return file


def slow_metric(folder: Path, seconds: float) -> tuple[Path, Path]:
    """A user's collector.py whose scrape takes *seconds*, and the file that appears once one is inside."""
    entered = folder / "entered"
    return script(folder, SLOW_METRIC.format(entered=str(entered), seconds=seconds)), entered


def appears(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SHIPPED), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_line_and_ready_at_once() -> None:
    with running() as collector:
        assert httpx.get(f"{collector.url}/ready").status_code == 200
        collector.process.send_signal(signal.SIGTERM)
        out, err = collector.process.communicate(timeout=20)
        assert (collector.process.returncode, out, err) == (0, "", ""), "one line is all it ever prints"


def test_the_line_is_for_a_parent_process_to_read() -> None:
    with subprocess.Popen([sys.executable, str(SHIPPED), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert re.fullmatch(r"collector   http://127\.0\.0\.1:\d+   \(Ctrl-C stops it\)\n", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_ipv6_is_written_with_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with running(SHIPPED, "--host", "::1") as collector:
        assert collector.url.startswith("http://[::1]:")
        assert httpx.get(f"{collector.url}/live").status_code == 200


def test_a_port_in_use_is_one_sentence_and_exit_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("--port", str(port))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        f"collector: port {port} on 127.0.0.1 is in use; "
        "take a free one: python collector.py --host 127.0.0.1 --port 0\n"
    )


def test_a_port_is_taken_before_anything_serves_on_it() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "nowhere.invalid", "--port", "0"], "collector: host 'nowhere.invalid' is not known here"),
        (["--host", "192.0.2.1", "--port", "0"], "collector: 192.0.2.1 is no address of this machine"),
    ],
)
def test_an_address_that_is_not_here(flags: list[str], sentence: str) -> None:
    ended = run(*flags)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith(sentence)
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--port", "65536"], "argument --port: '65536': expected a number from 0 to 65535"),
        (["--port", "http"], "argument --port: 'http': expected a number from 0 to 65535"),
        (["--sample-interval", "0"], "argument --sample-interval: '0': expected seconds from 0.1 to 3600"),
        (["--sample-interval", "nan"], "argument --sample-interval: 'nan': expected seconds from 0.1 to 3600"),
    ],
)
def test_a_wrong_flag(flags: list[str], sentence: str) -> None:
    ended = run(*flags)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert sentence in ended.stderr


def test_help_has_examples() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert "python collector.py --port 0" in ended.stdout


def test_sigterm_lets_a_scrape_in_flight_finish(tmp_path: Path) -> None:
    file, entered = slow_metric(tmp_path, 1.0)
    answers: list[httpx.Response] = []
    with running(file) as collector:
        idle = socket.create_connection(collector.address)
        scrape = threading.Thread(target=lambda: answers.append(httpx.get(f"{collector.url}/metrics", timeout=30)))
        scrape.start()
        appears(entered)
        collector.process.send_signal(signal.SIGTERM)
        idle.settimeout(20)
        assert idle.recv(1) == b"", "a connection with nothing to answer is closed"
        assert refuses(collector.address)
        assert collector.process.poll() is None, "the scrape is still being answered"
        scrape.join(30)
        assert collector.ended(20) == (0, "")
        idle.close()
    assert entered.read_text() == "draining", "what /ready says from the signal on"
    (answer,) = answers
    assert answer.status_code == 200
    assert "node_load1" in answer.text


def test_a_client_that_is_stuck_does_not_hold_the_end(tmp_path: Path) -> None:
    file, entered = slow_metric(tmp_path, 600)
    with running(file) as collector, socket.create_connection(collector.address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        appears(entered)
        collector.process.send_signal(signal.SIGTERM)
        code, stderr = collector.ended(30)
        assert code == 0
        assert "Traceback" not in stderr
        assert client.recv(100).startswith(b"HTTP/1.1 503 ")


def test_user_code_that_refuses_to_end_does_not_hold_the_end(tmp_path: Path) -> None:
    stubborn = """
import asyncio, threading, time
from upcheck.collector import Collector
collector = Collector()

@collector.health("stubborn", timeout=0.1)
async def stubborn():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

threading.Thread(target=time.sleep, args=(600,)).start()
collector.serve()
"""
    with running(script(tmp_path, stubborn)) as collector:
        collector.process.send_signal(signal.SIGTERM)
        code, _ = collector.ended(30)
        assert code == 0


def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    file, entered = slow_metric(tmp_path, 600)
    with running(file) as collector, socket.create_connection(collector.address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        appears(entered)
        collector.process.send_signal(signal.SIGTERM)
        while not refuses(collector.address):
            time.sleep(0.01)
        collector.process.send_signal(signal.SIGTERM)
        code, _ = collector.ended(30)
        assert code == 128 + signal.SIGTERM, "not 0, which is what waiting for the drain would have given"


def test_the_process_never_imports_what_only_checks_need() -> None:
    program = f"""
import sys, prometheus_client
global_names = set(prometheus_client.REGISTRY._names_to_collectors)
sys.path.insert(0, {str(ROOT)!r})
import collector
assert collector.collector.app is collector.collector.app
assert set(prometheus_client.REGISTRY._names_to_collectors) == global_names, "the global registry was touched"
assert collector.collector.registry is not prometheus_client.REGISTRY
print([m for m in sys.modules if m.split(".")[0] in {{"pytest", "httpx", "click", "docker", "google", "pycurl"}}])
import upcheck.collector.serve
print([m for m in sys.modules if m.split(".")[0] in {{"pytest", "httpx", "docker", "google", "pycurl"}}])
print([m for m in sys.modules if m in {{"upcheck.plugin", "upcheck.cli"}}])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("[]\n[]\n[]\n", "")
