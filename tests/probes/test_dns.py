from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.probes.conftest import Ask, failed, held
from upcheck.probes import ProbeError, Reason
from upcheck.probes import dns as module
from upcheck.probes.dns import Dns
from upcheck.servers import free_port

NAME = "shop.test."
Change = Callable[[dns.message.Message], Any]  # a message, bytes, a list of bytes, or None for silence


def records(*texts: str) -> Change:
    """Answers with records, each `type rdata`."""

    def change(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        for text in texts:
            kind, _, rdata = text.partition(" ")
            response.answer.append(dns.rrset.from_text(NAME, 300, "IN", kind, rdata))
        return response

    return change


def coded(code: dns.rcode.Rcode) -> Change:
    def change(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.set_rcode(code)
        return response

    return change


class Server:
    """A name server on UDP and TCP that answers as *change* says; the bytes that it sends may be none of DNS."""

    def __init__(self, change: Change, over_tcp: Change | None = None) -> None:
        self.change, self.over_tcp = change, over_tcp or change
        self.heard: list[dns.message.Message] = []
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for work in (self._datagrams, self._streams):
            threading.Thread(target=work, daemon=True).start()

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _answer(self, wire: bytes, change: Change) -> Any:
        question = dns.message.from_wire(wire)
        self.heard.append(question)
        told = change(question)
        return told.to_wire() if isinstance(told, dns.message.Message) else told

    def _datagrams(self) -> None:
        while True:
            try:
                wire, whom = self.udp.recvfrom(4096)
            except OSError:
                return
            if not wire:
                return
            told = self._answer(wire, self.change)
            for one in told if isinstance(told, list) else [told]:
                if one is not None:
                    self.udp.sendto(one, whom)

    def _streams(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                (size,) = struct.unpack("!H", connection.recv(2))
                told = self._answer(connection.recv(size), self.over_tcp)
                if told is not None:
                    connection.sendall(struct.pack("!H", len(told)) + told)

    def close(self) -> None:
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        time.sleep(0.02)
        self.udp.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(change: Change, over_tcp: Change | None = None) -> Server:
        made.append(Server(change, over_tcp))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_an_answer(server: Callable[..., Server], ask: Ask) -> None:
    there = server(records("A 192.0.2.1", "A 192.0.2.2"))
    result = held(ask(Dns(NAME, server=there.where)))
    names = ("query_succeeded", "answer_rrs", "authority_rrs", "additional_rrs")
    assert [result.metrics[f"probe_dns_{name}"] for name in names] == [1, 2, 0, 0]
    assert 0 < result.metrics['probe_dns_duration_seconds{phase="request"}'] < 1
    assert there.heard[0].flags & dns.flags.RD
    held(ask(Dns(NAME, server=there.where, recursion=False)))
    assert not there.heard[1].flags & dns.flags.RD


@pytest.mark.parametrize(
    ("kind", "rdata"),
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("MX", "10 mail.shop.test."),
        ("TXT", '"v=spf1 -all"'),
        ("NS", "ns.shop.test."),
        ("CNAME", "other.test."),
        ("SRV", "0 5 443 api.shop.test."),
        ("CAA", '0 issue "ca.test"'),
        ("PTR", "host.test."),
        ("SOA", "ns.shop.test. root.shop.test. 2026112101 7200 3600 1209600 300"),
        ("TLSA", "3 1 1 " + "ab" * 32),
        ("DS", "12345 13 2 " + "ab" * 32),
        ("HTTPS", '1 . alpn="h2"'),
    ],
)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_every_type(server: Callable[..., Server], ask: Ask, kind: str, rdata: str, protocol: str) -> None:
    there = server(records(f"{kind} {rdata}"))
    probe = Dns(NAME, server=there.where, type=kind, protocol=protocol, answer=f"^shop\\.test\\.\t300\tIN\t{kind}\t")
    result = held(ask(probe))
    assert result.metrics.get("probe_dns_serial") == (2026112101 if kind == "SOA" else None)


def wrong_number(question: dns.message.Message) -> bytes:
    told = records("A 192.0.2.1")(question)
    assert isinstance(told, dns.message.Message)
    told.id = question.id ^ 1
    return told.to_wire()


def another_question(question: dns.message.Message) -> bytes:
    other = dns.message.make_query("other.test.", "A")
    other.id = question.id
    return dns.message.make_response(other).to_wire()


def cut(question: dns.message.Message) -> bytes:
    told = records("A 192.0.2.1")(question)
    assert isinstance(told, dns.message.Message)
    return told.to_wire()[:-3]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (coded(dns.rcode.NXDOMAIN), Reason.STATUS, "NXDOMAIN for shop.test. A"),
        (coded(dns.rcode.SERVFAIL), Reason.STATUS, "SERVFAIL for shop.test. A"),
        (coded(dns.rcode.REFUSED), Reason.STATUS, "REFUSED"),
        (
            records("A 192.0.2.9"),
            Reason.UNEXPECTED_ANSWER,
            "no record matches '192.0.2.1$'; the records: shop.test. 300",
        ),
        (records(), Reason.UNEXPECTED_ANSWER, "the records: none"),
        (wrong_number, Reason.TIMEOUT, "(waiting for the answer, given up after 0."),
        (another_question, Reason.TIMEOUT, "waiting for the answer"),
        (lambda _: b"no DNS", Reason.TIMEOUT, "waiting for the answer"),
        (lambda _: None, Reason.TIMEOUT, "waiting for the answer"),
        (cut, Reason.MALFORMED, "the answer can't be read"),
    ],
    ids=["NXDOMAIN", "SERVFAIL", "REFUSED", "wrong", "empty", "number", "question", "garbage", "silent", "cut"],
)
def test_a_bad_answer(server: Callable[..., Server], ask: Ask, change: Change, reason: Reason, words: str) -> None:
    probe = Dns(NAME, server=server(change).where, answer="192.0.2.1$", deadline=0.4)
    result = failed(ask(probe), reason)
    assert words in result.sentence
    assert result.metrics["probe_dns_query_succeeded"] == (reason in (Reason.STATUS, Reason.UNEXPECTED_ANSWER))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong_number, Reason.MALFORMED),
        (lambda _: None, Reason.BROKEN_OFF),
        (coded(dns.rcode.SERVFAIL), Reason.STATUS),
    ],
)
def test_a_bad_answer_over_tcp(server: Callable[..., Server], ask: Ask, change: Change, reason: Reason) -> None:
    failed(ask(Dns(NAME, server=server(change).where, protocol="tcp", deadline=1)), reason)


def test_a_wrong_number_first_and_the_right_one_after(ask: Ask, server: Callable[..., Server]) -> None:
    there = server(lambda _: None)

    def both(question: dns.message.Message) -> Any:
        told = records("A 192.0.2.1")(question)
        assert isinstance(told, dns.message.Message)
        return [wrong_number(question), told.to_wire()]

    there.change = both
    result = held(ask(Dns(NAME, server=there.where), log=True))
    assert any("left aside" in sentence for _, sentence in result.log)


def truncated(question: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(question)
    response.flags |= dns.flags.TC
    return response


def test_a_truncated_answer_is_asked_for_again_over_tcp(server: Callable[..., Server], ask: Ask) -> None:
    there = server(truncated, records(*[f"A 192.0.2.{number}" for number in range(60)]))
    assert held(ask(Dns(NAME, server=there.where))).metrics["probe_dns_answer_rrs"] == 60


def test_codes_that_are_accepted(server: Callable[..., Server], ask: Ask) -> None:
    there = server(coded(dns.rcode.NXDOMAIN))
    held(ask(Dns(NAME, server=there.where, rcode="NXDOMAIN")))
    held(ask(Dns(NAME, server=there.where, rcode=["NOERROR", "NXDOMAIN"])))


@pytest.mark.parametrize(
    ("condition", "expressions", "holds"),
    [
        ("fail_if_matches_regexp", ["192.0.2.1"], False),
        ("fail_if_matches_regexp", ["192.0.2.7"], True),
        ("fail_if_not_matches_regexp", ["192.0.2"], True),
        ("fail_if_not_matches_regexp", ["192.0.2.1"], False),
        ("fail_if_none_matches_regexp", ["192.0.2.2"], True),
        ("fail_if_none_matches_regexp", ["192.0.2.7"], False),
        ("fail_if_all_match_regexp", ["192.0.2.1"], False),
        ("fail_if_all_match_regexp", ["192.0.2"], True),
    ],
)
def test_blackbox_exporter_s_conditions(
    server: Callable[..., Server], ask: Ask, condition: str, expressions: list[str], holds: bool
) -> None:
    there = server(records("A 192.0.2.1", "A 192.0.2.2"))
    assert ask(Dns(NAME, server=there.where, answer={condition: expressions})).success is holds


def test_nothing_listens(ask: Ask) -> None:
    failed(ask(Dns(NAME, server=f"127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


def test_the_system_s_server(
    ask: Ask, server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = server(records("A 192.0.2.1"))
    conf = tmp_path / "resolv.conf"
    conf.write_text("# ours\nsearch test\nnameserver 127.0.0.1\n")
    monkeypatch.setattr(module, "RESOLV_CONF", conf)
    monkeypatch.setitem(module.PORTS, "udp", there.port)
    held(ask(Dns(NAME)))
    conf.write_text("search test\n")
    assert "name one as `server`" in failed(ask(Dns(NAME)), Reason.MISSING_EXTRA).sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "MXX"}, "no question for DNS"),
        ({"name": "a" * 64}, "no question for DNS"),
        ({"rcode": "NOPE"}, "rcode: 'NOPE': expected a code such as NOERROR"),
        ({"protocol": "quic"}, "protocol: expected udp, tcp or tls"),
        ({"answer": "("}, "answer: '(' is no regular expression"),
        ({"answer": {"fail": []}}, "answer: unknown key 'fail'"),
        ({"server": "a b"}, "expected a host and a port"),
    ],
)
def test_what_can_t_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Dns(**{"name": NAME, **options})
    assert words in str(caught.value)
