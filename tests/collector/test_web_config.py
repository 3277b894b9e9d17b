"""Prometheus' web configuration file: every key, over real TLS, and every mistake a sentence with its place."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import trustme

from tests.collector.test_access import BEARER, HASHED, TOKEN, USER, said
from tests.collector.test_serving import SHIPPED, Running, run, running
from tests.waiting import eventually
from upcheck.collector import web_config
from upcheck.collector.reloaded import FileError
from upcheck.collector.tls import _CIPHERS, _CURVES, names_of


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """With server.crt, server.key, client.pem, ca.crt, and client.crt of an authority nobody knows."""
    issue(authority, tmp_path, "127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    authority.issue_cert("scraper.example", "192.0.2.9").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "client.pem"
    )
    trustme.CA().issue_cert("scraper.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    return tmp_path


def issue(authority: trustme.CA, folder: Path, *names: str) -> None:
    made = authority.issue_cert(*names)
    made.private_key_pem.write_to_path(folder / "server.key")
    made.cert_chain_pems[0].write_to_path(folder / "server.crt")


def served(folder: Path, more: str = "") -> Path:
    file = folder / "web.yml"
    file.write_text(f"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{more}")
    return file


def trusting(folder: Path, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if client:
        context.load_cert_chain(folder / client)
    return context


def ask(collector: Running, context: ssl.SSLContext, **options: object) -> httpx.Response:
    return httpx.get(f"{collector.url}/live", verify=context, **options)  # type: ignore[arg-type]


def shaken(collector: Running, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection = socket.create_connection(collector.address, timeout=20)
    try:
        return context.wrap_socket(connection, server_hostname="127.0.0.1")
    except ssl.SSLError:
        connection.close()
        raise


def test_tls_with_paths_relative_to_the_file(folder: Path) -> None:
    with running(SHIPPED, "--web.config.file", str(served(folder))) as collector:
        assert collector.url.startswith("https://127.0.0.1:")
        assert ask(collector, trusting(folder)).json() == {"status": "alive"}
        with shaken(collector, trusting(folder)) as connection:
            assert connection.version() == "TLSv1.3"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(collector, ssl.create_default_context())
        assert b"200 OK" not in plain(collector)
        collector.process.terminate()
        assert collector.ended(20) == (0, "")


def plain(collector: Running) -> bytes:
    with socket.create_connection(collector.address, timeout=20) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return connection.recv(4096)
        except ConnectionError:
            return b""


def test_a_certificate_and_key_in_the_file_itself(folder: Path) -> None:
    lines = {
        name: "".join(f"    {line}\n" for line in (folder / f"server.{end}").read_text().splitlines())
        for name, end in (("cert", "crt"), ("key", "key"))
    }
    file = folder / "web.yml"
    text = f"tls_server_config:\n  cert: |\n{lines['cert']}  key: |\n{lines['key']}"
    file.write_text(
        text + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\n" + indented(folder / "ca.crt")
    )
    with running(SHIPPED, "--web-config", str(file)) as collector:
        assert ask(collector, trusting(folder, "client.pem")).status_code == 200


def indented(file: Path) -> str:
    return "".join(f"    {line}\n" for line in file.read_text().splitlines())


def refused(collector: Running, context: ssl.SSLContext) -> bool:
    """Whether no answer comes; TLS 1.3 tells a client that its certificate is not taken after the handshake only."""
    try:
        ask(collector, context)
    except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "without", "stranger"),
    [
        ("NoClientCert", True, True),
        ("RequestClientCert", True, True),
        ("VerifyClientCertIfGiven", True, False),
        ("RequireAndVerifyClientCert", False, False),
    ],
)
def test_certificates_of_clients(folder: Path, kind: str, without: bool, stranger: bool) -> None:
    ca = "" if kind == "NoClientCert" else "  client_ca_file: ca.crt\n"
    with running(SHIPPED, "--web-config", str(served(folder, f"  client_auth_type: {kind}\n{ca}"))) as collector:
        assert refused(collector, trusting(folder)) is not without
        assert refused(collector, trusting(folder, "stranger.pem")) is not stranger
        assert ask(collector, trusting(folder, "client.pem")).status_code == 200


@pytest.mark.parametrize(
    ("names", "let_in"),
    [("[other.example, scraper.example]", True), ("['192.0.2.9']", True), ("[other.example]", False)],
)
def test_names_of_clients(folder: Path, names: str, let_in: bool) -> None:
    more = f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: {names}\n"
    with running(SHIPPED, "--web-config", str(served(folder, more))) as collector:
        assert refused(collector, trusting(folder, "client.pem")) is not let_in


def test_names_are_spelled_as_go_does() -> None:
    names = (("DNS", "a"), ("IP Address", "0:0:0:0:0:0:0:1"), ("URI", "spiffe://b"), ("email", "c@d"), ("DirName", "e"))
    assert names_of({"subjectAltName": names}) == {"a", "::1", "spiffe://b", "c@d"}
    assert names_of({}) == set()


@pytest.mark.parametrize(
    ("more", "client", "agreed"),
    [
        ("  max_version: TLS12\n", {}, "TLSv1.2"),
        ("  min_version: TLS13\n", {"maximum_version": ssl.TLSVersion.TLSv1_2}, None),
        ("", {"maximum_version": ssl.TLSVersion.TLSv1_2}, "TLSv1.2"),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", {"maximum_version": ssl.TLSVersion.TLSv1_2}, None),
    ],
)
def test_versions(folder: Path, more: str, client: dict[str, ssl.TLSVersion], agreed: str | None) -> None:
    context = trusting(folder)
    for name, value in client.items():
        setattr(context, name, value)
    with running(SHIPPED, "--web-config", str(served(folder, more))) as collector:
        if agreed is None:
            with pytest.raises(ssl.SSLError):
                shaken(collector, context)
            return
        with shaken(collector, context) as connection:
            assert connection.version() == agreed


def test_cipher_suites_and_whose_order_counts(folder: Path) -> None:
    one, other = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    suites = f"  max_version: TLS12\n  cipher_suites: [{one}, {other}]\n"
    context = trusting(folder)
    context.set_ciphers(f"{_CIPHERS[other]}:{_CIPHERS[one]}")
    for more, chosen in (("", one), ("  prefer_server_cipher_suites: false\n", other)):
        with (
            running(SHIPPED, "--web-config", str(served(folder, suites + more))) as collector,
            shaken(collector, context) as connection,
        ):
            cipher = connection.cipher()
            assert cipher is not None
            assert cipher[0] == _CIPHERS[chosen]


@pytest.mark.skipif(not shutil.which("openssl"), reason="Python's ssl doesn't tell which curve was agreed on")
@pytest.mark.parametrize(("curve", "told"), [("CurveP384", "ECDH, secp384r1"), ("X25519", "X25519")])
def test_a_curve(folder: Path, curve: str, told: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(_CURVES[curve])
    except (ssl.SSLError, ValueError):  # Debian's Python 3.11.2 can't choose X25519
        with pytest.raises(FileError, match=f"curve_preferences: {curve} can't be chosen in this OpenSSL"):
            web_config.read(served(folder, f"  curve_preferences: [{curve}]\n"))
        return
    with running(SHIPPED, "--web-config", str(served(folder, f"  curve_preferences: [{curve}]\n"))) as collector:
        address = "{}:{}".format(*collector.address)
        command = ["openssl", "s_client", "-connect", address, "-CAfile", str(folder / "ca.crt")]
        ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
        assert f"Server Temp Key: {told}" in ended.stdout


def test_a_renewed_certificate_is_used_without_a_restart(folder: Path, authority: trustme.CA) -> None:
    def serial(collector: Running) -> object:
        with shaken(collector, trusting(folder)) as connection:
            certificate = connection.getpeercert()
            assert certificate
            return certificate["serialNumber"]

    with running(SHIPPED, "--web-config", str(served(folder))) as collector:
        first = serial(collector)
        with shaken(collector, trusting(folder)) as kept:
            trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(folder / "server.key")
            eventually(lambda: said_over_tls(collector, folder, "the key is not the certificate's"))
            assert serial(collector) == first, "a pair that is half renewed is not used"
            issue(authority, folder, "127.0.0.1")
            eventually(lambda: serial(collector) != first)
            kept.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(4096).startswith(b"HTTP/1.1 200 "), "what is open stays open"


def said_over_tls(collector: Running, folder: Path, words: str) -> bool:
    ask(collector, trusting(folder))
    return words in said(collector)


def test_a_new_authority_of_clients_takes_the_old_one_s_place(folder: Path) -> None:
    more = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.crt\n"
    shutil.copy(folder / "ca.crt", folder / "clients.crt")
    with running(SHIPPED, "--web-config", str(served(folder, more))) as collector:
        assert not refused(collector, trusting(folder, "client.pem"))
        trustme.CA().cert_pem.write_to_path(folder / "clients.crt")
        eventually(lambda: refused(collector, trusting(folder, "client.pem")))


def test_tls_is_not_turned_off_without_a_restart(folder: Path) -> None:
    file = served(folder)
    with running(SHIPPED, "--web-config", str(file)) as collector:
        file.write_text(f"basic_auth_users:\n  prom: {HASHED}\n")
        eventually(lambda: said_over_tls(collector, folder, "TLS can't be turned off without a restart; what was read"))
        assert ask(collector, trusting(folder)).status_code == 200


def test_headers_users_and_a_token_over_tls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    more = (
        "http_server_config:\n  http2: true\n  headers:\n"
        "    Strict-Transport-Security: max-age=31536000\n    X-Frame-Options: deny\n    Content-Security-Policy: ''\n"
        f"basic_auth_users:\n  prom: {HASHED}\n"
    )
    with running(SHIPPED, "--web-config", str(served(folder, more))) as collector:
        for options, code in (({}, 401), ({"auth": USER}, 200), ({"headers": BEARER}, 200)):
            answer = ask(collector, trusting(folder), **options)
            assert answer.status_code == code
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["x-frame-options"] == "deny"
            assert "content-security-policy" not in answer.headers


def test_a_rate_limit_is_of_all_clients_together(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("rate_limit:\n  interval: 1h0m0.5s\n  burst: 3\n")
    with running(SHIPPED, "--web-config", str(file)) as collector:
        answers = [httpx.get(f"{collector.url}/live") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) in (3600, 3601)


def test_a_handshake_that_never_ends_is_cut_off(folder: Path, tmp_path: Path) -> None:
    impatient = tmp_path / "collector.py"
    impatient.write_text(
        "from upcheck.collector import Collector, protocol\nprotocol.REQUEST_DEADLINE = 0.5\nCollector().serve()\n"
    )
    with (
        running(impatient, "--web-config", str(served(folder))) as collector,
        socket.create_connection(collector.address, timeout=20) as silent,
    ):
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert time.monotonic() - began < 15, "asyncio's own deadline is 60 s"


HTTP = "http_server_config:\n  "
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  "
SANS = "client_allowed_sans: [a]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "1:1: expected a mapping with tls_server_config, http_server_config"),
        ("a: [", "not YAML"),
        (
            "basic_auth_user: {}",
            "1:1: a web configuration has no key 'basic_auth_user'; did you mean 'basic_auth_users'?",
        ),
        ("http_server_config: 1", "1:1: http_server_config: expected a mapping"),
        (HTTP + "http3: true", "2:3: http_server_config has no key 'http3'; did you mean 'http2'?"),
        (HTTP + "http2: 'yes'", "2:3: http2: expected true or false"),
        (
            HTTP + "headers:\n    X-Powered-By: us",
            "3:5: header 'X-Powered-By' can't be set; valid: Content-Security-Policy",
        ),
        (HTTP + "headers:\n    X-Frame-Options: DENY", "3:5: X-Frame-Options: 'DENY': expected deny or sameorigin"),
        (HTTP + 'headers:\n    X-XSS-Protection: "a\\r\\nb"', "3:5: X-XSS-Protection: expected one line"),
        ("basic_auth_users:\n  me: hunter2", "2:3: the password of 'me': expected its bcrypt hash"),
        (f"basic_auth_users:\n  me: {HASHED[:-1]}", "2:3: the password of 'me': expected its bcrypt hash"),
        (f"basic_auth_users:\n  me: {HASHED.replace('$04$', '$99$')}", "2:3: the password of 'me'"),
        (f"basic_auth_users:\n  007: {HASHED}", "2:3: a user's name is text in quotes, without a colon"),
        (f"basic_auth_users:\n  'a:b': {HASHED}", "2:3: a user's name is text in quotes, without a colon"),
        ("rate_limit:\n  interval: 5\n  burst: 1", "2:3: interval: expected text"),
        ("rate_limit:\n  interval: soon\n  burst: 1", "2:3: interval: 'soon': expected a time such as 100ms"),
        ("rate_limit:\n  interval: 1s", "burst: expected 1 to 1000000"),
        ("tls_server_config:\n  cert_file: server.crt", "tls_server_config: key or key_file is missing"),
        ("tls_server_config:\n  key_file: server.key", "tls_server_config: cert or cert_file is missing"),
        (TLS + "cert: x", "cert and cert_file are both there: leave one out"),
        (
            TLS.replace("server.crt", "none.crt"),
            "2:3: cert_file: {folder}/none.crt can't be read: No such file or directory",
        ),
        (TLS.replace("server.key", "none.key"), "3:3: key_file: {folder}/none.key can't be read: No such file"),
        (TLS.replace("server.crt", "ca.crt"), "2:3: the key is not the certificate's: expected the two that were made"),
        (TLS.replace("server.crt", "web.yml"), "2:3: expected a certificate and its key, in PEM"),
        (TLS.replace("server.key", "locked.key"), "3:3: the key is encrypted: expected one without a password"),
        (TLS.replace("server.key", "binary"), "3:3: key_file: {folder}/binary is not PEM, which is text"),
        (
            TLS + "client_auth_type: RequireAnyClientCert",
            "4:3: client_auth_type: RequireAnyClientCert: Python's ssl takes no",
        ),
        (
            TLS + "client_auth_type: requireandverifyclientcert",
            "4:3: client_auth_type: 'requireandverifyclientcert' is not known",
        ),
        (TLS + "client_ca_file: ca.crt", "4:3: client_ca_file without a client_auth_type"),
        (
            TLS + "client_auth_type: VerifyClientCertIfGiven\n  client_ca: x",
            "5:3: client_ca: expected certificates in PEM",
        ),
        (TLS + SANS, "4:3: client_allowed_sans without client_auth_type: RequireAndVerifyClientCert"),
        (TLS + "min_version: TLS10", "4:3: min_version: TLS10 is not spoken here: expected TLS12 or TLS13"),
        (TLS + "max_version: TLS1.3", "4:3: max_version: 'TLS1.3' is no version; did you mean 'TLS13'?"),
        (
            TLS + "min_version: TLS13\n  max_version: TLS12",
            "4:3: min_version is above max_version: nobody could connect",
        ),
        (
            TLS + "cipher_suites: [ECDHE-RSA-AES128-SHA]",
            "4:3: cipher_suites: 'ECDHE-RSA-AES128-SHA' is not one of Go's",
        ),
        (TLS + "cipher_suites: TLS_AES_128_GCM_SHA256", "4:3: cipher_suites: expected a list of texts"),
        (TLS + "curve_preferences: [X25519, CurveP256]", "4:3: curve_preferences: Python's ssl takes one curve"),
        (TLS + "curve_preferences: [P256]", "4:3: curve_preferences: 'P256' is not known; did you mean 'CurveP256'?"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(folder: Path, text: str, sentence: str) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "locked.key").write_text(LOCKED)
    file = folder / "web.yml"
    file.write_text(text)
    with pytest.raises(FileError) as told:
        web_config.read(file)
    assert str(told.value).startswith(f"{file}:")
    assert sentence.replace("{folder}", str(folder)) in str(told.value)
    assert "\n" not in str(told.value)
    assert "hunter2" not in str(told.value)


LOCKED = """-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00000000000000000000000000000000

AAAAAAAAAAAAAAAAAAAAAA==
-----END RSA PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    "text", ["", "tls_server_config:\n", "http_server_config:\n  http2: false\n", "rate_limit: {interval: 0}"]
)
def test_a_file_that_asks_for_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "web.yml"
    file.write_text(text)
    assert web_config.read(file) == (web_config.WebConfig(headers=[]), (file,))


def test_no_secret_is_in_the_repr(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users:\n  prom: {HASHED}\n")
    assert HASHED not in repr(web_config.read(file))


def test_a_wrong_file_ends_the_start_with_code_2(tmp_path: Path) -> None:
    ended = run("--port", "0", "--web-config", str(tmp_path / "none.yml"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"collector: {tmp_path}/none.yml:1:1: can't be read: No such file or directory\n"
