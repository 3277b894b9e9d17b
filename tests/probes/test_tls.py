from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.conftest import Repo, Serve, answer
from tests.faults.test_network import days
from tests.probes.conftest import BAD_CERTIFICATES, Ask, Secure, Talk, failed, held, place, resets, says
from upcheck.probes import Reason
from upcheck.probes.tls import Tls

ServeTls = Callable[..., str]


def hears() -> Talk:
    """Reads what comes, and closes."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)

    return talk


def test_a_handshake_and_what_it_tells(serve: Serve, ask: Ask, authority: trustme.CA, trusted: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "also.test", not_after=days(30)).configure_cert(context)

    def talk(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    where = place(serve(talk)).replace("127.0.0.1", "localhost")
    result = held(ask(Tls(where, ca_file=trusted), log=True))
    assert result.certificate_expiry is not None
    assert abs(result.certificate_expiry - days(30).timestamp()) < 3600
    assert result.metrics["probe_ssl_last_chain_expiry_timestamp_seconds"] <= result.certificate_expiry
    assert result.metrics['probe_tls_version_info{version="TLS 1.3"}'] == 1
    assert result.metrics['probe_tls_cipher_info{cipher="TLS_AES_256_GCM_SHA384"}'] == 1
    (info,) = [name for name in result.metrics if name.startswith("probe_ssl_last_chain_info")]
    assert 'subjectalternative="localhost,also.test"' in info
    assert 0 < result.phases["tls"] <= result.duration
    assert any("issued by" in sentence for _, sentence in result.log)


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate_is_named_and_its_expiry_known(
    serve_tls: ServeTls, ask: Ask, trusted: str, case: str, reason: Reason, words: str
) -> None:
    where = serve_tls(case=case)
    result = failed(ask(Tls(where, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"
    assert result.certificate_expiry is not None
    held(ask(Tls(where, verify=False)))


def test_the_name_that_the_certificate_must_be_for(serve_tls: ServeTls, ask: Ask, trusted: str) -> None:
    where = serve_tls(case="wrong host")
    held(ask(Tls(where, ca_file=trusted, server_name="elsewhere.test")))


def test_an_address_in_the_certificate(serve_tls: ServeTls, ask: Ask, trusted: str) -> None:
    held(ask(Tls(serve_tls().replace("localhost", "127.0.0.1"), ca_file=trusted)))


@pytest.mark.parametrize(
    ("parts", "how", "reason", "words"),
    [
        ((), hears, Reason.TLS_FAILED, "closed the connection in the handshake"),
        ((b"220 mail\r\n",), says, Reason.TLS_NOT_SPOKEN, "no TLS is spoken there: wrong version number"),
        ((), resets, Reason.RESET, "Connection reset by peer, in the TLS handshake"),
    ],
    ids=["closed", "another protocol", "reset"],
)
def test_a_bad_server(
    serve: Serve, ask: Ask, parts: tuple[bytes, ...], how: Callable[..., object], reason: Reason, words: str
) -> None:
    where = place(serve(how(*parts)))  # type: ignore[arg-type]
    assert words in failed(ask(Tls(where, verify=False)), reason).sentence


def test_a_slow_handshake_is_bounded(serve: Serve, ask: Ask) -> None:
    began = time.monotonic()
    result = failed(ask(Tls(place(serve(says(then=3))), deadline=0.3, verify=False)), Reason.TLS_TIMEOUT)
    assert "(in the TLS handshake, given up after 0." in result.sentence
    assert time.monotonic() - began < 1.5


def test_no_version_in_common(serve: Serve, ask: Ask, secure: Secure, trusted: str) -> None:
    context = secure()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def talk(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    where = place(serve(talk)).replace("127.0.0.1", "localhost")
    failed(ask(Tls(where, ca_file=trusted, min_version="TLSv1.3")), Reason.TLS_FAILED)
    assert held(ask(Tls(where, ca_file=trusted))).metrics['probe_tls_version_info{version="TLS 1.2"}'] == 1


def test_a_client_s_certificate(
    serve: Serve,
    ask: Ask,
    secure: Secure,
    authority: trustme.CA,
    trusted: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    context = secure()
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a client is done before its certificate is judged
    own = tmp_path_factory.mktemp("own") / "client.pem"
    authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(own)

    def talk(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    where = place(serve(talk)).replace("127.0.0.1", "localhost")
    failed(ask(Tls(where, ca_file=trusted)), Reason.TLS_FAILED)
    held(ask(Tls(where, ca_file=trusted, certificate=str(own))))


def test_a_file_that_is_not_there_is_our_trouble(serve_tls: ServeTls, ask: Ask) -> None:
    result = failed(ask(Tls(serve_tls(), ca_file="/no/such.pem")), Reason.CERTIFICATE_FILE)
    assert "No such file" in result.sentence


def test_a_file_that_changes_is_read_again(
    serve_tls: ServeTls, ask: Ask, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("changing") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    where = serve_tls()
    failed(ask(Tls(where, ca_file=str(path))), Reason.CERTIFICATE_UNKNOWN_ISSUER)
    path.unlink()
    authority.cert_pem.write_to_path(path)
    held(ask(Tls(where, ca_file=str(path))))


def test_checks_trust_the_authorities_of_the_settings(repo: Repo, serve_tls: ServeTls, trusted: str) -> None:
    pages, own = serve_tls(answer(body="ok")), repo.path / "own.pem"
    repo.write("checks/a.yml", f"checks: [{{name: page, url: 'https://{pages}/'}}, {{name: it, tls: '{serve_tls()}'}}]")
    repo.pytest().assert_outcomes(failed=2)
    repo.write("pyproject.toml", '[tool.upcheck]\nca_file = "own.pem"\n')
    absent = repo.pytest()
    absent.assert_outcomes(failed=2)
    absent.stdout.fnmatch_lines([f"*not asked: a file of certificates can't be used: *{own}*"] * 2)
    absent.stdout.fnmatch_lines(["checks * 2 error *"])
    own.write_bytes(Path(trusted).read_bytes())
    repo.pytest().assert_outcomes(passed=2)
