"""What httpx's clients do at length for the sake of what is hardly ever asked of them, in short where it is not.

httpx parses the base URL anew and merges headers, cookies and parameters for each request, and looks for cookies,
credentials and hooks around each answer, which costs more than the asking. What is out of the ordinary is left to it.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import httpx

Some = TypeVar("Some", bound=httpx.Client | httpx.AsyncClient)
_BODILESS = {"GET", "HEAD"}  # the rest has at least a Content-Length, which httpx works out
_DEFAULT = httpx.USE_CLIENT_DEFAULT
_MAX_URLS = 1024
_log = logging.getLogger("httpx")


class Urls(dict[str, httpx.URL]):
    """What became of the URLs that a client was asked for, relative to its *base*."""

    def __init__(self, base: httpx.URL) -> None:
        super().__init__()
        self.base = base


def another(client: Some) -> Some:
    """A client such as *client*, which was never used, without the cost of making one.

    httpx's own state is copied by its kind, so that no name of httpx's is relied on. The transport is shared.
    """
    made = object.__new__(type(client))
    state = made.__dict__
    for name, value in client.__dict__.items():
        kind = type(value)
        if kind is httpx.Headers or kind is httpx.Cookies:
            state[name] = kind(value)
        elif kind is dict:
            state[name] = {key: list(one) if type(one) is list else one for key, one in value.items()}
        else:
            state[name] = value
    return made


def request(
    client: httpx.Client | httpx.AsyncClient, urls: Urls, method: str, url: httpx.URL | str, options: dict[str, Any]
) -> httpx.Request | None:
    """What client.build_request makes of this; None where that is to be found out by httpx."""
    if method not in _BODILESS or type(url) is not str or client.params or client.cookies:
        return None
    for name, value in options.items():
        if value is not None and not (name == "timeout" and value is _DEFAULT):
            return None
    headers = client.headers
    if "host" in headers:
        return None
    place = urls.get(url)
    if place is None:
        place = client.build_request(method, httpx.URL(url)).url
        if not place.host:
            return None
        if len(urls) >= _MAX_URLS:
            urls.clear()
        urls[url] = place
    made = httpx.Request(
        method,
        place,
        headers=[(b"Host", place.netloc), *headers.raw],
        stream=httpx.ByteStream(b""),
        extensions={"timeout": client.timeout.as_dict()},
    )
    made.read()
    return made


def is_ordinary(client: httpx.Client | httpx.AsyncClient, request: httpx.Request, options: dict[str, Any]) -> bool:
    """Whether all that httpx would do to send *request* is to hand it to its transport."""
    if client.is_closed or client.auth is not None or options.get("auth", _DEFAULT) is not _DEFAULT:
        return False
    if request.url.userinfo or type(request.stream) is not httpx.ByteStream:
        return False
    return not any(client.event_hooks.values()) and not _log.isEnabledFor(logging.INFO)


def is_last(response: httpx.Response) -> bool:
    """Whether nothing follows from *response*: neither a redirect nor a cookie."""
    if response.has_redirect_location:
        return False
    return all(name.lower() != b"set-cookie" for name, _ in response.headers.raw)
