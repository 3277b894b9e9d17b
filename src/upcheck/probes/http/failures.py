"""libcurl's codes in our words: which reason, and a sentence that names the cause."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass

import pycurl

from upcheck.probes import STARVED
from upcheck.probes.http.exchange import MAX_HEADER_BYTES, MAX_HEADERS, HttpFailure, Phase, Reason, Request
from upcheck.probes.resolver import own_resources, starved

# X509_V_ERR_*: see X509_STORE_CTX_get_error(3)
_VERIFIED = {
    9: (Reason.CERTIFICATE_NOT_YET_VALID, "certificate is not yet valid"),
    10: (Reason.CERTIFICATE_EXPIRED, "certificate has expired"),
    18: (Reason.CERTIFICATE_SELF_SIGNED, "self-signed certificate"),
    19: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "self-signed certificate in certificate chain"),
    20: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to get local issuer certificate"),
    21: (Reason.CERTIFICATE_UNKNOWN_ISSUER, "unable to verify the first certificate"),
}
_NOT_TLS = re.compile(r"wrong version number|packet length too long|http request|unknown protocol", re.IGNORECASE)
_OPENSSL = re.compile(r"error:[0-9A-F]+:(?:[^:]*):+(?P<why>[^:]+)$")
_ABRUPT = {pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR}
_BROKEN = {pycurl.E_GOT_NOTHING: "the server closed the connection without a word"}
# Some have no name in pycurl: 8 is a weird reply, 92 a broken HTTP/2 stream, 97 a proxy that failed.
_TOO_LARGE = 100
_MALFORMED = {pycurl.E_UNSUPPORTED_PROTOCOL, 8, pycurl.E_HTTP2, 92}
_FILES = {pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CRL_BADFILE}
_UNTUNNELLED = {pycurl.E_COULDNT_CONNECT, pycurl.E_RECV_ERROR}
_PROXY = {pycurl.E_COULDNT_RESOLVE_PROXY, 97}


@dataclass(frozen=True, slots=True)
class Death:
    """What curl leaves of a transfer: its code and message, the system's error number, OpenSSL's verdict on the
    certificate, where the transfer stood, and what made us end it ourselves.
    """

    code: int
    message: str
    errno: int
    verified: int
    phase: Phase
    refused: Reason | None


def told(death: Death, request: Request) -> HttpFailure:
    """Why *request* has no answer."""
    reason, sentence = _why(death, request)
    return HttpFailure(reason, sentence, death.phase)


def _why(death: Death, request: Request) -> tuple[Reason, str]:
    if death.refused is not None or death.code == _TOO_LARGE:
        reason = death.refused or Reason.HEADERS_TOO_LARGE
        return reason, _refused(reason, request)
    if death.code == pycurl.E_OUT_OF_MEMORY or death.errno in STARVED:
        return Reason.OWN_RESOURCES, own_resources(os.strerror(death.errno) if death.errno else death.message)
    if death.code == pycurl.E_OPERATION_TIMEDOUT:
        return _TIMEOUTS.get(death.phase, Reason.TIMEOUT), death.message
    if death.code in _PROXY or _refused_by_proxy(death, request):
        return Reason.PROXY_FAILED, f"the proxy does not let us through: {death.message}"
    if death.code == pycurl.E_COULDNT_CONNECT:
        return _not_connected(death, request)
    if death.code in (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION):
        return _not_secured(death, request)
    if death.code in _FILES:
        if starved():
            return Reason.OWN_RESOURCES, own_resources(death.message)
        return Reason.CERTIFICATE_FILE, f"not asked: a file of certificates can't be used: {death.message}"
    return _no_answer(death)


_TIMEOUTS = {Phase.CONNECT: Reason.CONNECT_TIMEOUT, Phase.TLS: Reason.TLS_TIMEOUT}


def _refused(reason: Reason, request: Request) -> str:
    if reason is Reason.HEADERS_TOO_LARGE:
        return f"more headers than are read: over {MAX_HEADERS}, or over {MAX_HEADER_BYTES // 1024} KiB in all"
    return f"a body of more than {request.max_body:,} bytes once decoded: no more of it was read"


def _not_connected(death: Death, request: Request) -> tuple[Reason, str]:
    if not death.errno and (starved() or _has_sockets(request)):
        # No attempt was made at all: no socket could be had, though one may have come free since.
        return Reason.OWN_RESOURCES, own_resources("no socket")
    why = os.strerror(death.errno) if death.errno else "no route to any of its addresses"
    if request.via is not None:
        return Reason.PROXY_FAILED, f"the proxy at {request.via.shown} does not answer: {why}"
    if death.errno == errno.ECONNREFUSED:
        return Reason.CONNECTION_REFUSED, why
    if death.errno in (errno.ECONNRESET, errno.EPIPE):
        return Reason.RESET, why
    return Reason.CONNECT_TIMEOUT if death.errno == errno.ETIMEDOUT else Reason.UNREACHABLE, why


def _has_sockets(request: Request) -> bool:
    """Whether this machine can speak the protocol of the target's address at all."""
    place = request.via or request.target
    try:
        socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET).close()
    except OSError as error:
        return error.errno in STARVED
    return True


def _not_secured(death: Death, request: Request) -> tuple[Reason, str]:
    if death.code == pycurl.E_PEER_FAILED_VERIFICATION:
        if "subject name" in death.message or "IP address" in death.message:
            why = f"Hostname mismatch, certificate is not valid for '{request.target.host}'"
            return Reason.CERTIFICATE_WRONG_HOST, f"certificate not accepted: {why}"
        invalid = Reason.CERTIFICATE_INVALID, death.message.removeprefix("SSL certificate problem: ")
        reason, why = _VERIFIED.get(death.verified, invalid)
        return reason, f"certificate not accepted: {why}"
    found = _OPENSSL.search(death.message)
    why = (found["why"] if found else death.message).strip()
    if _NOT_TLS.search(death.message):
        return Reason.TLS_NOT_SPOKEN, f"no TLS is spoken there: {why}"
    if death.errno == errno.ECONNRESET:
        return Reason.RESET, f"in the TLS handshake: {os.strerror(death.errno)}"
    return Reason.TLS_FAILED, f"TLS failed: {why}"


def _refused_by_proxy(death: Death, request: Request) -> bool:
    return request.via is not None and "CONNECT" in death.message and death.code in _UNTUNNELLED


def _no_answer(death: Death) -> tuple[Reason, str]:
    if death.code in _ABRUPT and death.errno in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return Reason.RESET, f"{os.strerror(death.errno)}, {death.phase.words}"
    if death.code == pycurl.E_BAD_CONTENT_ENCODING:
        return Reason.BAD_ENCODING, f"the body can't be decoded: {death.message}"
    if death.code in _MALFORMED or (death.code == pycurl.E_RECV_ERROR and "chunk" in death.message):
        return Reason.MALFORMED, f"the answer is no HTTP, or broke off: {death.message}"
    if death.code in _ABRUPT or death.code in (pycurl.E_PARTIAL_FILE, pycurl.E_GOT_NOTHING):
        why = _BROKEN.get(death.code, death.message)
        return Reason.BROKEN_OFF, f"the answer broke off: {why}, {death.phase.words}"
    return Reason.OTHER, f"no answer: {death.message} (libcurl's error {death.code}, {death.phase.words})"
