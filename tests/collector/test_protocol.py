"""Bytes as no client of ours would send them, over raw sockets: each is refused, bounded, or cut off."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.collector.test_access import TOKEN
from tests.collector.test_limits import highest
from tests.collector.test_serving import Running, running, script
from upcheck.collector.protocol import LARGEST_HEAD

OWN = """
import asyncio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from upcheck.collector import Collector, protocol

protocol.REQUEST_DEADLINE = 1.0
collector = Collector()

async def echo(request):
    body = await request.body()
    return JSONResponse({"headers": sorted(request.headers), "body": len(body), "path": request.url.path})

async def slow(request):
    await asyncio.sleep(1.5)
    return PlainTextResponse("slow")

collector.app.router.routes.append(Route("/echo", echo, methods=["GET", "POST"]))
collector.app.router.routes.append(Route("/slow", slow))
collector.serve()
"""
GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(script(tmp_path_factory.mktemp("own"), OWN)) as collector:
        yield collector
        assert httpx.get(f"{collector.url}/live").status_code == 200, "whatever was sent, it goes on"


def told(collector: Running, *sent: bytes) -> bytes:
    """All that comes back for *sent* until the connection is closed."""
    with socket.create_connection(collector.address, timeout=20) as client:
        got = b""
        with suppress(ConnectionError):
            for part in sent:
                client.sendall(part)
                time.sleep(0.02)
            while more := client.recv(65536):
                got += more
        return got


def codes(answers: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET + b"X: a\rb\r\n\r\n",
        GET + b"X: a\r\n folded\r\n\r\n",
        GET + b"X : a\r\n\r\n",
        GET + b"X\x01: a\r\n\r\n",
        GET + b": a\r\n\r\n",
        GET + b"no colon\r\n\r\n",
    ],
)
def test_garbage_is_a_400(collector: Running, sent: bytes) -> None:
    assert codes(told(collector, sent)) == [400]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5 5",
        b"Content-Length: 99999999999999999999999999",
    ],
)
def test_a_body_of_two_lengths_smuggles_nothing(collector: Running, head: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    assert codes(told(collector, POST + head + b"\r\n\r\n" + smuggled)) == [400]


@pytest.mark.parametrize(
    "body",
    [b"5;" + b"\n" + b"hello\r\n0\r\n\r\n", b"5\rhello", b"-5\r\nhello", b"fffffffffffffffff\r\n", b"5\r\nhelloX\r\n"],
)
def test_a_chunk_that_is_none_is_refused(collector: Running, body: bytes) -> None:
    assert codes(told(collector, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)) == [400]


def test_lines_that_end_in_lf_alone_are_not_two_requests(collector: Running) -> None:
    got = told(collector, b"GET /live HTTP/1.1\nHost: x\n\nGET /live HTTP/1.1\nHost: x\n\n")
    assert codes(got) == [400]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * LARGEST_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"X: " + b"a" * LARGEST_HEAD + b"\r\n\r\n",
        GET + b"".join(b"X%d: a\r\n" % number for number in range(4000)) + b"\r\n",
        GET + b"X: " + b"a" * (4 << 20),
        b"\r\n" * LARGEST_HEAD,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * (1 << 20),
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * (1 << 20),
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * LARGEST_HEAD,
    ],
    ids=["path", "one", "many", "endless", "blank", "extension", "trailer", "trailers"],
)
def test_a_head_without_end_is_a_431(collector: Running, head: bytes) -> None:
    assert codes(told(collector, *(head[start : start + 4096] for start in range(0, len(head), 4096)))) in ([431], [])
    assert codes(told(collector, head)) in ([431], []), "a client that still sends may see a reset instead"


def test_the_431_arrives_where_the_client_has_sent_all(collector: Running) -> None:
    assert codes(told(collector, GET + b"X: " + b"a" * LARGEST_HEAD + b"\r\n\r\n")) == [431]


def test_a_head_just_small_enough(collector: Running) -> None:
    got = told(collector, GET + b"Connection: close\r\nX: " + b"a" * (LARGEST_HEAD - 200) + b"\r\n\r\n")
    assert codes(got) == [200]


def test_a_trailer_is_no_header(collector: Running) -> None:
    got = told(
        collector,
        POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: a\r\n\r\n",
    )
    assert got.endswith(b'{"headers":["connection","host","transfer-encoding"],"body":3,"path":"/echo"}')


def test_requests_that_do_not_wait_are_answered_in_order(collector: Running) -> None:
    sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(20))
    got = told(collector, sent + GET.replace(b"echo", b"last") + b"Connection: close\r\n\r\n")
    assert re.findall(rb"GET /(\w+):", got) == [b"%d" % n for n in range(20)] + [b"last"]


def test_too_many_that_do_not_wait_are_not_kept(collector: Running) -> None:
    got = told(collector, (GET + b"\r\n") * 5000)
    assert codes(got) == [200] * 33, "the first, and those that may wait; then the end"


def test_garbage_after_a_request_is_not_taken_for_its_answer(collector: Running) -> None:
    got = told(collector, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n\0\0garbage\r\n\r\n")
    assert codes(got) == [200]
    assert got.endswith(b"slow")


def test_an_upgrade_is_not_taken_up(collector: Running) -> None:
    for upgrade in (b"h2c", b"websocket"):
        got = told(collector, GET + b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\n" + GET + b"\r\n")
        assert codes(got) == [200]
        assert b"connection: close" in got


def test_expect_100_continue(collector: Running) -> None:
    with socket.create_connection(collector.address, timeout=20) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        got = b""
        while more := client.recv(4096):
            got += more
        assert b'"body":3' in got


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b""),
        (GET, b"X"),
        (POST + b"Content-Length: 1000\r\n\r\n", b"X"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nX\r\n"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: a\r\n"),
        (GET + b"\r\n", b"\r\n"),
        (GET + b"\r\n", b"G"),
    ],
    ids=["silence", "head", "body", "chunks", "trailers", "blank lines", "next"],
)
def test_what_drips_is_cut_off(collector: Running, start: bytes, drop: bytes) -> None:
    with socket.create_connection(collector.address, timeout=20) as client:
        client.sendall(start)
        client.settimeout(0.1)
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 15:
                with suppress(TimeoutError):
                    if not client.recv(65536):
                        break
                client.sendall(drop)
        assert time.monotonic() - began < 10, "a request has 1 s here; what is dripped came for 15"


def test_an_answer_that_takes_longer_than_a_request_may_is_given(collector: Running) -> None:
    with socket.create_connection(collector.address, timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        client.sendall(b"\r\nGET /ech")
        answer = client.recv(4096)
        while not answer.endswith(b"slow") and (more := client.recv(4096)):  # head and body may come apart
            answer += more
        assert answer.endswith(b"slow")


def test_a_body_and_a_head_in_pieces(collector: Running) -> None:
    request = POST + b"Connection: close\r\nContent-Length: 40000\r\n\r\n" + bytes(40000)
    whole = told(collector, request)
    assert b'"body":40000' in whole
    assert b'"body":40000' in told(collector, request[:30], request[30:70], request[70:20000], request[20000:])


def test_http_1_0_needs_no_host(collector: Running) -> None:
    assert codes(told(collector, b"GET /live HTTP/1.0\r\n\r\n")) == [200]


def test_memory_is_bounded_under_heads_without_end(tmp_path: Path) -> None:
    with running(script(tmp_path, OWN)) as collector, ExitStack() as stack:
        before = highest(collector)
        for _ in range(200):
            client = stack.enter_context(socket.create_connection(collector.address, timeout=20))
            with suppress(ConnectionError):
                client.sendall(GET + b"X: " + b"a" * (LARGEST_HEAD // 2))
        for _ in range(20):
            told(collector, GET + b"X: " + b"a" * (8 << 20))
        assert highest(collector) - before < 16 << 20


def test_no_trick_of_the_path_opens_what_a_token_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    with running(script(tmp_path, OWN)) as collector:
        for path in (
            b"/metrics#/live",
            b"/metrics?/live",
            b"/live/../metrics",
            b"/%6detrics",
            b"/metrics;/live",
            b"/live%00",
        ):
            got = told(collector, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert codes(got) in ([401], [400]), path
