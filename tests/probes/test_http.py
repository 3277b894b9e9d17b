from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trustme

from tests.conftest import Serve, answer
from upcheck.probes import http
from upcheck.probes.http import Client

Told = list[tuple[str, str]]


@pytest.fixture
def told() -> Told:
    return []


def client(told: Told, **options: Any) -> Client:
    return Client(deadline=0.6, observer=lambda asked, got: told.append((asked, got)), **options)


def drip(head: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in head + b"x" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return talk


def silent(connection: socket.socket) -> None:
    connection.recv(65536)
    time.sleep(5)


@pytest.mark.parametrize(
    "talk",
    [drip(b"HTTP/1.1 200 OK\r\n"), drip(b""), silent],
    ids=["headers drip", "nothing but drops", "silence"],
)
def test_nothing_outlasts_the_deadline(serve: Serve, told: Told, talk: Callable[[socket.socket], None]) -> None:
    url = serve(talk)
    began = time.monotonic()
    with client(told) as asker, pytest.raises(httpx.TimeoutException) as caught:
        asker.get(f"{url}/slow")
    assert time.monotonic() - began < 2.0  # httpx alone, with the same timeout, reads on for 50 s
    assert "no complete answer within 0.6 s (waiting for the answer" in str(caught.value)
    assert told[0][0] == f"GET {url}/slow"


def test_a_body_that_drips_is_bounded_too(serve: Serve, told: Told) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.05)

    with client(told) as asker, pytest.raises(httpx.ReadTimeout, match=r"within 0\.6 s"):
        asker.get(serve(talk))


def test_redirects_share_the_deadline(serve: Serve, told: Told) -> None:
    def talk(connection: socket.socket) -> None:
        time.sleep(0.25)
        answer("302 Found", "", "Location: /again")(connection)

    with client(told) as asker, pytest.raises(httpx.TimeoutException):
        asker.get(serve(talk), follow_redirects=True)


def test_a_redirect_loop_ends(serve: Serve, told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.TooManyRedirects):
        asker.get(serve(answer("302 Found", "", "Location: /")), follow_redirects=True)


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (
            lambda connection: (connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), connection.recv(1000)),
            "the answer is no HTTP, or broke off",
        ),
        (lambda connection: connection.recv(1000), "the answer is no HTTP, or broke off"),
        (
            lambda connection: (
                connection.recv(1000),
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            ),
            "the answer is no HTTP, or broke off",
        ),
    ],
    ids=["another protocol", "closes", "breaks off in the body"],
)
def test_what_is_no_answer_is_named(
    serve: Serve, told: Told, talk: Callable[[socket.socket], None], reason: str
) -> None:
    with client(told) as asker, pytest.raises(httpx.HTTPError):
        asker.get(serve(talk))
    assert told[0][1].startswith(reason)


def test_a_refused_connection_and_an_unknown_name(told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with client(told) as asker:
        for url in (f"http://127.0.0.1:{port}/", "http://no-such-host.invalid/", f"http://{'x' * 70}.invalid/"):
            with pytest.raises(httpx.ConnectError):
                asker.get(url)
    assert told[0][1] == "Connection refused"
    assert told[1][1].startswith("the name no-such-host.invalid does not resolve")
    assert "xxx.invalid does not resolve" in told[2][1]


def test_proxy_variables_are_not_read(serve: Serve, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with client(told) as asker:
        assert asker.get(serve(answer(body="direct"))).text == "direct"


def test_each_request_opens_a_connection_of_its_own(serve: Serve, told: Told) -> None:
    ports: list[int] = []

    def talk(connection: socket.socket) -> None:
        ports.append(connection.getpeername()[1])
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    url = serve(talk)
    with client(told) as asker:
        assert [asker.get(url).text for _ in range(3)] == ["ok"] * 3
    assert len(set(ports)) == 3


def test_an_address_that_refuses_leaves_the_others_to_try(
    serve: Serve, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve(answer(body="second"))
    port = httpx.URL(url).port
    # The resolver is not ours to configure: it is told what a name with two addresses would say.
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    resolve = socket.getaddrinfo

    def two(host: str, *rest: Any, **more: Any) -> Any:
        return entries if host == "two-addresses.test" else resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with client(told) as asker:
        assert asker.get(f"http://two-addresses.test:{port}/").text == "second"


def test_a_stuck_resolver_is_given_up(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:

    def stuck(*_: object, **__: object) -> list[Any]:
        time.sleep(3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", stuck)  # as above
    began = time.monotonic()
    with client(told) as asker, pytest.raises(httpx.ConnectTimeout, match="connecting"):
        asker.get("http://stuck.test/")
    assert time.monotonic() - began < 2.0


def tls_server(serve: Serve, certificate: trustme.LeafCert) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answer(body="secret")(secured)

    return serve(talk).replace("http://127.0.0.1", "https://localhost")


def test_tls_is_verified(serve: Serve, told: Told) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    url = tls_server(serve, authority.issue_cert("localhost"))
    with client(told, transport=http.Transport(trusting)) as asker:
        assert asker.get(url).text == "secret"
    with client(told) as asker, pytest.raises(httpx.ConnectError):
        asker.get(url)
    assert told[1][1] == "certificate not accepted: unable to get local issuer certificate"


def test_tls_to_a_port_without_it_is_named(serve: Serve, told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.ConnectError):
        asker.get(serve(answer("400 Bad Request")).replace("http://", "https://"))
    assert told[0][1].startswith("no TLS is spoken there")


def test_a_certificate_for_another_host_is_named(serve: Serve, told: Told) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    url = tls_server(serve, authority.issue_cert("elsewhere.test"))
    with client(told, transport=http.Transport(trusting)) as asker, pytest.raises(httpx.ConnectError):
        asker.get(url)
    assert told[0][1].startswith("certificate not accepted: Hostname mismatch")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:hunter2@host/a", "http://host/a"),
        ("http://host/?api_key=abc&page=2", "http://host/?api_key=redacted&page=2"),
        ("http://host/?page=2", "http://host/?page=2"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert http.redacted(httpx.URL(url)) == shown


def test_a_summary_shows_the_first_words_of_what_went_wrong(serve: Serve, told: Told) -> None:
    with client(told) as asker:
        asker.get(serve(answer("503 Service Unavailable", "upstream   connect\nerror")))
        asker.get(serve(answer(body="fine")))
    assert told[0][1].startswith("503 Service Unavailable in ")
    assert told[0][1].endswith('ms: "upstream connect error"')
    assert told[1][1].startswith("200 OK in ")
    assert "fine" not in told[1][1]
