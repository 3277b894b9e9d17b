"""Where a probe leads: a host and a port, and which of the addresses of a name are asked."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from upcheck.probes import ProbeError

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:\[\]/\s]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Place:
    """A host, which is a name or an address, and a port; *shown* as people write both."""

    host: str
    port: int
    literal: bool

    @classmethod
    def of(cls, text: str) -> Place:
        """The place that is written as `host:port` or `[::1]:port`. Raises ProbeError."""
        found = _PLACE.fullmatch(text)
        if found is None or not 0 < int(found[3]) < 65536:
            raise ProbeError(f"{text!r}: expected a host and a port, such as db:5432 or [::1]:5432")
        host = found[1] or found[2]
        return cls(host, int(found[3]), is_address(host))

    @property
    def shown(self) -> str:
        """As it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_address(host: str) -> bool:
    """Whether *host* is an address, and needs no resolver."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Preference:
    """Which addresses of a name are asked: all in the resolver's order; or those of *protocol*, `ip4` or `ip6`.

    With *fallback*, the other protocol's where there is none of that.
    """

    protocol: str | None = None
    fallback: bool = True

    def __post_init__(self) -> None:
        if self.protocol not in (None, "ip4", "ip6"):
            raise ProbeError(f"ip_protocol: expected ip4 or ip6, not {self.protocol!r}")

    def chosen(self, addresses: list[str]) -> list[str]:
        """Those of *addresses* that are asked, in their order."""
        if self.protocol is None:
            return addresses
        of_it = [one for one in addresses if (":" in one) == (self.protocol == "ip6")]
        return of_it or (addresses if self.fallback else [])
