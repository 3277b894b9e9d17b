from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.conftest import ROOT, Serve, answer
from upcheck.probes import http
from upcheck.probes.http import Client
from upcheck.servers import free_port

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
    [drip(b"HTTP/1.1 200 OK\r\nX-A: "), silent],
    ids=["headers drip", "silence"],
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
        (drip(b""), "the answer is no HTTP, or broke off"),
        (lambda connection: connection.recv(1000), "the answer broke off: the server closed the connection"),
        (
            lambda connection: (
                connection.recv(1000),
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            ),
            "the answer broke off: end of response with 5 bytes missing",
        ),
    ],
    ids=["another protocol", "nothing but drops", "closes", "breaks off in the body"],
)
def test_what_is_no_answer_is_named(
    serve: Serve, told: Told, talk: Callable[[socket.socket], None], reason: str
) -> None:
    with client(told) as asker, pytest.raises(httpx.HTTPError):
        asker.get(serve(talk))
    assert told[0][1].startswith(reason)


def test_a_refused_connection_and_an_unknown_name(told: Told) -> None:
    port = free_port()
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
    with client(told) as asker, pytest.raises(httpx.ConnectTimeout, match="resolving the name"):
        asker.get("http://stuck.test/")
    assert time.monotonic() - began < 2.0


SECRET = answer(body="secret")


def tls_server(
    serve: Serve,
    certificate: trustme.LeafCert,
    talk: Callable[[socket.socket], None] = SECRET,
    configure: Callable[[ssl.SSLContext], None] = lambda context: None,
) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    configure(context)

    def secure(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            talk(secured)

    return serve(secure).replace("http://127.0.0.1", "https://localhost")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_tls_is_verified(serve: Serve, told: Told, authority: trustme.CA, trusted: str) -> None:
    url = tls_server(serve, authority.issue_cert("localhost"))
    with client(told, transport=http.Transport(trusted)) as asker:
        response = asker.get(url)
    assert response.text == "secret"
    assert response.extensions["certificate"].not_after > time.time()
    assert response.extensions["phases"]["tls"] > 0
    with client(told) as asker, pytest.raises(httpx.ConnectError) as caught:
        asker.get(url)
    assert told[1][1] == "certificate not accepted: unable to get local issuer certificate"
    failure = http.failure_of(caught.value)
    assert failure is not None
    assert failure.reason is http.Reason.CERTIFICATE_UNKNOWN_ISSUER
    with client(told, verify=False) as asker:
        assert asker.get(url).text == "secret"


def test_a_client_s_certificate_is_shown(serve: Serve, told: Told, authority: trustme.CA, trusted: str) -> None:
    shown: list[Any] = []

    def talk(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        shown.append(connection.getpeercert())
        answer(body="known")(connection)

    def demanding(context: ssl.SSLContext) -> None:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    own = Path(trusted).with_name("own.pem")
    authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(own))
    url = tls_server(serve, authority.issue_cert("localhost"), talk, demanding)
    with client(told, verify=trusted, cert=str(own)) as asker:
        assert asker.get(url).text == "known"
    assert "client.test" in str(shown[0])
    with client(told, verify=trusted) as asker, pytest.raises(httpx.TransportError):
        asker.get(url)


def test_http2_where_it_is_asked_for(serve: Serve, told: Told, authority: trustme.CA, trusted: str) -> None:
    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def talk(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        if connection.selected_alpn_protocol() != "h2":
            return answer(body="one")(connection)
        connection.recv(65536)
        # SETTINGS, its acknowledgement, HEADERS with the indexed `:status: 200`, DATA that ends the stream
        connection.sendall(frame(4, 0, 0) + frame(4, 1, 0) + frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"two"))
        connection.recv(65536)
        return None

    url = tls_server(
        serve, authority.issue_cert("localhost"), talk, lambda context: context.set_alpn_protocols(["h2", "http/1.1"])
    )
    with client(told, verify=trusted, http2=True) as asker:
        response = asker.get(url)
    assert (response.text, response.http_version, response.reason_phrase) == ("two", "HTTP/2", "OK")
    with client(told, verify=trusted) as asker:
        assert asker.get(url).http_version == "HTTP/1.1"


def test_tls_to_a_port_without_it_is_named(serve: Serve, told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.ConnectError):
        asker.get(serve(answer("400 Bad Request")).replace("http://", "https://"))
    assert told[0][1].startswith("no TLS is spoken there")


def test_a_certificate_for_another_host_is_named(serve: Serve, told: Told, authority: trustme.CA, trusted: str) -> None:
    url = tls_server(serve, authority.issue_cert("elsewhere.test"))
    with client(told, verify=trusted) as asker, pytest.raises(httpx.ConnectError):
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


# ---- httpx's own API holds ----


def hears(heard: list[str], status: str = "200 OK", *headers: str) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536).decode())
        body = "" if heard[-1].startswith("HEAD") else "ok"
        connection.sendall("\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 2", *headers, "", body]).encode())

    return talk


def test_what_httpx_offers_still_works(serve: Serve, told: Told) -> None:
    heard: list[str] = []
    hooked: list[int] = []
    url = serve(hears(heard, "200 Fine", "Set-Cookie: b=2", "X-Twice: 1", "X-Twice: 2"))
    with client(
        told,
        base_url=f"{url}/api",
        auth=("user", "word"),
        cookies={"a": "1"},
        headers={"X-Own": "mine"},
        event_hooks={"response": [lambda response: hooked.append(response.status_code)]},
    ) as asker:
        response = asker.post("/orders", json={"n": 1}, params={"page": "2"})
        asker.get("/next")
        with asker.stream("GET", "/lines") as streamed:
            assert list(streamed.iter_text()) == ["ok"]
    assert heard[0].startswith("POST /api/orders?page=2 HTTP/1.1\r\n")
    for line in ("Authorization: Basic dXNlcjp3b3Jk", "Cookie: a=1", "x-own: mine", "content-type: application/json"):
        assert line.lower() in heard[0].lower()
    assert heard[0].endswith('\r\n\r\n{"n":1}')
    assert heard[0].lower().count("\r\nhost:") == heard[0].lower().count("\r\ncontent-length:") == 1
    assert "accept-encoding: gzip, deflate, br\r\n" in heard[0].lower()
    assert "b=2" in heard[1]
    assert hooked == [200] * 3
    assert response.headers.get_list("x-twice") == ["1", "2"]
    assert (response.reason_phrase, response.http_version) == ("Fine", "HTTP/1.1")
    assert response.elapsed.total_seconds() > 0
    assert set(response.extensions["phases"]) == {"resolve", "connect", "tls", "processing", "transfer"}


def test_a_compressed_body_is_decoded_once(serve: Serve, told: Told) -> None:
    body = gzip.compress(b"hello")

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    with client(told) as asker:
        response = asker.get(serve(talk))
    assert (response.text, response.headers["content-encoding"]) == ("hello", "gzip")


def test_a_body_is_capped(serve: Serve, told: Told) -> None:
    with client(told, max_body=3) as asker, pytest.raises(httpx.RemoteProtocolError, match="a body of more than 3"):
        asker.get(serve(answer(body="four")))


def test_a_head_and_an_empty_post(serve: Serve, told: Told) -> None:
    heard: list[str] = []
    url = serve(hears(heard))
    with client(told) as asker:
        assert asker.head(url).content == b""
        assert asker.post(url).text == "ok"
        assert asker.delete(url).text == "ok"
    assert [one.partition(" ")[0] for one in heard] == ["HEAD", "POST", "DELETE"]
    assert "content-length: 0\r\n" in heard[1].lower()


def test_a_shorter_timeout_of_one_request_is_its_deadline(serve: Serve, told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.ReadTimeout, match=r"within 0\.2 s"):
        asker.get(serve(silent), timeout=0.2)


def test_credentials_of_a_client_stay_with_their_origin(serve: Serve, told: Told) -> None:
    heard: list[str] = []
    other = serve(hears(heard, "302 Found", "Set-Cookie: own=1", "Location: /last"))
    hop = serve(hears(heard, "302 Found", f"Location: {other}/"))
    options: dict[str, Any] = {"cookies": {"id": "sesame"}, "headers": {"X-Api-Key": "sesame"}, "max_redirects": 2}
    with client(told, **options) as asker, pytest.raises(httpx.TooManyRedirects):
        asker.get(hop, headers={"Authorization": "sesame"}, follow_redirects=True)
    assert [one.count("sesame") for one in heard] == [3, 0, 0]
    assert "own=1" in heard[2]


def test_a_redirect_to_a_link_local_address_is_refused(serve: Serve, told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.RemoteProtocolError, match="is a link-local address"):
        asker.get(serve(answer("302 Found", "", "Location: http://169.254.169.254/x")), follow_redirects=True)


def test_a_proxy_is_used_where_it_is_given(serve: Serve, told: Told) -> None:
    heard: list[str] = []
    proxy = serve(hears(heard)).replace("//", "//user:word@")
    with client(told, proxy=proxy) as asker:
        assert asker.get("http://never-resolved.test/a").text == "ok"
    assert heard[0].startswith("GET http://never-resolved.test/a HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in heard[0]
    port = free_port()
    with (
        client(told, proxy=f"http://127.0.0.1:{port}") as asker,
        pytest.raises(httpx.ProxyError, match="does not answer"),
    ):
        asker.get("http://never-resolved.test/a")


def test_a_proxy_that_refuses_a_tunnel(serve: Serve, told: Told) -> None:
    with client(told, proxy=serve(answer("403 Forbidden"))) as asker, pytest.raises(httpx.ProxyError, match="403"):
        asker.get("https://never-resolved.test/a")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"verify": ssl.create_default_context()}, "give verify= the path of a PEM file"),
        ({"limits": httpx.Limits()}, "knows no limits"),
        ({"mounts": {}}, "knows no mounts"),
        ({"transport": http.Transport(), "proxy": "http://x"}, "the transport that is given has options of its own"),
    ],
)
def test_what_libcurl_has_not_is_said(told: Told, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        client(told, **options)


def test_a_control_character_is_refused(told: Told) -> None:
    with client(told) as asker, pytest.raises(httpx.LocalProtocolError, match="X-A has a control character"):
        asker.get("http://127.0.0.1:1/", headers={"X-A": "b\r\nEvil: 1"})


def async_client(told: Told, **options: Any) -> http.AsyncClient:
    return http.AsyncClient(deadline=0.6, observer=lambda asked, got: told.append((asked, got)), **options)


def test_many_at_once_in_one_loop(serve: Serve, told: Told) -> None:
    url = serve(answer(body="fine"))

    async def ask() -> list[str]:
        async with async_client(told, base_url=url) as asker:
            return [one.text for one in await asyncio.gather(*(asker.get("/x") for _ in range(50)))]

    for _ in range(2):  # the thread behind it outlives a loop
        assert asyncio.run(ask()) == ["fine"] * 50
    assert told[0][0] == f"GET {url}/x"
    assert told[0][1].startswith("200 OK in ")


def test_an_async_request_keeps_its_deadline(serve: Serve, told: Told) -> None:
    async def ask() -> None:
        async with async_client(told) as asker:
            await asker.get(serve(silent))

    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout, match=r"no complete answer within 0\.6 s \(waiting for the answer"):
        asyncio.run(ask())
    assert time.monotonic() - began < 2
    assert told[0][1].startswith("no complete answer")


def test_one_that_is_cancelled_harms_no_other(serve: Serve, told: Told) -> None:
    good, bad = serve(answer(body="fine")), serve(silent)

    async def ask() -> str:
        async with async_client(told) as asker:
            task = asyncio.create_task(asker.get(bad))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.sleep(0.8)  # past its deadline
            return (await asker.get(good)).text

    assert asyncio.run(ask()) == "fine"


def test_who_needs_no_httpx_does_not_import_it() -> None:
    code = "import sys; from upcheck.probes.http import fetch, Multi; sys.exit(repr({'httpx'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert told.stderr == "set()\n"


def test_the_page_names_every_reason_and_phase() -> None:
    page = (ROOT / "docs/http.md").read_text() + (ROOT / "docs/probes/README.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert named == {str(one) for one in http.Reason} | {str(one) for one in http.Phase}
    ours = set(re.findall(r"^\| `(\w+)` \| ours: ", page, re.MULTILINE))
    assert ours == {str(one) for one in http.Reason if one.ours}
