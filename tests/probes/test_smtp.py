from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.conftest import Serve
from tests.probes.conftest import BAD_CERTIFICATES, Ask, Secure, Talk, failed, held, place, resets, says
from upcheck.probes import ProbeError, Reason
from upcheck.probes.smtp import Smtp
from upcheck.servers import free_port

GOOD = {
    "": "220 mail.test ESMTP ready",
    "EHLO": "250-mail.test\r\n250-SIZE 1000\r\n250 STARTTLS",
    "STARTTLS": "220 go on",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


def server(
    heard: list[str], context: ssl.SSLContext | None = None, at_once: bool = False, **other: str | None
) -> Callable[[socket.socket], None]:
    """Answers as GOOD says, unless *other* does; None closes the connection."""
    replies: Mapping[str, str | None] = {**GOOD, **other}

    def say(connection: socket.socket, word: str) -> bool:
        reply = replies.get(word, "500 what?")
        if reply is None:
            return False
        connection.sendall(f"{reply}\r\n".encode())
        return True

    def talk(connection: socket.socket) -> None:
        if at_once and context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        if not say(connection, ""):
            return
        while line := connection.recv(1000).decode():
            heard.append(line.strip())
            word = line.split()[0]
            if not say(connection, word) or word == "QUIT":
                break
            if word == "STARTTLS" and context is not None:
                connection = context.wrap_socket(connection, server_side=True)
        connection.close()

    return talk


def test_a_greeting_and_ehlo(serve: Serve, ask: Ask) -> None:
    heard: list[str] = []
    held(ask(Smtp(place(serve(server(heard))), helo="prober.test", banner="ESMTP")))
    assert heard[0] == "EHLO prober.test"


def test_whether_mail_would_be_taken(serve: Serve, ask: Ask) -> None:
    heard: list[str] = []
    held(ask(Smtp(place(serve(server(heard))), rcpt_to="a@mail.test", mail_from="b@x.test")))
    assert heard[:4] == ["EHLO upcheck.invalid", "MAIL FROM:<b@x.test>", "RCPT TO:<a@mail.test>", "RSET"]
    assert not any("DATA" in line for line in heard)


def localhost(url: str) -> str:
    return place(url).replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("at_once", [False, True])
def test_over_tls(serve: Serve, ask: Ask, secure: Secure, trusted: str, at_once: bool) -> None:
    where = localhost(serve(server([], secure(), at_once)))
    result = held(ask(Smtp(where, starttls=not at_once, tls=at_once, ca_file=trusted)))
    assert result.certificate_expiry is not None


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate(
    serve: Serve, ask: Ask, secure: Secure, trusted: str, case: str, reason: Reason, words: str
) -> None:
    where = localhost(serve(server([], secure(case))))
    result = failed(ask(Smtp(where, starttls=True, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"
    assert result.certificate_expiry is not None


@pytest.mark.parametrize(
    ("other", "reason", "words"),
    [
        ({"": "421 too busy"}, Reason.STATUS, "'421 too busy' to the greeting"),
        ({"": "554 go away"}, Reason.STATUS, "554 go away"),
        ({"": None}, Reason.BROKEN_OFF, "before its reply was whole"),
        ({"": "SSH-2.0-OpenSSH"}, Reason.MALFORMED, "no SMTP is spoken there: 'SSH-2.0-OpenSSH'"),
        ({"": "220 other"}, Reason.UNEXPECTED_ANSWER, "'220 other' does not match 'ESMTP'"),
        ({"EHLO": "502 no"}, Reason.STATUS, "'502 no' to EHLO"),
        ({"EHLO": "250 mail.test"}, Reason.NO_STARTTLS, "does not offer STARTTLS"),
        ({"EHLO": "250-a\r\n251 b"}, Reason.MALFORMED, "no SMTP"),
        ({"EHLO": "\r\n".join(["250-x"] * 200)}, Reason.MALFORMED, "a reply of more than 100 lines"),
        ({"EHLO": None}, Reason.BROKEN_OFF, "before its reply was whole"),
        ({"STARTTLS": "454 not now"}, Reason.STATUS, "STARTTLS: '454 not now'"),
        ({"RCPT": "550 no such user"}, Reason.STATUS, "'550 no such user' to RCPT TO:<a@mail.test>"),
    ],
)
def test_a_bad_server(
    serve: Serve, ask: Ask, secure: Secure, trusted: str, other: dict[str, Any], reason: Reason, words: str
) -> None:
    where = localhost(serve(server([], secure(), **other)))
    probe = Smtp(where, starttls=True, banner="ESMTP", rcpt_to="a@mail.test", ca_file=trusted, deadline=3)
    assert words in failed(ask(probe), reason).sentence


@pytest.mark.parametrize(("talk", "reason"), [(says(then=2), Reason.TIMEOUT), (resets(b"22"), Reason.RESET)])
def test_one_that_hangs_or_breaks_off(serve: Serve, ask: Ask, talk: Talk, reason: Reason) -> None:
    failed(ask(Smtp(place(serve(talk)), deadline=0.4)), reason)


def test_what_follows_starttls_in_clear_is_no_answer(serve: Serve, ask: Ask, secure: Secure, trusted: str) -> None:
    """Commands that an attacker puts behind the reply must not count as said under TLS."""
    where = localhost(serve(server([], secure(), STARTTLS="220 go on\r\n250 injected")))
    result = failed(ask(Smtp(where, starttls=True, ca_file=trusted, deadline=2)), Reason.MALFORMED)
    assert result.sentence == "the server spoke on before TLS began"


def test_nothing_listens(ask: Ask) -> None:
    failed(ask(Smtp(f"127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


@pytest.mark.parametrize(
    "options", [{"helo": "a\r\nDATA"}, {"rcpt_to": "a@b>\r\nX"}, {"mail_from": "a b"}, {"banner": "("}]
)
def test_what_can_t_be_meant(options: dict[str, str]) -> None:
    with pytest.raises(ProbeError):
        Smtp("mail.test:25", **options)  # type: ignore[arg-type]
