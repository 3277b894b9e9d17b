"""SMTP: the greeting, STARTTLS, and whether mail would be taken; none is sent. See docs/probes/smtp.md."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from upcheck.probes import Journey, ProbeError, Reason, Run
from upcheck.probes.sockets import Stream
from upcheck.probes.tcp import pattern
from upcheck.probes.tls import OverTls, Trust, handshake

MAX_LINE = 2048  # bytes; RFC 5321 has 512, servers have more
MAX_LINES = 100
_REPLY = re.compile(rb"([2-5][0-9]{2})([ -]?)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code, and its lines without that."""

    code: int
    lines: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The last line, with the code."""
        return f"{self.code} {self.lines[-1]}".strip()[:120]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Smtp(OverTls):
    """Whether the server at *address* greets, and answers EHLO as *helo*.

    With *starttls*, TLS after that; with *tls*, from the first byte. With *rcpt_to*, whether it would take mail from
    *mail_from* (nobody by default) for that address: no mail is sent. *banner* is a regular expression that the
    greeting must match.
    """

    helo: str = "upcheck.invalid"
    starttls: bool = False
    tls: bool = False
    mail_from: str = ""
    rcpt_to: str | None = None
    banner: str | None = None
    expression: re.Pattern[bytes] | None = field(init=False)
    kind: ClassVar[str] = "smtp"

    def __post_init__(self) -> None:
        OverTls.__post_init__(self)
        object.__setattr__(self, "expression", pattern("banner", self.banner) if self.banner else None)
        for name in ("helo", "mail_from", "rcpt_to"):
            if re.search(r"[\x00-\x20\x7f<>]", getattr(self, name) or ""):
                raise ProbeError(f"{name}: {getattr(self, name)!r} has a blank, a bracket or a control character in it")

    def journey(self, run: Run) -> Journey:
        """Go through it, and quit."""
        return self.examined(run, self._exchange)

    def _exchange(self, run: Run, trust: Trust) -> Journey:
        stream = yield from self.connected(run)
        with stream:
            if self.tls:
                yield from handshake(run, stream, self.place.host, trust)
            greeting = yield from _reply(run, stream)
            _accepted(run, "the greeting", greeting, 220)
            if self.expression is not None and not self.expression.search(greeting.shown.encode()):
                raise run.fail(Reason.UNEXPECTED_ANSWER, f"{greeting.shown!r} does not match {self.banner!r}")
            offers = yield from self._say(run, stream, f"EHLO {self.helo}", 250)
            if self.starttls:
                if not any(line.upper().split()[:1] == ["STARTTLS"] for line in offers.lines):
                    raise run.fail(Reason.NO_STARTTLS, "the server does not offer STARTTLS")
                yield from self._say(run, stream, "STARTTLS", 220)
                yield from handshake(run, stream, self.place.host, trust)
                yield from self._say(run, stream, f"EHLO {self.helo}", 250)
            if self.rcpt_to is not None:
                yield from self._say(run, stream, f"MAIL FROM:<{self.mail_from}>", 250)
                yield from self._say(run, stream, f"RCPT TO:<{self.rcpt_to}>", 250, 251)
                yield from self._say(run, stream, "RSET", 250)
            yield from stream.send(b"QUIT\r\n")

    def _say(self, run: Run, stream: Stream, command: str, *codes: int) -> Generator[Any, Any, Reply]:
        run.note(f"sending {command}")
        yield from stream.send(command.encode() + b"\r\n")
        reply = yield from _reply(run, stream)
        _accepted(run, command, reply, *codes)
        return reply


def _accepted(run: Run, command: str, reply: Reply, *codes: int) -> None:
    if reply.code not in codes:
        raise run.fail(
            Reason.STATUS, f"{reply.shown!r} to {command}" if " " in command else f"{command}: {reply.shown!r}"
        )


def _reply(run: Run, stream: Stream) -> Generator[Any, Any, Reply]:
    lines: list[str] = []
    code = None
    while len(lines) < MAX_LINES:
        line = yield from stream.line(MAX_LINE)
        if line is None or not line.endswith(b"\n"):
            raise run.fail(Reason.BROKEN_OFF, "the server closed the connection before its reply was whole")
        found = _REPLY.fullmatch(line.rstrip(b"\r\n"))
        if found is None or (code is not None and found[1] != code):
            shown = line[:60].decode(errors="replace").rstrip()
            raise run.fail(Reason.MALFORMED, f"no SMTP is spoken there: {shown!r}")
        code = found[1]
        lines.append(found[3].decode(errors="replace"))
        run.note(f"read {line.rstrip()!r}")
        if found[2] != b"-":
            return Reply(int(code), tuple(lines))
    raise run.fail(Reason.MALFORMED, f"a reply of more than {MAX_LINES} lines")
