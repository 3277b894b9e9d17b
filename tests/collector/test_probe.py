"""GET /probe, held against Debian's real blackbox_exporter: the same file, the same targets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.rcode
import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.collector.test_application import inside
from tests.conftest import ROOT, Serve, answer
from tests.databases.servers import listens
from tests.probes.conftest import place, says
from tests.probes.test_dns import Server, coded, records
from tests.waiting import eventually
from upcheck import tools
from upcheck.collector import Collector
from upcheck.servers import free_port
from upcheck.settings import Settings, SettingsError

LOOPBACK = "127.0.0.0/8 ::1"
V4 = {"preferred_ip_protocol": "ip4"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return authority, folder


def config(folder: Path) -> dict[str, object]:
    tls = {"ca_file": str(folder / "ca.pem")}
    question = {"query_name": "shop.test", "query_type": "A", **V4}
    return {
        "http": {"prober": "http", "timeout": "3s", "http": V4},
        "http_tls": {"prober": "http", "timeout": "3s", "http": {**V4, "tls_config": tls}},
        "http_body": {"prober": "http", "http": {**V4, "fail_if_body_not_matches_regexp": ["welcome"]}},
        "http_header": {
            "prober": "http",
            "http": {**V4, "fail_if_header_not_matches": [{"header": "X-A", "regexp": "b"}]},
        },
        "http_status": {"prober": "http", "http": {**V4, "valid_status_codes": [503]}},
        "http_needs_tls": {"prober": "http", "http": {**V4, "fail_if_not_ssl": True}},
        "tcp": {"prober": "tcp", "tcp": V4},
        "tcp_default": {"prober": "tcp"},
        "tcp_banner": {"prober": "tcp", "tcp": {**V4, "query_response": [{"expect": "^220 (.*)$", "send": "HI ${1}"}]}},
        "tls": {"prober": "tcp", "tcp": {**V4, "tls": True, "tls_config": tls}},
        "tls_any": {"prober": "tcp", "tcp": {**V4, "tls": True, "tls_config": {"insecure_skip_verify": True}}},
        "tls_unknown": {"prober": "tcp", "tcp": {**V4, "tls": True}},
        "dns": {"prober": "dns", "dns": question},
        "dns_soa": {"prober": "dns", "dns": {**question, "query_type": "SOA"}},
        "dns_not": {
            "prober": "dns",
            "dns": {**question, "validate_answer_rrs": {"fail_if_not_matches_regexp": ["192.0.2.1$"]}},
        },
        "dns_all": {
            "prober": "dns",
            "dns": {**question, "validate_answer_rrs": {"fail_if_all_match_regexp": ["192.0.2.1$"]}},
        },
        "icmp": {"prober": "icmp", "icmp": V4},
        "grpc": {"prober": "grpc", "grpc": V4},
        "grpc_bad": {"prober": "grpc", "grpc": {**V4, "service": "bad"}},
        "grpc_none": {"prober": "grpc", "grpc": {**V4, "service": "nobody"}},
    }


@pytest.fixture(scope="module")
def modules(certificates: tuple[trustme.CA, Path]) -> Path:
    file = certificates[1] / "blackbox.yml"
    file.write_text(json.dumps({"modules": config(certificates[1])}))
    return file


@pytest.fixture(scope="module")
def exporter(modules: Path) -> Iterator[str]:
    """The URL of the real exporter's /probe."""
    path = tools.ensure(["blackbox_exporter"], Settings.load(ROOT))["blackbox_exporter"].path
    port = free_port()
    where = f"127.0.0.1:{port}"
    argv = [str(path), f"--config.file={modules}", f"--web.listen-address={where}", "--log.level=error"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: listens(port))
            yield f"http://{where}/probe"
        finally:
            process.terminate()


@pytest.fixture
def targets(serve: Serve, certificates: tuple[trustme.CA, Path]) -> Iterator[dict[str, str]]:
    """Loopback servers of every kind, by name."""
    authority, _ = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "also.test").configure_cert(context)
    page = answer("200 OK", "hello", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "X-A: b")

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            page(inner)

    def moved(connection: socket.socket) -> None:
        heard = connection.recv(65536)
        where = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" if b"/there" in heard else where)

    names = [
        Server(records("A 192.0.2.1", "A 192.0.2.2")),
        Server(coded(dns.rcode.SERVFAIL)),
        Server(records("SOA n.x. h.x. 77 1 2 3 4")),
    ]
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("bad", health_pb2.HealthCheckResponse.NOT_SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield {
        "page": place(serve(page)),
        "busy": place(serve(answer("503 Service Unavailable", "no"))),
        "moved": place(serve(moved)),
        "secure": place(serve(secured)).replace("127.0.0.1", "localhost"),
        "banner": place(serve(says(b"220 mail\r\n", then=0.2))),
        "names": names[0].where,
        "failing": names[1].where,
        "soa": names[2].where,
        "grpc": f"127.0.0.1:{port}",
        "shut": f"127.0.0.1:{free_port()}",
        "host": "127.0.0.1",
        "nowhere": "no-such-name.invalid:80",
    }
    server.stop(None).wait()
    for one in names:
        one.close()


def fetched(asked: urllib.request.Request) -> str:
    with urllib.request.urlopen(asked) as told:
        return str(told.read().decode())


def samples(page: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^([a-z][^ ]*(?:\{.*\})?) (\S+)$", page, re.MULTILINE)}


def heads(page: str) -> set[str]:
    return {line for line in page.splitlines() if line.startswith("#")}


CASES = [
    ("http", "page"), ("http", "busy"), ("http", "moved"), ("http", "shut"), ("http", "nowhere"),
    ("http_tls", "https://secure"), ("http_body", "page"), ("http_header", "page"), ("http_header", "busy"),
    ("http_status", "busy"), ("http_status", "page"), ("http_needs_tls", "page"),
    ("tcp", "banner"), ("tcp", "shut"), ("tcp", "nowhere"), ("tcp_default", "page"), ("tcp_banner", "banner"),
    ("tls", "secure"), ("tls_any", "secure"), ("tls_unknown", "secure"), ("tls", "banner"),
    ("dns", "names"), ("dns", "failing"), ("dns", "shut"), ("dns", "nowhere"), ("dns_soa", "soa"),
    ("dns_not", "names"), ("dns_all", "names"), ("icmp", "host"), ("icmp", "nowhere"),
    ("grpc", "grpc"), ("grpc_bad", "grpc"), ("grpc_none", "grpc"), ("grpc", "shut"),
]  # fmt: skip


def test_the_same_series_and_values_as_the_exporter(exporter: str, modules: Path, targets: dict[str, str]) -> None:
    collector = Collector(probes=modules, probe_networks=LOOPBACK)
    differences: list[object] = []

    async def ask(client: httpx.AsyncClient) -> None:
        for module, target in CASES:
            scheme, _, name = target.rpartition("//")
            where = f"{scheme}//{targets[name]}" if scheme else targets[name]
            where = where.partition(":")[0] if module == "icmp" else where
            query = urllib.parse.urlencode({"module": module, "target": where})
            headers = {"X-Prometheus-Scrape-Timeout-Seconds": "3"}
            asked = urllib.request.Request(f"{exporter}?{query}", headers=headers)
            theirs = await asyncio.to_thread(fetched, asked)
            told = await client.get(f"/probe?{query}", headers=headers)
            assert (told.status_code, told.headers["content-type"].partition(";")[0]) == (200, "text/plain")
            ours = told.text
            expected, got = samples(theirs), samples(ours)
            vague = {one for one in expected if re.search("duration|lookup_time", one)}
            if set(expected) != set(got):
                differences.append((module, target, set(expected) ^ set(got)))
            unlike = {
                one: (expected[one], got.get(one)) for one in expected.keys() - vague if expected[one] != got.get(one)
            }
            if unlike:
                differences.append((module, target, unlike))
            if heads(theirs) != heads(ours):
                differences.append((module, target, heads(theirs) ^ heads(ours)))

    inside(collector, ask)
    assert differences == []


def asking(collector: Collector, ask: Callable[[httpx.AsyncClient], object]) -> None:
    async def session(client: httpx.AsyncClient) -> None:
        await ask(client)  # type: ignore[misc]

    inside(collector, session)


def test_what_is_asked_wrongly(modules: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for query, code, words in (
            ("module=nobody&target=x", 400, "Unknown module 'nobody'"),
            ("module=tcp", 400, "Target parameter is missing"),
            ("module=tcp&target=no-port", 400, "expected a host and a port"),
            ("module=http&target=ftp://x", 400, "expected http:// or https://"),
        ):
            told = await client.get(f"/probe?{query}")
            assert (told.status_code, words in told.text) == (code, True), told.text
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "soon"}
        assert (await client.get("/probe?module=tcp&target=x:1", headers=headers)).status_code == 400

    asking(Collector(probes=modules, probe_networks=LOOPBACK), ask)


def test_without_a_file_nothing_is_asked(tmp_path: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        told = await client.get("/probe?module=tcp&target=127.0.0.1:1")
        assert told.status_code == 404
        assert "[tool.upcheck] probes" in told.text

    asking(Collector(probes=tmp_path / "none.yml"), ask)


def test_the_scrape_s_timeout_is_honoured(serve: Serve, modules: Path) -> None:
    where = place(serve(says(then=3)))

    async def ask(client: httpx.AsyncClient) -> None:
        began = time.monotonic()
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "0.9"}
        told = await client.get(f"/probe?module=tcp_banner&target={where}", headers=headers)
        assert "probe_success 0" in told.text
        assert time.monotonic() - began < 1.5

    asking(Collector(probes=modules, probe_networks=LOOPBACK), ask)


def test_debug_explains(targets: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "blackbox.yml"
    file.write_text("modules: {m: {prober: http, http: {bearer_token: sesame, valid_status_codes: [201]}}}")

    async def ask(client: httpx.AsyncClient) -> None:
        told = (await client.get(f"/probe?module=m&target={targets['page']}&debug=true")).text
        assert "asking GET http://127.0.0.1" in told
        assert "200 OK from 127.0.0.1, 5 bytes" in told
        assert "the status 200 is not accepted" in told
        assert "Probe failed: status" in told
        assert "probe_http_status_code 200" in told
        assert "valid_status_codes" in told
        assert "sesame" not in told

    asking(Collector(probes=file, probe_networks=LOOPBACK), ask)


def test_a_file_that_changes_is_read_again_and_a_broken_one_is_not(targets: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "blackbox.yml"
    file.write_text("modules: {one: {prober: tcp}}")
    collector = Collector(probes=file, probe_networks=LOOPBACK)

    async def ask(client: httpx.AsyncClient) -> None:
        async def code(module: str) -> int:
            return (await client.get(f"/probe?module={module}&target={targets['page']}")).status_code

        assert (await code("one"), await code("two")) == (200, 400)
        file.write_text("modules: {one: {prober: tcp}, two: {prober: tcp}}")
        await asyncio.sleep(1.1)
        assert await code("two") == 200
        file.write_text("modules: {one: {probr: tcp}}")
        await asyncio.sleep(1.1)
        assert (await code("one"), await code("two")) == (200, 200)

    asking(collector, ask)


def test_slow_probes_hold_up_nothing_else(serve: Serve, modules: Path) -> None:
    where = place(serve(says(then=2)))

    async def ask(client: httpx.AsyncClient) -> None:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "1.5"}
        slow = [
            asyncio.create_task(client.get(f"/probe?module=tcp_banner&target={where}", headers=headers))
            for _ in range(50)
        ]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert (await client.get("/live")).status_code == 200
        assert time.monotonic() - began < 0.5
        assert all("probe_success 0" in one.text for one in await asyncio.gather(*slow))

    asking(Collector(probes=modules, probe_networks=LOOPBACK), ask)
    assert threading.active_count() < 200


def test_networks_that_are_none_are_refused(modules: Path) -> None:
    with pytest.raises(SettingsError, match=r"probe_networks: .*expected networks such as 10\.0\.0\.0/8"):
        _ = Collector(probes=modules, probe_networks="10.0.0.1/8").app
