"""The token that the collector asks for: Prometheus and Alertmanager show it, read from the same file."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from upcheck import bearer
from upcheck.settings import Settings
from upcheck.stack.configuration import CONFIGURED
from upcheck.stack.services import ACCESS_FLAG, Service, StackError

SECRETS = "secrets"  # in the folder monitoring: what containers may see beside what Alertmanager alone does
MOUNTED = Path("/etc/upcheck/secrets")  # where they see it


def token_file(environ: Mapping[str, str], settings: Settings) -> Path | None:
    """The file of the collector's token, where one is named. Raises StackError where there is no token in it."""
    if environ.get("METRICS_TOKEN"):
        raise StackError(
            f"METRICS_TOKEN is set, and Prometheus reads a token from a file: name one in {bearer.FILE} instead"
        )
    if (named := bearer.file(settings, environ)) is None:
        return None
    who, path = named
    try:
        bearer.token(settings, environ)
    except bearer.TokenError as error:
        mend = f"write one: (umask 077; openssl rand -hex 32 > {path}), or name none in {who}"
        raise StackError(f"{error}: {mend}") from None
    return path


def token_in_force(planned: Sequence[Service]) -> Path | None:
    """The file of the token that the collector was started with the last time."""
    argv = next((one.argv for one in planned if one.name == "collector"), ())
    return Path(argv[argv.index(ACCESS_FLAG) + 1]) if ACCESS_FLAG in argv else None


def prove_closed(before: Path | None, token: Path | None, environ: Mapping[str, str]) -> None:
    """Raises StackError where a collector that asked for *before* would ask for none, and nobody has said so."""
    if before is not None and token is None and bearer.FILE not in environ:
        raise StackError(
            f"the collector asked for the token in {before}, and would ask for none now: "
            f'metrics_token_file = "{before}" in [tool.upcheck] keeps it; '
            f"where anybody here may read all of it, type {bearer.FILE}= before the command"
        )


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


def seen(token: Path, settings: Settings, group: int) -> Path:
    """Where containers of *group* find the *token*. Raises StackError where they don't, or may not read it."""
    folder = settings.monitoring / SECRETS
    if token.resolve().parent != folder.resolve():
        raise StackError(f"{token} is in no container: move it to {folder}, and say so in metrics_token_file")
    status = token.stat()
    if status.st_gid != group or not status.st_mode & stat.S_IRGRP:
        raise StackError(f"containers may not read {token}: chgrp {group} {token} && chmod 640 {token}")
    return MOUNTED / token.name


def moved(token: Path, to: Path, monitoring: Path) -> None:
    """Have the configurations in *monitoring* that show the *token* find it where it is moved *to*."""
    for name in CONFIGURED:
        path = monitoring / name
        path.write_text(path.read_text(encoding="utf-8").replace(str(token), str(to)), encoding="utf-8")


def shown(monitoring: Path) -> Path | None:
    """The token of containers that Prometheus' configuration in *monitoring* shows."""
    path = monitoring / "prometheus/prometheus.yml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(rf"credentials_file: {MOUNTED}/(\S+)", text)
    return Path("monitoring", SECRETS, found[1]) if found else None


def _load(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _save(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
