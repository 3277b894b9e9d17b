"""A probe's result as the page that blackbox_exporter would answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from upcheck.blackbox.modules import Module
from upcheck.exposition import number
from upcheck.probes import ProbeResult, families

_ALWAYS = ("probe_dns_lookup_time_seconds", "probe_ip_addr_hash", "probe_ip_protocol")
_PHASES = {
    "http": ("connect", "processing", "resolve", "tls", "transfer"),
    "dns": ("connect", "request", "resolve"),
    "icmp": ("resolve", "rtt", "setup"),
    "grpc": ("check", "resolve"),
}
# What each prober tells whatever happens; 0 where it did not come to it.
_OF = {
    "tcp": ("probe_failed_due_to_regex",),
    "dns": tuple(f"probe_dns_{one}" for one in ("additional_rrs", "answer_rrs", "authority_rrs", "query_succeeded")),
    "icmp": (),
    "http": (
        "probe_failed_due_to_regex",
        *(f"probe_http_{one}" for one in ("content_length", "redirects", "ssl", "status_code")),
        "probe_http_uncompressed_body_length",
        "probe_http_version",
    ),
    "grpc": (
        "probe_grpc_ssl",
        "probe_grpc_status_code",
        "probe_ssl_earliest_cert_expiry",
        *(
            f'probe_grpc_healthcheck_response{{serving_status="{one}"}}'
            for one in ("NOT_SERVING", "SERVICE_UNKNOWN", "SERVING", "UNKNOWN")
        ),
    ),
}
_WHERE_THERE_IS = ("probe_dns_serial", "probe_icmp_reply_hop_limit", "probe_http_last_modified_timestamp_seconds")
_NEVER = -62135596800.0  # Go's zero time: no chain was verified
_HELP = {family.name: family.help for family in families.FAMILIES} | {
    "probe_success": "Displays whether or not the probe was a success",
    "probe_duration_seconds": "Returns how long the probe took to complete in seconds",
    "probe_ip_addr_hash": "Specifies the hash of IP address. It's useful to detect if the IP address changes.",
    "probe_ssl_earliest_cert_expiry": "Returns last SSL chain expiry in unixtime",
    "probe_ssl_last_chain_info": "Contains SSL leaf certificate information",
    "probe_http_content_length": "Length of http content response",
    "probe_http_duration_seconds": "Duration of http request by phase, summed over all redirects",
    "probe_http_last_modified_timestamp_seconds": "Returns the Last-Modified HTTP response header in unixtime",
    "probe_http_redirects": "The number of redirects",
    "probe_http_ssl": "Indicates if SSL was used for the final redirect",
    "probe_http_status_code": "Response HTTP status code",
    "probe_http_uncompressed_body_length": "Length of uncompressed response body",
    "probe_http_version": "Returns the version of HTTP of the probe response",
}


def samples(prober: str, result: ProbeResult) -> dict[str, float]:
    """The exporter's samples of *result*: all that it would have, and no others."""
    told = result.metrics
    wanted = [*_ALWAYS, *_OF[prober]]
    phases = _PHASES.get(prober, ()) if prober != "http" or result.address else ("resolve",)
    wanted += [f'probe_{prober}_duration_seconds{{phase="{phase}"}}' for phase in phases]
    found = {name: told.get(name, 0.0) for name in wanted}
    found |= {name: told[name] for name in _WHERE_THERE_IS if name in told}
    found |= _of_tls(told)
    found["probe_ip_addr_hash"] = fnv(result.address) if result.address else 0.0
    found["probe_success"] = int(result.success)
    found["probe_duration_seconds"] = result.duration
    return found


def _of_tls(told: Mapping[str, float]) -> dict[str, float]:
    """Those of a handshake that was done."""
    if not any(name.startswith("probe_tls_version_info") for name in told):
        return {}
    kept = ("probe_ssl_", "probe_tls_version_info")
    return {"probe_ssl_last_chain_expiry_timestamp_seconds": _NEVER} | {
        name: value for name, value in told.items() if name.startswith(kept)
    }


def fnv(address: str) -> float:
    """The FNV-1a hash of the bytes of *address*."""
    found = 0x811C9DC5
    for byte in ipaddress.ip_address(address.partition("%")[0]).packed:
        found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    return float(found)


def page(prober: str, result: ProbeResult) -> str:
    """The samples as text, in the exporter's order."""
    lines: list[str] = []
    last = ""
    for sample, value in sorted(samples(prober, result).items()):
        name = sample.partition("{")[0]
        if name != last:
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
            last = name
        lines.append(f"{sample} {number(value)}")
    return "\n".join([*lines, ""])


def explained(module: Module, result: ProbeResult) -> str:
    """What `debug=true` answers: what was done, the page, the module."""
    log = [f"{moment:.6f} {sentence}" for moment, sentence in result.log]
    end = "Probe succeeded" if result.success else f"Probe failed: {result.reason}"
    return "\n".join(
        [
            "Logs for the probe:",
            *log,
            f"{result.duration:.6f} {end}",
            "\n\n\nMetrics that would have been returned:",
            page(module.prober, result),
            "\n\nModule configuration:",
            module.shown(),
            "",
        ]
    )
