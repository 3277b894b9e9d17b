"""The ways around httpx and from thread to thread: what they rely on, and that nobody notices them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, answer
from upcheck.probes.http import AsyncClient, Client, Reason, Request, background, failure_of


def ignored(asked: str, got: str) -> None:
    """An observer."""


@pytest.fixture
def busy() -> Iterator[None]:
    """Somebody asks in a thread of its own, so that the next one has to ask the background."""
    alone = background._shared[0].alone
    with alone:
        yield


@pytest.mark.parametrize("base", ["http://a.test/sub", "http://u:p@a.test:81", "https://a.test"])
@pytest.mark.parametrize(
    ("method", "url", "options"),
    [
        ("GET", "/x", {}),
        ("GET", "x?y=1#z", {}),
        ("HEAD", "https://[::1]:8443/a b", {}),
        ("get", "/x", {}),
        ("POST", "/x", {"json": {"a": 1}}),
        ("POST", "/x", {}),
        ("GET", "/x", {"headers": {"Host": "b.test", "X-A": "1"}, "params": {"q": "2"}}),
        ("GET", "/x", {"timeout": 3.0, "extensions": {"a": 1}}),
        ("GET", httpx.URL("http://b.test/x"), {"content": b"body"}),
    ],
)
@pytest.mark.parametrize("more", [{}, {"headers": {"Host": "c.test"}}, {"params": {"p": "1"}}, {"cookies": {"k": "v"}}])
def test_a_request_is_the_one_that_httpx_makes(
    base: str, method: str, url: Any, options: dict[str, Any], more: dict[str, Any]
) -> None:
    accept = {"Accept-Encoding": "gzip, deflate, br"}
    theirs = httpx.Client(base_url=base, timeout=2.0, **{**more, "headers": {**more.get("headers", {}), **accept}})
    ours = Client(base_url=base, deadline=2.0, **more).another(deadline=2.0, observer=ignored)
    expected = theirs.build_request(method, url, **options)
    for _ in range(2):  # made, and remembered
        got = ours.build_request(method, url, **options)
        assert (got.method, str(got.url), got.read()) == (expected.method, str(expected.url), expected.read())
        assert sorted(got.headers.raw) == sorted(expected.headers.raw)
        assert got.extensions == expected.extensions


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_another_client_shares_nothing_that_changes(kind: type[Client] | type[AsyncClient]) -> None:
    model = kind(base_url="http://a.test", deadline=2.0, headers={"X-A": "1"}, cookies={"k": "v"})
    made = model.another(deadline=3.0, observer=ignored)
    assert made.deadline == 3.0
    assert made.timeout == httpx.Timeout(3.0)
    made.headers["X-A"] = "2"
    made.cookies["k"] = "w"
    made.event_hooks["request"].append(ignored)
    made.base_url = httpx.URL("http://b.test")
    assert str(made.build_request("GET", "/x").url) == "http://b.test/x"
    assert str(model.build_request("GET", "/x").url) == "http://a.test/x"
    assert (model.headers["X-A"], model.cookies["k"], model.event_hooks["request"]) == ("1", "v", [])
    assert not model.is_closed
    changeable = (dict, list, set, httpx.Headers, httpx.Cookies)
    kept = {name for name, value in vars(model).items() if isinstance(value, changeable) and vars(made)[name] is value}
    assert kept <= {"_urls"}  # which holds for one base URL only


def test_cookies_and_redirects_go_on_as_ever(serve: Serve) -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        if b"GET /away" in heard[-1]:
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /here\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n")
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    model = Client(base_url=serve(talk), deadline=2.0)
    one = model.another(deadline=2.0, observer=ignored)
    assert one.get("/away").next_request is not None
    response = one.get("/away", follow_redirects=True)
    assert [past.status_code for past in response.history] == [302]
    assert one.cookies["a"] == "1"
    assert b"Cookie: a=1" in heard[-1]
    assert response.headers["X-Name"] == "café"
    model.another(deadline=2.0, observer=ignored).get("/here")
    assert b"Cookie" not in heard[-1]


def test_hooks_and_credentials_are_heard(serve: Serve) -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    asker = Client(base_url=serve(talk), deadline=2.0)
    asker.event_hooks["response"].append(lambda response: heard.append(b"hook"))
    asker.get("/", auth=("user", "word"))
    assert b"Authorization: Basic" in heard[0]
    assert heard[1:] == [b"hook"]
    asker.close()
    with pytest.raises(RuntimeError, match="closed"):
        asker.get("/")


def test_a_response_is_as_one_that_httpx_has_read(serve: Serve) -> None:
    ours = Client(base_url=serve(answer("200 OK", '{"a": 1}', "X-A: 1")), deadline=2.0).get("/")
    theirs = httpx.Response(200, stream=httpx.ByteStream(b'{"a": 1}'), headers=ours.headers, request=ours.request)
    theirs.read()
    assert (ours.content, ours.text, ours.json()) == (theirs.content, theirs.text, theirs.json())
    assert (ours.is_closed, ours.is_stream_consumed) == (theirs.is_closed, theirs.is_stream_consumed)
    assert ours.num_bytes_downloaded == theirs.num_bytes_downloaded
    assert list(ours.iter_lines()) == list(theirs.iter_lines())
    assert ours.read() == b"".join(ours.iter_bytes()) == theirs.content
    for response in (ours, theirs):
        with pytest.raises(httpx.StreamConsumed):
            list(response.iter_raw())


@pytest.fixture
def blocked() -> Iterator[None]:
    """The thread that asks for all others is at something else."""
    free, begun = threading.Event(), threading.Event()

    def block(_: object) -> None:
        begun.set()
        free.wait(10)

    background.submit(Request("http://127.0.0.1:1/"), block, time.monotonic() + 5)
    assert begun.wait(5)
    yield
    free.set()


@pytest.mark.usefixtures("busy", "blocked")
def test_a_deadline_holds_though_the_thread_is_stuck(serve: Serve) -> None:
    url = serve(answer("200 OK", "ok"))
    began = time.monotonic()
    with pytest.raises(httpx.TransportError, match="is stuck, or has died") as caught:
        Client(deadline=0.3).get(url)
    assert time.monotonic() - began < 1.0
    failure = failure_of(caught.value)
    assert failure is not None
    assert failure.reason is Reason.OWN_RESOURCES


@pytest.mark.usefixtures("blocked")
def test_an_async_deadline_holds_though_the_thread_is_stuck(serve: Serve) -> None:
    url = serve(answer("200 OK", "ok"))

    async def ask() -> None:
        await AsyncClient(deadline=0.3).get(url)

    began = time.monotonic()
    with pytest.raises(httpx.TransportError, match="is stuck, or has died"):
        asyncio.run(ask())
    assert time.monotonic() - began < 1.0


@pytest.mark.usefixtures("busy")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_is_replaced(serve: Serve) -> None:
    url = serve(answer("200 OK", "ok"))

    def die(_: object) -> None:
        raise SystemExit

    assert Client(deadline=2.0).get(url).text == "ok"
    thread = background._shared[0]._thread
    assert thread is not None
    background.submit(Request("http://127.0.0.1:1/"), die, time.monotonic() + 5)
    thread.join(5)
    assert not thread.is_alive()
    assert Client(deadline=2.0).get(url).text == "ok"


@pytest.mark.usefixtures("busy")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_asks_with_a_thread_of_its_own(serve: Serve) -> None:
    url = serve(answer("200 OK", "ok"))
    assert Client(deadline=2.0).get(url).text == "ok"
    child = os.fork()
    if not child:
        with background._shared[0].alone:
            os._exit(0 if Client(deadline=2.0).get(url).text == "ok" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Client(deadline=2.0).get(url).text == "ok"
