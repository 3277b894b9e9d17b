"""What every probe over a socket has in common: where it leads, a connection, bytes in both directions.

All of it yields Wait and Lookup, and none of it outlasts its Run.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import READ, WRITE, Lookup, Phase, ProbeFailure, Reason, Run, Travelling, Wait
from upcheck.probes.addresses import Place, Preference, is_address

Steps = Generator[Any, Any, None]
PATIENCE = 1.0  # seconds for an address that is not the last: when the kernel sends its first packet again
MAX_ADDRESSES = 8
CHUNK = 65536
MAX_BYTES = 256 * 1024  # of a conversation
_IN_PROGRESS = {errno.EINPROGRESS, errno.EAGAIN}
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def resolve(run: Run, host: str, prefer: Preference) -> Generator[Any, Any, list[str]]:
    """The addresses of *host* to be asked, at least one, none of which is out of reach."""
    began = time.monotonic()
    run.note(f"resolving {host}")
    addresses = [host]
    if not is_address(host):
        addresses = yield Lookup(host, run.until)
    addresses = prefer.chosen(addresses)[:MAX_ADDRESSES]
    run.phases["resolve"] = time.monotonic() - began
    run.metrics["probe_dns_lookup_time_seconds"] = run.phases["resolve"]
    if not addresses:
        raise run.fail(Reason.NAME_NOT_FOUND, f"the name {host} has no address of {prefer.protocol}")
    run.note(f"resolved {host} to {', '.join(addresses)}")
    permit(run, addresses[0])
    return addresses


def permit(run: Run, address: str) -> None:
    """Raise ProbeFailure where *address* is out of reach; else take it for the one that is asked."""
    if refusal := run.reach.refuses(address):
        raise run.fail(Reason.ADDRESS_REFUSED, refusal)
    run.reached(address)


def connect(run: Run, place: Place, prefer: Preference, source: str | None = None) -> Generator[Any, Any, Stream]:
    """A connection to *place*, for whoever takes it to close; what does not connect is closed already.

    Addresses are tried one after the other; each but the last has its share of the time, PATIENCE at most.
    """
    if place.literal and run.log is None and prefer.protocol is None:
        addresses = [place.host]
        permit(run, place.host)
    else:
        addresses = yield from resolve(run, place.host, prefer)
    run.phase = Phase.CONNECT
    last = len(addresses) - 1
    for number, address in enumerate(addresses):
        if number < last:
            now = time.monotonic()
            until = now + min(PATIENCE, (run.until - now) / (last - number + 1))
        else:
            until = run.until
        try:
            return (yield from _connect(run, address, place.port, until, source))
        except (OSError, ProbeFailure) as error:
            if number == last or (isinstance(error, ProbeFailure) and error.reason is Reason.ADDRESS_REFUSED):
                raise
            run.note(f"{address}: {error}: trying the next address")
    raise AssertionError("no address")  # resolve has at least one


def _connect(run: Run, address: str, port: int, until: float, source: str | None) -> Generator[Any, Any, Stream]:
    permit(run, address)
    began = time.monotonic()
    v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source is not None:
            sock.bind((source, 0))
        run.note(f"connecting to {address} port {port}")
        error = sock.connect_ex(system_address(address, port))
        if error in _IN_PROGRESS:
            if not (yield Wait(sock.fileno(), WRITE, until)):
                raise run.late()
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "")
        run.spent("connect", began)
        run.note("connected")
        run.phase = Phase.PROCESSING
        return Stream(run, sock)
    except BaseException:
        sock.close()
        raise


def system_address(address: str, port: int) -> tuple[Any, ...]:
    """As the system wants it: the part of an IPv6 address after a % names an interface."""
    if ":" not in address:
        return address, port
    plain, _, scope = address.partition("%")
    return plain, port, 0, (int(scope) if scope.isdigit() else socket.if_nametoindex(scope)) if scope else 0


class Stream:
    """A connection, with TLS or without. `close` it."""

    def __init__(self, run: Run, sock: socket.socket) -> None:
        self.sock = sock
        self._run = run
        self._kept = b""  # what was read
        self._told = 0  # how much of it was asked for
        self._received = 0

    def close(self) -> None:
        """Let the descriptor go."""
        self.sock.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Steps:
        """Have all of *data* sent."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except (BlockingIOError, *_AGAIN) as error:
                yield from self._ready(error, WRITE)

    def receive(self) -> Generator[Any, Any, bytes]:
        """What comes next; empty where the other end is done."""
        if self._told < len(self._kept):
            return self._rest()
        while True:
            try:
                chunk = self.sock.recv(CHUNK)
            except ssl.SSLEOFError:
                return b""
            except (BlockingIOError, *_AGAIN) as error:
                yield from self._ready(error, READ)
                continue
            self._received += len(chunk)
            if self._received > MAX_BYTES:
                raise self._run.fail(Reason.BODY_TOO_LARGE, f"more than {MAX_BYTES:,} bytes: no more of it was read")
            return chunk

    def line(self, most: int) -> Generator[Any, Any, bytes | None]:
        """The next line with its end, of at most *most* bytes; None where the other end is done before there is one.

        What comes without an end before the other end is done is a line, too.
        """
        while True:
            end = self._kept.find(b"\n", self._told)
            if end >= 0:
                line = self._kept[self._told : end + 1]
                self._told = end + 1
                return line
            if len(self._kept) - self._told > most:
                raise self._run.fail(Reason.MALFORMED, f"a line of more than {most:,} bytes: no more of it was read")
            begun = self._rest()
            chunk = yield from self.receive()
            if not chunk:
                return begun or None
            self._kept = begun + chunk

    def _rest(self) -> bytes:
        rest, self._kept, self._told = self._kept[self._told :], b"", 0
        return rest

    def exactly(self, size: int) -> Generator[Any, Any, bytes]:
        """*size* bytes; fewer where the other end is done before."""
        gathered = self._rest()
        while len(gathered) < size and (chunk := (yield from self.receive())):
            gathered += chunk
        self._kept, self._told = gathered[size:], 0
        return gathered[:size]

    @property
    def unread(self) -> bytes:
        """What was read and not asked for."""
        return self._kept[self._told :]

    def _ready(self, error: OSError, events: int) -> Steps:
        if isinstance(error, ssl.SSLWantReadError):
            events = READ
        elif isinstance(error, ssl.SSLWantWriteError):
            events = WRITE
        if not (yield Wait(self.sock.fileno(), events, self._run.until)):
            raise self._run.late()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OverSocket(Travelling):
    """A probe of *address*, which is `host:port`, over a connection.

    *ip_protocol* is `ip4` or `ip6`, with *ip_protocol_fallback* where the name has such an address; by default each
    address is tried until one connects. Raises ProbeError where it can't be meant.
    """

    address: str = field(kw_only=False)
    deadline: float = 10.0
    ip_protocol: str | None = None
    ip_protocol_fallback: bool = True
    source_ip: str | None = None
    place: Place = field(init=False)
    prefer: Preference = field(init=False)
    subject: ClassVar[str] = "address"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "place", Place.of(self.address))
        put(self, "prefer", Preference(self.ip_protocol, self.ip_protocol_fallback))

    @property
    def asked(self) -> str:
        """Its kind, and where."""
        return f"{self.kind} {self.place.shown}"

    def connected(self, run: Run) -> Generator[Any, Any, Stream]:
        """A connection to where it is."""
        return connect(run, self.place, self.prefer, self.source_ip)
