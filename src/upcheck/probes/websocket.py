"""WebSocket: the handshake, a ping, a message there and one back. See docs/probes/websocket.md."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from upcheck.probes import Journey, ProbeError, Reason, Run
from upcheck.probes.http.url import redacted
from upcheck.probes.sockets import Steps, Stream
from upcheck.probes.tls import OverTls, Trust, handshake

_PORTS = {"ws": 80, "wss": 443}
_PING = b"upcheck"
_MISSING = "not asked: the extra `websocket` is not installed: pip install 'upcheck[websocket]'"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WebSocket(OverTls):
    """A handshake at *url*; then a ping where *ping* says so, *send* where there is one, and *message* to come back.

    *message* is a regular expression that a text from the server must match. *subprotocol* must be agreed to.
    """

    address: str = field(init=False)
    url: str = field(kw_only=False)
    subprotocol: str | None = None
    origin: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    send: str | None = None
    ping: bool = False
    message: str | None = None
    expression: re.Pattern[str] | None = field(init=False)
    kind: ClassVar[str] = "websocket"
    subject: ClassVar[str] = "url"

    def __post_init__(self) -> None:
        put = object.__setattr__
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise ProbeError(f"{redacted(self.url)} is no URL: {error}") from None
        if parts.scheme not in _PORTS or not host or re.search(r"[\x00-\x20\x7f]", self.url):
            raise ProbeError(f"{redacted(self.url)}: expected a URL such as wss://shop.example/feed")
        put(self, "address", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        OverTls.__post_init__(self)
        if any(re.search(r"[\x00-\x1f\x7f]", f"{name}{value}") for name, value in self.headers.items()):
            raise ProbeError("headers: one has a control character in it")
        try:
            put(self, "expression", re.compile(self.message) if self.message else None)
        except re.error as error:
            raise ProbeError(f"message: {self.message!r} is no regular expression: {error}") from None

    @property
    def asked(self) -> str:
        """The URL, without its secrets."""
        return f"websocket {redacted(self.url)}"

    def journey(self, run: Run) -> Journey:
        """Shake hands, talk, close."""
        return self.examined(run, self._exchange)

    def _exchange(self, run: Run, trust: Trust) -> Journey:
        protocol = self._protocol(run)
        stream = yield from self.connected(run)
        with stream:
            if self.url.startswith("wss:"):
                yield from handshake(run, stream, self.place.host, trust)
            talk = _Talk(run, stream, protocol)
            request = protocol.connect()
            for name, value in self.headers.items():
                request.headers[name] = str(value)
            protocol.send_request(request)
            run.note(f"asking for {redacted(self.url)}")
            yield from talk.opened(self.subprotocol)
            if self.ping:
                yield from talk.ponged()
            if self.send is not None:
                protocol.send_text(self.send.encode())
            if self.expression is not None:
                yield from talk.heard(self.expression)
            protocol.send_close(1000)
            yield from talk.flush()

    def _protocol(self, run: Run) -> Any:
        try:
            from websockets.client import ClientProtocol
            from websockets.uri import parse_uri
        except ImportError:
            raise run.fail(Reason.MISSING_EXTRA, _MISSING) from None
        agreed: Any = [self.subprotocol] if self.subprotocol else None
        origin: Any = self.origin
        return ClientProtocol(parse_uri(self.url), origin=origin, subprotocols=agreed, max_size=256 * 1024)


class _Talk:
    """A conversation: what the protocol has to send, and what comes for it."""

    def __init__(self, run: Run, stream: Stream, protocol: Any) -> None:
        self._run = run
        self._stream = stream
        self._protocol = protocol
        self._frames: list[Any] = []

    def flush(self) -> Steps:
        """Send what there is to be sent."""
        for data in self._protocol.data_to_send():
            if data:
                yield from self._stream.send(data)

    def _more(self) -> Steps:
        yield from self.flush()
        data = yield from self._stream.receive()
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._frames += self._protocol.events_received()

    def opened(self, subprotocol: str | None) -> Steps:
        """The handshake."""
        run, protocol = self._run, self._protocol
        run.metrics["probe_websocket_connection_upgraded"] = 0
        while protocol.state.name == "CONNECTING" and protocol.handshake_exc is None:
            yield from self._more()
        response = self._frames.pop(0) if self._frames else getattr(protocol.handshake_exc, "response", None)
        if response is not None:
            run.metrics["probe_websocket_status_code"] = response.status_code
        if protocol.handshake_exc is not None:
            raise self._refused(protocol.handshake_exc, response)
        run.metrics["probe_websocket_connection_upgraded"] = 1
        run.note("the connection is a WebSocket")
        if subprotocol is not None and protocol.subprotocol != subprotocol:
            got = protocol.subprotocol or "none"
            raise run.fail(Reason.UNEXPECTED_ANSWER, f"wanted the subprotocol {subprotocol!r}, got {got!r}")

    def _refused(self, error: Exception, response: Any) -> Exception:
        if response is None:
            if isinstance(error, EOFError) or isinstance(error.__cause__, EOFError):
                why = "the server closed the connection before the handshake was done"
                return self._run.fail(Reason.BROKEN_OFF, why)
            return self._run.fail(Reason.MALFORMED, f"the answer is no HTTP: {error}")
        if response.status_code != 101:
            phrase = f"{response.status_code} {response.reason_phrase}".strip()
            return self._run.fail(Reason.STATUS, f"the handshake was refused: {phrase}")
        return self._run.fail(Reason.MALFORMED, f"the handshake is not one: {error}")

    def ponged(self) -> Steps:
        """A ping, and the pong to it."""
        self._protocol.send_ping(_PING)
        while True:
            for frame in self._taken():
                if frame.opcode.name == "PONG" and frame.data == _PING:
                    self._run.note("the pong has come")
                    return
            yield from self._next("before the pong")

    def heard(self, expression: re.Pattern[str]) -> Steps:
        """The message that matches *expression*."""
        last, parts = "", b""
        while True:
            for frame in self._taken():
                if frame.opcode.name in ("TEXT", "BINARY", "CONT"):
                    parts += frame.data
                    if frame.fin:
                        last, parts = parts.decode(errors="replace"), b""
                        self._run.note(f"read {last[:100]!r}")
                        if expression.search(last):
                            return
            after = f"; the last was {last[:100]!r}" if last else ""
            yield from self._next(f"before a message that matches {expression.pattern!r}{after}")

    def _taken(self) -> Generator[Any, None, None]:
        while self._frames:
            yield self._frames.pop(0)

    def _next(self, before: str) -> Steps:
        protocol = self._protocol
        if protocol.close_rcvd is not None or protocol.parser_exc is not None or protocol.state.name == "CLOSED":
            told = protocol.close_rcvd or protocol.parser_exc
            why = f": {told}" if told is not None else ""
            raise self._run.fail(Reason.BROKEN_OFF, f"the server closed the connection {before}{why}")
        yield from self._more()
