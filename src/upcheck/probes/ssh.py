"""SSH: the line by which a server says who it is. See docs/probes/ssh.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from upcheck.probes import Journey, Reason, Run
from upcheck.probes.sockets import OverSocket
from upcheck.probes.tcp import pattern

MAX_LINES = 50  # that a server may send before the one that counts: RFC 4253, 4.2
MAX_LINE = 1024  # bytes
OURS = b"SSH-2.0-upcheck\r\n"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ssh(OverSocket):
    """Whether an SSH 2 server answers at *address*; *banner* is a regular expression that its line must match."""

    banner: str | None = None
    expression: re.Pattern[bytes] | None = field(init=False)
    kind: ClassVar[str] = "ssh"

    def __post_init__(self) -> None:
        OverSocket.__post_init__(self)
        object.__setattr__(self, "expression", pattern("banner", self.banner) if self.banner else None)

    def journey(self, run: Run) -> Journey:
        """Read the line, say our own, close."""
        stream = yield from self.connected(run)
        with stream:
            for _ in range(MAX_LINES):
                line = yield from stream.line(MAX_LINE)
                if line is None:
                    raise run.fail(Reason.BROKEN_OFF, "the server closed the connection before it said who it is")
                if line.startswith(b"SSH-"):
                    break
            else:
                raise run.fail(Reason.MALFORMED, f"no SSH is spoken there: none of the first {MAX_LINES} lines is its")
            said = line.rstrip(b"\r\n")
            shown = said[:100].decode(errors="replace")
            run.note(f"the server says {shown!r}")
            if not line.endswith(b"\n"):
                raise run.fail(Reason.BROKEN_OFF, f"the line that says who it is broke off: {shown!r}")
            if not said.startswith((b"SSH-2.0-", b"SSH-1.99-")):
                raise run.fail(Reason.UNEXPECTED_ANSWER, f"not version 2 of the protocol: {shown!r}")
            if self.expression is not None and not self.expression.search(said):
                raise run.fail(Reason.UNEXPECTED_ANSWER, f"{shown!r} does not match {self.banner!r}")
            yield from stream.send(OURS)  # a server logs a client that says nothing
