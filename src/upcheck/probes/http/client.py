"""httpx's own API under a deadline that nothing escapes.

httpx's timeouts bound each read, so a body that drips outlasts them: with `timeout=2` one took 11 s. Here one
deadline bounds the whole request, from resolving the name to the last byte, redirects included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from upcheck.probes import timeout_sentence
from upcheck.probes.http import exchange, shortcut
from upcheck.probes.http.exchange import MAX_REDIRECTS, Phase
from upcheck.probes.http.shortcut import Urls
from upcheck.probes.http.transport import ANSWERED, TRIP, AsyncTransport, Transport, Trip, failure_of
from upcheck.probes.http.url import redacted

Observer = Callable[[str, str], None]
_ACCEPT_ENCODING = "gzip, deflate, br"  # what libcurl decodes; httpx would offer what only it can
_TRANSPORT = ("verify", "cert", "http2", "proxy", "max_body")


class Client(httpx.Client):
    """An httpx.Client whose every request is answered in full within *deadline* seconds or raises TimeoutException.

    Each request opens a connection of its own, because a reused one would not notice that a target stopped
    accepting them. Proxy variables of the environment are not read; pass `proxy=` to use one.
    *observer* hears of each exchange: what was asked, and what came back. *transport* is a `Transport` to share;
    `verify=`, `cert=`, `http2=` and `proxy=` make one with these options; a body of more than *max_body* decoded
    bytes is an error.
    """

    def __init__(
        self,
        *,
        deadline: float,
        observer: Observer = lambda asked, got: None,
        transport: httpx.BaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.deadline = deadline
        self._observer = observer
        ours = _taken(options, transport)
        self._over = transport or Transport(**ours)
        self._encoding = options.get("default_encoding", "utf-8")
        super().__init__(transport=self._over, **_plain(options, deadline))
        self._urls = Urls(self.base_url)

    def another(self, *, deadline: float, observer: Observer) -> Client:
        """A client such as this one, which was never used, for another *deadline* and *observer*."""
        made = shortcut.another(self)
        made.deadline, made._observer, made.timeout = deadline, observer, httpx.Timeout(deadline)
        return made

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """As httpx.Client.build_request."""
        if self._urls.base is not self.base_url:
            self._urls = Urls(self.base_url)
        made = shortcut.request(self, self._urls, method, url, options)
        return made or super().build_request(method, url, **options)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As httpx.Client.send, within the deadline."""
        heard = _Exchange(request, self.deadline, self._observer)
        try:
            response = self._sent(request, options)
        except httpx.HTTPError as error:
            raise heard.failed(error) from None
        heard.answered(response)
        return response

    def _sent(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        if not isinstance(self._over, Transport) or not shortcut.is_ordinary(self, request, options):
            return super().send(request, **options)
        response = self._over.handle_request(request)
        if not shortcut.is_last(response):
            request.extensions[ANSWERED] = response  # for httpx to go on from there
            return super().send(request, **options)
        response.default_encoding = self._encoding
        return response


class AsyncClient(httpx.AsyncClient):
    """As `Client`, for `await`: httpx.AsyncClient over an `AsyncTransport`."""

    def __init__(
        self,
        *,
        deadline: float,
        observer: Observer = lambda asked, got: None,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.deadline = deadline
        self._observer = observer
        ours = _taken(options, transport)
        self._over = transport or AsyncTransport(**ours)
        self._encoding = options.get("default_encoding", "utf-8")
        super().__init__(transport=self._over, **_plain(options, deadline))
        self._urls = Urls(self.base_url)

    def another(self, *, deadline: float, observer: Observer) -> AsyncClient:
        """A client such as this one, which was never used, for another *deadline* and *observer*."""
        made = shortcut.another(self)
        made.deadline, made._observer, made.timeout = deadline, observer, httpx.Timeout(deadline)
        return made

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """As httpx.AsyncClient.build_request."""
        if self._urls.base is not self.base_url:
            self._urls = Urls(self.base_url)
        made = shortcut.request(self, self._urls, method, url, options)
        return made or super().build_request(method, url, **options)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As httpx.AsyncClient.send, within the deadline."""
        heard = _Exchange(request, self.deadline, self._observer)
        try:
            response = await self._sent(request, options)
        except httpx.HTTPError as error:
            raise heard.failed(error) from None
        heard.answered(response)
        return response

    async def _sent(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        if not isinstance(self._over, AsyncTransport) or not shortcut.is_ordinary(self, request, options):
            return await super().send(request, **options)
        response = await self._over.handle_async_request(request)
        if not shortcut.is_last(response):
            request.extensions[ANSWERED] = response  # for httpx to go on from there
            return await super().send(request, **options)
        response.default_encoding = self._encoding
        return response


def _taken(options: dict[str, Any], transport: object) -> dict[str, Any]:
    """The transport's own options, taken out of *options*; raises TypeError where they would not be heard."""
    ours = {name: options.pop(name) for name in _TRANSPORT if name in options}
    if ours and transport is not None:
        raise TypeError(f"{', '.join(ours)}: the transport that is given has options of its own; give them to it")
    for name in ("limits", "http1", "mounts"):
        if name in options:
            raise TypeError(f"{name}: libcurl opens one connection for each request, and knows no {name}")
    return ours


def _plain(options: dict[str, Any], deadline: float) -> dict[str, Any]:
    headers = httpx.Headers(options.pop("headers", None))
    headers.setdefault("Accept-Encoding", _ACCEPT_ENCODING)
    options.setdefault("max_redirects", MAX_REDIRECTS)
    return {"trust_env": False, "timeout": httpx.Timeout(deadline), "headers": headers, **options}


class _Exchange:
    """One request of a client: its deadline, and what the observer hears of it."""

    def __init__(self, request: httpx.Request, deadline: float, observer: Observer) -> None:
        self._began = time.monotonic()
        # A shorter timeout of the request's own is a deadline too.
        asked = (request.extensions.get("timeout") or {}).get("read")
        self._deadline = deadline if asked is None else min(deadline, asked)
        self._request = request
        self._observer = observer
        self._asked = f"{request.method} {redacted(request.url)}"
        # An extension, because httpx hands those on to what a redirect leads to.
        request.extensions = {**request.extensions, TRIP: Trip(self._began + self._deadline)}

    def answered(self, response: httpx.Response) -> None:
        self._observer(self._asked, summary(response, time.monotonic() - self._began))

    def failed(self, error: httpx.HTTPError) -> httpx.HTTPError:
        """The error to raise, once the observer has heard of it."""
        failure = failure_of(error)
        if not isinstance(error, httpx.TimeoutException):
            self._observer(self._asked, explain(error))
            return error
        message = timeout_sentence(self._deadline, failure.phase if failure else Phase.PROCESSING, self._elapsed())
        if failure is not None and failure.reason.ours:
            message = str(failure)
        self._observer(self._asked, message)
        told = type(error)(f"{message}: {self._asked}", request=self._request)
        told.__dict__.update(failure=failure)
        return told

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def summary(response: httpx.Response, elapsed: float) -> str:
    """What came back, in a line: status, milliseconds, the first words of the body where it is not a success."""
    told = None if response.is_success or not response.is_stream_consumed else response.text
    return exchange.summary(response.status_code, response.reason_phrase, elapsed, told)


def explain(error: httpx.HTTPError) -> str:
    """Why there was no answer, in words that name the cause."""
    return str(error) or type(error).__name__
