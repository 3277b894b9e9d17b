from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.probes.conftest import Ask, failed, held
from upcheck.probes import ProbeError, Reason
from upcheck.probes import icmp as module
from upcheck.probes.icmp import Icmp


def allowed() -> bool:
    """Whether this process may send ICMP at all."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except PermissionError:
            continue
        return True
    return False


needs_icmp = pytest.mark.skipif(not allowed(), reason="neither net.ipv4.ping_group_range nor CAP_NET_RAW lets us")


@needs_icmp
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("size", [0, 1, 56, 8000])
def test_an_echo(ask: Ask, host: str, size: int) -> None:
    result = held(ask(Icmp(host, payload_size=size, ttl=9)))
    assert 0 < result.metrics['probe_icmp_duration_seconds{phase="rtt"}'] < 1
    assert result.metrics["probe_icmp_reply_hop_limit"] == 64  # the replier's own
    assert result.metrics["probe_ip_protocol"] == (6 if ":" in result.address else 4)


@needs_icmp
def test_a_packet_that_would_have_to_be_fragmented(ask: Ask) -> None:
    mtu = int(Path("/sys/class/net/lo/mtu").read_text())
    held(ask(Icmp("127.0.0.1", payload_size=mtu - 600, dont_fragment=True)))
    if mtu < module.MAX_PAYLOAD:
        failed(ask(Icmp("127.0.0.1", payload_size=mtu, dont_fragment=True)), Reason.OTHER)


@needs_icmp
def test_silence_ends_with_the_deadline(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every address of this machine replies: what is waited for is made another's.
    monkeypatch.setattr(module, "_answers", lambda *_, **__: None)
    result = failed(ask(Icmp("127.0.0.1", deadline=0.3)), Reason.TIMEOUT)
    assert "(waiting for the answer, given up after 0.3 s)" in result.sentence


def test_where_it_is_not_allowed_the_cure_is_named(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:  # root is allowed to, and a user whose group is in the range
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", none)
    result = failed(ask(Icmp("127.0.0.1")), Reason.NOT_PERMITTED)
    assert "net.ipv4.ping_group_range" in result.sentence
    assert "CAP_NET_RAW" in result.sentence
    assert Reason.NOT_PERMITTED.ours


@pytest.mark.parametrize(
    ("message", "sum_"), [(b"\x08\x00\x00\x00\x12\x34\x00\x01", 0xE5CA), (b"\x08\0\0\0\0\0\0\0a", 0x96FF)]
)
def test_the_checksum(message: bytes, sum_: int) -> None:
    assert module._checksum(message) == sum_


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"payload_size": 70000}, "payload_size: expected a number from 0 to 65000"),
        ({"ttl": 0}, "ttl: expected a number from 1 to 255"),
        ({"host": "a b"}, "'a b': expected a host"),
    ],
)
def test_what_can_t_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Icmp(**{"host": "127.0.0.1", **options})
    assert words in str(caught.value)
