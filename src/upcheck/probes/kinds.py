"""The register of probes: what a check in YAML names them by, and where they are. Each has a page in docs/probes."""

from __future__ import annotations

import importlib
from typing import Any

KINDS = {
    "tcp": "Tcp",
    "tls": "Tls",
    "dns": "Dns",
    "icmp": "Icmp",
    "grpc": "Grpc",
    "websocket": "WebSocket",
    "smtp": "Smtp",
    "ssh": "Ssh",
    "push": "Push",
    "process": "Process",
    "port": "Port",
    "redis": "Redis",
    "postgres": "Postgres",
    "mysql": "Mysql",
    "docker": "Docker",
}


def probe_class(kind: str) -> Any:
    """The class of the probes of *kind*, whose module is loaded now."""
    return getattr(importlib.import_module(f"upcheck.probes.{kind}"), KINDS[kind])
