"""httpx's transports over libcurl: each hop of a client's request is one exchange of ours."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import time
from dataclasses import dataclass, replace
from typing import Any

import httpx

from upcheck.probes.http import background
from upcheck.probes.http.exchange import MAX_BODY, Answer, HttpFailure, Reason, Request
from upcheck.probes.http.journey import is_bound
from upcheck.probes.http.url import RequestError, Target, is_link_local

TRIP = "upcheck.trip"  # the extension of a request that carries its Trip
ANSWERED = "upcheck.answered"  # that of one which is answered already
MAX_HOPS = 1024  # requests that are kept, to be asked again
DEADLINE = 10.0  # seconds, for what comes from a client that is not ours
_OWN = {"content-length", "transfer-encoding", "expect", "connection"}  # headers that libcurl writes itself
_ERRORS: dict[Reason, type[httpx.TransportError]] = {
    Reason.NAME_TIMEOUT: httpx.ConnectTimeout,
    Reason.RESOLVER_STUCK: httpx.ConnectTimeout,
    Reason.CONNECT_TIMEOUT: httpx.ConnectTimeout,
    Reason.TLS_TIMEOUT: httpx.ConnectTimeout,
    Reason.TIMEOUT: httpx.ReadTimeout,
    Reason.RESET: httpx.ReadError,
    Reason.PROXY_FAILED: httpx.ProxyError,
    **dict.fromkeys(
        (
            Reason.BROKEN_OFF,
            Reason.MALFORMED,
            Reason.BAD_ENCODING,
            Reason.BODY_TOO_LARGE,
            Reason.HEADERS_TOO_LARGE,
            Reason.REDIRECT_REFUSED,
            Reason.OTHER,
        ),
        httpx.RemoteProtocolError,
    ),
}


@dataclass(slots=True)
class Trip:
    """What the hops of one request share: it is over at the monotonic second *until*.

    *first* is what was asked first, *cookies* what it carried, *address* who answered it.
    """

    until: float
    first: Target | None = None
    cookies: frozenset[str] = frozenset()
    address: str = ""


def failure_of(error: BaseException) -> HttpFailure | None:
    """The HttpFailure, with its bounded reason, that one of httpx's errors was made from; None for another's."""
    found = error.__dict__.get("failure")
    return found if isinstance(found, HttpFailure) else None


class _Options:
    """The options of httpx's transports that libcurl has too."""

    def __init__(
        self,
        verify: bool | str | ssl.SSLContext = True,
        *,
        cert: str | tuple[str, ...] | None = None,
        http2: bool = False,
        proxy: httpx.Proxy | httpx.URL | str | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        if isinstance(verify, ssl.SSLContext):
            raise TypeError(
                "verify: an ssl.SSLContext is Python's, and libcurl can't use it: give verify= the path of a PEM file "
                "of the certificates to trust, and cert= the client's own"
            )
        pair = (cert,) if isinstance(cert, str) else cert or ()
        certificate, key, password = (*pair, None, None, None)[:3]
        # Made once to be checked before anything is asked, and to take the rest from.
        self._model = Request(
            "http://localhost/",
            verify=verify is not False,
            ca_file=os.fspath(verify) if not isinstance(verify, bool) else None,
            certificate=certificate,
            key=key,
            password=password,
            proxy=_proxy(proxy),
            http2=http2,
            max_body=max_body,
            follow_redirects=False,
        )
        self._hops: dict[tuple[object, ...], Request] = {}

    def hop(self, request: httpx.Request, body: bytes, trip: Trip) -> Request:
        """What *request* asks of us; raises httpx's LocalProtocolError where it can't be meant.

        Its deadline is the trip's, so that what is asked again and again is made once.
        """
        url, raw = str(request.url), request.headers.raw
        if trip.first is not None or body:
            return self._hop(request, url, raw, body, trip)
        key = (url, request.method, *raw)
        hop = self._hops.get(key)
        if hop is None:
            hop = self._hop(request, url, raw, body, trip)
            if len(self._hops) >= MAX_HOPS:
                self._hops.clear()
            self._hops[key] = hop
        return hop

    def _hop(
        self, request: httpx.Request, url: str, raw: list[tuple[bytes, bytes]], body: bytes, trip: Trip
    ) -> Request:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
        try:
            target = Target.of(url)
            if trip.first is not None and target.origin != trip.first.origin:
                headers = _without_credentials(headers, trip.cookies)
            return replace(
                self._model,
                url=target.url,
                method=request.method,
                headers=tuple([one for one in headers if one[0].lower() not in _OWN]),
                body=body,
                refuse_link_local=trip.first is not None and not is_link_local(trip.address),
            )
        except RequestError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from None


def _proxy(proxy: httpx.Proxy | httpx.URL | str | None) -> str | None:
    if not isinstance(proxy, httpx.Proxy):
        return str(proxy) if proxy is not None else None
    user, password = proxy.raw_auth or (b"", b"")
    url = proxy.url.copy_with(username=user.decode(), password=password.decode()) if user else proxy.url
    return str(url)


def _without_credentials(headers: list[tuple[str, str]], cookies: frozenset[str]) -> list[tuple[str, str]]:
    """*headers* for another origin: of the cookies, those that it may have set itself stay."""
    kept = []
    for name, value in headers:
        if name.lower() == "cookie":
            own = [one for one in value.split("; ") if one not in cookies]
            if own:
                kept.append((name, "; ".join(own)))
        elif name.lower() == "host" or not is_bound(name):
            kept.append((name, value))
    return kept


def _trip(request: httpx.Request) -> Trip:
    trip = request.extensions.get(TRIP)
    if isinstance(trip, Trip):
        return trip
    limits = request.extensions.get("timeout") or {}
    return Trip(time.monotonic() + (limits.get("read") or DEADLINE))


def _response(request: httpx.Request, answer: Answer, hop: Request, trip: Trip) -> httpx.Response:
    """The answer as httpx's own. Its body is decoded already, so httpx reads it before it hears of the headers."""
    if trip.first is None:
        trip.first = hop.target
        trip.cookies = frozenset(request.headers.get("cookie", "").split("; "))
        trip.address = answer.remote_address
    response = httpx.Response(
        answer.status,
        stream=httpx.ByteStream(answer.body),
        request=request,
        extensions={
            "http_version": answer.http_version.encode(),
            "reason_phrase": answer.reason_phrase.encode("latin-1"),
            "phases": answer.phases.rounded(),
            "certificate": answer.certificate,
            "remote_address": answer.remote_address,
        },
    )
    # As read() leaves it, at a tenth of the cost; a test holds httpx to it.
    response._content, response._num_bytes_downloaded = answer.body, len(answer.body)
    response.is_closed = response.is_stream_consumed = True
    response.headers = httpx.Headers(_raw(answer.lines[1:]))
    response.elapsed = datetime.timedelta(seconds=answer.elapsed)
    return response


def _raw(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Headers in the bytes that came, which httpx finds the encoding of."""
    parts = [line.partition(b":") for line in lines]
    return [(name.strip(), value.strip()) for name, colon, value in parts if colon]


def _answered(request: httpx.Request) -> httpx.Response:
    response: httpx.Response = request.extensions.pop(ANSWERED)
    return response


def _raised(request: httpx.Request, failure: HttpFailure) -> httpx.TransportError:
    error = _ERRORS.get(failure.reason, httpx.ConnectError)(str(failure), request=request)
    error.__dict__["failure"] = failure
    return error


class Transport(_Options, httpx.BaseTransport):
    """httpx's transport over a thread that all of a process share. Its options are those of httpx.HTTPTransport."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one hop, read whole."""
        if ANSWERED in request.extensions:
            return _answered(request)
        trip = _trip(request)
        hop = self.hop(request, request.read(), trip)
        try:
            answer = background.ask(hop, trip.until)
        except HttpFailure as failure:
            raise _raised(request, failure) from None
        return _response(request, answer, hop, trip)


class AsyncTransport(_Options, httpx.AsyncBaseTransport):
    """As `Transport`, for `await`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one hop, read whole. What is cancelled goes on unheard until its deadline."""
        if ANSWERED in request.extensions:
            return _answered(request)
        trip = _trip(request)
        hop = self.hop(request, await request.aread(), trip)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer | HttpFailure] = loop.create_future()

        def done(outcome: Answer | HttpFailure) -> None:
            try:
                loop.call_soon_threadsafe(_settle, future, outcome)
            except RuntimeError:
                return  # the loop that asked is closed: nobody is left to tell

        background.submit(hop, done, trip.until)
        left = max(0.0, trip.until - time.monotonic()) + background.GRACE
        late = loop.call_later(left, lambda: _settle(future, background.stuck()))
        try:
            outcome = await future
        finally:
            late.cancel()
        if isinstance(outcome, HttpFailure):
            raise _raised(request, outcome) from None
        return _response(request, outcome, hop, trip)


def _settle(future: asyncio.Future[Any], outcome: Answer | HttpFailure) -> None:
    if not future.done():
        future.set_result(outcome)
