"""Whoever shows a certificate that is not accepted is looked at, and told nothing."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable

import pytest

from tests.probes.conftest import authority, secure, serve_tls, trusted  # noqa: F401 - fixtures
from upcheck.probes import Travelling
from upcheck.probes.redis import Redis
from upcheck.probes.single import ask
from upcheck.probes.smtp import Smtp
from upcheck.probes.tcp import Tcp
from upcheck.probes.websocket import WebSocket

SECRET = "sesame-open"
PROBES: dict[str, Callable[[str], Travelling]] = {
    "tcp": lambda place: Tcp(place, tls=True, query_response=[{"send": f"AUTH {SECRET}"}]),
    "websocket": lambda place: WebSocket(f"wss://{place}/", headers={"Authorization": f"Bearer {SECRET}"}),
    "smtp": lambda place: Smtp(place, tls=True, helo=SECRET),
    "redis": lambda place: Redis(f"rediss://:{SECRET}@{place}"),
}


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("case", ["self-signed", "expired", "wrong host"])
def test_an_impostor_hears_no_secret(
    serve_tls: Callable[..., str],  # noqa: F811
    kind: str,
    case: str,
) -> None:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen(connection: socket.socket) -> None:
        connection.settimeout(1)
        try:
            connection.sendall(b"220 mail.example ESMTP\r\n")
            heard.put(connection.recv(4096))
        except OSError:
            heard.put(b"")

    result = ask(PROBES[kind](serve_tls(listen, case=case)))
    assert result.reason is not None
    assert result.reason.of_certificate
    assert result.certificate_expiry is not None, "it was looked at"
    assert heard.get(timeout=5) == b""
