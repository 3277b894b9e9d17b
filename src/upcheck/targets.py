"""What Prometheus scrapes and probes by `file_sd`: made of the catalogue and of the checks in YAML. docs/stack.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from upcheck import catalog, yaml_checks
from upcheck.probes import ProbeError
from upcheck.settings import Settings

_HEAD = "# Made by `upcheck services targets`, of {}: edit those, and type it again.\n"
_PORTS = {"http": 80, "https": 443}

Group = Mapping[str, Any]
"""Addresses, and the labels that they have in common, as Prometheus' file_sd has them."""


def services(settings: Settings) -> list[Group]:
    """A group for each page of metrics that a service of the catalogue has. Raises DocumentError."""
    return [
        _page(service.name, url)
        for service in catalog.load_all(settings.monitoring / "services")
        for url in service.scrape
    ]


def checks(settings: Settings, environ: Mapping[str, str]) -> list[Group]:
    """A group for each URL that a check in YAML asks as /probe can: with GET, and nothing said of how.

    There are none where the collector may probe nothing. One whose variables *environ* has not, or that is asked of
    the target, is left out. Raises DocumentError.
    """
    found: dict[str, Group] = {}
    files = sorted(settings.checks.rglob("*.yml")) if settings.probe_networks.strip() else ()
    for file in files:
        folder = file.parent.relative_to(settings.checks).as_posix()
        labels = {} if folder == "." else {"service": folder}
        for check in yaml_checks.load(file):
            if check.kind != "url" or check.asking or str(check.subject).startswith("/"):
                continue
            try:
                url = check.request("", environ).url
            except ProbeError:  # its service is not here
                continue
            found.setdefault(url, {"targets": [url], "labels": labels})
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
