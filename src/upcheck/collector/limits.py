"""What one client may cost: how often it may ask, and how much, and how slowly, it may send."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits
_ROUNDING = 1e-9  # tokens: who has waited as long as told is let through
_ENCODINGS = ("identity", "gzip", "x-gzip", "deflate")


class RateLimit:
    """A token bucket for each client: *burst* at once, *rate* a second after that.

    The *clients* seen last are remembered; one that was forgotten begins with a full bucket. For one thread.
    """

    def __init__(
        self, rate: float, burst: float, *, clients: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not (rate > 0 and burst > 0 and clients > 0):
            raise ValueError(f"rate={rate}, burst={burst} and clients={clients} must be above 0")
        self._rate = rate
        self._burst = burst
        self._most = clients
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def take(self, client: str, cost: float = 1) -> float:
        """0 where *client* may go on, and *cost* is taken; else the seconds to wait, and nothing is taken.

        A cost above the burst is let through by a full bucket, which then owes the rest.
        """
        wait = self.wait(client, cost)
        if wait == 0:
            self._buckets[client] = (self._tokens(client) - cost, self._clock())
            self._buckets.move_to_end(client)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return wait

    def wait(self, client: str, cost: float = 1) -> float:
        """What `take` would say, taking nothing."""
        lacking = min(cost, self._burst) - self._tokens(client)
        return lacking / self._rate if lacking > _ROUNDING else 0.0

    def _tokens(self, client: str) -> float:
        tokens, when = self._buckets.get(client, (self._burst, 0.0))
        return min(self._burst, tokens + (self._clock() - when) * self._rate)


def client_of(scope: Mapping[str, Any]) -> str:
    """Whom an ASGI *scope* comes from: the address; of IPv6 the /64, because one machine has all of it."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ip_address(host)
    except ValueError:  # a Unix socket, a test
        return str(host)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


class BodyError(Exception):
    """A request's body that is not taken: *status* is the HTTP code to answer, the text a sentence for the client."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


async def read_body(request: Request, *, limit: int, deadline: float) -> bytes:
    """The body of *request*, decoded, of at most *limit* bytes as sent and as decoded, within *deadline* seconds.

    Raises BodyError: 400 corrupt or cut off, 408 too slow, 413 too large, 415 an encoding that is not known here.
    A larger Content-Length is refused before anything is read; a bomb is not expanded beyond *limit*.
    """
    decode = _decoder(request.headers.get("content-encoding", ""), limit)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise BodyError(413, f"the body is {length[:24]} bytes: at most {limit} are taken")
    try:
        async with asyncio.timeout(deadline):
            received = 0
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit:
                    raise BodyError(413, f"the body is longer than the {limit} bytes that are taken")
                decode.feed(chunk)
    except TimeoutError:
        raise BodyError(408, f"the body did not arrive within {deadline:g} s") from None
    except ClientDisconnect:
        raise BodyError(400, "the connection was closed before the body was whole") from None
    return decode.end()


def parsed(body: bytes) -> Any:
    """*body* as JSON; raises BodyError where it is none."""
    try:
        return json.loads(body)
    except RecursionError:
        raise BodyError(400, "the body is no JSON: nested too deeply") from None
    except ValueError as error:
        raise BodyError(400, f"the body is no JSON: {error}") from None


class _Plain:
    """A body as it stands."""

    def __init__(self) -> None:
        self.body = bytearray()

    def feed(self, chunk: bytes) -> None:
        self.body += chunk

    def end(self) -> bytes:
        return bytes(self.body)


class _Compressed(_Plain):
    """A body in gzip or deflate, expanded as it comes, up to *limit* bytes."""

    def __init__(self, encoding: str, limit: int) -> None:
        super().__init__()
        self._encoding = encoding
        self._limit = limit
        self._head = b""  # until there are two bytes: they tell zlib's format from raw deflate, and many send that
        self._stream: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> None:
        chunk, self._head = self._head + chunk, b""
        while chunk:
            if self._stream is None:
                if len(chunk) < 2:
                    self._head = chunk
                    return
                self._stream = zlib.decompressobj(self._format(chunk))
            chunk = self._expand(chunk, self._stream)

    def end(self) -> bytes:
        if self._head or self._stream is None or not self._stream.eof:
            raise BodyError(400, f"the body is not whole {self._encoding}: its end is missing")
        return super().end()

    def _expand(self, chunk: bytes, stream: zlib._Decompress) -> bytes:
        """Take in *chunk*; what belongs to a next gzip member."""
        if stream.eof:
            if self._encoding == "deflate":
                raise BodyError(400, "there are bytes after the end of the deflate body")
            self._stream = zlib.decompressobj(_GZIP)
            return self._expand(chunk, self._stream)
        try:
            self.body += stream.decompress(chunk, self._limit - len(self.body) + 1)
        except zlib.error as error:
            raise BodyError(400, f"the body is not {self._encoding}: {error}") from None
        if len(self.body) > self._limit:
            raise BodyError(413, f"the body decodes to more than the {self._limit} bytes that are taken")
        return stream.unused_data

    def _format(self, start: bytes) -> int:
        if self._encoding != "deflate":
            return _GZIP
        return _ZLIB if start[0] & 0x0F == 8 and (start[0] * 256 + start[1]) % 31 == 0 else _RAW


def _decoder(header: str, limit: int) -> _Plain:
    encoding = header.strip().lower() or "identity"
    if encoding not in _ENCODINGS:
        raise BodyError(415, "Content-Encoding: expected gzip, deflate or identity, and one of them only")
    return _Plain() if encoding == "identity" else _Compressed(encoding.removeprefix("x-"), limit)
