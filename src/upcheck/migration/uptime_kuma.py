"""Uptime Kuma's backup: the JSON that its settings export, version 1."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from upcheck.migration import Carried, Entry, ImportedError, duration, statuses

Monitor = Mapping[str, Any]


def carry(document: Any) -> Carried:
    """The checks for a backup of Uptime Kuma. Raises ImportedError where it is none."""
    monitors = document.get("monitorList") if isinstance(document, dict) else None
    if not isinstance(monitors, list):
        raise ImportedError("no backup of Uptime Kuma: it has no list monitorList")
    carried = Carried()
    names = {monitor.get("id"): str(monitor.get("name")) for monitor in monitors}
    for monitor in monitors:
        name = str(monitor.get("name"))
        if monitor.get("parent") is not None and monitor["parent"] in names:
            name = f"{names[monitor['parent']]}/{name}"
        _monitor(carried, name, monitor)
    if document.get("notificationList"):
        carried.leave("notifications", "routes of Alertmanager say who is told")
    return carried


def _monitor(carried: Carried, name: str, monitor: Monitor) -> None:
    kind = str(monitor.get("type"))
    if kind == "group":
        carried.leave(name, "a group: it is in the names of its checks")
        return
    if monitor.get("active") in (False, 0):
        carried.leave(name, "it is not active")
        return
    if kind not in _MAKERS:
        carried.leave(name, f"nothing here is a monitor of type {kind}")
        return
    if monitor.get("upsideDown"):
        carried.leave(name, "upside down: write it as a test in Python")
        return
    entry = _MAKERS[kind](carried, name, monitor)
    entry["every"] = duration(float(monitor.get("interval") or 60))
    if timeout := monitor.get("timeout"):
        entry["timeout"] = duration(float(timeout))
    entry["failure_threshold"] = min(20, 1 + int(monitor.get("maxretries") or 0))
    entry["success_threshold"] = 1
    carried.add(name, entry)


def _http(carried: Carried, name: str, monitor: Monitor) -> Entry:
    expect: Entry = {}
    if accepted := monitor.get("accepted_statuscodes"):
        found = statuses(_range(str(one)) for one in accepted)
        expect["status"] = found[0] if len(found) == 1 else found
    if monitor.get("type") == "keyword":
        if monitor.get("invertKeyword"):
            carried.leave(name, "an inverted keyword: write it as a test in Python")
        else:
            expect["body"] = monitor.get("keyword")
    if monitor.get("type") == "json-query":
        carried.leave(name, f"the query {monitor.get('jsonPath')!r} of JSON: write it as a test in Python")
    if monitor.get("expiryNotification") and str(monitor.get("url")).startswith("https"):
        expect["certificate_days"] = 14
    headers = _headers(carried, name, monitor)
    return {
        "url": monitor.get("url"),
        "method": "" if monitor.get("method") == "GET" else monitor.get("method"),
        "headers": headers,
        "body": monitor.get("body") or "",
        "follow_redirects": False if monitor.get("maxredirects") == 0 else None,
        "verify": False if monitor.get("ignoreTls") else None,
        "expect": expect,
    }


def _headers(carried: Carried, name: str, monitor: Monitor) -> dict[str, str]:
    try:
        headers = {str(key): str(value) for key, value in json.loads(monitor.get("headers") or "{}").items()}
    except (ValueError, AttributeError):
        carried.leave(name, "its headers are no JSON")
        headers = {}
    if monitor.get("basic_auth_user") or monitor.get("authMethod"):
        carried.leave(name, "the login: set AUTHORIZATION to 'Basic' and base64 of user:password")
        headers["Authorization"] = "${AUTHORIZATION}"
    return headers


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        raise ImportedError(f"{text!r} is no range of status codes such as 200-299")
    return range(int(first), int(last or first) + 1)


def _place(monitor: Monitor) -> str:
    return f"{monitor.get('hostname')}:{monitor.get('port')}"


def _dns(_: Carried, __: str, monitor: Monitor) -> Entry:
    server = str(monitor.get("dns_resolve_server") or "").split(",")[0].strip()
    asked = {"name": monitor.get("hostname"), "type": monitor.get("dns_resolve_type") or "A"}
    if server:
        asked["server"] = f"{server}:{monitor['port']}" if monitor.get("port") else server
    return {"dns": asked}


def _grpc(carried: Carried, name: str, monitor: Monitor) -> Entry:
    carried.leave(name, "the method and the keyword: gRPC's own health check is asked")
    asked = {"address": monitor.get("grpcUrl")}
    if monitor.get("grpcEnableTls"):
        asked["tls"] = True
    return {"grpc": asked | ({"service": monitor["grpcServiceName"]} if monitor.get("grpcServiceName") else {})}


def _docker(carried: Carried, name: str, monitor: Monitor) -> Entry:
    carried.leave(name, "which engine it asks: this machine's, at unix:///var/run/docker.sock, is taken")
    return {"docker": {"engine": "unix:///var/run/docker.sock", "container": monitor.get("docker_container")}}


def _push(carried: Carried, name: str, monitor: Monitor) -> Entry:
    job = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100]
    carried.leave(name, f"the address that its job calls: the collector's /push/{job} now")
    # As Kuma waits: for the next report, and as often again as it retries.
    late = float(monitor.get("interval") or 60) * (1 + int(monitor.get("maxretries") or 0))
    return {"push": {"name": job, "grace": duration(late)}}


def _database(kind: str) -> Callable[[Carried, str, Monitor], Entry]:
    def make(carried: Carried, name: str, monitor: Monitor) -> Entry:
        url = str(monitor.get("databaseConnectionString"))
        parts = urlsplit(url)
        if parts.password:
            carried.leave(name, "the password: set DATABASE_PASSWORD")
            url = url.replace(f":{parts.password}@", ":${DATABASE_PASSWORD}@")
        if query := monitor.get("databaseQuery"):
            carried.leave(name, f"the query {query!r}")
        return {kind: url}

    return make


_MAKERS: Mapping[str, Callable[[Carried, str, Monitor], Entry]] = {
    "http": _http,
    "keyword": _http,
    "json-query": _http,
    "port": lambda _, __, monitor: {"tcp": _place(monitor)},
    "ping": lambda _, __, monitor: {"icmp": monitor.get("hostname")},
    "dns": _dns,
    "grpc-keyword": _grpc,
    "push": _push,
    "docker": _docker,
    "postgres": _database("postgres"),
    "mysql": _database("mysql"),
    "redis": _database("redis"),
}
