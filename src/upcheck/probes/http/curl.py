"""libcurl, through pycurl: a handle is prepared from a Request, and an Answer or an HttpFailure read out of it."""

from __future__ import annotations

import re
import time
from typing import Any

import pycurl

from upcheck.probes.authorities import authorities
from upcheck.probes.http.exchange import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    Answer,
    Certificate,
    HttpFailure,
    Phase,
    Phases,
    Reason,
    Request,
    moment,
)
from upcheck.probes.http.failures import Death, told
from upcheck.probes.http.journey import Transfer

_HAPPY_EYEBALLS_TIMEOUT_MS = 271  # CURLOPT_HAPPY_EYEBALLS_TIMEOUT_MS and the next have no name in pycurl
_SUPPRESS_CONNECT_HEADERS = 265
_VERSIONS = {
    pycurl.CURL_HTTP_VERSION_1_0: "HTTP/1.0",
    pycurl.CURL_HTTP_VERSION_1_1: "HTTP/1.1",
    pycurl.CURL_HTTP_VERSION_2_0: "HTTP/2",
}
_TIMES = (
    pycurl.NAMELOOKUP_TIME,
    pycurl.CONNECT_TIME,
    pycurl.APPCONNECT_TIME,
    pycurl.STARTTRANSFER_TIME,
    pycurl.TOTAL_TIME,
)
# One key share in the first flight, X25519: OpenSSL's own first choice is a hybrid as well, whose keys cost more CPU
# than the rest of a handshake that is made to see whether there is one.
_OPENSSL = re.match(r"OpenSSL/3\.(\d+)", pycurl.version_info()[5])
_GROUPS = "X25519:P-256:P-384:P-521" + (":X25519MLKEM768" if _OPENSSL and int(_OPENSSL[1]) >= 5 else "")
CERTIFICATE_AGE = 60.0  # seconds for which a target's certificate is known: reading it costs a third of a handshake
MAX_CERTIFICATES = 20_000
_certificates: dict[tuple[object, ...], tuple[float, Certificate]] = {}


class Handle:
    """An easy handle that is kept: a new connection each time, without a new handle."""

    __slots__ = (
        "_ask_certificate",
        "_chunks",
        "_head_size",
        "_headed",
        "_shape",
        "_size",
        "_step",
        "_trailers",
        "curl",
        "lines",
        "refused",
        "user",
    )

    def __init__(self) -> None:
        self.curl = pycurl.Curl()
        self.lines: list[bytes] = []
        self._trailers: list[bytes] = []
        self._chunks: list[bytes] = []
        self._shape: tuple[object, ...] | None = None
        self.user: Any = None  # whose transfer this is, for who drives it
        self._clear()

    def prepare(self, step: Transfer, left: float) -> None:
        """Be ready to perform *step* in *left* seconds."""
        request = step.request
        self._clear()
        self._step = step
        curl = self.curl
        via = request.via or request.target
        if request.shape != self._shape:
            self._configure(request)
        curl.setopt(pycurl.URL, request.target.url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, round(left * 1000)))
        if step.addresses is not None:
            # "+": in place of what an earlier request knew, and not for ever.
            curl.setopt(pycurl.RESOLVE, [f"+{via.host}:{via.port}:{','.join(step.addresses)}"])
        if request.target.scheme == "https":
            self._ask_certificate = _known(request) is None
            curl.setopt(pycurl.OPT_CERTINFO, int(self._ask_certificate))

    def prepare_peer(self, step: Transfer, left: float) -> None:
        """Be ready to shake hands as *step* would, to see a certificate that is not to be trusted."""
        self.prepare(step, left)
        self._shape = None
        self.curl.setopt(pycurl.CONNECT_ONLY, 1)
        self.curl.setopt(pycurl.SSL_VERIFYPEER, 0)
        self.curl.setopt(pycurl.SSL_VERIFYHOST, 0)
        self.curl.setopt(pycurl.OPT_CERTINFO, 1)

    def _clear(self) -> None:
        self.lines = []
        self._trailers = []
        self._chunks.clear()
        self._size = self._head_size = 0
        self._headed = self._ask_certificate = False
        self.refused: Reason | None = None

    def _configure(self, request: Request) -> None:
        curl = self.curl
        curl.reset()
        self._shape = None
        for option, value in _ALWAYS:
            curl.setopt(option, value)
        curl.setopt(pycurl.HEADERFUNCTION, self._line)
        curl.setopt(pycurl.WRITEFUNCTION, self._chunk)
        _set_method(curl, request)
        curl.setopt(pycurl.HTTPHEADER, request.head)
        if request.prior_knowledge:
            curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        elif request.http2:
            curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        _set_trust(curl, request)
        if request.source_ip is not None:
            curl.setopt(pycurl.INTERFACE, f"host!{request.source_ip}")
        if request.unix_socket is not None:
            curl.setopt(pycurl.UNIX_SOCKET_PATH, request.unix_socket)
        if request.proxy:
            curl.setopt(pycurl.PROXY, request.proxy)
            curl.setopt(pycurl.NOPROXY, "")
        self._shape = request.shape

    def _line(self, line: bytes) -> int | None:
        self._head_size += len(line)
        if self._head_size > MAX_HEADER_BYTES or len(self.lines) + len(self._trailers) > MAX_HEADERS:
            self.refused = Reason.HEADERS_TOO_LARGE
            return -1
        if line.startswith(b"HTTP/"):  # a second one follows 100 Continue and its like
            self.lines = [line]
            self._headed = False
        elif line in (b"\r\n", b"\n"):
            self._headed = True
        else:
            (self._trailers if self._headed else self.lines).append(line)
        return None

    def _chunk(self, chunk: bytes) -> int | None:
        self._size += len(chunk)
        if self._size > self._step.request.max_body:
            self.refused = Reason.BODY_TOO_LARGE
            self._chunks.clear()
            return -1
        self._chunks.append(chunk)
        return None

    def answer(self) -> Answer:
        """What came, after a transfer that went well; raises HttpFailure where it went less well than curl says."""
        curl, step = self.curl, self._step
        if not self._headed:  # curl takes headers that the end of the connection cuts short for whole
            raise self.failure(pycurl.E_PARTIAL_FILE, "the connection was closed amid the headers")
        phases = self._phases()
        elapsed = step.resolved + curl.getinfo(pycurl.TOTAL_TIME)
        body = b"".join(self._chunks)
        answer = Answer(curl.getinfo(pycurl.RESPONSE_CODE), self.lines, body, phases, elapsed)
        self._chunks.clear()
        answer.trailers = self._trailers
        answer.http_version = _VERSIONS.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), "HTTP/1.1")
        answer.remote_address = curl.getinfo(pycurl.PRIMARY_IP)
        answer.url = step.request.target.url
        if step.request.target.scheme == "https":
            answer.certificate = self.certificate() if self._ask_certificate else _known(step.request)
        return answer

    def certificate(self) -> Certificate | None:
        """What the peer has shown; remembered for CERTIFICATE_AGE."""
        chain = self.curl.getinfo_raw(pycurl.INFO_CERTINFO)
        if not chain:
            return None
        leaf = dict(map(_pair, chain[0]))
        try:
            found = Certificate(moment(leaf["Expire date"]), leaf.get("Subject", ""), leaf.get("Issuer", ""))
        except (KeyError, ValueError):
            return None  # no date that could be told
        if self._shape is not None:
            if len(_certificates) >= MAX_CERTIFICATES:
                _certificates.clear()
            _certificates[_place(self._step.request)] = (time.monotonic(), found)
        return found

    def failed(self, error: pycurl.error) -> HttpFailure:
        """As `failure`, from what pycurl raises."""
        *known, message = error.args
        return self.failure(int(known[0]) if known else 0, str(message))

    def failure(self, code: int, message: str) -> HttpFailure:
        """Why there is no answer, after a transfer that ended with curl's *code* and *message*."""
        self._chunks.clear()
        curl = self.curl
        try:
            errno_ = curl.getinfo(pycurl.OS_ERRNO)
            verified = curl.getinfo(pycurl.SSL_VERIFYRESULT)
        finally:
            self._shape = None  # whatever state it is in, begin anew
        death = Death(code, message, errno_, verified, self._phase(), self.refused)
        return told(death, self._step.request)

    def _phases(self) -> Phases:
        name, connect, tls, first, total = map(self.curl.getinfo, _TIMES)
        secured = max(connect, tls)
        return Phases(
            self._step.resolved + name,
            max(0.0, connect - name),
            secured - connect if secured > connect else 0.0,
            max(0.0, first - secured),
            max(0.0, total - max(first, secured)),
        )

    def _phase(self) -> Phase:
        """Where the transfer died."""
        if self._headed:
            return Phase.TRANSFER
        curl = self.curl
        if curl.getinfo(pycurl.CONNECT_TIME) <= 0:
            return Phase.CONNECT
        if self._step.request.target.scheme == "https" and curl.getinfo(pycurl.APPCONNECT_TIME) <= 0:
            return Phase.TLS
        return Phase.PROCESSING


_ALWAYS: tuple[tuple[int, Any], ...] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.USERAGENT, "upcheck"),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),  # or else curl reads variables of the environment
    (pycurl.NOPROXY, "*"),
    (pycurl.ACCEPT_ENCODING, ""),  # all that this libcurl can decode
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (_SUPPRESS_CONNECT_HEADERS, 1),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (_HAPPY_EYEBALLS_TIMEOUT_MS, 200),
)


def _set_method(curl: pycurl.Curl, request: Request) -> None:
    if request.method == "HEAD":
        curl.setopt(pycurl.NOBODY, 1)
    elif request.body:
        curl.setopt(pycurl.POSTFIELDS, request.body)
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)
    elif request.method != "GET":
        if request.method in ("POST", "PUT", "PATCH"):  # whose empty body is told by its length
            curl.setopt(pycurl.POSTFIELDS, b"")
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)


def _set_trust(curl: pycurl.Curl, request: Request) -> None:
    if _OPENSSL:
        curl.setopt(pycurl.SSL_EC_CURVES, _GROUPS)
    if not request.verify:
        curl.setopt(pycurl.SSL_VERIFYPEER, 0)
        curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    elif request.target.scheme == "https" or request.proxy:
        file = request.ca_file or authorities()
        curl.setopt(pycurl.CAINFO, file)  # a file, because curl keeps what it has read of one
        curl.unsetopt(pycurl.CAPATH)
        curl.setopt(pycurl.PROXY_CAINFO, file)
    for option, value in (
        (pycurl.SSLCERT, request.certificate),
        (pycurl.SSLKEY, request.key),
        (pycurl.KEYPASSWD, request.password),
    ):
        if value is not None:
            curl.setopt(option, value)


def _place(request: Request) -> tuple[object, ...]:
    return (*request.target.origin, request.proxy)


def _known(request: Request) -> Certificate | None:
    seen = _certificates.get(_place(request))
    return seen[1] if seen is not None and time.monotonic() - seen[0] < CERTIFICATE_AGE else None


def _pair(entry: bytes | tuple[bytes, bytes]) -> tuple[str, str]:
    name, value = entry if isinstance(entry, tuple) else entry.split(b":", 1)
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
