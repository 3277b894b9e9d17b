"""The words of an HTTP exchange: what is asked, what came back, and why nothing did."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from upcheck.probes import Certificate as Certificate
from upcheck.probes import Phase as Phase
from upcheck.probes import ProbeFailure
from upcheck.probes import Reason as Reason
from upcheck.probes.addresses import Preference
from upcheck.probes.http.url import RequestError, Target

HttpFailure = ProbeFailure

MAX_BODY = 16 * 1024 * 1024  # bytes, decoded
MAX_HEADERS = 256
MAX_HEADER_BYTES = 64 * 1024
MAX_REDIRECTS = 10
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.IGNORECASE)


@dataclass(slots=True)
class Phases:
    """Seconds spent in each phase, over all redirects."""

    resolve: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    processing: float = 0.0
    transfer: float = 0.0

    def __add__(self, other: Phases) -> Phases:
        return Phases(*(getattr(self, one) + getattr(other, one) for one in Phase))

    def rounded(self) -> dict[str, float]:
        """As a dict of plain values, to the microsecond."""
        return {
            "resolve": round(self.resolve, 6),
            "connect": round(self.connect, 6),
            "tls": round(self.tls, 6),
            "processing": round(self.processing, 6),
            "transfer": round(self.transfer, 6),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What to ask, made once and asked as often as one likes. Raises RequestError where it can't be meant.

    *deadline* seconds bound the whole exchange, redirects included. *max_body* counts decoded bytes.
    *ca_file* is a file of PEM certificates to trust in place of certifi's; *certificate*, *key* and *password*
    are the client's own. *proxy* is a URL; variables of the environment are never read.
    *refuse_link_local* is set on what a redirect leads to. *prior_knowledge* speaks HTTP/2 without TLS at once;
    *connect_to* is a host to ask in place of the URL's; *ip_protocol* and *source_ip* as of the other probes.
    *unix_socket* is a path to connect to, where the URL's host is an address that nobody asks.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    deadline: float = 10.0
    follow_redirects: bool = True
    max_redirects: int = MAX_REDIRECTS
    max_body: int = MAX_BODY
    verify: bool = True
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    password: str | None = None
    proxy: str | None = None
    http2: bool = False
    refuse_link_local: bool = False
    prior_knowledge: bool = False
    connect_to: str | None = None
    ip_protocol: str | None = None
    ip_protocol_fallback: bool = True
    source_ip: str | None = None
    unix_socket: str | None = None
    prefer: Preference = field(init=False)
    target: Target = field(init=False)
    via: Target | None = field(init=False)
    head: list[bytes] = field(init=False)  # as curl wants them
    shape: tuple[object, ...] = field(init=False)  # all of a handle's options but the URL

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "target", Target.of(self.url))
        put(self, "via", Target.of_proxy(self.proxy) if self.proxy else None)
        if not _NAME.fullmatch(self.method):
            raise RequestError(f"{self.method!r} is no HTTP method")
        put(self, "head", _head(self))
        trust = (self.verify, self.ca_file, self.certificate, self.key, self.password)
        put(self, "prefer", Preference(self.ip_protocol, self.ip_protocol_fallback))
        way = (self.proxy, self.source_ip, self.unix_socket, self.http2, self.prior_knowledge)
        put(self, "shape", (self.method, self.body, tuple(self.head), *way, *trust))

    def __repr__(self) -> str:
        return f"<Request {self.asked}>"

    @property
    def asked(self) -> str:
        """The method and the URL, without its secrets."""
        return f"{self.method} {self.target.shown}"


def _head(request: Request) -> list[bytes]:
    given = {name.lower() for name, _ in request.headers}
    lines = []
    for name, value in request.headers:
        if not _NAME.fullmatch(name):
            raise RequestError(f"{name!r} is no name for a header")
        if _CONTROL.search(value):
            raise RequestError(f"the header {name} has a control character in it")
        lines.append(f"{name}: {value.strip()}" if value.strip() else f"{name};")
    if request.target.authorization and "authorization" not in given:
        lines.append(f"Authorization: {request.target.authorization}")
    # What curl adds of its own accord: an Expect that makes it wait, a type that nobody declared.
    lines += [f"{name}:" for name in ("Expect", "Content-Type") if name.lower() not in given and request.body]
    try:
        return [line.encode("latin-1") for line in lines]
    except UnicodeEncodeError:
        return [line.encode("utf-8") for line in lines]


class Answer:
    """What came back, whole: *body* is decoded, *elapsed* and *phases* are seconds, over all redirects.

    *http_version* is such as `HTTP/1.1`, *url* where the redirects led, *remote_address* who answered.
    """

    __slots__ = (
        "_headers",
        "body",
        "certificate",
        "elapsed",
        "http_version",
        "lines",
        "phases",
        "redirects",
        "remote_address",
        "status",
        "trailers",
        "url",
    )

    def __init__(self, status: int, lines: list[bytes], body: bytes, phases: Phases, elapsed: float) -> None:
        self.status = status
        self.lines = lines  # the status line, then a line for each header, as they came
        self.body = body
        self.phases = phases
        self.elapsed = elapsed
        self.trailers: list[bytes] = []  # as the lines
        self.http_version = "HTTP/1.1"
        self.remote_address = ""
        self.certificate: Certificate | None = None
        self.redirects = 0
        self.url = ""
        self._headers: list[tuple[str, str]] | None = None

    @property
    def reason_phrase(self) -> str:
        """The words beside the status, or those that are usual where none came (HTTP/2)."""
        words = self.lines[0].split(None, 2)[2:] if self.lines else []
        if words:
            return words[0].decode("latin-1").strip()
        return HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values in their order."""
        if self._headers is None:
            self._headers = list(_pairs(self.lines[1:]))
        return self._headers

    def header(self, name: str) -> str | None:
        """The value of the header *name*, in whatever case; several are joined by commas; None where there is none."""
        found = [value for one, value in self.headers if one.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def text(self) -> str:
        """The body in the charset that it declares, else UTF-8; what can't be read is replaced."""
        declared = _CHARSET.search(self.header("content-type") or "")
        try:
            return self.body.decode(declared[1] if declared else "utf-8", "replace")
        except LookupError:  # a charset that there is not
            return self.body.decode("utf-8", "replace")

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def _pairs(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            yield name.strip(), value.strip()


def summary(status: int, reason: str, elapsed: float, body: str | None) -> str:
    """What came back, in a line; *body* is there where its first words should be told."""
    line = f"{status} {reason} in {elapsed * 1000:.0f} ms"
    return line if body is None else f"{line}: {excerpt(body)}"


def excerpt(body: str) -> str:
    """The first words of *body*, in quotes, on one line."""
    words = " ".join(body[:400].split())
    return f'"{words[:100]}{"…" if len(words) > 100 else ""}"' if words else "(empty body)"


def moment(text: str) -> float:
    """Unix seconds of a time as OpenSSL writes it, such as `Nov  5 09:34:43 2026 GMT`; ValueError otherwise."""
    return float(calendar.timegm(time.strptime(" ".join(text.split()), "%b %d %H:%M:%S %Y GMT")))
