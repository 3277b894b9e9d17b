"""The token that the collector asks for: Prometheus and Alertmanager show it, read from the same file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from upcheck.collector.environment import token_of
from upcheck.stack.services import StackError

_VARIABLE = "METRICS_TOKEN_FILE"


def token_file(environ: Mapping[str, str], root: Path) -> Path | None:
    """The file of the collector's token, where *environ* names one. Raises StackError where there is no token in it."""
    if environ.get("METRICS_TOKEN"):
        raise StackError(
            f"METRICS_TOKEN is set, and Prometheus reads a token from a file: name one in {_VARIABLE} instead"
        )
    if not (named := environ.get(_VARIABLE)):
        return None
    path = root / named
    mend = f"write one: (umask 077; openssl rand -hex 32 > {path}), or unset {_VARIABLE}"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StackError(f"{_VARIABLE} names {path}, which is not there: {mend}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{_VARIABLE} names {path}, which can't be read: {error}") from None
    if token_of(text) is None:
        raise StackError(f"{_VARIABLE} names {path}, which has no token of printable characters without blanks: {mend}")
    return path


def show(token: Path, collector: str, monitoring: Path) -> None:
    """Have the configurations in *monitoring* show the *token* to the *collector*, an address. They read it each time.

    What has credentials of its own keeps them.
    """
    shown = {"authorization": {"credentials_file": str(token)}}
    prometheus = _load(monitoring / "prometheus/prometheus.yml")
    for job in prometheus.get("scrape_configs") or ():
        places = [one for group in job.get("static_configs") or () for one in group.get("targets") or ()]
        places += [one.get("replacement") for one in job.get("relabel_configs") or ()]
        if collector in places and not {"authorization", "basic_auth", "oauth2"} & job.keys():
            job |= shown
    _save(monitoring / "prometheus/prometheus.yml", prometheus)
    alertmanager = _load(monitoring / "alertmanager/alertmanager.yml")
    for receiver in alertmanager.get("receivers") or ():
        for webhook in receiver.get("webhook_configs") or ():
            if urlsplit(str(webhook.get("url"))).netloc == collector:
                webhook.setdefault("http_config", shown)
    _save(monitoring / "alertmanager/alertmanager.yml", alertmanager)


def _load(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _save(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
