from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Serve
from tests.faults.test_network import resolving
from tests.probes.conftest import (
    BAD_CERTIFICATES,
    Ask,
    BlackHole,
    Secure,
    Talk,
    failed,
    held,
    place,
    resets,
    says,
)
from upcheck.probes import Phase, ProbeError, Reason
from upcheck.probes.tcp import Tcp
from upcheck.servers import free_port

ServeTls = Callable[..., str]


def test_a_connection(serve: Serve, ask: Ask) -> None:
    result = held(ask(Tcp(place(serve(says())))))
    assert 0 < result.phases["connect"] <= result.duration < 1
    assert result.metrics["probe_ip_protocol"] == 4
    assert result.address == "127.0.0.1"


def test_a_banner(serve: Serve, ask: Ask) -> None:
    where = place(serve(says(b"220 mail\r\n")))
    assert held(ask(Tcp(where, banner="^220 "))).metrics["probe_failed_due_to_regex"] == 0
    wrong = failed(ask(Tcp(where, banner="^SSH")), Reason.UNEXPECTED_ANSWER)
    assert wrong.sentence == "no line matches '^SSH'; the last was '220 mail'"
    assert wrong.metrics["probe_failed_due_to_regex"] == 1


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (says(then=3), Reason.TIMEOUT, "no complete answer within 0.4 s (waiting for the answer, given up after 0."),
        (says(b"22", then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(*[b"x"] * 9, then=3), Reason.TIMEOUT, "waiting for the answer"),
        (says(), Reason.BROKEN_OFF, "closed the connection before a line that matches '^220'"),
        (says(b"554 no\r\n"), Reason.UNEXPECTED_ANSWER, "the last was '554 no'"),
        (resets(b"22"), Reason.RESET, "Connection reset by peer, waiting for the answer"),
        (says(b"x" * 200_000), Reason.MALFORMED, "a line of more than 65,536 bytes"),
        (says(b"x\n" * 2_000_000), Reason.BODY_TOO_LARGE, "more than 262,144 bytes"),
    ],
    ids=["hangs", "half a line", "no end", "closed", "wrong", "reset", "long line", "flood"],
)
def test_a_bad_server(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    began = time.monotonic()
    result = failed(ask(Tcp(place(serve(talk)), deadline=0.4, banner="^220")), reason)
    assert words in result.sentence
    assert time.monotonic() - began < 2


def test_a_refused_connection(ask: Ask) -> None:
    result = failed(ask(Tcp(f"127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)
    assert result.sentence == "Connection refused"


def test_connecting_is_bounded(ask: Ask) -> None:
    with BlackHole(socket.AF_INET, "127.0.0.1") as hole:
        result = failed(ask(Tcp(f"127.0.0.1:{hole.port}", deadline=0.4)), Reason.CONNECT_TIMEOUT)
    assert "(connecting, given up after 0." in result.sentence


def test_a_drip_does_not_outlast_the_deadline(serve: Serve, ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        for _ in range(60):
            connection.sendall(b"wait\r\n")
            time.sleep(0.05)

    began = time.monotonic()
    failed(ask(Tcp(place(serve(talk)), deadline=0.4, banner="^220")), Reason.TIMEOUT)
    assert time.monotonic() - began < 1.5


# ---- conversations ----


def irc(connection: socket.socket) -> None:
    heard = connection.recv(100)
    assert heard == b"NICK prober\n"
    connection.sendall(b":server NOTICE\r\nPING :ABC123\r\n")
    if connection.recv(100) == b"PONG ABC123 $\n":
        connection.sendall(b":server 001 welcome\r\n")


IRC: list[dict[str, Any]] = [
    {"send": "NICK prober"},
    {"expect": "PING :([^ ]+)", "send": "PONG ${1} $$"},
    {"expect": "^:[^ ]+ 001"},
]


def test_a_conversation(serve: Serve, ask: Ask) -> None:
    where = place(serve(irc))
    result = held(ask(Tcp(where, query_response=IRC), log=True))
    assert any("PONG ABC123" in sentence for _, sentence in result.log)
    wrong = [*IRC[:1], {"expect": "PING :([^ ]+)", "send": "PONG no"}, IRC[2]]
    failed(ask(Tcp(where, query_response=wrong)), Reason.BROKEN_OFF)


def smtp_like(context: Any, offers: bool = True) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 mail\r\n")
        connection.recv(100)
        connection.sendall(b"250-mail\r\n250 STARTTLS\r\n" if offers else b"250 mail\r\n")
        connection.recv(100)
        connection.sendall(b"220 go on\r\n")
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(100)
            secured.sendall(b"250 now we are safe\r\n")

    return talk


STARTTLS: list[dict[str, Any]] = [
    {"expect": "^220", "send": "EHLO prober"},
    {"expect": "^250.STARTTLS", "send": "STARTTLS"},
    {"expect": "^220", "starttls": True},
    {"send": "EHLO prober"},
    {"expect": "^250 now"},
]


def test_starttls(serve: Serve, ask: Ask, secure: Secure, trusted: str) -> None:
    where = place(serve(smtp_like(secure()))).replace("127.0.0.1", "localhost")
    result = held(ask(Tcp(where, query_response=STARTTLS, ca_file=trusted)))
    assert result.certificate_expiry is not None
    assert result.phases["tls"] > 0


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate_after_starttls(
    serve: Serve, ask: Ask, secure: Secure, trusted: str, case: str, reason: Reason, words: str
) -> None:
    where = place(serve(smtp_like(secure(case)))).replace("127.0.0.1", "localhost")
    result = failed(ask(Tcp(where, query_response=STARTTLS, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"
    assert result.certificate_expiry is not None


def test_tls_from_the_first_byte(serve_tls: ServeTls, ask: Ask, trusted: str) -> None:
    where = serve_tls(says(b"hello\n"))
    held(ask(Tcp(where, tls=True, banner="hello", ca_file=trusted)))
    failed(ask(Tcp(where, tls=True, banner="HELLO", ca_file=trusted)), Reason.UNEXPECTED_ANSWER)


# ---- names and addresses ----


def test_a_name_that_is_not_there(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolving(monkeypatch, none)
    failed(ask(Tcp("no.test:80")), Reason.NAME_NOT_FOUND)


def test_a_name_server_that_hangs(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: str) -> list[str]:
        time.sleep(1)
        return ["127.0.0.1"]

    resolving(monkeypatch, slow)
    result = failed(ask(Tcp("slow.test:80", deadline=0.2)), Reason.NAME_TIMEOUT)
    assert "resolving the name" in result.sentence


def test_a_black_hole_in_ipv6_falls_back(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, lambda _: ["::1", "127.0.0.1"])
    with BlackHole(socket.AF_INET6, "::1") as hole, socket.create_server(("127.0.0.1", hole.port)):
        result = held(ask(Tcp(f"two.test:{hole.port}", deadline=1)))
        assert (result.address, result.metrics["probe_ip_protocol"]) == ("127.0.0.1", 4)
        only = ask(Tcp(f"two.test:{hole.port}", deadline=0.4, ip_protocol="ip6"))
        assert failed(only, Reason.CONNECT_TIMEOUT).address == "::1"
        assert held(ask(Tcp(f"two.test:{hole.port}", ip_protocol="ip4"))).address == "127.0.0.1"


def test_the_protocol_that_is_preferred(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, lambda _: ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"four.test:{listener.getsockname()[1]}"
        held(ask(Tcp(where, ip_protocol="ip6")))
        result = failed(ask(Tcp(where, ip_protocol="ip6", ip_protocol_fallback=False)), Reason.NAME_NOT_FOUND)
    assert result.sentence == "the name four.test has no address of ip6"


def test_ipv6(ask: Ask) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        result = held(ask(Tcp(f"[::1]:{listener.getsockname()[1]}")))
    assert result.metrics["probe_ip_protocol"] == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "db"}, "'db': expected a host and a port, such as db:5432 or [::1]:5432"),
        ({"address": "db:0"}, "expected a host and a port"),
        ({"address": "::1:80"}, "expected a host and a port"),
        ({"address": "db:1", "banner": "("}, "banner: '(' is no regular expression"),
        ({"address": "db:1", "query_response": [{"sned": "x"}]}, "query_response: unknown key 'sned'"),
        ({"address": "db:1", "ip_protocol": "ip5"}, "ip_protocol: expected ip4 or ip6"),
        ({"address": "db:1", "min_version": "SSLv3"}, "min_version: expected one of TLSv1.0"),
    ],
)
def test_what_can_t_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Tcp(**options)
    assert words in str(caught.value)


def test_it_says_what_is_asked() -> None:
    assert Tcp("[::1]:80", query_response=[{"send": "PASS sesame"}]).asked == "tcp [::1]:80"
    assert Phase.CONNECT.words == "connecting"
