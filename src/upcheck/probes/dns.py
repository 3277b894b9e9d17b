"""DNS: one question to one server, and what its answer must be. See docs/probes/dns.md."""

from __future__ import annotations

import functools
import os
import re
import socket
import struct
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from upcheck.probes import READ, Journey, Phase, ProbeError, Reason, Run, Travelling, Wait
from upcheck.probes.addresses import Place, Preference, is_address
from upcheck.probes.sockets import Stream, connect, permit, resolve, system_address
from upcheck.probes.tls import Trust, handshake

PORTS = {"udp": 53, "tcp": 53, "tls": 853}
MAX_REMEMBERED = 1500  # bytes of an answer
RESOLV_CONF = Path("/etc/resolv.conf")
_TRUNCATED = 0x0200
_ANSWER = 0x8000
_CONDITIONS = {
    "fail_if_matches_regexp": "a record matches",
    "fail_if_all_match_regexp": "not all records match",
    "fail_if_not_matches_regexp": "a record does not match",
    "fail_if_none_matches_regexp": "no record matches",
}


@dataclass(frozen=True, slots=True)
class Section:
    """What must hold of the records in a section, each in a line as dig writes it, with tabs."""

    name: str
    expressions: tuple[tuple[str, tuple[re.Pattern[str], ...]], ...]

    @classmethod
    def of(cls, name: str, wanted: str | Mapping[str, Any] | None) -> Section:
        """One expression is what a record must match; a mapping has blackbox_exporter's conditions."""
        if isinstance(wanted, str):
            wanted = {"fail_if_none_matches_regexp": [wanted]}
        made = []
        for key, texts in (wanted or {}).items():
            if key not in _CONDITIONS:
                raise ProbeError(f"{name}: unknown key {key!r}: expected one of {', '.join(_CONDITIONS)}")
            made.append((key, tuple(_expression(name, one) for one in _listed(texts))))
        return cls(name, tuple(made))

    def unmet(self, records: Sequence[str]) -> str:
        """Why *records* are not what is wanted; empty where they are."""
        for condition, expressions in self.expressions:
            for one in expressions:
                found = [record for record in records if one.search(record)]
                if _meets(condition, len(found), len(records)):
                    shown = "; ".join(records[:4]).replace("\t", " ") or "none"
                    return f"{self.name}: {_CONDITIONS[condition]} {one.pattern!r}; the records: {shown}"
        return ""


def _meets(condition: str, found: int, records: int) -> bool:
    """Whether the probe fails by *condition*, where *found* of the *records* match."""
    if condition == "fail_if_matches_regexp":
        return found > 0
    if condition == "fail_if_all_match_regexp":  # as the exporter does it, whatever it is called
        return found < records
    if condition == "fail_if_not_matches_regexp":
        return found < records or not records
    return not found


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _expression(place: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ProbeError(f"{place}: {text!r} is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says: its code, and the records of each section as dig writes them, with tabs."""

    rcode: str
    answer: tuple[str, ...]
    authority: tuple[str, ...]
    additional: tuple[str, ...]
    serial: int | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dns(Travelling):
    """A question for *name*, of *type*, to *server* (`host`, `host:port`; the system's first one by default).

    *protocol* is `udp` (and TCP where the answer is truncated), `tcp` or `tls`. *rcode* lists the codes that are
    accepted; *answer*, *authority* and *additional* are what a record must match, or blackbox_exporter's conditions.
    """

    name: str = field(kw_only=False)
    server: str | None = None
    type: str = "A"
    klass: str = "IN"
    protocol: str = "udp"
    recursion: bool = True
    rcode: str | Sequence[str] = "NOERROR"
    answer: str | Mapping[str, Any] | None = None
    authority: str | Mapping[str, Any] | None = None
    additional: str | Mapping[str, Any] | None = None
    deadline: float = 10.0
    ip_protocol: str | None = None
    ip_protocol_fallback: bool = True
    source_ip: str | None = None
    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    wire: bytes = field(init=False)  # the question, without its number
    prefer: Preference = field(init=False)
    sections: tuple[Section, ...] = field(init=False)
    accepted: tuple[str, ...] = field(init=False)
    place: Place | None = field(init=False)
    kind: ClassVar[str] = "dns"
    subject: ClassVar[str] = "name"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "wire", _wire(self.name, self.type, self.klass, self.recursion))
        put(self, "prefer", Preference(self.ip_protocol, self.ip_protocol_fallback))
        parts = ("answer", "authority", "additional")
        put(self, "sections", tuple(Section.of(name, getattr(self, name)) for name in parts))
        put(self, "accepted", tuple(_rcode(one) for one in _listed(self.rcode)))
        if self.protocol not in PORTS:
            raise ProbeError(f"protocol: expected udp, tcp or tls, not {self.protocol!r}")
        put(self, "place", _place(self.server, PORTS[self.protocol]) if self.server else None)

    @property
    def asked(self) -> str:
        """The question, and whom."""
        of_whom = f" of {self.place.shown}" if self.place else ""
        return f"dns {self.name} {self.type}{of_whom}"

    def journey(self, run: Run) -> Journey:
        """Ask, and judge the answer."""
        place = self.place or _place(_system_server(run), PORTS[self.protocol])
        run.metrics["probe_dns_query_succeeded"] = 0
        for name in ("answer", "authority", "additional"):
            run.metrics[f"probe_dns_{name}_rrs"] = 0
        if place.literal and self.prefer.protocol is None and run.log is None:
            address = place.host
            permit(run, address)
        else:
            address = (yield from resolve(run, place.host, self.prefer))[0]
        _phase(run, "resolve", run.phases.get("resolve", 0.0))
        number = os.urandom(2)
        if self.protocol == "udp":
            message = yield from self._datagram(run, Place(address, place.port, True), number)
            if message[2] << 8 & _TRUNCATED:
                run.note("the answer is truncated: asking again over TCP")
                message = yield from self._stream(run, Place(address, place.port, True), number, None)
        else:
            host = place.host if self.protocol == "tls" else None
            message = yield from self._stream(run, Place(address, place.port, True), number, host)
        self._judge(run, message)

    def _datagram(self, run: Run, place: Place, number: bytes) -> Generator[Any, Any, bytes]:
        run.phase = Phase.PROCESSING
        began = time.monotonic()
        v6 = ":" in place.host
        with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            if self.source_ip is not None:
                sock.bind((self.source_ip, 0))
            sock.connect(system_address(place.host, place.port))
            sent = time.monotonic()
            _phase(run, "connect", sent - began)
            run.note(f"asking {place.shown} for {self.name} {self.type}")
            sock.send(number + self.wire)
            wait = Wait(sock.fileno(), READ, run.until)
            while True:
                if not (yield wait):
                    raise run.late()
                try:
                    message = sock.recv(65535)
                except BlockingIOError:  # a datagram whose checksum was wrong
                    continue
                if self._answers(message, number):
                    break
                run.note("a datagram that does not answer the question was left aside")
        _phase(run, "request", time.monotonic() - sent)
        return message

    def _stream(self, run: Run, place: Place, number: bytes, host: str | None) -> Generator[Any, Any, bytes]:
        began = time.monotonic()
        stream = yield from connect(run, place, Preference(), self.source_ip)
        with stream:
            if host is not None:
                trust = Trust(self.verify, self.ca_file, self.server_name)
                yield from handshake(run, stream, host, trust)
            sent = time.monotonic()
            _phase(run, "connect", sent - began)
            question = number + self.wire
            yield from stream.send(struct.pack("!H", len(question)) + question)
            (size,) = struct.unpack("!H", (yield from _exactly(run, stream, 2)))
            message = yield from _exactly(run, stream, size)
        if not self._answers(message, number):
            raise run.fail(Reason.MALFORMED, "the answer is to another question")
        _phase(run, "request", time.monotonic() - sent)
        return message

    def _answers(self, message: bytes, number: bytes) -> bool:
        """Whether *message* is an answer to the question *number*; servers may leave the question out of an error."""
        if len(message) < 12 or message[:2] != number or not message[2] << 8 & _ANSWER:
            return False
        return message[4:6] == b"\0\0" or message[12 : 2 + len(self.wire)].lower() == self.wire[10:].lower()

    def _judge(self, run: Run, message: bytes) -> None:
        try:
            told = _remembered(message[2:]) if len(message) < MAX_REMEMBERED else _read(message[2:])
        except (dns.exception.DNSException, ValueError) as error:
            raise run.fail(
                Reason.MALFORMED, f"the answer can't be read: {str(error) or type(error).__name__}"
            ) from None
        metrics = run.metrics
        metrics["probe_dns_query_succeeded"] = 1
        metrics["probe_dns_answer_rrs"] = len(told.answer)
        metrics["probe_dns_authority_rrs"] = len(told.authority)
        metrics["probe_dns_additional_rrs"] = len(told.additional)
        if told.serial is not None:
            metrics["probe_dns_serial"] = told.serial
        run.note(f"{told.rcode}: {len(told.answer)} answers: {'; '.join(told.answer[:8])}")
        if told.rcode not in self.accepted:
            raise run.fail(Reason.STATUS, f"{told.rcode} for {self.name} {self.type}")
        for section, records in zip(self.sections, (told.answer, told.authority, told.additional), strict=True):
            if section.expressions and (sentence := section.unmet(records)):
                raise run.fail(Reason.UNEXPECTED_ANSWER, sentence)


def _exactly(run: Run, stream: Stream, size: int) -> Generator[Any, Any, bytes]:
    message = yield from stream.exactly(size)
    if len(message) < size:
        raise run.fail(Reason.BROKEN_OFF, "the server closed the connection before the answer was whole")
    return message


@functools.lru_cache(64)
def _key(phase: str) -> str:
    return f'probe_dns_duration_seconds{{phase="{phase}"}}'


def _phase(run: Run, phase: str, seconds: float) -> None:
    run.metrics[_key(phase)] = seconds


def _wire(name: str, kind: str, klass: str, recursion: bool) -> bytes:
    try:
        question = dns.message.make_query(dns.name.from_text(name), kind, klass, use_edns=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise ProbeError(f"{name} {kind} {klass}: no question for DNS: {str(error) or type(error).__name__}") from None
    if not recursion:
        question.flags &= ~dns.flags.RD
    return question.to_wire()[2:]


def _rcode(text: str) -> str:
    try:
        return dns.rcode.to_text(dns.rcode.from_text(text))
    except (dns.exception.DNSException, ValueError):
        raise ProbeError(f"rcode: {text!r}: expected a code such as NOERROR or NXDOMAIN") from None


def _place(text: str, port: int) -> Place:
    if is_address(text):
        return Place(text, port, True)
    return Place.of(text if re.search(r":\d+$", text) else f"{text}:{port}")


def _system_server(run: Run) -> str:
    """The first name server that the system asks."""
    try:
        lines = RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise run.fail(Reason.MISSING_EXTRA, f"no name server to ask: {error}; name one as `server`") from None
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    raise run.fail(Reason.MISSING_EXTRA, f"no name server to ask: {RESOLV_CONF} names none; name one as `server`")


@functools.lru_cache(1024)  # most servers say the same each time, and to read it costs more than to ask
def _remembered(message: bytes) -> Told:
    return _read(message)


def _read(message: bytes) -> Told:
    """*message*, without its number; raises DNSException or ValueError where it is none."""
    read = dns.message.from_wire(b"\0\0" + message, ignore_trailing=True)
    serial = None
    for rrset in read.answer:
        if rrset.rdtype == dns.rdatatype.SOA:
            serial = rrset[0].serial
    return Told(
        dns.rcode.to_text(read.rcode()),
        tuple(_records(read.answer)),
        tuple(_records(read.authority)),
        tuple(_records(read.additional)),
        serial,
    )


def _records(rrsets: Sequence[Any]) -> Iterator[str]:
    for rrset in rrsets:
        klass, kind = dns.rdataclass.to_text(rrset.rdclass), dns.rdatatype.to_text(rrset.rdtype)
        for one in rrset:
            yield f"{rrset.name}\t{rrset.ttl}\t{klass}\t{kind}\t{one.to_text()}"
