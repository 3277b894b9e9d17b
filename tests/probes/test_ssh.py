from __future__ import annotations

import queue

import pytest

from tests.conftest import Serve, answer
from tests.probes.conftest import Ask, Talk, failed, held, place, resets, says
from upcheck.probes import ProbeError, Reason
from upcheck.probes.ssh import Ssh
from upcheck.servers import free_port


@pytest.mark.parametrize(
    "parts", [(b"SSH-2.0-OpenSSH_9.2\r\n",), (b"welcome\r\n", b"SSH-1.99-Cisco\r\n"), (b"SSH-2.0-OpenSSH\n",)]
)
def test_a_server(serve: Serve, ask: Ask, parts: tuple[bytes, ...]) -> None:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def talk(connection: object) -> None:
        for part in parts:
            connection.sendall(part)  # type: ignore[attr-defined]
        heard.put(connection.recv(100))  # type: ignore[attr-defined]

    where = place(serve(talk))
    held(ask(Ssh(where)))
    failed(ask(Ssh(where, banner="dropbear")), Reason.UNEXPECTED_ANSWER)
    assert b"SSH-2.0-upcheck\r\n" in (heard.get(timeout=5), heard.get(timeout=5)), "the other was refused"


@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (says(b"SSH-1.5-old\r\n"), Reason.UNEXPECTED_ANSWER, "not version 2 of the protocol: 'SSH-1.5-old'"),
        (says(), Reason.BROKEN_OFF, "before it said who it is"),
        (says(b"SSH-2.0-Op"), Reason.BROKEN_OFF, "broke off: 'SSH-2.0-Op'"),
        (says(b"x\r\n" * 60), Reason.MALFORMED, "no SSH is spoken there"),
        (says(b"x" * 2000), Reason.MALFORMED, "a line of more than 1,024 bytes"),
        (says(then=2), Reason.TIMEOUT, "waiting for the answer"),
        (resets(b"SSH-"), Reason.RESET, "Connection reset"),
        (answer("400 Bad Request"), Reason.TIMEOUT, "waiting for the answer"),
    ],
    ids=["version 1", "closed", "cut", "lines", "long", "hangs", "reset", "HTTP"],
)
def test_a_bad_server(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    assert words in failed(ask(Ssh(place(serve(talk)), deadline=0.4)), reason).sentence


def test_nothing_listens(ask: Ask) -> None:
    failed(ask(Ssh(f"127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


def test_what_can_t_be_meant() -> None:
    with pytest.raises(ProbeError, match=r"banner: .* is no regular expression"):
        Ssh("host:22", banner="(")
