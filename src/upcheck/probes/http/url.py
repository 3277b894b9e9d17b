"""URLs: where they lead, and what of them may be shown."""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from upcheck.probes import ProbeError

_SECRET = re.compile(r"(?i)(pass|secret|token|key|auth|sig|cred)")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PARAMETER = re.compile(r"([^=&;]*)=([^&;]*)")
_USERINFO = re.compile(r"^([a-z0-9+.-]*:?//)[^/?#]*@", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

RequestError = ProbeError


def redacted(url: object) -> str:
    """*url* (text, or anything that writes itself as one) without user, password, the values of parameters whose
    names sound like secrets, or what comes after `#`, which is never sent.
    """
    plain, _, query = str(url).partition("#")[0].partition("?")
    plain = _USERINFO.sub(r"\1", plain)
    if not query:
        return plain
    return f"{plain}?{_PARAMETER.sub(_without_value, query)}"


def _without_value(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}=redacted" if sounds_secret(unquote(parameter[1])) else parameter[0]


def sounds_secret(name: str) -> bool:
    """Whether what is called *name* should not be shown."""
    return _SECRET.search(name) is not None


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that *host* is, or None where it is a name."""
    if not host or (host[-1].isalpha() and ":" not in host):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_link_local(host: str) -> bool:
    """Whether *host* is an address that only this link knows: 169.254.0.0/16, fe80::/10, or the former mapped."""
    found = address(host)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_link_local
    return found is not None and found.is_link_local


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: *url* has neither user nor password, *authorization* is what they make of a header.

    *host* has no brackets; *literal* says that it is an address and needs no resolver; *shown* is without secrets.
    """

    scheme: str
    host: str
    port: int
    url: str
    authorization: str | None
    literal: bool
    shown: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to."""
        return self.scheme, self.host, self.port

    @classmethod
    def of(cls, url: str) -> Target:
        """The target of *url*; raises RequestError unless it is http or https and fit to be sent."""
        return _target(url)

    @classmethod
    def of_proxy(cls, url: str) -> Target:
        """The proxy at *url*."""
        return cls._of(url, tuple(_PORTS))

    @classmethod
    def _of(cls, url: str, schemes: tuple[str, ...]) -> Target:
        shown = redacted(url)
        if found := _UNFIT.search(url):
            raise RequestError(f"the URL {shown!r} has {found[0]!r} in it, which no URL may have")
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise RequestError(f"{shown} is no URL: {error}") from None
        if parts.scheme not in schemes:
            raise RequestError(f"{shown}: expected {schemes[0]}:// or {schemes[1]}://")
        host = _ascii(host, shown)
        literal = address(host) is not None
        if not literal and not _HOST.fullmatch(host):
            raise RequestError(f"{shown}: {host!r} is no host")
        place = f"[{host.replace('%', '%25')}]" if ":" in host else host
        place += f":{port}" if port is not None else ""
        rest = quote(parts.path or "/", safe=_PRINTABLE) + (
            f"?{quote(parts.query, safe=_PRINTABLE)}" if parts.query else ""
        )
        return cls(
            scheme=parts.scheme,
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            url=f"{parts.scheme}://{place}{rest}",
            authorization=_basic(parts.username, parts.password),
            literal=literal,
            shown=shown,
        )


def _ascii(host: str, shown: str) -> str:
    host = unquote(host)
    if host.isascii():
        return host
    try:
        import idna  # only names that need it pay for its tables

        return idna.encode(host, uts46=True).decode("ascii")
    except (ImportError, UnicodeError) as error:
        raise RequestError(f"{shown}: {host!r} is no host: {error}") from None


def _basic(user: str | None, password: str | None) -> str | None:
    if not user and not password:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


@functools.lru_cache(4096)  # a client is asked for the same few again and again
def _target(url: str) -> Target:
    return Target._of(url, ("http", "https"))
