"""Fake servers that can be good and bad, and both ways to ask."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import Serve
from tests.databases.servers import folder, give_away
from tests.faults.test_network import certificate_for
from upcheck.probes import ProbeResult, Reason, single
from upcheck.probes.multi import Multi

Talk = Callable[[socket.socket], None]
Ask = Callable[..., ProbeResult]


def by_multi(probe: Any, **options: Any) -> ProbeResult:
    told: list[ProbeResult] = []
    multi = Multi()
    try:
        multi.probe(probe, told.append, **options)
        ends = time.monotonic() + probe.deadline + 5
        while not told and time.monotonic() < ends:
            multi.poll(0.1)
        assert multi.in_flight == 0
    finally:
        multi.close()
    return told[0]


@pytest.fixture(params=[single.ask, by_multi], ids=["single", "multi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


def failed(result: ProbeResult, reason: Reason) -> ProbeResult:
    assert (result.success, result.reason) == (False, reason), result
    assert result.sentence
    return result


def held(result: ProbeResult) -> ProbeResult:
    assert result.success, result
    assert (result.reason, result.sentence) == (None, "")
    return result


def place(url: str) -> str:
    """`host:port` of what `serve` gives."""
    return url.removeprefix("http://")


def says(*parts: bytes, then: float = 0.0) -> Talk:
    """Sends *parts* at once, and holds the connection for *then* seconds."""

    def talk(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        time.sleep(then)

    return talk


def resets(*parts: bytes) -> Talk:
    """Sends *parts*, then breaks the connection off."""

    def talk(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return talk


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


Secure = Callable[..., ssl.SSLContext]


@pytest.fixture
def secure(authority: trustme.CA, tmp_path: Path) -> Secure:
    """A server's TLS with a certificate that is good, or bad in the way that *case* says."""

    def make(case: str = "good") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        configure = (
            authority.issue_cert("localhost", "127.0.0.1").configure_cert
            if case == "good"
            else certificate_for(case, authority, tmp_path)
        )
        configure(context)
        return context

    return make


class _Copier(ssl.SSLContext):
    """Keeps what it is told to load, for servers that want a file."""

    pem = b""

    def load_cert_chain(self, certfile: Any, *_: Any, **__: Any) -> None:
        self.pem = Path(certfile).read_bytes()


Certificates = Callable[[str], Path]


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Path) -> Iterator[Certificates]:
    """The path of a server's key and certificates, as *case* of `secure` says, where any server can read it."""
    with folder("certificates") as home:

        def make(case: str) -> Path:
            context = _Copier(ssl.PROTOCOL_TLS_SERVER)
            if case == "good":
                authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
            else:
                certificate_for(case, authority, tmp_path)(context)
            path = home / f"{case}.pem"
            path.write_bytes(context.pem)
            path.chmod(0o600)
            give_away(home)
            return path

        yield make


@pytest.fixture
def serve_tls(serve: Serve, secure: Secure) -> Callable[..., str]:
    """As `serve`, over TLS: `localhost:port`."""

    def start(talk: Talk = lambda _: None, case: str = "good") -> str:
        context = secure(case)

        def secured(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as inner:
                talk(inner)

        return place(serve(secured)).replace("127.0.0.1", "localhost")

    return start


BAD_CERTIFICATES = [
    ("expired", Reason.CERTIFICATE_EXPIRED, "certificate has expired"),
    ("not yet valid", Reason.CERTIFICATE_NOT_YET_VALID, "certificate is not yet valid"),
    ("wrong host", Reason.CERTIFICATE_WRONG_HOST, "Hostname mismatch, certificate is not valid for 'localhost'"),
    ("self-signed", Reason.CERTIFICATE_SELF_SIGNED, "self-signed certificate"),
    ("unknown issuer", Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate"),
    ("short chain", Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate"),
]


class BlackHole:
    """An address that neither accepts nor refuses: its queue of connections is full."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self.sockets = [socket.socket(family)]
        self.sockets[0].bind((host, 0))
        self.sockets[0].listen(0)
        self.port = self.sockets[0].getsockname()[1]
        for _ in range(4):
            waiting = socket.socket(family)
            self.sockets.append(waiting)
            waiting.setblocking(False)
            assert waiting.connect_ex((host, self.port)) in (0, errno.EINPROGRESS)
        time.sleep(0.1)

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.close()
