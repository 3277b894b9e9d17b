from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from upcheck.blackbox import modules, page
from upcheck.blackbox.http import HttpProbe
from upcheck.documents import DocumentError
from upcheck.probes import ProbeResult
from upcheck.probes.dns import Dns
from upcheck.probes.tcp import Tcp


def load(folder: Path, text: str) -> dict[str, modules.Module]:
    (folder / "blackbox.yml").write_text(text)
    return modules.load(folder / "blackbox.yml")


def test_the_file_that_ships() -> None:
    assert {"http_2xx", "tcp_connect", "icmp", "grpc"} <= set(modules.load(ROOT / "monitoring/exporters/blackbox.yml"))


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("{prober: htpt}", "blackbox.yml:1:23: prober: expected http, tcp, dns, icmp or grpc, not 'htpt'"),
        ("{timeout: 5s}", "lacks 'prober'"),
        ("{prober: http, http: {metod: GET}}", "unknown key 'metod'; did you mean 'method'?"),
        ("{prober: http, http: {oauth2: {}}}", "unknown key 'oauth2'"),
        ("{prober: http, timeout: soon}", "timeout: expected a duration such as"),
        ("{prober: dns}", "lacks 'dns'"),
        ("{prober: dns, dns: {}}", "lacks 'query_name'"),
        ("{prober: dns, dns: {query_name: a, query_type: MXX}}", "no question for DNS"),
        ("{prober: tcp, tcp: {query_response: [{expect: '('}]}}", "'(' is no regular expression"),
        ("{prober: tcp, tcp: {tls_config: {min_version: SSL3}}}", "min_version: expected TLS10, TLS11"),
        ("{prober: http, http: {body_size_limit: lots}}", "body_size_limit: 'lots': expected a size such as 10MB"),
        ("{prober: http, http: {fail_if_body_matches_regexp: ['(']}}", "'(' is no regular expression"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, module: str, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, f"modules: {{m: {module}}}")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("timeout", "scrape", "deadline"),
    [("5s", None, 5), ("5s", 3.0, 2.5), (None, 10.0, 9.5), (None, None, 119.5), ("1m", 10.0, 9.5), ("5s", 0.2, 5)],
)
def test_how_long_a_probe_may_take(tmp_path: Path, timeout: str | None, scrape: float | None, deadline: float) -> None:
    more = f", timeout: {timeout}" if timeout else ""
    assert load(tmp_path, f"modules: {{m: {{prober: tcp{more}}}}}")["m"].deadline(scrape) == deadline


def made(folder: Path, module: str, target: str = "localhost:1", hostname: str | None = None) -> Any:
    return load(folder, f"modules: {{m: {module}}}")["m"].probe(target, 3.0, hostname)


def test_what_is_made_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame\n")
    http = """{prober: http, http: {method: POST, body: 'a=b', headers: {X-A: b}, no_follow_redirects: true,
        basic_auth: {username: u, password_file: secret}, body_size_limit: 10KB, tls_config: {ca_file: ca.pem}}}"""
    probe = made(tmp_path, http, "shop.test/x")
    assert isinstance(probe, HttpProbe)
    request = probe.request
    assert (request.url, request.method, request.body) == ("http://shop.test/x", "POST", b"a=b")
    assert (request.max_body, request.follow_redirects, request.ip_protocol) == (10_000, False, "ip6")
    assert request.ca_file == str(tmp_path / "ca.pem")
    assert ("Authorization", "Basic dTpzZXNhbWU=") in request.headers
    tcp = made(tmp_path, "{prober: tcp, tcp: {tls: true, tls_config: {insecure_skip_verify: true}}}", hostname="a.test")
    assert isinstance(tcp, Tcp)
    assert (tcp.tls, tcp.trust.verify, tcp.trust.server_name) == (True, False, "a.test")
    dns = made(tmp_path, "{prober: dns, dns: {query_name: a.test, transport_protocol: tcp}}", "192.0.2.1")
    assert isinstance(dns, Dns)
    assert (dns.type, dns.protocol, dns.place.port if dns.place else 0) == ("ANY", "tcp", 53)


def test_a_hostname_goes_into_the_header_and_tls(tmp_path: Path) -> None:
    request = made(tmp_path, "{prober: http}", "https://192.0.2.1:8443/x", "shop.test").request
    assert request.url == "https://shop.test:8443/x"
    assert request.connect_to == "192.0.2.1"
    assert ("Host", "shop.test") in request.headers


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = "modules: {m: {prober: http, http: {bearer_token: sesame, headers: {Authorization: sesame, X-A: b}}}}"
    shown = load(tmp_path, text)["m"].shown()
    assert "sesame" not in shown
    assert "X-A: 'b'" in shown


def test_the_hash_of_an_address() -> None:
    assert page.fnv("127.0.0.1") == 3668918509  # as blackbox_exporter 0.23 says
    assert page.samples("tcp", ProbeResult(False, 0.1))["probe_ip_addr_hash"] == 0
