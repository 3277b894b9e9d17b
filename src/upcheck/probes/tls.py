"""TLS: a handshake, and what the certificate says. See docs/probes/tls.md."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from upcheck.exposition import labelled
from upcheck.probes import READ, WRITE, Certificate, Journey, Phase, ProbeError, ProbeFailure, Reason, Run, Wait
from upcheck.probes.authorities import authorities
from upcheck.probes.resolver import own_resources, starved
from upcheck.probes.sockets import OverSocket, Steps, Stream

# X509_V_ERR_*: see X509_STORE_CTX_get_error(3)
VERIFIED = {
    9: (Reason.CERTIFICATE_NOT_YET_VALID, "certificate is not yet valid"),
    10: (Reason.CERTIFICATE_EXPIRED, "certificate has expired"),
    18: (Reason.CERTIFICATE_SELF_SIGNED, "self-signed certificate"),
    19: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "self-signed certificate in certificate chain"),
    20: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate"),
    21: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to verify the first certificate"),
}
_OF_THE_NAME = (62, 64)
_NOT_TLS = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE"}
_DER = 2  # X509_FILETYPE_ASN1
_VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "serialNumber": "SERIALNUMBER",
    "postalCode": "POSTALCODE",
}
MAX_NAMES = 1000  # characters of alternative names in a label


@dataclass(frozen=True, slots=True)
class Trust:
    """What is accepted of a server, and shown to it: the authorities of the settings, or those in *ca_file* (PEM).

    *server_name* is what the certificate must be for, in place of the host; *certificate* and *key* are files of the
    client's own; versions such as `TLSv1.2`.
    """

    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    min_version: str | None = None
    max_version: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that was shown: *not_after* in unix seconds, *names* the alternative ones that are of DNS."""

    not_after: float
    subject: str
    issuer: str
    names: tuple[str, ...]
    fingerprint: str


def handshake(run: Run, stream: Stream, host: str, trust: Trust) -> Steps:
    """Have *stream* speak TLS with *host*; its certificate and version are among the metrics of *run*."""
    began = time.monotonic()
    before, run.phase = run.phase, Phase.TLS
    if stream.unread:
        raise run.fail(Reason.MALFORMED, "the server spoke on before TLS began")
    context = context_of(trust)
    name = trust.server_name or host.partition("%")[0]
    run.note(f"TLS handshake, for {name}")
    try:
        secured = context.wrap_socket(stream.sock, do_handshake_on_connect=False, server_hostname=name)
        stream.sock = secured
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                ready = yield Wait(secured.fileno(), READ, run.until)
            except ssl.SSLWantWriteError:
                ready = yield Wait(secured.fileno(), WRITE, run.until)
            if not ready:
                raise run.late()
    except ssl.SSLError as error:
        raise run.fail(*refusal(error, name)) from None
    run.spent("tls", began)
    record(run, secured)
    if run.looking:
        raise run.fail(Reason.OTHER, "looked at")
    run.phase = before


def refusal(error: ssl.SSLError, name: str) -> tuple[Reason, str]:
    """What an *error* of the handshake with *name* means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OF_THE_NAME:
            why = f"Hostname mismatch, certificate is not valid for '{name}'"
            return Reason.CERTIFICATE_WRONG_HOST, f"certificate not accepted: {why}"
        reason, why = VERIFIED.get(error.verify_code, (Reason.CERTIFICATE_INVALID, error.verify_message))
        return reason, f"certificate not accepted: {why}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Reason.TLS_FAILED, "TLS failed: the server closed the connection in the handshake"
    why = (error.reason or str(error)).lower().replace("_", " ")
    if error.reason in _NOT_TLS:
        return Reason.TLS_NOT_SPOKEN, f"no TLS is spoken there: {why}"
    return Reason.TLS_FAILED, f"TLS failed: {why}"


def context_of(trust: Trust) -> ssl.SSLContext:
    """What accepts whom *trust* does; shared, so not to be changed. Raises ProbeFailure for its files."""
    return _context(trust, _stamp(trust))


def _stamp(trust: Trust) -> object:
    """What changes when a file of *trust* does; raises ProbeFailure where there is none."""
    issuers = trust.ca_file or (authorities() if trust.verify else None)
    try:
        files = [Path(one).stat() for one in (issuers, trust.certificate, trust.key) if one is not None]
    except OSError as error:
        raise _unusable(error) from None
    return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in files)


def _unusable(error: OSError) -> ProbeFailure:
    if starved():
        return ProbeFailure(Reason.OWN_RESOURCES, own_resources(str(error)), Phase.TLS)
    return ProbeFailure(Reason.CERTIFICATE_FILE, f"not asked: a file of certificates can't be used: {error}", Phase.TLS)


@functools.lru_cache(64)  # to make one is to read all authorities, which takes 20 ms
def _context(trust: Trust, _stamp: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_TICKET
    if trust.min_version is not None:
        context.minimum_version = _VERSIONS[trust.min_version]
    if trust.max_version is not None:
        context.maximum_version = _VERSIONS[trust.max_version]
    try:
        if trust.verify:
            context.load_verify_locations(trust.ca_file or authorities())
        if trust.certificate is not None:
            context.load_cert_chain(trust.certificate, trust.key)
    except OSError as error:  # ssl.SSLError among them
        raise _unusable(error) from None
    return context


def record(run: Run, secured: ssl.SSLSocket) -> None:
    """Tell what *secured* shows: certificate, version, cipher."""
    # Public from Python 3.13 on, and there without what they say.
    connection: Any = secured._sslobj  # type: ignore[attr-defined]
    chain = [_shown(one.public_bytes(_DER), one) for one in connection.get_unverified_chain() or ()]
    metrics = run.metrics
    if chain:
        metrics["probe_ssl_earliest_cert_expiry"] = min([one.not_after for one in chain])
        metrics[_info(chain[0])] = 1
        run.note(f"certificate of {chain[0].subject}, issued by {chain[0].issuer}, for {', '.join(chain[0].names)}")
    if secured.context.verify_mode is not ssl.CERT_NONE:
        verified = [_shown(one.public_bytes(_DER), one) for one in connection.get_verified_chain() or ()]
        metrics["probe_ssl_last_chain_expiry_timestamp_seconds"] = min([one.not_after for one in verified])
    metrics[_version(secured.version() or "")] = 1
    cipher = secured.cipher()
    metrics[_cipher(cipher[0] if cipher else "")] = 1


_seen: dict[bytes, Shown] = {}


def _shown(der: bytes, certificate: Any) -> Shown:
    known = _seen.get(der)
    if known is None:
        if len(_seen) >= 4096:
            _seen.clear()
        known = _seen[der] = _read(der, certificate.get_info())
    return known


def _read(der: bytes, info: Any) -> Shown:
    return Shown(
        ssl.cert_time_to_seconds(info["notAfter"]),
        _name(info.get("subject", ())),
        _name(info.get("issuer", ())),
        tuple(str(value) for kind, value in info.get("subjectAltName", ()) if kind == "DNS"),
        hashlib.sha256(der).hexdigest(),
    )


def _name(parts: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A distinguished name as RFC 2253 has it: the last part first."""
    written = ["+".join(f"{_SHORT.get(key, key)}={_plain(value)}" for key, value in part) for part in parts]
    return ",".join(reversed(written))


def _plain(value: str) -> str:
    return re.sub(r'([,+"\\<>;])', r"\\\1", value)


@functools.lru_cache(4096)
def _info(leaf: Shown) -> str:
    names = ",".join(leaf.names)[:MAX_NAMES]
    return labelled(
        "probe_ssl_last_chain_info",
        (
            ("fingerprint_sha256", leaf.fingerprint),
            ("issuer", leaf.issuer),
            ("subject", leaf.subject),
            ("subjectalternative", names),
        ),
    )


@functools.lru_cache
def _version(version: str) -> str:
    return labelled("probe_tls_version_info", (("version", version.replace("TLSv", "TLS ")),))


@functools.lru_cache
def _cipher(cipher: str) -> str:
    return labelled("probe_tls_cipher_info", (("cipher", cipher),))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OverTls(OverSocket):
    """A probe over a connection that may speak TLS: the fields of `Trust` beside those of `OverSocket`."""

    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    min_version: str | None = None
    max_version: str | None = None
    trust: Trust = field(init=False)

    def __post_init__(self) -> None:
        OverSocket.__post_init__(self)
        for name in ("min_version", "max_version"):
            if getattr(self, name) not in (None, *_VERSIONS):
                raise ProbeError(f"{name}: expected one of {', '.join(_VERSIONS)}, not {getattr(self, name)!r}")
        trust = Trust(**{name: getattr(self, name) for name in Trust.__slots__})
        object.__setattr__(self, "trust", trust)

    def examined(self, run: Run, exchange: Callable[[Run, Trust], Journey]) -> Journey:
        """*exchange* in full; where a certificate is not accepted, once more for what it says, and the failure then."""
        return examined(run, exchange, exchange, self.trust)


def examined(
    run: Run, exchange: Callable[[Run, Trust], Journey], look: Callable[[Run, Trust], Journey], trust: Trust
) -> Journey:
    """*exchange*; where a certificate is not accepted, *look* for what it says, and the failure then.

    *look* trusts anybody, and ends with the handshake.
    """
    try:
        yield from exchange(run, trust)
    except ProbeFailure as failure:
        if failure.reason.of_certificate:
            run.note(f"{failure}: looking at it all the same")
            yield from _look(run, look, replace(trust, verify=False), failure)
        raise


def _look(
    run: Run, exchange: Callable[[Run, Trust], Journey], blind: Trust, failure: ProbeFailure
) -> Generator[Any, Any, None]:
    other = Run(0.0, run.until, run.reach)
    other.looking = True
    with contextlib.suppress(ProbeFailure, OSError):  # the first failure is told; this is for a fact beside it
        yield from exchange(other, blind)
    run.metrics |= {name: value for name, value in other.metrics.items() if name.startswith("probe_ssl")}
    expiry = run.metrics.get("probe_ssl_earliest_cert_expiry")
    if expiry is not None:
        failure.certificate = Certificate(expiry, "", "")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tls(OverTls):
    """A handshake with *address*, and no more."""

    kind: ClassVar[str] = "tls"

    def journey(self, run: Run) -> Journey:
        """Connect, shake hands, close."""
        return self.examined(run, self._exchange)

    def _exchange(self, run: Run, trust: Trust) -> Journey:
        stream = yield from self.connected(run)
        with stream:
            yield from handshake(run, stream, self.place.host, trust)
