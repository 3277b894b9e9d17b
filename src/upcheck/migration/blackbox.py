"""blackbox_exporter's modules, and the targets that a prometheus.yml asks it for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from upcheck.migration import Carried, Entry, ImportedError, duration, seconds

_LITERAL = re.compile(r"[^.*+?()\[\]{}|^$\\]+")
_TLS = {
    "ca_file": "ca_file", "server_name": "server_name", "cert_file": "certificate", "key_file": "key",
    "min_version": "min_version", "max_version": "max_version",
}  # fmt: skip
_VERSIONS = {"TLS10": "TLSv1.0", "TLS11": "TLSv1.1", "TLS12": "TLSv1.2", "TLS13": "TLSv1.3"}


def carry(modules: Any, prometheus: Any) -> Carried:
    """A check for each target that *prometheus* has a module asked for. Raises ImportedError."""
    if not isinstance(modules, dict) or not isinstance(modules.get("modules"), dict):
        raise ImportedError("no modules of blackbox_exporter: it has no mapping `modules`")
    carried, used = Carried(), set()
    asked = list(targets(prometheus))
    for job, found in discovered(prometheus):
        carried.leave(job, f"the targets that are discovered ({found})")
    for job, name, target, interval in asked:
        module = modules["modules"].get(name)
        if not isinstance(module, dict):
            carried.leave(f"{job}: {target}", f"there is no module {name}")
            continue
        used.add(name)
        _check(carried, f"{job}: {target}", name, module, target, interval)
    for name in modules["modules"].keys() - used:
        carried.leave(name, "a module that no scrape_config asks for, so there is no target")
    return carried


def targets(prometheus: Any) -> Iterator[tuple[str, str, str, str]]:
    """Job, module, target and interval of each probe that a prometheus.yml asks for. Raises ImportedError."""
    jobs = prometheus.get("scrape_configs") if isinstance(prometheus, dict) else None
    if not isinstance(jobs, list):
        raise ImportedError("no prometheus.yml: it has no scrape_configs, which name the targets")
    every = (prometheus.get("global") or {}).get("scrape_interval", "1m")
    for job in jobs:
        asked = (job.get("params") or {}).get("module")
        if not asked:
            continue
        for group in job.get("static_configs") or []:
            module = (group.get("labels") or {}).get("__param_module", asked[0])
            for target in group.get("targets") or []:
                yield job.get("job_name", "blackbox"), module, str(target), job.get("scrape_interval", every)


def discovered(prometheus: Any) -> Iterator[tuple[str, str]]:
    """The jobs that ask for a module of targets which are discovered, and how."""
    for job in prometheus["scrape_configs"]:
        found = sorted(key for key in job if str(key).endswith("_sd_configs"))
        if found and (job.get("params") or {}).get("module"):
            yield job.get("job_name", "blackbox"), ", ".join(found)


def _check(carried: Carried, name: str, key: str, module: Mapping[str, Any], target: str, interval: str) -> None:
    prober = module.get("prober")
    options = module.get(str(prober)) or {}
    makers = {"http": _http, "tcp": _tcp, "dns": _dns, "icmp": _icmp, "grpc": _grpc}
    if prober not in makers:
        carried.leave(name, f"module {key}: nothing here is a prober {prober!r}")
        return
    known, entry = makers[prober](carried, name, options, target)
    entry["every"] = duration(seconds(interval))
    if "timeout" in module:
        entry["timeout"] = duration(seconds(module["timeout"]))
    for option in options.keys() - known:
        carried.leave(name, f"`{option}` of module {key}")
    carried.add(name, entry)


def _network(options: Mapping[str, Any]) -> tuple[set[str], Entry]:
    """Which addresses are asked, and from which."""
    known = {"preferred_ip_protocol": "ip_protocol", "ip_protocol_fallback": "ip_protocol_fallback",
             "source_ip_address": "source_ip"}  # fmt: skip
    return set(known), {ours: options[theirs] for theirs, ours in known.items() if theirs in options}


def _tls(carried: Carried, name: str, options: Mapping[str, Any]) -> Entry:
    given = options.get("tls_config") or {}
    entry: Entry = {}
    for key, value in given.items():
        if key == "insecure_skip_verify":
            entry |= {"verify": False} if value else {}
        elif key in _TLS:
            entry[_TLS[key]] = _VERSIONS.get(value, value)
        else:
            carried.leave(name, f"`{key}` of tls_config")
    return entry


def _http(carried: Carried, name: str, options: Mapping[str, Any], target: str) -> tuple[set[str], Entry]:
    known = {
        "valid_status_codes", "method", "headers", "body", "follow_redirects", "no_follow_redirects", "proxy_url",
        "tls_config", "fail_if_body_not_matches_regexp", "basic_auth", "bearer_token", "fail_if_not_ssl",
    }  # fmt: skip
    codes = options.get("valid_status_codes") or []
    url = target if "://" in target else f"http://{target}"
    expect: Entry = {"status": codes[0] if len(codes) == 1 else list(codes)} if codes else {}
    for pattern in options.get("fail_if_body_not_matches_regexp") or []:
        if _LITERAL.fullmatch(pattern) and "body" not in expect:
            expect["body"] = pattern
        else:
            carried.leave(name, f"the pattern {pattern!r} of the body: write it as a test in Python")
    if options.get("fail_if_not_ssl") and url.startswith("http://"):
        carried.leave(name, "`fail_if_not_ssl`: ask https:// itself")
    trust = _tls(carried, name, options)
    for key in trust.keys() - {"verify", "ca_file"}:
        carried.leave(name, f"`{key}` of tls_config")
    follow = options.get("follow_redirects", not options.get("no_follow_redirects", False))
    return known, {
        "url": url,
        "method": options.get("method", ""),
        "headers": _headers(carried, name, options),
        "body": options.get("body", ""),
        "follow_redirects": None if follow else False,
        "proxy": options.get("proxy_url", ""),
        **{key: trust[key] for key in trust.keys() & {"verify", "ca_file"}},
        "expect": expect,
    }


def _headers(carried: Carried, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The headers, a password in clear among them: what is read from the environment is better."""
    headers = {str(key): str(value) for key, value in (options.get("headers") or {}).items()}
    if options.get("basic_auth"):
        carried.leave(name, "the password: set AUTHORIZATION to 'Basic' and base64 of user:password")
        headers["Authorization"] = "${AUTHORIZATION}"
    if options.get("bearer_token"):
        carried.leave(name, "the token: set AUTHORIZATION to 'Bearer' and the token")
        headers["Authorization"] = "${AUTHORIZATION}"
    return headers


def _tcp(carried: Carried, name: str, options: Mapping[str, Any], target: str) -> tuple[set[str], Entry]:
    known, asked = _network(options)
    turns = [_turn(carried, name, turn) for turn in options.get("query_response") or []]
    asked |= {"tls": True, **_tls(carried, name, options)} if options.get("tls") else {}
    asked |= {"query_response": turns} if turns else {}
    return known | {"query_response", "tls", "tls_config"}, {"tcp": {"address": target, **asked} if asked else target}


def _turn(carried: Carried, name: str, turn: Mapping[str, Any]) -> Entry:
    for key in turn.keys() - {"expect", "send", "starttls"}:
        carried.leave(name, f"`{key}` of query_response")
    return {key: turn[key] for key in ("expect", "send", "starttls") if turn.get(key)}


def _dns(carried: Carried, name: str, options: Mapping[str, Any], target: str) -> tuple[set[str], Entry]:
    known, asked = _network(options)
    sections = {"validate_answer_rrs": "answer", "validate_authority_rrs": "authority",
                "validate_additional_rrs": "additional"}  # fmt: skip
    expect: Entry = {ours: dict(options[theirs]) for theirs, ours in sections.items() if options.get(theirs)}
    if codes := options.get("valid_rcodes"):
        expect["rcode"] = codes
    if options.get("dns_over_tls"):
        asked |= {"protocol": "tls", **_tls(carried, name, options)}
    elif options.get("transport_protocol") == "tcp":
        asked["protocol"] = "tcp"
    if options.get("recursion_desired") is False:
        asked["recursion"] = False
    known |= {*sections, "valid_rcodes", "dns_over_tls", "tls_config", "transport_protocol", "recursion_desired",
              "query_name", "query_type", "query_class"}  # fmt: skip
    asked = {
        "name": options.get("query_name", ""), "type": options.get("query_type", "ANY"), "server": target,
        **({"klass": options["query_class"]} if "query_class" in options else {}), **asked,
    }  # fmt: skip
    return known, {"dns": asked, "expect": expect}


def _icmp(_: Carried, __: str, options: Mapping[str, Any], target: str) -> tuple[set[str], Entry]:
    known, asked = _network(options)
    own = {"payload_size", "dont_fragment", "ttl"}
    asked |= {key: options[key] for key in sorted(own & options.keys())}
    return known | own, {"icmp": {"host": target, **asked} if asked else target}


def _grpc(carried: Carried, name: str, options: Mapping[str, Any], target: str) -> tuple[set[str], Entry]:
    known, asked = _network(options)
    asked |= {"service": options["service"]} if options.get("service") else {}
    asked |= {"tls": True, **_tls(carried, name, options)} if options.get("tls") else {}
    return known | {"service", "tls", "tls_config"}, {"grpc": {"address": target, **asked} if asked else target}
