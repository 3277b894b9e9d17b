"""What Prometheus scrapes and probes by `file_sd`: made of the catalogue and of the checks in YAML. docs/stack.md."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from upcheck import catalog, yaml_checks
from upcheck.blackbox import modules
from upcheck.probes import ProbeError
from upcheck.probes.http import Request
from upcheck.probes.http.url import sounds_secret
from upcheck.probes.kinds import probe_class
from upcheck.settings import Settings
from upcheck.yaml_checks import YamlCheck

_HEAD = "# Made by `upcheck services targets`, of {}: edit those, and type it again.\n"
_PORTS = {"http": 80, "https": 443}
_MODULES = {"tcp": "tcp_connect", "tls": "tls_connect", "icmp": "icmp", "ssh": "ssh_banner", "grpc": "grpc"}

Group = Mapping[str, Any]
"""Addresses, and the labels that they have in common, as Prometheus' file_sd has them."""


def services(settings: Settings) -> list[Group]:
    """A group for each page of metrics that a service of the catalogue has. Raises DocumentError."""
    return [
        _page(service.name, url)
        for service in catalog.load_all(settings.monitoring / "services")
        for url in service.scrape
    ]


class UnprobedError(Exception):
    """Why /probe of a blackbox_exporter does not ask as a check does."""


def probed(check: YamlCheck, target: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The module of monitoring/exporters/blackbox.yml that asks as *check* does of *target*, and what it asks.

    Raises UnprobedError: where no module does, *environ* lacks a variable, or a secret would be shown with the address.
    """
    if any(sounds_secret(name) for name in yaml_checks.variables(check)):
        raise UnprobedError("a secret is part of what is asked")
    try:
        asked = check.asked(target, environ)
    except ProbeError as error:
        raise UnprobedError(str(error).rpartition(": ")[2]) from None
    if isinstance(asked, Request):
        plain = not check.asking and check.expect.get("status") in ("2xx", 200)
        module, address = "http_2xx", asked.url
    else:
        plain = check.kind in _MODULES and not check.asking
        module, address = _MODULES.get(check.kind, ""), str(getattr(asked, probe_class(check.kind).subject))
    if "@" in address:
        raise UnprobedError("a user or a password is part of what is asked")
    if not plain:
        raise UnprobedError("no module asks so")
    return module, address


def checks(settings: Settings, environ: Mapping[str, str]) -> list[Group]:
    """A group for each address that a check in YAML asks as a module of /probe does.

    There are none where the collector may probe nothing. What is asked of the target is left out. Raises DocumentError.
    """
    if not settings.probe_networks.strip() or not settings.probes.is_file():
        return []
    known = modules.load(settings.probes)
    found: dict[tuple[str, str], Group] = {}
    for file in sorted(settings.checks.rglob("*.yml")):
        folder = file.parent.relative_to(settings.checks).as_posix()
        service = {} if folder == "." else {"service": folder}
        for check in yaml_checks.load(file):
            with contextlib.suppress(UnprobedError):
                module, address = probed(check, "", environ)
                if module in known and not str(check.subject).startswith("/"):
                    labels = {"__param_module": module, **service}
                    found.setdefault((module, address), {"targets": [address], "labels": labels})
    return list(found.values())


def texts(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The files that there should be in `prometheus/targets`, by their names. Raises DocumentError."""
    return {
        "services.yml": _written("monitoring/services", services(settings)),
        "checks.yml": _written("checks", checks(settings, environ)),
    }


def write(settings: Settings, environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the files into *folder*, each whole or not at all; those that changed. Raises DocumentError, OSError."""
    changed = []
    for name, text in texts(settings, environ).items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)  # Prometheus reads it as soon as it is there
            changed.append(path)
    return changed


def _page(service: str, url: str) -> Group:
    parts = urlsplit(url)
    address = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    labels = {"service": service, "__scheme__": parts.scheme, "__metrics_path__": parts.path or "/metrics"}
    return {"targets": [address], "labels": labels}


def _written(of: str, groups: list[Group]) -> str:
    return _HEAD.format(of) + yaml.safe_dump([dict(one) for one in groups], sort_keys=False)
