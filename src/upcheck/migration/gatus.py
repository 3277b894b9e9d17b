"""Gatus' configuration: https://github.com/TwiN/gatus, endpoints of its version 5."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from upcheck.migration import ANY_STATUS, Carried, Entry, ImportedError, duration, seconds, statuses

_CONDITION = re.compile(r"\[(?P<of>[A-Z_]+)\](?P<path>\S*)\s*(?P<by>==|!=|<=|>=|<|>)\s*(?P<value>.+)")
_CLIENT = {"timeout", "insecure", "ignore-redirect", "proxy-url", "dns-resolver"}
_KNOWN = {
    "name", "group", "enabled", "url", "method", "conditions", "interval", "graphql", "body", "headers", "dns",
    "client", "alerts", "ssh",
}  # fmt: skip


def carry(document: Any) -> Carried:
    """The checks for a configuration of Gatus. Raises ImportedError where it is none."""
    if not isinstance(document, dict) or not isinstance(document.get("endpoints"), list):
        raise ImportedError("no configuration of Gatus: it has no list of endpoints")
    carried = Carried()
    for endpoint in document["endpoints"]:
        if not isinstance(endpoint, dict) or not endpoint.get("name") or not endpoint.get("url"):
            raise ImportedError(f"an endpoint needs a name and a url, not {endpoint!r}")
        _endpoint(carried, endpoint)
    for key in ("external-endpoints", "suites", "maintenance", "connectivity", "remote"):
        if document.get(key):
            carried.leave(key, _ELSEWHERE[key])
    return carried


_ELSEWHERE = {
    "external-endpoints": "jobs that report by themselves: checks with `push`",
    "suites": "steps that share values: write them as a test in Python",
    "maintenance": "windows stand in pyproject.toml: [[tool.upcheck.maintenance]]",
    "connectivity": "our own line is a check with `uplink: true`",
    "remote": "other instances are scraped by Prometheus, each by itself",
}


def _endpoint(carried: Carried, endpoint: Mapping[str, Any]) -> None:
    name = "/".join(str(endpoint[key]) for key in ("group", "name") if endpoint.get(key))
    if endpoint.get("enabled") is False:
        carried.leave(name, "it is not enabled")
        return
    kind, entry = _asked(carried, name, endpoint)
    if not kind:
        return
    entry["every"] = duration(seconds(endpoint.get("interval", "60s")))
    client = endpoint.get("client") or {}
    entry["timeout"] = duration(seconds(client.get("timeout", "10s")))
    entry |= _thresholds(carried, name, endpoint)
    entry["expect"] = _expected(carried, name, kind, endpoint.get("conditions") or [])
    if kind == "url" and "status" not in entry["expect"]:
        entry["expect"]["status"] = ANY_STATUS
    if (latency := entry["expect"].get("latency")) and seconds(latency) >= seconds(entry["timeout"]):
        entry["timeout"] = duration(seconds(latency) + 1)
    for key in (client.keys() - _CLIENT) | (endpoint.keys() - _KNOWN):
        carried.leave(name, f"`{key}`")
    carried.add(name, entry)


def _asked(carried: Carried, name: str, endpoint: Mapping[str, Any]) -> tuple[str, Entry]:
    """What is asked, and the kind of it; no kind where there is none for it."""
    url = str(endpoint["url"])
    scheme, _, rest = url.partition("://")
    client = endpoint.get("client") or {}
    if "dns" in endpoint:
        asked = {
            "name": endpoint["dns"].get("query-name", "").rstrip("."),
            "type": endpoint["dns"].get("query-type", "A"),
        }
        return "dns", {"dns": asked | {"server": rest or url}}
    if scheme in ("http", "https"):
        return "url", _http(endpoint, client)
    place = rest.split("/")[0]
    trust = {"verify": False} if client.get("insecure") else {}
    kinds: dict[str, Callable[[], Entry]] = {
        "tcp": lambda: {"tcp": place},
        "tls": lambda: {"tls": {"address": place, **trust} if trust else place},
        "icmp": lambda: {"icmp": place},
        "ws": lambda: {"websocket": url},
        "wss": lambda: {"websocket": url},
        "starttls": lambda: {"smtp": {"address": place, "starttls": True, **trust}},
        "grpc": lambda: {"grpc": place},
        "grpcs": lambda: {"grpc": {"address": place, "tls": True, **trust}},
        "ssh": lambda: {"ssh": place if ":" in place else f"{place}:22"},
    }
    if scheme not in kinds:
        carried.leave(name, f"{url}: nothing here speaks {scheme}")
        return "", {}
    if scheme == "ssh" and (endpoint.get("ssh") or {}).get("username"):
        carried.leave(name, "the login: only the banner is read")
    entry = kinds[scheme]()
    return next(iter(entry)), entry


def _http(endpoint: Mapping[str, Any], client: Mapping[str, Any]) -> Entry:
    body = endpoint.get("body", "")
    headers = {str(key): str(value) for key, value in (endpoint.get("headers") or {}).items()}
    if endpoint.get("graphql") and body:
        body, headers = json.dumps({"query": body}), {"Content-Type": "application/json", **headers}
    return {
        "url": endpoint["url"],
        "method": endpoint.get("method", ""),
        "headers": headers,
        "body": body,
        "follow_redirects": False if client.get("ignore-redirect") else None,
        "verify": False if client.get("insecure") else None,
        "proxy": client.get("proxy-url", ""),
    }


def _thresholds(carried: Carried, name: str, endpoint: Mapping[str, Any]) -> Entry:
    """Gatus has them for each way of telling; the lowest are taken."""
    alerts = [alert for alert in endpoint.get("alerts") or [] if alert.get("enabled", True)]
    if not alerts:
        return {}
    told = ", ".join(sorted({str(alert.get("type")) for alert in alerts}))
    carried.leave(name, f"who is told ({told}): routes of Alertmanager say that")
    return {
        "failure_threshold": min(int(alert.get("failure-threshold", 3)) for alert in alerts),
        "success_threshold": min(int(alert.get("success-threshold", 2)) for alert in alerts),
    }


def _expected(carried: Carried, name: str, kind: str, conditions: list[str]) -> Entry:
    expect: Entry = {}
    for condition in conditions:
        found = _CONDITION.fullmatch(str(condition).strip())
        said = _condition(kind, found) if found else None
        if said is None:
            carried.leave(name, f"the condition {condition!r}: write it as a test in Python")
        else:
            expect |= said
    return expect


def _condition(kind: str, found: re.Match[str]) -> Entry | None:
    """What *expect* has for a condition; None where it has nothing."""
    of, path, by, value = found["of"], found["path"], found["by"], found["value"].strip()
    if of == "CONNECTED" and (by, value) == ("==", "true"):
        return {}
    if of == "STATUS" and not path and kind == "url":
        return _status(by, value)
    if of == "RESPONSE_TIME" and by in ("<", "<="):
        return {"latency": duration(seconds(value if not value.isdigit() else f"{value}ms"))}
    if of == "CERTIFICATE_EXPIRATION" and by in (">", ">="):
        return {"certificate_days": round(seconds(value) / 86400, 3)}
    if of == "DNS_RCODE" and kind == "dns" and by == "==":
        return {"rcode": value}
    if of == "BODY" and not path and kind == "url" and by == "==":
        part = re.fullmatch(r"pat\(\*([^*?\[\]]+)\*\)", value)
        return {"body": part[1]} if part else None
    return None


def _status(by: str, value: str) -> Entry | None:
    if by == "==" and (several := re.fullmatch(r"any\(([\d, ]+)\)", value)):
        return {"status": [int(code) for code in several[1].split(",")]}
    if not value.isdigit():
        return None
    code = int(value)
    ranges = {"==": range(code, code + 1), "<": range(100, code), "<=": range(100, code + 1),
              ">": range(code + 1, 600), ">=": range(code, 600)}  # fmt: skip
    if by not in ranges:
        return None
    found = statuses([ranges[by]])
    return {"status": found[0] if len(found) == 1 else found}
