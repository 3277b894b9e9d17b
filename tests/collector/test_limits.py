"""What one client may cost: buckets by a clock moved by hand, bodies over real sockets, memory of a real process."""

from __future__ import annotations

import gzip
import random
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.collector.test_serving import Running, running, script
from upcheck.collector.limits import RateLimit, client_of

INGEST = """
from starlette.responses import JSONResponse
from starlette.routing import Route
from upcheck.collector import Collector
from upcheck.collector.limits import BodyError, read_body

collector = Collector()

async def ingest(request):
    try:
        body = await read_body(request, limit=65536, deadline=0.5)
    except BodyError as error:
        return JSONResponse({"error": str(error)}, error.status)
    return JSONResponse({"bytes": len(body), "sum": sum(body)})

collector.app.router.routes.append(Route("/ingest", ingest, methods=["POST"]))
collector.serve()
"""


class Hands:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_emptied_and_fills_again() -> None:
    clock = Hands()
    limit = RateLimit(2, 3, clock=clock)
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.take("b") == 0, "each client has its own"
    clock.now += 0.5
    assert limit.take("a") == 0
    assert limit.wait("a") == 0.5
    clock.now += 3600
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5], "never more than the burst"


def test_who_waits_as_long_as_told_is_let_through() -> None:
    clock = Hands()
    limit = RateLimit(3, 7, clock=clock)
    dice = random.Random(1)
    for _ in range(2000):
        cost = dice.uniform(0.01, 7)
        if wait := limit.take("a", cost):
            clock.now += wait
            assert limit.take("a", cost) == 0


def test_a_cost_above_the_burst_is_owed() -> None:
    clock = Hands()
    limit = RateLimit(1, 10, clock=clock)
    assert limit.take("a", 25) == 0
    assert limit.take("a") == 16
    clock.now += 16
    assert limit.take("a") == 0


def test_clients_are_forgotten_the_longest_unseen_first() -> None:
    limit = RateLimit(1, 1, clients=3, clock=Hands())
    for client in ("a", "b", "c"):
        limit.take(client)
    limit.take("d")
    assert [limit.wait(client) > 0 for client in "abcd"] == [False, True, True, True]
    for number in range(10_000):
        limit.take(str(number))
    assert len(limit._buckets) == 3


@pytest.mark.parametrize(("rate", "burst", "clients"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (float("nan"), 1, 1)])
def test_a_limit_of_nothing_is_refused(rate: float, burst: float, clients: int) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        RateLimit(rate, burst, clients=clients)


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_a_64(host: str, client: str) -> None:
    assert client_of({"client": (host, 1)}) == client
    assert client_of({"client": None}) == ""


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(script(tmp_path_factory.mktemp("ingest"), INGEST)) as collector:
        yield collector


def post(ingest: Running, body: bytes, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{ingest.url}/ingest", content=body, headers=sent, timeout=20)


BODY = bytes(range(256)) * 200
_raw = zlib.compressobj(wbits=-15)
BOMB = gzip.compress(bytes(60 << 20))  # 60 kB
RAW = _raw.compress(BODY) + _raw.flush()


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "two members", "zlib", "raw"],
)
def test_a_body_is_decoded(ingest: Running, encoding: str, sent: bytes) -> None:
    answer = post(ingest, sent, Content_Encoding=encoding)
    assert answer.json() == {"bytes": len(BODY), "sum": sum(BODY)}


@pytest.mark.parametrize(
    ("encoding", "sent", "status", "sentence"),
    [
        ("br", BODY, 415, "expected gzip, deflate or identity"),
        ("gzip, gzip", BODY, 415, "and one of them only"),
        ("gzip", BODY, 400, "the body is not gzip"),
        ("gzip", b"", 400, "the body is not whole gzip"),
        ("gzip", gzip.compress(BODY)[:-3], 400, "the body is not whole gzip: its end is missing"),
        ("gzip", gzip.compress(BODY) + b"more", 400, "the body is not gzip"),
        ("deflate", b"x", 400, "the body is not whole deflate"),
        ("deflate", zlib.compress(BODY) + b"more", 400, "after the end of the deflate body"),
        ("", bytes(65537), 413, "the body is 65537 bytes: at most 65536 are taken"),
        ("gzip", gzip.compress(bytes(65537)), 413, "decodes to more than the 65536 bytes"),
        ("gzip", BOMB, 413, "decodes to more than the 65536 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_body_that_is_not_taken(ingest: Running, encoding: str, sent: bytes, status: int, sentence: str) -> None:
    answer = post(ingest, sent, Content_Encoding=encoding)
    assert (answer.status_code, answer.json()["error"].count("\n")) == (status, 0)
    assert sentence in answer.json()["error"]


def test_a_chunked_body_is_counted_as_it_comes(ingest: Running) -> None:
    answer = httpx.post(f"{ingest.url}/ingest", content=iter([bytes(1024)] * 65), timeout=20)
    assert (answer.status_code, "longer than the 65536" in answer.text) == (413, True)
    answer = httpx.post(f"{ingest.url}/ingest", content=iter([bytes(1024)] * 64), timeout=20)
    assert answer.json()["bytes"] == 65536


def test_a_body_that_does_not_come_is_a_408(ingest: Running) -> None:
    with socket.create_connection(ingest.address) as client:
        client.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort")
        client.settimeout(20)
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_too_large_is_said_before_a_byte_of_it_is_sent(ingest: Running) -> None:
    with socket.create_connection(ingest.address) as client:
        client.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        client.settimeout(20)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_is_no_error_of_ours(tmp_path: Path) -> None:
    with running(script(tmp_path, INGEST)) as collector:
        with socket.create_connection(collector.address) as client:
            client.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort")
            time.sleep(0.1)
        time.sleep(0.2)
        collector.process.terminate()
        assert collector.ended(20) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory is told by Linux")
def test_memory_is_bounded_under_100_mb_posts_and_bombs(tmp_path: Path) -> None:
    with running(script(tmp_path, INGEST)) as collector:
        post(collector, BODY)
        before = highest(collector)

        def flood(head: bytes, piece: bytes) -> None:
            with suppress(OSError), socket.create_connection(collector.address, timeout=20) as client:
                client.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
                for _ in range(1600):
                    client.sendall(piece)

        piece = bytes(65536)
        chunk = b"10000\r\n" + piece + b"\r\n"
        floods = [(b"Content-Length: 104857600", piece), (b"Transfer-Encoding: chunked", chunk)] * 2
        threads = [threading.Thread(target=flood, args=one) for one in floods]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert post(collector, BOMB, Content_Encoding="gzip").status_code == 413
        for thread in threads:
            thread.join()
        assert highest(collector) - before < 16 << 20
        assert httpx.get(f"{collector.url}/live").status_code == 200


def highest(collector: Running) -> int:
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{collector.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
