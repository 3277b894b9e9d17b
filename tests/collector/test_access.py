"""Who may ask: tokens and users over real sockets, guesses that are slowed down, and nothing told to who is refused."""

from __future__ import annotations

import asyncio
import base64
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from tests.collector.test_serving import SHIPPED, Running, run, running
from tests.waiting import eventually
from upcheck.collector.access import OPEN_PATHS, WRONG_AT_ONCE, Access, Passwords, Rules
from upcheck.collector.web_config import WebConfig

TOKEN = "a-t0ken.of~mine+/=="
HASHED = bcrypt.hashpw(b"right horse", b"$2b$04$CCCCCCCCCCCCCCCCCCCCC.").decode()  # the same in each xdist worker
BEARER = {"Authorization": f"Bearer {TOKEN}"}
USER = ("prom", "right horse")


def web(folder: Path, text: str = f"basic_auth_users:\n  prom: {HASHED}\n") -> Path:
    file = folder / "web.yml"
    file.write_text(text)
    return file


@pytest.fixture
def with_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    with running() as collector:
        yield collector


def test_a_token_closes_all_but_what_load_balancers_ask(with_token: Running) -> None:
    with httpx.Client(base_url=with_token.url) as client:
        paths = ["/", "/metrics", "/health", "/api/health", "/ready", "/live", "/nowhere", "/live/", "//live", "/Live"]
        codes = {path: client.get(path).status_code for path in paths}
        opened = {path for path, code in codes.items() if code != 401}
        assert opened == {"/health", "/ready", "/live"} == OPEN_PATHS & set(paths)
        assert {client.get(path, headers=BEARER).status_code for path in ("/", "/metrics", "/api/health")} == {200}
        assert client.head("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": f"bEARER   {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        "Bearer gu\u00e9ss".encode().decode("latin-1"),
    ],
)
def test_what_is_not_the_token_is_told_what_is_expected_and_not_what_it_sent(with_token: Running, sent: str) -> None:
    answer = httpx.get(f"{with_token.url}/metrics", headers=[(b"Authorization", sent.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.json() == {"error": "expected the token, as Authorization: Bearer TOKEN"}
    assert answer.headers["www-authenticate"] == 'Bearer realm="upcheck"'
    assert answer.headers["cache-control"] == "no-store"


def test_two_authorization_headers_are_none(with_token: Running) -> None:
    twice = [("Authorization", "Bearer guess"), ("Authorization", f"Bearer {TOKEN}")]
    assert httpx.get(f"{with_token.url}/metrics", headers=twice).status_code == 401


def test_a_token_s_file_is_read_again_and_a_bad_one_keeps_the_old(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with running(SHIPPED, "--token-file", str(file)) as collector:

        def code(token: str) -> int:
            return httpx.get(f"{collector.url}/metrics", headers={"Authorization": f"Bearer {token}"}).status_code

        assert (code("first"), code("second")) == (200, 401)
        file.write_text("two words\n")
        eventually(lambda: collector_said(collector, "holds no token"))
        assert (code("first"), code("two")) == (200, 401)
        new = tmp_path / "new"
        new.write_text("second")
        new.rename(file)
        eventually(lambda: code("first") == 401)  # to ask with the second would be to guess until it is read
        assert code("second") == 200
        assert code("first") == 401


def collector_said(collector: Running, words: str) -> bool:
    """Asks, so that it looks at its files; whether it has said *words* since the last time."""
    httpx.get(f"{collector.url}/metrics")
    return words in said(collector)


def said(collector: Running) -> str:
    """What is on stderr, and was not read before."""
    assert collector.process.stderr
    pipe, told = collector.process.stderr.fileno(), b""
    while select.select([pipe], [], [], 0)[0] and (more := os.read(pipe, 4096)):
        told += more
    return told.decode()


@pytest.mark.parametrize("named", ["METRICS_TOKEN_FILE", "UPCHECK_METRICS_TOKEN_FILE"])
def test_the_token_file_of_a_variable_or_of_the_settings_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv(named, str(file))
    ended = run("--port", "0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        ended.stderr
        == f"collector: {file} can't be read: No such file or directory; expected a file that holds the token\n"
    )
    file.write_text(TOKEN)
    with running() as collector:
        assert httpx.get(f"{collector.url}/metrics").status_code == 401
        assert httpx.get(f"{collector.url}/metrics", headers=BEARER).status_code == 200


def test_users_close_everything_and_a_token_suffices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    with (
        running(SHIPPED, "--web.config.file", str(web(tmp_path))) as collector,
        httpx.Client(base_url=collector.url) as client,
    ):
        for path in ("/metrics", "/live", "/health"):
            assert client.get(path).status_code == 401
            assert client.get(path, auth=USER).status_code == 200
            assert client.get(path, headers=BEARER).status_code == 200
        refused = client.get("/live", auth=("prom", "wrong"))
        assert refused.headers.get_list("www-authenticate") == [
            'Bearer realm="upcheck"',
            'Basic realm="upcheck", charset="UTF-8"',
        ]
        assert "Bearer TOKEN, or a user and password" in refused.json()["error"]
        for auth in (("prom", ""), ("", "right horse"), ("root", "right horse"), ("prom", "right horse\0")):
            assert client.get("/live", auth=auth).status_code == 401


@pytest.mark.parametrize("sent", ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"prom").decode(), "Basic é"])
def test_garbage_is_no_user(sent: str, tmp_path: Path) -> None:
    with running(SHIPPED, "--web-config", str(web(tmp_path))) as collector:
        answer = httpx.get(f"{collector.url}/live", headers=[(b"Authorization", sent.encode())])
        assert (answer.status_code, collector.process.poll()) == (401, None)


def test_users_are_read_again_and_a_bad_file_keeps_the_old(tmp_path: Path) -> None:
    file = web(tmp_path)
    with running(SHIPPED, "--web-config", str(file)) as collector:

        def code(password: str) -> int:
            return httpx.get(f"{collector.url}/live", auth=("prom", password)).status_code

        assert code("right horse") == 200
        web(tmp_path, "basic_auth_users:\n  prom: plain\n")
        eventually(
            lambda: collector_said(collector, "web.yml:2:3: the password of 'prom': expected its bcrypt hash; what")
        )
        time.sleep(1.1)
        assert not collector_said(collector, "web.yml"), "it is said once"
        assert code("right horse") == 200
        web(tmp_path, f"basic_auth_users:\n  prom: {bcrypt.hashpw(b'new', bcrypt.gensalt(4)).decode()}\n")
        eventually(lambda: code("right horse") == 401)  # what is remembered is of the hash, too
        assert code("new") == 200


def test_guesses_are_slowed_down_and_probes_are_not(with_token: Running) -> None:
    with httpx.Client(base_url=with_token.url) as client:
        guesses = [client.get("/metrics", headers={"Authorization": f"Bearer {n}"}) for n in range(WRONG_AT_ONCE + 3)]
        assert [guess.status_code for guess in guesses] == [401] * WRONG_AT_ONCE + [429] * 3
        assert 1 <= int(guesses[-1].headers["retry-after"]) <= 6
        assert "too many wrong authentications" in guesses[-1].json()["error"]
        assert client.get("/metrics", headers=BEARER).status_code == 429, "a right guess is not told from a wrong one"
        assert client.get("/metrics").status_code == 401, "who sends nothing guesses nothing"
        assert client.get("/live").status_code == 200


def test_guesses_at_once_are_all_counted(tmp_path: Path) -> None:
    with running(SHIPPED, "--web-config", str(web(tmp_path))) as collector, ThreadPoolExecutor(30) as pool:
        guess = [pool.submit(httpx.get, f"{collector.url}/live", auth=("prom", str(n)), timeout=30) for n in range(30)]
        codes = sorted(one.result().status_code for one in guess)
    assert codes == [401] * WRONG_AT_ONCE + [429] * (30 - WRONG_AT_ONCE)


class Asked:
    """The middleware around an application that says 200, with a *web* configuration."""

    def __init__(self, web: WebConfig | None, token: str | None = None) -> None:
        rules = Rules(lambda: token)
        rules.web = lambda: web

        async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        self.access = Access(app, rules)

    async def __call__(self, client: str = "192.0.2.1", authorization: bytes = b"") -> Mapping[str, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", authorization)] if authorization else []
        scope = {"type": "http", "path": "/metrics", "client": (client, 1), "headers": headers}
        await self.access(scope, None, send)  # type: ignore[arg-type]  # it never receives
        started: Mapping[str, Any] = sent[0]
        return started


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_one_client_s_guesses_are_not_another_s_and_memory_is_bounded() -> None:
    async def session() -> None:
        ask = Asked(None, TOKEN)
        for number in range(6000):
            await ask(f"10.0.{number // 256}.{number % 256}", b"Bearer guess")
        for _ in range(WRONG_AT_ONCE):
            await ask("2001:db8::1", b"Bearer guess")
        assert (await ask("2001:db8::ffff", b"Bearer guess"))["status"] == 429, "a /64 is one client"
        assert (await ask("2001:db8:0:1::1", BEARER["Authorization"].encode()))["status"] == 200
        assert len(ask.access._wrong._buckets) <= 4096

    asyncio.run(session())


def test_a_right_pair_is_compared_once_and_not_kept_as_it_is() -> None:
    async def session() -> None:
        slow = bcrypt.hashpw(b"right horse", bcrypt.gensalt(10))
        ask = Asked(WebConfig(users={b"prom": slow}))
        assert (await ask(authorization=basic(*USER)))["status"] == 200
        began = time.process_time()
        for _ in range(100):
            assert (await ask(authorization=basic(*USER)))["status"] == 200
        assert time.process_time() - began < 0.5, "a hundred comparisons take five seconds and more"
        kept = repr(vars(ask.access._passwords)).encode()
        assert b"right horse" not in kept
        assert slow not in kept

    asyncio.run(session())


def test_a_user_there_is_none_of_takes_as_long() -> None:
    async def session() -> None:
        passwords = Passwords()
        users = {b"prom": bcrypt.hashpw(b"right horse", bcrypt.gensalt(10))}
        took = []
        for user in ("prom", "nobody"):
            began = time.process_time()
            assert not await passwords.compare(basic(user, "wrong")[6:], users)
            took.append(time.process_time() - began)
        assert took[1] > took[0] / 3, "a bcrypt is fifty milliseconds, anything else microseconds"
        assert not await passwords.compare(basic("nobody", "right horse")[6:], users), "the stand-in opens nothing"

    asyncio.run(session())


def test_the_loop_goes_on_while_passwords_are_compared_and_few_wait() -> None:
    async def session() -> None:
        ask = Asked(WebConfig(users={b"prom": bcrypt.hashpw(b"right horse", bcrypt.gensalt(11))}))
        asked = [asyncio.create_task(ask(f"192.0.2.{n}", basic("prom", f"{n}"))) for n in range(60)]
        await asyncio.sleep(0)
        turns = 0
        while not asked[1].done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 20
        codes = [(await one)["status"] for one in asked[:2]]
        assert codes == [401, 401]
        assert sum(one.done() and one.result()["status"] == 429 for one in asked) == 60 - 32
        for one in asked:
            one.cancel()

    asyncio.run(session())


def test_bcrypt_reads_72_bytes_of_a_password_as_elsewhere() -> None:
    async def session() -> None:
        ask = Asked(WebConfig(users={b"prom": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))}))
        assert (await ask(authorization=basic("prom", "x" * 90)))["status"] == 200
        assert (await ask(authorization=basic("prom", "x" * 71)))["status"] == 401

    asyncio.run(session())


@pytest.mark.parametrize(
    ("flags", "variable", "warned"),
    [(["0.0.0.0"], "", True), (["0.0.0.0"], TOKEN, False), (["127.0.0.1"], "", False), (["localhost"], "", False)],
)
def test_an_open_collector_on_an_open_address_is_warned_of(
    flags: list[str], variable: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("METRICS_TOKEN", variable)
    with running(SHIPPED, "--host", *flags) as collector:
        collector.process.terminate()
        code, stderr = collector.ended(20)
    sentence = (
        "collector: whoever reaches 0.0.0.0 can read everything: "
        "set METRICS_TOKEN, or --web-config with users or client certificates\n"
    )
    assert (code, stderr) == (0, sentence if warned else "")


def test_the_token_is_asked_for_by_the_application_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from upcheck.collector import Collector

    monkeypatch.setenv("METRICS_TOKEN", TOKEN)

    async def session() -> None:
        transport = httpx.ASGITransport(app=Collector().app)
        async with httpx.AsyncClient(transport=transport, base_url="http://collector") as client:
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/metrics", headers=BEARER)).status_code == 200

    asyncio.run(session())


def test_garbage_before_the_headers_end_does_not_pass(with_token: Running) -> None:
    with socket.create_connection(with_token.address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + TOKEN.encode() + b"\r\n\r\n")
        client.settimeout(20)
        assert client.recv(4096).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
