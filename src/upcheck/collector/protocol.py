"""HTTP/1.1 by httptools in uvicorn, with the limits that neither has: time, heads, pipelines, and who may connect."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from upcheck.collector.tls import Renewed, names_of

if TYPE_CHECKING:
    import asyncio

    from starlette.applications import Starlette

    from upcheck.collector.access import Rules

REQUEST_DEADLINE = 10.0  # seconds for a client to finish a handshake, and to finish sending a request
LARGEST_HEAD = 16 * 1024  # bytes of request line and headers
_NO_BODY = b"content-length: 0\r\nconnection: close\r\ncache-control: no-store\r\n\r\n"
_PIPELINED = 32  # requests that may wait for the one before them


class Config(uvicorn.Config):
    """uvicorn's, with the *rules*: who may connect, and with which certificate we answer."""

    def __init__(self, app: Starlette, rules: Rules, **options: Any) -> None:
        super().__init__(app, http=Protocol, **options)
        self.rules = rules
        self.load()
        web = rules.web()
        if web is not None and web.context is not None:
            self.ssl = Renewed(self._context)

    def _context(self) -> ssl.SSLContext:
        web = self.rules.web()
        assert web is not None
        assert web.context is not None, "a reading that turns TLS off is refused"
        return web.context


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn's own timeouts begin after the first response, and neither it nor httptools limits a head, which is kept in
    memory until it ends, or how many requests come before the first is answered.
    """

    config: Config
    _deadline: asyncio.TimerHandle | None = None
    _whole = False  # nothing of a request is still to come
    _moved = False  # the parser has finished a part of the message
    _unfinished = 0  # bytes that have finished none
    _head = 0  # bytes of the head, and of the trailers after the body
    _in_body = False
    _hosts = 0
    _status = 400  # what to say of a request that can't be read
    _ended = False  # nothing further is read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._wait()
        web = self.config.rules.web()
        if web is not None and web.sans and not web.sans & names_of(transport.get_extra_info("peercert") or {}):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._whole = False
        parts = memoryview(data)
        for start in range(0, len(data), LARGEST_HEAD):
            if self._ended:
                return
            self._feed(parts[start : start + LARGEST_HEAD])
        if self._whole:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._whole, self._in_body, self._head, self._hosts = False, False, 0, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._moved = True
        self._count(len(name) + len(value) + 4)
        if not self._in_body:  # a trailer is no header: it comes after the decision what to answer
            self._hosts += name.lower() == b"host"
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._moved = self._in_body = True
        if self._hosts != 1 and not (self._hosts == 0 and self.parser.get_http_version() == "1.0"):
            raise ValueError("a request has one Host header")  # the parser's caller makes it a 400
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests before the first was answered")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = self._whole = True
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > LARGEST_HEAD:
            self._status = 431
            raise ValueError("the head is too large")

    def _feed(self, part: memoryview) -> None:
        self._moved = False
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade:  # answered as if it had not asked; what follows is no HTTP/1.1
            self._end_after_answers()
        except httptools.HttpParserError:
            self._refuse()
        self._unfinished = 0 if self._moved else self._unfinished + len(part)
        if self._unfinished > LARGEST_HEAD and not self._ended:
            self._status = 431
            self._refuse()

    @property
    def _owed(self) -> RequestResponseCycle | None:
        """The last request whose head we have read, where it is not answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _refuse(self) -> None:
        """Say why where the client waits for that and for nothing before it, and end the connection."""
        owed = self._owed
        if owed is not None and not owed.more_body:
            self._end_after_answers()  # to the requests before this one
            return
        self._ended = True
        if owed is not None and (self.pipeline or owed.response_started):
            self.transport.abort()
            return
        self.transport.write(STATUS_LINE[self._status] + _NO_BODY)
        self.transport.close()

    def _end_after_answers(self) -> None:
        self._ended = self._whole = True
        if (owed := self._owed) is None:
            self.transport.close()
        else:
            owed.keep_alive = False

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_DEADLINE, self._overdue)

    def _overdue(self) -> None:
        owed = self._owed
        if owed is not None and not owed.more_body:  # ours to answer; the client's next request can wait as long
            self._wait()
        else:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
