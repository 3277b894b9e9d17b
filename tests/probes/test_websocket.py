from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection
from websockets.sync.server import serve as websockets_serve

from tests.conftest import Serve, answer
from tests.probes.conftest import BAD_CERTIFICATES, Ask, Secure, Talk, failed, held, place, resets, says
from upcheck.probes import ProbeError, Reason
from upcheck.probes.websocket import WebSocket
from upcheck.servers import free_port

Start = Callable[..., str]


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture
def start() -> Iterator[Start]:
    """A real WebSocket server: its URL."""
    servers: list[Server] = []

    def make(handler: Callable[[ServerConnection], None] = echo, **options: Any) -> str:
        def safe(connection: ServerConnection) -> None:
            try:
                handler(connection)
            except ConnectionClosed:
                return

        server = websockets_serve(safe, "127.0.0.1", 0, **options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        return f"wss://localhost:{port}/feed" if "ssl" in options else f"ws://127.0.0.1:{port}/feed"

    yield make
    for server in servers:
        server.shutdown()


def test_a_handshake(start: Start, ask: Ask) -> None:
    result = held(ask(WebSocket(start())))
    assert result.metrics["probe_websocket_status_code"] == 101
    assert result.metrics["probe_websocket_connection_upgraded"] == 1


def test_a_ping_and_a_message(start: Start, ask: Ask) -> None:
    url = start()
    held(ask(WebSocket(url, ping=True, send="hello", message="^hel+o$")))
    wrong = failed(ask(WebSocket(url, send="hello", message="bye", deadline=0.5)), Reason.TIMEOUT)
    assert "waiting for the answer" in wrong.sentence


def test_a_message_in_fragments(start: Start, ask: Ask) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(["noise"])
        connection.send(["snap", "shot"])
        connection.recv()

    held(ask(WebSocket(start(handler), message="^snapshot$")))


def test_headers_and_origin(start: Start, ask: Ask) -> None:
    heard: list[Request] = []

    def look(_: ServerConnection, request: Request) -> Response | None:
        heard.append(request)
        return None

    held(ask(WebSocket(start(process_request=look), headers={"X-Token": "t"}, origin="https://shop.test")))
    assert (heard[0].headers["X-Token"], heard[0].headers["Origin"]) == ("t", "https://shop.test")


def test_a_subprotocol(start: Start, ask: Ask) -> None:
    held(ask(WebSocket(start(subprotocols=["v1.feed"]), subprotocol="v1.feed")))
    failed(ask(WebSocket(start(), subprotocol="v1.feed")), Reason.UNEXPECTED_ANSWER)


def test_a_handshake_that_is_refused(start: Start, ask: Ask) -> None:
    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "no\n")

    result = failed(ask(WebSocket(start(process_request=refuse))), Reason.STATUS)
    assert result.sentence == "the handshake was refused: 403 Forbidden"
    assert result.metrics["probe_websocket_status_code"] == 403
    assert result.metrics["probe_websocket_connection_upgraded"] == 0


def test_a_server_that_closes(start: Start, ask: Ask) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.close(1008, "not you")

    result = failed(ask(WebSocket(start(handler), message="x")), Reason.BROKEN_OFF)
    assert "before a message that matches 'x'" in result.sentence
    assert "not you" in result.sentence


BAD_ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n"
)


def after_request(*parts: bytes, then: float = 0.0) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        says(*parts, then=then)(connection)

    return talk


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (after_request(BAD_ACCEPT), Reason.MALFORMED, "the handshake is not one"),
        (answer("200 OK", "hello"), Reason.STATUS, "the handshake was refused: 200 OK"),
        (answer("404 Not Found"), Reason.STATUS, "404 Not Found"),
        (after_request(), Reason.BROKEN_OFF, "before the handshake was done"),
        (after_request(b"HTTP/1.1 101"), Reason.BROKEN_OFF, "before the handshake was done"),
        (after_request(b"220 mail\r\n\r\n"), Reason.MALFORMED, "the answer is no HTTP"),
        (after_request(then=2), Reason.TIMEOUT, "waiting for the answer"),
        (resets(), Reason.RESET, "Connection reset"),
    ],
    ids=["accept", "200", "404", "closed", "cut", "no HTTP", "hangs", "reset"],
)
def test_a_bad_server(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    result = failed(ask(WebSocket(f"ws://{place(serve(talk))}/", deadline=0.5)), reason)
    assert words in result.sentence


def test_over_tls(start: Start, ask: Ask, secure: Secure, trusted: str) -> None:
    result = held(ask(WebSocket(start(ssl=secure()), ca_file=trusted, ping=True)))
    assert result.certificate_expiry is not None


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate(
    serve_tls: Callable[..., str], ask: Ask, trusted: str, case: str, reason: Reason, words: str
) -> None:
    result = failed(ask(WebSocket(f"wss://{serve_tls(case=case)}/", ca_file=trusted)), reason)
    assert words in result.sentence
    assert result.certificate_expiry is not None


def test_without_the_extra_it_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)  # as where it is not installed
    result = failed(ask(WebSocket("ws://127.0.0.1:1/")), Reason.MISSING_EXTRA)
    assert result.sentence.endswith("pip install 'upcheck[websocket]'")


def test_nothing_listens(ask: Ask) -> None:
    failed(ask(WebSocket(f"ws://127.0.0.1:{free_port()}/")), Reason.CONNECTION_REFUSED)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://x/"}, "expected a URL such as wss://shop.example/feed"),
        ({"url": "ws://x:99999/"}, "is no URL"),
        ({"url": "ws://x/ y"}, "expected a URL"),
        ({"message": "("}, "message: '(' is no regular expression"),
        ({"headers": {"X": "a\r\nb"}}, "headers: one has a control character in it"),
    ],
)
def test_what_can_t_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        WebSocket(**{"url": "ws://x/", **options})
    assert words in str(caught.value)


def test_secrets_are_not_told() -> None:
    assert WebSocket("wss://shop.test/feed?token=sesame").asked == "websocket wss://shop.test/feed?token=redacted"
