"""blackbox.yml: its modules, each of which makes a probe of a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upcheck import documents, schema
from upcheck.declaration import seconds
from upcheck.documents import DocumentError
from upcheck.probes import ProbeError, Travelling
from upcheck.probes.http.url import sounds_secret
from upcheck.probes.kinds import probe_class

DEFAULT_TIMEOUT = 120.0  # seconds, where neither the scrape nor the module has one
OFFSET = 0.5  # seconds that are left for the way back
_VERSIONS = {"TLS10": "TLSv1.0", "TLS11": "TLSv1.1", "TLS12": "TLSv1.2", "TLS13": "TLSv1.3"}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the file: *options* are those of its prober, as they stand there; *folder* is where its files are."""

    name: str
    prober: str
    timeout: float
    options: Mapping[str, Any]
    folder: Path

    def deadline(self, scrape_timeout: float | None) -> float:
        """How long a probe may take, in seconds, where the scrape has *scrape_timeout*."""
        most = (scrape_timeout or DEFAULT_TIMEOUT) - OFFSET
        return self.timeout if 0 < self.timeout < most or most <= 0 else most

    def probe(self, target: str, deadline: float, hostname: str | None = None) -> Travelling:
        """What the module asks of *target*. Raises ProbeError, and OSError where a file of a secret can't be read."""
        made: Travelling = _PROBERS[self.prober](self, target, deadline, hostname)
        return made

    def shown(self) -> str:
        """The module as lines of YAML, without what is secret."""
        return "\n".join([f"prober: {self.prober}", f"timeout: {self.timeout:g}s", *_lines(self.prober, self.options)])

    def _common(self, key: str = "source_ip_address") -> dict[str, Any]:
        # The exporter prefers IPv6, and asks one address only.
        given = self.options
        return {
            "ip_protocol": given.get("preferred_ip_protocol") or "ip6",
            "ip_protocol_fallback": given.get("ip_protocol_fallback", True),
            "source_ip": given.get(key) or None,
        }

    def _trust(self) -> dict[str, Any]:
        config = self.options.get("tls_config") or {}
        names = {"ca_file": "ca_file", "cert_file": "certificate", "key_file": "key"}
        trust = {ours: str(self.folder / config[theirs]) for theirs, ours in names.items() if config.get(theirs)}
        return {
            **trust,
            "verify": not config.get("insecure_skip_verify", False),
            "server_name": config.get("server_name") or None,
        }

    def _versions(self) -> dict[str, Any]:
        config = self.options.get("tls_config") or {}
        return {key: _VERSIONS[config[key]] for key in ("min_version", "max_version") if config.get(key)}


def load(path: Path) -> dict[str, Module]:
    """The modules in *path*, by name; raises DocumentError at the line and column of what is wrong."""
    document = documents.load(path)
    schema.validate(path, document, "blackbox")
    found = {}
    for name, entry in document["modules"].items():
        mark = documents.where(document, ["modules", name])
        try:
            timeout = seconds(entry["timeout"]) if entry.get("timeout") else 0.0
        except ValueError as error:
            raise DocumentError(path, f"timeout: {error}", *mark) from None
        module = Module(name, entry["prober"], timeout, entry.get(entry["prober"]) or {}, path.parent)
        try:
            module.probe("localhost:1", 1.0)
        except ProbeError as error:
            raise DocumentError(path, f"{name}: {error}", *mark) from None
        except OSError:
            pass  # a file of a secret that is not there yet is told when it is needed
        found[name] = module
    return found


def _http(module: Module, target: str, deadline: float, hostname: str | None) -> Any:
    from upcheck.blackbox.http import HttpProbe

    return HttpProbe.of(
        target,
        deadline,
        hostname,
        module.options,
        module.folder,
        {**module._common(), **module._trust()},
    )


def _tcp(module: Module, target: str, deadline: float, hostname: str | None) -> Any:
    given = module.options
    trust = {**module._trust(), **module._versions()}
    if hostname and given.get("tls") and trust["server_name"] is None:
        trust["server_name"] = hostname
    return probe_class("tcp")(
        target,
        deadline=deadline,
        tls=given.get("tls", False),
        query_response=given.get("query_response") or (),
        **module._common(),
        **trust,
    )


def _dns(module: Module, target: str, deadline: float, _: str | None) -> Any:
    given = module.options
    over_tls = given.get("dns_over_tls", False)
    trust = module._trust()
    sections = {name: given.get(f"validate_{name}_rrs") for name in ("answer", "authority", "additional")}
    return probe_class("dns")(
        given["query_name"],
        server=target,
        deadline=deadline,
        type=given.get("query_type") or "ANY",
        klass=given.get("query_class") or "IN",
        protocol="tls" if over_tls else given.get("transport_protocol") or "udp",
        recursion=given.get("recursion_desired", True),
        rcode=given.get("valid_rcodes") or "NOERROR",
        **sections,
        **module._common(),
        **{key: trust.get(key) for key in ("ca_file", "server_name")},
        verify=trust["verify"],
    )


def _icmp(module: Module, target: str, deadline: float, _: str | None) -> Any:
    given = module.options
    return probe_class("icmp")(
        target,
        deadline=deadline,
        payload_size=given.get("payload_size") or 28,
        ttl=given.get("ttl") or None,
        dont_fragment=given.get("dont_fragment", False),
        **module._common(),
    )


def _grpc(module: Module, target: str, deadline: float, _: str | None) -> Any:
    given = module.options
    return probe_class("grpc")(
        target,
        deadline=deadline,
        service=given.get("service") or "",
        tls=given.get("tls", False),
        **module._common(),
        **module._trust(),
    )


_PROBERS: dict[str, Callable[[Module, str, float, str | None], Any]] = {
    "http": _http,
    "tcp": _tcp,
    "dns": _dns,
    "icmp": _icmp,
    "grpc": _grpc,
}


def scrape_timeout(text: str | None) -> float | None:
    """The seconds in Prometheus' header; None where there is none. Raises ValueError for anything else."""
    if text is None:
        return None
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _lines(key: str, value: Any, indent: str = "") -> list[str]:
    if sounds_secret(key) and not isinstance(value, Mapping):
        return [f"{indent}{key}: <secret>"]
    if isinstance(value, Mapping):
        inner = [line for name, one in value.items() for line in _lines(str(name), one, indent + "  ")]
        return [f"{indent}{key}:", *inner]
    return [f"{indent}{key}: {value!r}" if isinstance(value, str) else f"{indent}{key}: {value}"]
