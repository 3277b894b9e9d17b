"""FAULTS.md, "The network": each on real sockets of the loopback interface, by either way that asks."""

from __future__ import annotations

import contextlib
import datetime
import errno
import gzip
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Serve, answer
from upcheck.probes import resolver
from upcheck.probes.http import Answer, HttpFailure, Multi, Phase, Reason, Request, RequestError, fetch
from upcheck.servers import free_port

Talk = Callable[[socket.socket], None]
Outcome = Answer | HttpFailure
Ask = Callable[..., Outcome]
HEAD = b"HTTP/1.1 200 OK\r\n"


def by_fetch(request: Request) -> Outcome:
    try:
        return fetch(request)
    except HttpFailure as failure:
        return failure


def by_multi(request: Request) -> Outcome:
    told: list[Outcome] = []
    multi = Multi()
    try:
        multi.start(request, told.append)
        ends = time.monotonic() + request.deadline + 5
        while not told and time.monotonic() < ends:
            multi.poll(0.1)
        assert multi.in_flight == 0
    finally:
        multi.close()
    return told[0]


@pytest.fixture(params=[by_fetch, by_multi], ids=["fetch", "multi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Callable[[Request], Outcome] = request.param

    def one(url: str, **options: Any) -> Outcome:
        return way(Request(url, **{"deadline": 5.0, **options}))

    return one


def failed(outcome: Outcome, reason: Reason) -> HttpFailure:
    assert isinstance(outcome, HttpFailure), outcome
    assert (outcome.reason, str(outcome)) == (reason, str(outcome))
    return outcome


def answered(outcome: Outcome) -> Answer:
    assert isinstance(outcome, Answer), repr(outcome)
    return outcome


def says(*parts: bytes, pause: float = 0.0, then: float = 0.0) -> Talk:
    """Reads a request, then sends *parts* with a *pause* after each; holds the connection for *then* seconds."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        time.sleep(then)

    return talk


def endless(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1\r\nx\r\n")
        time.sleep(0.02)


# ---- deadlines ----


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (says(then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(HEAD, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(HEAD + b"Content-Length: 9\r\n\r\n", then=3), Reason.TIMEOUT, "reading the body"),
        (says(HEAD + b"Content-Length: 99\r\n\r\n", *[b"x"] * 60, pause=0.05), Reason.TIMEOUT, "reading the body"),
        (says(HEAD, *[b"X-A: b\r\n"] * 60, pause=0.05), Reason.TIMEOUT, "waiting for the answer"),
        (endless, Reason.TIMEOUT, "reading the body"),
    ],
    ids=["before headers", "in the headers", "after headers", "a body drips", "headers drip", "endless chunks"],
)
def test_nothing_outlasts_the_deadline(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    began = time.monotonic()
    failure = failed(ask(serve(talk), deadline=0.4), reason)
    assert time.monotonic() - began < 1.5
    assert str(failure) == f"no complete answer within 0.4 s ({words}, given up after 0.4 s)"
    assert 0.35 < failure.elapsed < 1.5


def test_a_slow_tls_handshake_is_bounded(serve: Serve, ask: Ask) -> None:
    url = serve(says(then=3)).replace("http:", "https:")
    failure = failed(ask(url, deadline=0.4), Reason.TLS_TIMEOUT)
    assert "in the TLS handshake" in str(failure)
    assert failure.phase is Phase.TLS


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that neither accepts nor refuses: its queue of connections is full."""
    with socket.socket(socket.AF_INET6) as listener, contextlib.ExitStack() as stack:
        listener.bind(("::1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            assert waiting.connect_ex(("::1", port)) in (0, errno.EINPROGRESS)
        time.sleep(0.1)
        yield "::1", port


def test_connecting_is_bounded(ask: Ask, black_hole: tuple[str, int]) -> None:
    failure = failed(ask(f"http://[::1]:{black_hole[1]}/", deadline=0.4), Reason.CONNECT_TIMEOUT)
    assert "(connecting, given up after" in str(failure)


def test_redirects_share_one_deadline(serve: Serve, ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        time.sleep(0.25)
        answer("302 Found", "", "Location: /again")(connection)

    began = time.monotonic()
    failed(ask(serve(talk), deadline=0.6), Reason.TIMEOUT)
    assert time.monotonic() - began < 1.5


# ---- names ----


def resolving(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], list[str]]) -> None:
    """The system's resolver is not ours to configure: what it would say of names below .test is said here."""
    system = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *rest: Any, **more: Any) -> Any:
        if not host.endswith(".test"):
            return system(host, port, *rest, **more)
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0))
            for one in told(host)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def gives_up(code: int, why: str) -> Callable[[str], list[str]]:
    def told(_: str) -> list[str]:
        raise socket.gaierror(code, why)

    return told


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (socket.EAI_NONAME, Reason.NAME_NOT_FOUND),
        (socket.EAI_AGAIN, Reason.NAME_SERVER_FAILED),
        (socket.EAI_FAIL, Reason.NAME_SERVER_FAILED),
        (socket.EAI_MEMORY, Reason.OWN_RESOURCES),
        (errno.EMFILE, Reason.OWN_RESOURCES),
    ],
)
def test_what_ails_a_name_is_told_apart(ask: Ask, monkeypatch: pytest.MonkeyPatch, code: int, reason: Reason) -> None:
    resolving(monkeypatch, gives_up(code, "the system's words"))
    failure = failed(ask("http://a.test/"), reason)
    assert "the system's words" in str(failure)
    assert failure.phase is Phase.RESOLVE


def test_stuck_names_do_not_eat_the_workers(serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    small = resolver.Resolver(threads=2, stuck_after=0.2)
    monkeypatch.setattr(resolver, "shared", lambda: small)

    def told(host: str) -> list[str]:
        if host.startswith("stuck"):
            released.wait(10)
        return ["127.0.0.1"]

    resolving(monkeypatch, told)
    try:
        port = serve(answer(body="fine")).rpartition(":")[2]
        first = failed(ask("http://stuck1.test/", deadline=0.3), Reason.NAME_TIMEOUT)
        assert "resolving the name" in str(first)
        assert answered(ask(f"http://good.test:{port}/")).body == b"fine"
        failed(ask("http://stuck2.test/", deadline=0.3), Reason.NAME_TIMEOUT)
        began = time.monotonic()
        failure = failed(ask(f"http://good.test:{port}/", deadline=5), Reason.RESOLVER_STUCK)
        assert time.monotonic() - began < 0.5
        assert failure.reason.ours
        assert answered(ask(f"http://127.0.0.1:{port}/")).body == b"fine"
        released.set()
        time.sleep(0.1)
        assert answered(ask(f"http://good.test:{port}/")).body == b"fine"
    finally:
        released.set()


def once(listener: socket.socket, body: str) -> None:
    """Answer one connection, in a thread."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            answer(body=body)(connection)

    threading.Thread(target=serve, daemon=True).start()


def test_a_black_hole_in_ipv6_falls_back(
    ask: Ask, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = black_hole[1]
    resolving(monkeypatch, lambda _: ["::1", "127.0.0.1"])
    with socket.create_server(("127.0.0.1", port)) as listener:
        once(listener, "v4")
        told = answered(ask(f"http://two.test:{port}/", deadline=2))
    assert (told.body, told.remote_address) == (b"v4", "127.0.0.1")
    assert told.elapsed < 1


def test_a_target_with_ipv6_only(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, lambda _: ["::1"])
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        for url in (f"http://six.test:{port}/", f"http://[::1]:{port}/"):
            once(listener, "v6")
            assert answered(ask(url)).remote_address == "::1"


def test_a_name_is_resolved_anew_each_time(serve: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    port = serve(answer(body="here")).rpartition(":")[2]
    known = ["127.0.0.1"]
    resolving(monkeypatch, lambda _: known)
    assert answered(ask(f"http://moves.test:{port}/")).body == b"here"
    known[:] = ["127.0.0.2"]
    failed(ask(f"http://moves.test:{port}/"), Reason.CONNECTION_REFUSED)


# ---- caps ----


def test_a_decompression_bomb_takes_no_memory(serve: Serve, ask: Ask) -> None:
    layer = gzip.compress(bytes(600 * 1024 * 1024), 1)
    bomb = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(layer) + layer
    url = serve(says(bomb))
    before = psutil.Process().memory_info().rss
    peak = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    failure = failed(ask(url, deadline=10), Reason.BODY_TOO_LARGE)
    over.set()
    watcher.join()
    assert peak[0] - before < 64 * 1024 * 1024
    assert str(failure) == "a body of more than 16,777,216 bytes once decoded: no more of it was read"
    assert failure.phase is Phase.TRANSFER


def test_a_compressed_body_is_decoded(serve: Serve, ask: Ask) -> None:
    body = gzip.compress(b"hello")
    url = serve(says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    assert answered(ask(url)).text == "hello"


def test_a_body_that_can_t_be_decoded_is_named(serve: Serve, ask: Ask) -> None:
    url = serve(says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"))
    failed(ask(url), Reason.BAD_ENCODING)


@pytest.mark.parametrize(
    "headers",
    [b"X-A: b\r\n" * 500, b"X-A: " + b"b" * 90_000 + b"\r\n", b"X-A: " + b"b" * 400_000 + b"\r\n"],
    ids=["hundreds", "long", "very long"],
)
def test_headers_are_capped(serve: Serve, ask: Ask, headers: bytes) -> None:
    failure = failed(ask(serve(says(HEAD + headers + b"Content-Length: 0\r\n\r\n"))), Reason.HEADERS_TOO_LARGE)
    assert "over 256, or over 64 KiB" in str(failure)


def test_a_body_of_the_greatest_size_is_read(serve: Serve, ask: Ask) -> None:
    url = serve(answer(body="x" * 1000))
    assert len(answered(ask(url, max_body=1000)).body) == 1000
    failed(ask(url, max_body=999), Reason.BODY_TOO_LARGE)


# ---- redirects ----


def test_a_redirect_loop_ends(serve: Serve, ask: Ask) -> None:
    count = [0]

    def talk(connection: socket.socket) -> None:
        count[0] += 1
        answer("302 Found", "", "Location: /")(connection)

    failure = failed(ask(serve(talk)), Reason.TOO_MANY_REDIRECTS)
    assert str(failure) == "more than 10 redirects, the last to /"
    assert count[0] == 11


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/", "http://a b/"])
def test_a_redirect_to_something_else_is_refused(serve: Serve, ask: Ask, location: str) -> None:
    failure = failed(ask(serve(answer("302 Found", "", f"Location: {location}"))), Reason.REDIRECT_REFUSED)
    assert "was not followed" in str(failure)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "metadata.test", "2852039166"]
)
def test_a_redirect_to_a_link_local_address_is_refused(
    serve: Serve, ask: Ask, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda _: ["169.254.169.254"])
    failure = failed(ask(serve(answer("302 Found", "", f"Location: http://{host}/latest"))), Reason.REDIRECT_REFUSED)
    assert "is a link-local address" in str(failure)


def test_credentials_stay_with_their_origin(serve: Serve, ask: Ask) -> None:
    heard: list[str] = []

    def listening(status: str, *headers: str) -> Talk:
        def talk(connection: socket.socket) -> None:
            heard.append(connection.recv(65536).decode().lower())
            lines = [f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]
            connection.sendall("\r\n".join(lines).encode())

        return talk

    other = serve(listening("200 OK"))
    hop = serve(listening("302 Found", f"Location: {other}/last"))
    secrets = (("Authorization", "Bearer sesame"), ("Cookie", "id=sesame"), ("X-Api-Key", "sesame"), ("X-Plain", "p"))
    answered(ask(f"{hop}/first", headers=secrets))
    assert heard[0].count("sesame") == 3
    assert "sesame" not in heard[1]
    assert "x-plain: p" in heard[1]
    heard.clear()
    answered(ask(f"{hop.replace('//', '//user:sesame@')}/first"))
    assert "authorization: basic" in heard[0]
    assert "authorization" not in heard[1]


def test_credentials_reach_a_redirect_on_the_same_origin(serve: Serve, ask: Ask) -> None:
    heard: list[str] = []

    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536).decode())
        first = b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(first if len(heard) == 1 else HEAD + b"Content-Length: 0\r\n\r\n")

    told = answered(ask(serve(talk).replace("//", "//user:sesame@") + "/a"))
    assert [("Authorization: Basic" in one) for one in heard] == [True, True]
    assert told.redirects == 1
    assert told.url.endswith("/b")


@pytest.mark.parametrize(
    ("status", "method", "body"), [("302 Found", "GET", ""), ("303 See Other", "GET", ""), ("307 T", "POST", "ab")]
)
def test_a_redirected_post(serve: Serve, ask: Ask, status: str, method: str, body: str) -> None:
    heard: list[str] = []

    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536).decode())
        where = f"HTTP/1.1 {status}\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".encode()
        connection.sendall(where if len(heard) == 1 else HEAD + b"Content-Length: 0\r\n\r\n")

    answered(ask(serve(talk), method="POST", body=b"ab"))
    assert heard[0].startswith("POST ")
    assert heard[1].startswith(f"{method} /b ")
    assert heard[1].partition("\r\n\r\n")[2] == body


# ---- what breaks off ----


def reset(after: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(after)
        time.sleep(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return talk


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (reset(HEAD + b"Content-Length: 100\r\n\r\nhalf"), Reason.RESET),
        (reset(b""), Reason.RESET),
        (says(HEAD + b"Content-Length: 100\r\n\r\nhalf"), Reason.BROKEN_OFF),
        (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"), Reason.BROKEN_OFF),
        (says(HEAD + b"X-A: "), Reason.BROKEN_OFF),
        (says(), Reason.BROKEN_OFF),
        (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), Reason.MALFORMED),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), Reason.MALFORMED),
        (says(HEAD + b"Content-Length: -5\r\n\r\n"), Reason.MALFORMED),
    ],
    ids=[
        "reset in the body",
        "reset",
        "short",
        "short chunk",
        "in the headers",
        "closed",
        "bad chunk",
        "no HTTP",
        "negative",
    ],
)
def test_what_breaks_off_never_passes(serve: Serve, ask: Ask, talk: Talk, reason: Reason) -> None:
    failed(ask(serve(talk)), reason)


def test_a_refused_connection(ask: Ask) -> None:
    port = free_port()
    assert str(failed(ask(f"http://127.0.0.1:{port}/"), Reason.CONNECTION_REFUSED)) == "Connection refused"


# ---- certificates ----


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def tls(serve: Serve, configure: Callable[[ssl.SSLContext], None]) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    configure(context)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            answer(body="secret")(secured)

    return serve(talk).replace("http://127.0.0.1", "https://localhost")


def days(count: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count)


def self_signed(folder: Path) -> Callable[[ssl.SSLContext], None]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(days(-1)).not_valid_after(days(9))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    signed = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "self.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return lambda context: context.load_cert_chain(path)


def certificate_for(case: str, authority: trustme.CA, folder: Path) -> Callable[[ssl.SSLContext], None]:
    if case == "self-signed":
        return self_signed(folder)
    if case == "unknown issuer":
        return trustme.CA().issue_cert("localhost").configure_cert
    if case == "short chain":
        leaf = authority.create_child_ca().issue_cert("localhost")
        path = folder / "short.pem"
        path.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
        return lambda context: context.load_cert_chain(path)
    if case == "expired":
        return authority.issue_cert("localhost", not_before=days(-9), not_after=days(-2)).configure_cert
    if case == "not yet valid":
        return authority.issue_cert("localhost", not_before=days(2), not_after=days(9)).configure_cert
    return authority.issue_cert("elsewhere.test").configure_cert


@pytest.mark.parametrize(
    ("case", "reason", "words", "left"),
    [
        ("expired", Reason.CERTIFICATE_EXPIRED, "certificate has expired", -2),
        ("not yet valid", Reason.CERTIFICATE_NOT_YET_VALID, "certificate is not yet valid", 9),
        ("wrong host", Reason.CERTIFICATE_WRONG_HOST, "Hostname mismatch, certificate is not valid for 'local", None),
        ("self-signed", Reason.CERTIFICATE_SELF_SIGNED, "self-signed certificate", 9),
        ("unknown issuer", Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate", None),
        ("short chain", Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate", None),
    ],
)
def test_a_bad_certificate_is_named_and_its_expiry_known(
    serve: Serve,
    ask: Ask,
    authority: trustme.CA,
    trusted: str,
    tmp_path: Path,
    case: str,
    reason: Reason,
    words: str,
    left: int | None,
) -> None:
    url = tls(serve, certificate_for(case, authority, tmp_path))
    failure = failed(ask(url, ca_file=trusted), reason)
    assert str(failure).startswith(f"certificate not accepted: {words}")
    assert failure.phase is Phase.TLS
    assert failure.certificate is not None
    if left is not None:
        assert abs(failure.certificate.not_after - days(left).timestamp()) < 3600
    assert answered(ask(url, verify=False)).body == b"secret"


def test_a_good_certificate(serve: Serve, ask: Ask, authority: trustme.CA, trusted: str) -> None:
    url = tls(serve, authority.issue_cert("localhost", not_after=days(30)).configure_cert)
    for _ in range(2):  # the second time, it is remembered
        told = answered(ask(url, ca_file=trusted))
        assert told.certificate is not None
        assert abs(told.certificate.not_after - days(30).timestamp()) < 3600
        assert told.phases.tls > 0
        assert told.elapsed >= told.phases.connect + told.phases.tls


def test_each_handshake_is_whole(serve: Serve, ask: Ask, authority: trustme.CA, trusted: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    resumed: list[bool | None] = []

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            resumed.append(secured.session_reused)
            answer(body="x")(secured)

    url = serve(talk).replace("http://127.0.0.1", "https://localhost")
    for _ in range(3):
        answered(ask(url, ca_file=trusted))
    assert resumed == [False] * 3


def test_no_tls_there_is_named(serve: Serve, ask: Ask) -> None:
    url = serve(answer("400 Bad Request")).replace("http:", "https:")
    assert str(failed(ask(url), Reason.TLS_NOT_SPOKEN)).startswith("no TLS is spoken there")


def test_a_file_of_certificates_that_is_not_there_is_our_trouble(serve: Serve, ask: Ask, tmp_path: Path) -> None:
    url = tls(serve, trustme.CA().issue_cert("localhost").configure_cert)
    failure = failed(ask(url, ca_file=str(tmp_path / "none.pem")), Reason.CERTIFICATE_FILE)
    assert failure.reason.ours


# ---- ourselves ----


def test_descriptors_exhausted_are_no_target_down(serve: Serve) -> None:
    url = serve(answer(body="fine"))
    code = """
        import os, resource, sys, threading
        sys.path[:0] = [sys.argv[2]]
        from tests.faults.test_network import by_fetch, by_multi
        from upcheck.probes.http import Request
        ready = by_fetch(Request(sys.argv[1])), by_multi(Request(sys.argv[1]))
        assert [one.status for one in ready] == [200, 200], ready
        from upcheck.probes.http import Multi
        multi, told = Multi(), []
        multi.start(Request(sys.argv[1]), told.append)
        while len(told) < 1:
            multi.poll(0.1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(2))
        except OSError:
            pass
        for where in (sys.argv[1], "http://no-such-name.invalid/"):
            multi.start(Request(where), told.append)
            while multi.in_flight:
                multi.poll(0.1)
            told.append(by_fetch(Request(where)))
        fresh = threading.Thread(target=lambda: told.append(by_fetch(Request(sys.argv[1]))))
        fresh.start()
        fresh.join()
        print([str(one.reason) for one in told[1:]])
        for one in held:
            os.close(one)
        print(by_fetch(Request(sys.argv[1])).status)
    """
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines()), url, root]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert told.stdout.splitlines() == [str(["own_resources"] * 5), "200"], told.stderr


def test_two_hundred_threads_at_once(serve: Serve) -> None:
    url = serve(answer(body="fine"))
    told: list[Outcome] = []
    together = threading.Barrier(200)

    def one() -> None:
        together.wait()
        told.append(by_fetch(Request(url, deadline=20)))

    threads = [threading.Thread(target=one) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answered(one).body for one in told] == [b"fine"] * 200


def test_hundreds_at_once_on_one_thread(serve: Serve) -> None:
    url = serve(answer(body="fine"))
    told: list[Outcome] = []
    multi = Multi()
    for _ in range(300):
        multi.start(Request(url), told.append)
    while multi.in_flight:
        multi.poll(1)
    multi.close()
    assert [answered(one).body for one in told] == [b"fine"] * 300


def test_one_that_raises_keeps_none_from_being_told(serve: Serve) -> None:
    url = serve(answer(body="fine"))
    told: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        told.append(outcome)
        if len(told) % 3 == 0:
            raise ValueError("from a done")

    multi = Multi()
    for _ in range(30):
        multi.start(Request(url), done)
    raised = 0
    while multi.in_flight:
        try:
            multi.poll(1)
        except ValueError:
            raised += 1
    multi.close()
    assert (len(told), raised) == (30, 10)


def test_a_wake_interrupts_a_poll() -> None:
    multi = Multi()
    began = time.monotonic()
    threading.Timer(0.1, multi.wake).start()
    multi.poll(10)
    assert time.monotonic() - began < 2
    multi.close()


def test_no_descriptor_is_left_behind(serve: Serve, ask: Ask) -> None:
    url = serve(answer(body="fine"))
    answered(ask(url))
    before = psutil.Process().num_fds()
    for _ in range(20):
        answered(ask(url))
        failed(ask(url, max_body=1), Reason.BODY_TOO_LARGE)
    after = psutil.Process().num_fds()
    assert after <= before + 4  # the server's own threads may not have closed theirs


# ---- what is refused, and what is not shown ----


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://127.0.0.1/a\r\nX-Evil: 1"},
        {"url": "http://127.0.0.1/\x00"},
        {"url": "http://good\\@evil/"},
        {"url": "http://127.0.0.1/", "headers": (("X-A", "b\r\nX-Evil: 1"),)},
        {"url": "http://127.0.0.1/", "headers": (("X A", "b"),)},
        {"url": "http://127.0.0.1/", "method": "GET /evil"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "http://a b/"},
    ],
)
def test_what_could_smuggle_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        Request(**options)
    assert "Evil" not in str(caught.value) or "which no URL may have" in str(caught.value)


def test_secrets_of_a_url_are_in_no_sentence(serve: Serve, ask: Ask) -> None:
    port = free_port()
    secret = f"user:sesame@127.0.0.1:{port}/?api_key=sesame#access=sesame"
    request = Request(f"http://{secret}")
    leads = serve(answer("302 Found", "", f"Location: http://{secret}"))
    outcomes = [ask(f"http://{secret}"), ask(leads), ask(leads, max_redirects=0), ask("http://a.invalid/?token=sesame")]
    for text in (repr(request), request.asked, *map(str, outcomes), *map(repr, outcomes)):
        assert "sesame" not in text
