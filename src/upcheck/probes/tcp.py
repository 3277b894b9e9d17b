"""TCP: a connection, and a conversation over it in lines. See docs/probes/tcp.md."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import Journey, ProbeError, Reason, Run
from upcheck.probes.sockets import Stream
from upcheck.probes.tls import OverTls, Trust, handshake

MAX_LINE = 64 * 1024  # bytes
_GROUP = re.compile(rb"\$(?:\$|\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the conversation: lines are read until one matches *expect*, *send* is sent, TLS begins; in this order.

    In *send*, `${1}` is a group of the line that matched.
    """

    expect: re.Pattern[bytes] | None
    send: str
    starttls: bool

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Turn:
        """The turn with the keys `expect`, `send` and `starttls`. Raises ProbeError."""
        for key in told:
            if key not in ("expect", "send", "starttls"):
                raise ProbeError(f"query_response: unknown key {key!r}: expected expect, send or starttls")
        expect = pattern("expect", told["expect"]) if told.get("expect") else None
        return cls(expect, str(told.get("send", "")), bool(told.get("starttls", False)))


def pattern(place: str, text: str) -> re.Pattern[bytes]:
    """The regular expression *text*, for bytes. Raises ProbeError."""
    try:
        return re.compile(str(text).encode())
    except re.error as error:
        raise ProbeError(f"{place}: {text!r} is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tcp(OverTls):
    """A connection to *address*; with *tls*, a handshake; then *query_response*, turn by turn.

    *banner* is a regular expression that a line must match which the server says of itself.
    """

    tls: bool = False
    banner: str | None = None
    query_response: Sequence[Mapping[str, Any]] = ()
    turns: tuple[Turn, ...] = field(init=False)
    kind: ClassVar[str] = "tcp"

    def __post_init__(self) -> None:
        OverTls.__post_init__(self)
        turns = [Turn.of(one) for one in self.query_response]
        if self.banner:
            turns.insert(0, Turn(pattern("banner", self.banner), "", False))
        object.__setattr__(self, "turns", tuple(turns))

    def journey(self, run: Run) -> Journey:
        """Connect, and go through the turns."""
        if not self.tls and not self.turns:
            return self._connection(run)
        return self.examined(run, self._exchange)

    def _connection(self, run: Run) -> Journey:
        (yield from self.connected(run)).close()

    def _exchange(self, run: Run, trust: Trust) -> Journey:
        stream = yield from self.connected(run)
        with stream:
            if self.tls:
                yield from handshake(run, stream, self.place.host, trust)
            if self.turns:
                run.metrics["probe_failed_due_to_regex"] = 0
            for turn in self.turns:
                yield from self._turn(run, stream, turn, trust)

    def _turn(self, run: Run, stream: Stream, turn: Turn, trust: Trust) -> Journey:
        send = turn.send.encode()
        if turn.expect is not None:
            found = yield from matching(run, stream, turn.expect)
            send = expanded(send, found)
        if send:
            run.note(f"sending {send!r}")
            yield from stream.send(send + b"\n")
        if turn.starttls:
            yield from handshake(run, stream, self.place.host, trust)


def matching(run: Run, stream: Stream, expect: re.Pattern[bytes]) -> Generator[Any, Any, re.Match[bytes]]:
    """The match of the next line that *expect* is found in. Raises ProbeFailure where none comes."""
    last = b""
    while (line := (yield from stream.line(MAX_LINE))) is not None:
        last = line.rstrip(b"\r\n")
        run.note(f"read {last!r}")
        if found := expect.search(last):
            return found
    run.metrics["probe_failed_due_to_regex"] = 1
    wanted = expect.pattern.decode(errors="replace")
    if not last:
        raise run.fail(Reason.BROKEN_OFF, f"the server closed the connection before a line that matches {wanted!r}")
    shown = last[:100].decode(errors="replace")
    raise run.fail(Reason.UNEXPECTED_ANSWER, f"no line matches {wanted!r}; the last was {shown!r}")


def expanded(send: bytes, found: re.Match[bytes]) -> bytes:
    """*send* with the groups of *found* in place of `$1` and `${1}`, as Go's Regexp.Expand; `$$` is a dollar sign."""

    def group(one: re.Match[bytes]) -> bytes:
        name = (one[1] or one[2] or b"").decode()
        if not name:
            return b"$"
        try:
            return found[int(name) if name.isdigit() else name] or b""
        except IndexError:  # Go puts nothing there
            return b""

    return _GROUP.sub(group, send)
