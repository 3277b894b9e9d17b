"""Clients that are idle or drip: they cost the others nothing, and are cut off."""

from __future__ import annotations

import resource
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.collector.test_serving import running, script

if TYPE_CHECKING:
    from pathlib import Path


def drip(client: socket.socket) -> None:
    for _ in range(400):
        client.sendall(b"X")
        time.sleep(0.05)


def test_live_answers_beside_a_thousand_idle_connections_and_slow_ones() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096 != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard == resource.RLIM_INFINITY else min(4096, hard), hard))
    with running() as collector, ExitStack() as clients:
        slow = [clients.enter_context(socket.create_connection(collector.address)) for _ in range(1000)]
        for client in slow[:100]:
            client.sendall(b"GET /live HTTP/1.1\r\nX-Slow: ")
        for path in ("/live", "/ready", "/metrics"):
            assert httpx.get(f"{collector.url}{path}", timeout=5).status_code == 200
        if sys.platform == "linux":
            assert psutil.Process(collector.process.pid).num_fds() > 1000, "they are all really connected"


def test_a_request_that_drips_is_cut_off_and_a_whole_one_is_not(tmp_path: Path) -> None:
    impatient = """
from upcheck.collector import Collector, protocol
protocol.REQUEST_DEADLINE = 0.5
Collector().serve()
"""
    with running(script(tmp_path, impatient)) as collector:
        with (
            socket.create_connection(collector.address) as silent,
            socket.create_connection(collector.address) as loris,
        ):
            silent.settimeout(20)
            assert silent.recv(1) == b""
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                drip(loris)
        with socket.create_connection(collector.address) as kept:
            kept.settimeout(20)
            for _ in range(3):
                kept.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    part = kept.recv(4096)
                    assert part, "a client that is well was cut off"
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200 ")
                time.sleep(0.7)
