"""Ports of this machine: whether something listens, without connecting to it. See docs/probes/port.md."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psutil

from upcheck.probes import Blocking, Phase, ProbeError, Reason, Run

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Port(Blocking):
    """Whether something listens on *port*, by TCP or UDP; on the address *host*, or on whichever.

    *process* is the name of what must be listening, which takes the right to see other people's processes.
    """

    port: int = field(kw_only=False)
    protocol: str = "tcp"
    host: str | None = None
    process: str | None = None
    deadline: float = 10.0
    kind: ClassVar[str] = "port"
    subject: ClassVar[str] = "port"

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536 or self.protocol not in _KINDS:
            raise ProbeError(
                f"port: expected a number from 1 to 65535, and tcp or udp, not {self.port} {self.protocol}"
            )

    @property
    def asked(self) -> str:
        """The port."""
        return f"port {self.protocol} {f'{self.host}:' if self.host else ''}{self.port}"

    def ask(self, run: Run) -> None:
        """Look through what listens."""
        run.phase = Phase.PROCESSING
        try:
            found = [one for one in psutil.net_connections(self.protocol) if self._is_it(one)]
        except psutil.AccessDenied:
            why = "not asked: this process may not see what listens here; ask by `tcp` instead"
            raise run.fail(Reason.NOT_PERMITTED, why) from None
        if not found:
            raise run.fail(Reason.NOT_LISTENING, f"nothing listens on {self.asked.removeprefix('port ')}")
        if self.process is None:
            return
        names = sorted({_name(one.pid) for one in found})
        if self.process not in names:
            raise run.fail(Reason.NOT_LISTENING, f"{', '.join(names)} listens there, not {self.process}")

    def _is_it(self, one: Any) -> bool:
        listens = one.status == psutil.CONN_LISTEN or (self.protocol == "udp" and not one.raddr)
        return bool(listens and one.laddr and one.laddr.port == self.port and self.host in (None, one.laddr.ip))


def _name(pid: int | None) -> str:
    try:
        return psutil.Process(pid).name() if pid else "somebody else's process"
    except psutil.Error:
        return "a process that ended"
