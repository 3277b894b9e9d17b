"""A `tls_server_config` as an SSLContext: Go's names for OpenSSL's."""

from __future__ import annotations

import ssl
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upcheck.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD = ("TLS10", "TLS11")
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "",  # of TLS 1.3, where they are not to be chosen: neither in Go nor here
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
# RequestClientCert asks for a certificate and takes any or none: who gets in is the same as without asking.
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_ANY = ("RequireAnyClientCert", "RequireClientCert")


class Refused(Exception):
    """A *key* of the section that can't be honoured, and *why*."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key
        self.why = why


@dataclass(frozen=True, slots=True)
class Served:
    """How to serve: *sans* are the names one of which a client must have, *files* what was read."""

    context: ssl.SSLContext | None = None
    sans: frozenset[str] = frozenset()
    files: Sequence[Path] = ()


def build(section: Mapping[str, Any], folder: Path) -> Served:
    """What the *section* means; relative paths are relative to *folder*. Raises Refused."""
    given = {key: value for key, value in section.items() if value not in (None, "", [])}
    if not given.keys() & {"cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file", "client_auth_type"}:
        return Served()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _versions(context, given)
    _ciphers(context, given)
    _curve(context, given)
    files: dict[str, Path] = {
        key: folder / given[key] for key in ("cert_file", "key_file", "client_ca_file") if key in given
    }
    _certificate(context, given, files)
    _clients(context, given, files)
    return Served(context, _sans(context, given), tuple(files.values()))


def names_of(certificate: Mapping[str, Any]) -> set[str]:
    """The alternative names of a peer's certificate as `SSLSocket.getpeercert` tells it, addresses in Go's spelling."""
    return {
        str(ip_address(name)) if kind == "IP Address" else name
        for kind, name in certificate.get("subjectAltName", ())
        if kind in ("DNS", "IP Address", "URI", "email")
    }


class Renewed(ssl.SSLContext):
    """For asyncio: each new connection is made by the context that *current* gives."""

    current: Callable[[], ssl.SSLContext]

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> Renewed:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self.current = current
        return self

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """As SSLContext's, of the current context."""
        return self.current().wrap_bio(*arguments, **named)


def _versions(context: ssl.SSLContext, given: Mapping[str, Any]) -> None:
    found = {}
    for key, default in (("min_version", "TLS12"), ("max_version", "TLS13")):
        name = given.get(key, default)
        if name in _OLD:
            raise Refused(key, f"{key}: {name} is not spoken here: expected TLS12 or TLS13")
        if name not in _VERSIONS:
            raise Refused(key, f"{key}: '{name}' is no version{nearest(name, _VERSIONS)}")
        found[key] = _VERSIONS[name]
    if found["min_version"] > found["max_version"]:
        raise Refused("min_version", "min_version is above max_version: nobody could connect")
    context.minimum_version, context.maximum_version = found["min_version"], found["max_version"]


def _ciphers(context: ssl.SSLContext, given: Mapping[str, Any]) -> None:
    if given.get("prefer_server_cipher_suites") is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    names = given.get("cipher_suites", [])
    for name in names:
        if name not in _CIPHERS:
            raise Refused("cipher_suites", f"cipher_suites: '{name}' is not one of Go's{nearest(name, _CIPHERS)}")
    wanted = [_CIPHERS[name] for name in names if _CIPHERS[name]]
    if names and not wanted:  # of TLS 1.3 alone
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not wanted:
        return
    try:
        context.set_ciphers(":".join(wanted))
    except ssl.SSLError:
        known: set[str] = set()
    else:
        known = {str(cipher["name"]) for cipher in context.get_ciphers()}
    for name in names:
        if _CIPHERS[name] and _CIPHERS[name] not in known:
            raise Refused("cipher_suites", f"cipher_suites: {name} is not in this {ssl.OPENSSL_VERSION}: leave it out")


def _curve(context: ssl.SSLContext, given: Mapping[str, Any]) -> None:
    names = given.get("curve_preferences", [])
    for name in names:
        if name not in _CURVES:
            raise Refused("curve_preferences", f"curve_preferences: '{name}' is not known{nearest(name, _CURVES)}")
    if len(names) > 1:
        raise Refused("curve_preferences", "curve_preferences: Python's ssl takes one curve: name one, or none for all")
    if names:
        try:
            context.set_ecdh_curve(_CURVES[names[0]])
        except (ssl.SSLError, ValueError):
            fix = f"{names[0]} can't be chosen in this {ssl.OPENSSL_VERSION}: leave it out, or name CurveP256"
            raise Refused("curve_preferences", f"curve_preferences: {fix}") from None


def _certificate(context: ssl.SSLContext, given: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    with ExitStack() as stack:
        certificate = _pem(stack, "cert", given, files)
        private = _pem(stack, "key", given, files)
        key, secret = ("cert_file" if "cert_file" in files else "cert"), ("key_file" if "key_file" in files else "key")
        try:
            context.load_cert_chain(certificate, private, _no_password)
        except _EncryptedError:
            raise Refused(secret, "the key is encrypted: expected one without a password") from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise Refused(
                    key, "the key is not the certificate's: expected the two that were made together"
                ) from None
            why = (error.reason or "no PEM").replace("_", " ").lower()
            raise Refused(key, f"expected a certificate and its key, in PEM: {why}") from None


def _pem(stack: ExitStack, name: str, given: Mapping[str, Any], files: Mapping[str, Path]) -> Path:
    """Where the `cert` or `key` is, from its file or from the text in the section."""
    file = f"{name}_file"
    if name in given and file in given:
        raise Refused(name, f"{name} and {file} are both there: leave one out")
    if file in files:
        _readable(file, files[file])
        return files[file]
    if name in given:
        return _on_disk(stack, name, given[name])
    raise Refused("", f"tls_server_config: {name} or {file} is missing")


def _clients(context: ssl.SSLContext, given: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    name = given.get("client_auth_type", "NoClientCert")
    if name in _ANY:
        why = "Python's ssl takes no certificate that it can't verify: expected RequireAndVerifyClientCert, with a CA"
        raise Refused("client_auth_type", f"client_auth_type: {name}: {why}")
    if name not in _CLIENTS:
        raise Refused("client_auth_type", f"client_auth_type: '{name}' is not known{nearest(name, _CLIENTS)}")
    authorities = next((key for key in ("client_ca_file", "client_ca") if key in given), None)
    if authorities and name == "NoClientCert":
        raise Refused(authorities, f"{authorities} without a client_auth_type: expected RequireAndVerifyClientCert")
    context.verify_mode = _CLIENTS[name]
    if context.verify_mode == ssl.CERT_NONE:
        return
    if authorities is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    text = _readable(authorities, files[authorities]) if authorities in files else given[authorities]
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise Refused(authorities, f"{authorities}: expected certificates in PEM") from None


def _sans(context: ssl.SSLContext, given: Mapping[str, Any]) -> frozenset[str]:
    names = given.get("client_allowed_sans", [])
    if names and context.verify_mode != ssl.CERT_REQUIRED:
        why = "client_allowed_sans without client_auth_type: RequireAndVerifyClientCert, which it needs"
        raise Refused("client_allowed_sans", why)
    return frozenset(names)


class _EncryptedError(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _EncryptedError  # OpenSSL would ask for it on the terminal


def _readable(key: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(key, f"{key}: {file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(key, f"{key}: {file} is not PEM, which is text") from None


def _on_disk(stack: ExitStack, key: str, text: str) -> Path:
    """A file that is ours alone, for a moment, with *text*: the ssl module reads certificates from files only."""
    try:
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", encoding="utf-8"))  # noqa: SIM115 - the stack's
        file.write(text)
        file.flush()
    except OSError as error:
        raise Refused(key, f"{key}: no temporary file can be written: {error.strerror}; use {key}_file") from None
    return Path(file.name)
