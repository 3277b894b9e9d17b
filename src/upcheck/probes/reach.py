"""What a probe may connect to: networks, held against each address just before it is connected to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Reach:
    """Networks that may be reached. Names are resolved first, so that what they lead to is what is judged."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] | None) -> None:
        """None is no limit. Raises ValueError for what is no network, such as `10.0.0.1/8`."""
        self._networks = None if networks is None else tuple(ipaddress.ip_network(one) for one in networks)

    def __repr__(self) -> str:
        return f"Reach({None if self._networks is None else list(map(str, self._networks))})"

    def refuses(self, address: str) -> str:
        """Why *address* may not be connected to, in a sentence; empty where it may."""
        if self._networks is None:
            return ""
        found = unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        meant = [network for network in self._networks if found in network]
        # Where the metadata of clouds is: a network as wide as 0.0.0.0/0 does not mean it.
        if meant and (not found.is_link_local or any(network.is_link_local for network in meant)):
            return ""
        shown = address if str(found) == address else f"{address} (that is {found})"
        return f"{shown} is in none of the networks that may be probed: add one to the allowed networks if it should be"


ANYWHERE = Reach(None)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for (mapped, 6to4, NAT64), or *address* itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
