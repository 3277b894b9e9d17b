"""Prometheus' web configuration file, as all its exporters read it: TLS, users, response headers, a rate limit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from upcheck import documents
from upcheck.collector import tls
from upcheck.collector.reloaded import FileError, Reloaded
from upcheck.documents import DocumentError, Map, Seq
from upcheck.settings import nearest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_KEYS: dict[str, dict[str, type]] = {
    "tls_server_config": {
        "cert": str,
        "key": str,
        "cert_file": str,
        "key_file": str,
        "client_auth_type": str,
        "client_ca": str,
        "client_ca_file": str,
        "client_allowed_sans": Seq,
        "min_version": str,
        "max_version": str,
        "cipher_suites": Seq,
        "prefer_server_cipher_suites": bool,
        "curve_preferences": Seq,
    },
    "http_server_config": {"http2": bool, "headers": Map},
    "basic_auth_users": {},  # the names of users
    "rate_limit": {"interval": str, "burst": int},
}
_EXPECTED = {str: "text", bool: "true or false", int: "a whole number", Seq: "a list of texts", Map: "a mapping"}
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
_BCRYPT = re.compile(r"\$2[abxy]?\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+")  # Go's
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file says. *users* are bcrypt hashes by name, *interval* the seconds between two requests.

    *context* is None without TLS; *sans* are the names one of which a client's certificate must have, if there are any.
    """

    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    headers: Sequence[tuple[bytes, bytes]] = ()
    context: ssl.SSLContext | None = None
    sans: frozenset[str] = frozenset()
    interval: float = 0.0
    burst: int = 0


def read(path: Path) -> tuple[WebConfig, Sequence[Path]]:
    """The configuration in *path*, and the files it comes from. Raises FileError, at file:line:column."""
    try:
        document = _Document(path)
        serves = document.sections["tls_server_config"]
        built = tls.build(serves, path.parent) if serves else tls.Served()
        users, headers = document.users(), document.headers()
        interval, burst = document.rate()
    except tls.Refused as refused:
        raise FileError(str(document.error(refused.why, "tls_server_config", refused.key))) from None
    except DocumentError as error:
        raise FileError(str(error)) from None
    return WebConfig(users, headers, built.context, built.sans, interval, burst), (path, *built.files)


def watched(path: Path) -> Reloaded[WebConfig]:
    """The configuration in *path*, read again when a file of it changes. Raises FileError."""
    serves: list[bool] = []  # whether with TLS, from the first reading on

    def again() -> tuple[WebConfig, Sequence[Path]]:
        found, files = read(path)
        tls_now = found.context is not None
        if serves and serves != [tls_now]:
            raise FileError(f"{path}: TLS can't be turned {'on' if tls_now else 'off'} without a restart")
        serves[:] = [tls_now]
        return found, files

    return Reloaded(again)


class _Document:
    """The file's sections, each with known keys and values of the right type only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = documents.load(path)
        if self._root is None:
            self._root = Map()
        if not isinstance(self._root, Map):
            raise DocumentError(path, f"expected a mapping with {', '.join(_KEYS)}")
        self._known(self._root, _KEYS, "a web configuration")
        self.sections = {name: self._section(name, keys) for name, keys in _KEYS.items()}

    def users(self) -> dict[bytes, bytes]:
        users: dict[bytes, bytes] = {}
        for name, stored in self.sections["basic_auth_users"].items():
            if not isinstance(name, str) or not name or ":" in name:
                self._refuse("a user's name is text in quotes, without a colon", "basic_auth_users", name)
            if not isinstance(stored, str) or not _BCRYPT.fullmatch(stored):
                self._refuse(f"the password of '{name}': expected its bcrypt hash", "basic_auth_users", name)
            users[name.encode()] = stored.encode()
        return users

    def headers(self) -> list[tuple[bytes, bytes]]:
        where = ("http_server_config", "headers")
        found: list[tuple[bytes, bytes]] = []
        for name, value in (self.sections["http_server_config"].get("headers") or {}).items():
            if name not in _HEADERS:
                self._refuse(f"header '{name}' can't be set{nearest(str(name), _HEADERS)}", *where, name)
            if value in (None, ""):
                continue
            if not isinstance(value, str) or not value.isprintable() or not value.isascii():
                self._refuse(f"{name}: expected one line of printable ASCII", *where, name)
            if _HEADERS[name] and value not in _HEADERS[name]:
                self._refuse(f"{name}: '{value}': expected {' or '.join(_HEADERS[name])}", *where, name)
            found.append((name.lower().encode(), value.encode()))
        return found

    def rate(self) -> tuple[float, int]:
        section = self.sections["rate_limit"]
        text = str(section.get("interval", "0"))
        if text.strip("0") == "":
            return 0.0, 0
        seconds = 0.0
        if _DURATION.fullmatch(text):
            seconds = sum(float(n) * _UNITS[u] for n, u in re.findall(r"([0-9.]+)([^0-9.]+)", text))
        if not 0 < seconds <= 86400:
            self._refuse(
                f"interval: '{text}': expected a time such as 100ms, up to 24h, or 0", "rate_limit", "interval"
            )
        burst = section.get("burst", 0)
        if not 0 < burst <= 1_000_000:
            self._refuse("burst: expected 1 to 1000000: with less nothing would be answered", "rate_limit", "burst")
        return seconds, burst

    def error(self, why: str, *path: Any) -> DocumentError:
        return DocumentError(self._path, why, *documents.where(self._root, path, key=True))

    def _refuse(self, why: str, *path: Any) -> NoReturn:
        raise self.error(why, *path)

    def _section(self, name: str, keys: Mapping[str, type]) -> Map:
        section = self._root.get(name)
        if section is None:
            return Map()
        if not isinstance(section, Map):
            self._refuse(f"{name}: expected a mapping", name)
        if keys:
            self._known(section, keys, name, name)
        for key, kind in keys.items():
            value = section.get(key)
            zero = key == "interval" and value == 0  # what 0 is in YAML, and what turns the limit off
            if value is not None and not zero and not _is(value, kind):
                self._refuse(f"{key}: expected {_EXPECTED[kind]}", name, key)
        return section

    def _known(self, section: Map, keys: Mapping[str, object], title: str, *path: str) -> None:
        for key in section:
            if key not in keys:
                self._refuse(f"{title} has no key '{key}'{nearest(str(key), keys)}", *path, key)


def _is(value: object, kind: type) -> bool:
    if kind is Seq:
        return isinstance(value, Seq) and all(isinstance(one, str) for one in value)
    return type(value) is kind
