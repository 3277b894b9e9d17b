"""ICMP: an echo request, and its reply. See docs/probes/icmp.md."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import READ, Journey, Phase, ProbeError, Reason, Run, Travelling, Wait
from upcheck.probes.addresses import Preference, is_address
from upcheck.probes.sockets import permit, resolve, system_address

MAX_PAYLOAD = 65_000  # bytes
_TOKEN = 8  # bytes of the payload by which a reply is known
_HEADER = struct.Struct("!BBHHH")
_REQUEST = {False: 8, True: 128}
_REPLY = {False: 0, True: 129}
_EXCEEDED = {False: 11, True: 3}
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h and in6.h; socket has no names for these
_IP_RECVTTL, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 12, 10, 2
_IPV6_RECVHOPLIMIT = 51
_ICMP_FILTER, _ICMPV6_FILTER = 1, 1
_SOL_RAW = 255
_NOT_PERMITTED = (
    "not asked: this process may send no ICMP: let net.ipv4.ping_group_range have its group, or give it CAP_NET_RAW"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Icmp(Travelling):
    """An echo request to *host*, with *payload_size* bytes, a *ttl* (the system's by default), fragmented or not."""

    host: str = field(kw_only=False)
    deadline: float = 10.0
    payload_size: int = 56
    ttl: int | None = None
    dont_fragment: bool = False
    ip_protocol: str | None = None
    ip_protocol_fallback: bool = True
    source_ip: str | None = None
    prefer: Preference = field(init=False)
    literal: bool = field(init=False)
    kind: ClassVar[str] = "icmp"
    subject: ClassVar[str] = "host"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "prefer", Preference(self.ip_protocol, self.ip_protocol_fallback))
        put(self, "literal", is_address(self.host))
        if not 0 <= self.payload_size <= MAX_PAYLOAD:
            raise ProbeError(f"payload_size: expected a number from 0 to {MAX_PAYLOAD}, not {self.payload_size}")
        if self.ttl is not None and not 1 <= self.ttl <= 255:
            raise ProbeError(f"ttl: expected a number from 1 to 255, not {self.ttl}")
        if not self.host or any(one in self.host for one in "/ \t"):
            raise ProbeError(f"{self.host!r}: expected a host")

    @property
    def asked(self) -> str:
        """Which host."""
        return f"icmp {self.host}"

    def journey(self, run: Run) -> Journey:
        """Send the request, wait for its reply."""
        if self.literal and self.prefer.protocol is None and run.log is None:
            address = self.host
            permit(run, address)
        else:
            address = (yield from resolve(run, self.host, self.prefer))[0]
        metrics = run.metrics
        metrics['probe_icmp_duration_seconds{phase="resolve"}'] = run.phases.get("resolve", 0.0)
        began = time.monotonic()
        run.phase = Phase.CONNECT
        v6 = ":" in address
        sock, raw = _socket(run, v6)
        with sock:
            self._prepare(sock, v6, raw)
            sock.connect(system_address(address, 0))
            token = os.urandom(_TOKEN + 2)
            message = _message(v6, token, self.payload_size)
            sent = time.monotonic()
            metrics['probe_icmp_duration_seconds{phase="setup"}'] = sent - began
            run.note(f"sending {len(message)} bytes to {address}, by a {'raw' if raw else 'datagram'} socket")
            run.phase = Phase.PROCESSING
            sock.send(message)
            wait = Wait(sock.fileno(), READ, run.until)
            while True:
                if not (yield wait):
                    raise run.late()
                try:
                    reply, notes, _, _ = sock.recvmsg(66_000, 256)
                except BlockingIOError:
                    continue
                except OSError as error:
                    if _exceeded(sock, v6):
                        raise run.fail(Reason.TTL_EXCEEDED, "a router on the way gave up: TTL exceeded") from None
                    raise error from None
                hops = _answers(reply, notes, message, v6=v6, raw=raw)
                if hops is not None:
                    break
        metrics['probe_icmp_duration_seconds{phase="rtt"}'] = time.monotonic() - sent
        if hops:
            metrics["probe_icmp_reply_hop_limit"] = hops
        run.note("the reply has come")

    def _prepare(self, sock: socket.socket, v6: bool, raw: bool) -> None:
        sock.setblocking(False)
        if self.ttl is not None:
            level, option = (
                (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if v6 else (socket.IPPROTO_IP, socket.IP_TTL)
            )
            sock.setsockopt(level, option, self.ttl)
        if sys.platform == "linux":
            for level, name, value in (_OPTIONS_6 if v6 else _OPTIONS)[raw]:
                sock.setsockopt(level, name, value)
            if self.dont_fragment and not v6:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        if self.source_ip is not None:
            sock.bind((self.source_ip, 0))


# Which types a raw socket is spared: all but the reply.
_ONLY_REPLIES = struct.pack("I", 0xFFFFFFFF & ~(1 << _REPLY[False]))
_ONLY_REPLIES_6 = struct.pack("8I", *[0xFFFFFFFF & ~(1 << _REPLY[True] % 32 if word == 4 else 0) for word in range(8)])


_Option = tuple[int, int, int | bytes]
# For a datagram socket, and for a raw one: to hear of errors on the way, of the hops left, and of nothing else.
_OPTIONS: dict[bool, tuple[_Option, ...]] = {
    False: ((socket.IPPROTO_IP, _IP_RECVERR, 1), (socket.IPPROTO_IP, _IP_RECVTTL, 1)),
    True: ((socket.IPPROTO_IP, _IP_RECVERR, 1), (_SOL_RAW, _ICMP_FILTER, _ONLY_REPLIES)),
}
_COMMON_6: tuple[_Option, ...] = (
    (socket.IPPROTO_IPV6, _IPV6_RECVERR, 1),
    (socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1),
)
_OPTIONS_6: dict[bool, tuple[_Option, ...]] = {
    False: _COMMON_6,
    True: (*_COMMON_6, (socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, _ONLY_REPLIES_6)),
}


def _socket(run: Run, v6: bool) -> tuple[socket.socket, bool]:
    """A socket for ICMP, and whether it is a raw one: the other kind needs no privilege where the system allows it."""
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return socket.socket(family, kind, protocol), kind == socket.SOCK_RAW
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
                raise
    raise run.fail(Reason.NOT_PERMITTED, _NOT_PERMITTED)


def _message(v6: bool, token: bytes, size: int) -> bytes:
    payload = (token[:_TOKEN] + bytes(size))[:size]
    number = int.from_bytes(token[_TOKEN:], "big")
    head = _HEADER.pack(_REQUEST[v6], 0, 0, number, 1)
    if v6:  # the system fills the checksum in
        return head + payload
    return _HEADER.pack(_REQUEST[v6], 0, _checksum(head + payload), number, 1) + payload


def _checksum(message: bytes) -> int:
    """RFC 1071, as one large number: 0xffff divides what its digits stand for."""
    padded = message + b"\0" if len(message) % 2 else message
    rest = int.from_bytes(padded, "big") % 0xFFFF
    return 0xFFFF - rest


def _answers(reply: bytes, notes: list[Any], message: bytes, *, v6: bool, raw: bool) -> int | None:
    """The hop limit of *reply* where it answers *message* (0 where it is not told), or None."""
    hops = 0
    if not v6 and (raw or sys.platform != "linux"):  # with the header of IP
        hops = reply[8]
        reply = reply[(reply[0] & 15) * 4 :]
    elif notes:
        hops = int.from_bytes(notes[0][2][:4], "little")
    same = reply[8:] == message[8:] and reply[6:8] == message[6:8]
    if len(reply) < 8 or reply[0] != _REPLY[v6] or not same or (raw and reply[4:6] != message[4:6]):
        return None
    return hops


def _exceeded(sock: socket.socket, v6: bool) -> bool:
    """Whether the error that has just come was that of a router which had no hop left."""
    try:
        _, notes, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except OSError:  # nothing more is known
        return False
    return any(len(data) > 5 and data[5] == _EXCEEDED[v6] for _, _, data in notes)
