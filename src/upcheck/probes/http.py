"""HTTP: httpx's own API under a deadline that nothing escapes.

httpx's timeouts bound each read, so a body that drips outlasts them: with `timeout=2` one took 11 s. Here one
deadline bounds the whole request, from resolving the name to the last byte, redirects included.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import certifi
import httpcore
import httpx

MAX_REDIRECTS = 10
_SECRET = re.compile(r"(?i)(pass|secret|token|key|auth|sig|cred)")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_CERTIFICATE = re.compile(r"certificate verify failed: (.*?)\.? \(_ssl")
_TLS = re.compile(r"\[SSL: (\w+)\] (.*?) \(_ssl")
_deadline: ContextVar[float] = ContextVar("deadline")  # monotonic seconds

Observer = Callable[[str, str], None]


class Client(httpx.Client):
    """An httpx.Client whose every request is answered in full within *deadline* seconds or raises TimeoutException.

    Each request opens a connection of its own, because a reused one would not notice that a target stopped
    accepting them. Proxy variables of the environment are not read; pass `proxy=` to use one.
    *observer* hears of each exchange: what was asked, and what came back.
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
        options.setdefault("max_redirects", MAX_REDIRECTS)
        if "proxy" not in options:
            options["transport"] = transport or Transport()
        super().__init__(trust_env=False, timeout=httpx.Timeout(deadline), **options)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As httpx.Client.send, within the deadline."""
        began = time.monotonic()
        _deadline.set(began + self.deadline)
        asked = f"{request.method} {redacted(request.url)}"
        try:
            response = super().send(request, **options)
        except httpx.TimeoutException as error:
            elapsed = time.monotonic() - began
            message = f"no complete answer within {self.deadline:g} s ({_phase(error)}, given up after {elapsed:.1f} s)"
            self._observer(asked, message)
            raise type(error)(f"{message}: {asked}", request=request) from None
        except httpx.HTTPError as error:
            self._observer(asked, explain(error))
            raise
        self._observer(asked, summary(response, time.monotonic() - began))
        return response


def redacted(url: httpx.URL) -> str:
    """*url* without user, password, or the values of parameters whose names sound like secrets."""
    plain = url.copy_with(username="", password="") if url.userinfo else url
    if not any(_SECRET.search(name) for name in plain.params):
        return str(plain)
    kept = [(name, "redacted" if _SECRET.search(name) else value) for name, value in plain.params.multi_items()]
    return str(plain.copy_with(params=kept))


def summary(response: httpx.Response, elapsed: float) -> str:
    """What came back, in a line: status, milliseconds, the first words of the body where it is not a success."""
    line = f"{response.status_code} {response.reason_phrase} in {elapsed * 1000:.0f} ms"
    if not response.is_success and response.is_stream_consumed:
        line += f": {excerpt(response)}"
    return line


def excerpt(response: httpx.Response) -> str:
    """The first words of the body, in quotes, on one line."""
    words = " ".join(response.text[:400].split())
    return f'"{words[:100]}{"…" if len(words) > 100 else ""}"' if words else "(empty body)"


def explain(error: httpx.HTTPError) -> str:
    """Why there was no answer, in words that name the cause."""
    text = _ERRNO.sub("", str(error)) or type(error).__name__
    if refused := _CERTIFICATE.search(text):
        return f"certificate not accepted: {refused[1]}"
    if broken := _TLS.search(text):
        what = "no TLS is spoken there" if broken[1] == "WRONG_VERSION_NUMBER" else "TLS failed"
        return f"{what}: {broken[2]}"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the answer is no HTTP, or broke off: {text}"
    return text


def _phase(error: httpx.TimeoutException) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "connecting"
    return "sending" if isinstance(error, httpx.WriteTimeout) else "waiting for the answer"


class Transport(httpx.HTTPTransport):
    """httpx's transport over connections that keep to the deadline of the request they serve."""

    def __init__(self, verify: ssl.SSLContext | None = None) -> None:
        context = verify or ssl.create_default_context(cafile=certifi.where())
        super().__init__(verify=context, trust_env=False)
        # httpx gives no way to pass a network backend, httpcore does: the pool under the transport is ours.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=None, max_keepalive_connections=0, network_backend=_Backend()
        )


def _left(error: type[httpcore.TimeoutException]) -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise error("deadline")
    return left


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline decides
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(httpcore.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port)
        for others, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            # A black hole behind one address leaves its share of the time to the others.
            share = _left(httpcore.ConnectTimeout) / (others + 1)
            try:
                return _Stream(self._backend.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not others:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_unix_socket(path, _left(httpcore.ConnectTimeout), socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


def _resolve(host: str, port: int) -> list[str]:
    """The addresses of *host*, each once. getaddrinfo knows no timeout, so a stuck one is left to a daemon thread."""
    if _is_address(host):
        return [host]
    answer: list[Any] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.extend(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:  # the latter for a label of more than 63 letters
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True, name=f"resolve {host}")
    thread.start()
    thread.join(_left(httpcore.ConnectTimeout))
    if thread.is_alive():
        raise httpcore.ConnectTimeout(f"no address for {host} in time")
    if answer and isinstance(answer[0], Exception):
        why = getattr(answer[0], "strerror", None) or answer[0]
        raise httpcore.ConnectError(f"the name {host} does not resolve: {why}")
    return answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
