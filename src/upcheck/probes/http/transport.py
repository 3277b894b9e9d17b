"""httpx's transports over libcurl: each hop of a client's request is one exchange of ours."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import httpx

from upcheck.probes.http.exchange import MAX_BODY, Answer, HttpFailure, Reason, Request
from upcheck.probes.http.journey import is_bound
from upcheck.probes.http.multi import Multi
from upcheck.probes.http.single import fetch
from upcheck.probes.http.url import RequestError, Target, is_link_local

TRIP = "upcheck.trip"  # the extension of a request that carries its Trip
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

    *first* is what was asked first, *cookies* what it carried, *link_local* whether its target is on this link only.
    """

    until: float
    first: Target | None = None
    cookies: frozenset[str] = frozenset()
    link_local: bool = False


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

    def hop(self, request: httpx.Request, body: bytes) -> Request:
        """What *request* asks of us; raises httpx's LocalProtocolError where it can't be meant."""
        trip = _trip(request)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        try:
            target = Target.of(str(request.url))
            if trip.first is not None and target.origin != trip.first.origin:
                headers = _without_credentials(headers, trip.cookies)
            return replace(
                self._model,
                url=target.url,
                method=request.method,
                headers=tuple([one for one in headers if one[0].lower() not in _OWN]),
                body=body,
                deadline=max(0.001, trip.until - time.monotonic()),
                refuse_link_local=trip.first is not None and not trip.link_local,
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


def _noted(request: httpx.Request, answer: Answer) -> None:
    trip = _trip(request)
    if trip.first is None:
        trip.first = Target.of(str(request.url))
        trip.cookies = frozenset(request.headers.get("cookie", "").split("; "))
        trip.link_local = is_link_local(answer.remote_address)


def _response(request: httpx.Request, answer: Answer) -> httpx.Response:
    """The answer as httpx's own. Its body is decoded already, so httpx meets it without Content-Encoding first."""
    _noted(request, answer)
    encoded = [(name, value) for name, value in answer.headers if name.lower() == "content-encoding"]
    plain = [one for one in answer.headers if one not in encoded]
    response = httpx.Response(
        answer.status,
        headers=plain,
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
    response.read()
    response.elapsed = datetime.timedelta(seconds=answer.elapsed)
    for name, value in encoded:
        response.headers[name] = value
    return response


def _raised(request: httpx.Request, failure: HttpFailure) -> httpx.TransportError:
    error = _ERRORS.get(failure.reason, httpx.ConnectError)(str(failure), request=request)
    error.__dict__["failure"] = failure
    return error


class Transport(_Options, httpx.BaseTransport):
    """httpx's transport over `fetch`, in the calling thread. Options as httpx.HTTPTransport's of the same names."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one hop, read whole."""
        hop = self.hop(request, request.read())
        try:
            answer = fetch(hop)
        except HttpFailure as failure:
            raise _raised(request, failure) from None
        return _response(request, answer)


class AsyncTransport(_Options, httpx.AsyncBaseTransport):
    """httpx's transport over a `Multi` that all of a process share, on a thread of its own."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one hop, read whole. What is cancelled goes on unheard until its deadline."""
        hop = self.hop(request, await request.aread())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer | HttpFailure] = loop.create_future()

        def done(outcome: Answer | HttpFailure) -> None:
            try:
                loop.call_soon_threadsafe(_settle, future, outcome)
            except RuntimeError:
                return  # the loop that asked is closed: nobody is left to tell

        _background().submit(hop, done)
        outcome = await future
        if isinstance(outcome, HttpFailure):
            raise _raised(request, outcome) from None
        return _response(request, outcome)


def _settle(future: asyncio.Future[Any], outcome: Answer | HttpFailure) -> None:
    if not future.done():
        future.set_result(outcome)


_running: list[Multi] = []
_starting = threading.Lock()


def _background() -> Multi:
    with _starting:
        if not _running:
            _running.append(Multi())
            threading.Thread(target=_run, args=(_running[0],), daemon=True, name="upcheck http").start()
        return _running[0]


def _run(multi: Multi) -> None:
    while True:
        multi.poll(60.0)


os.register_at_fork(after_in_child=_running.clear)  # threads do not survive a fork
