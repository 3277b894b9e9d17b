"""The configuration files that ship: what each is, and whether its own tool accepts it."""

from __future__ import annotations

from pathlib import Path

from upcheck import alertmanager, documents, promtool
from upcheck.documents import Map
from upcheck.promtool import Verdict

_MARKS = {
    "rules": frozenset({"groups"}),
    "prometheus": frozenset({"scrape_configs", "rule_files", "alerting", "remote_write", "scrape_config_files"}),
    "alertmanager": frozenset({"route", "receivers"}),
}
TOOLS = {"rules": "promtool", "prometheus": "promtool", "alertmanager": "amtool"}


def kind(path: Path) -> str | None:
    """`rules`, `prometheus` or `alertmanager` by the keys at its top; None for any other file.

    Raises DocumentError where it can't be read as YAML at all.
    """
    document = documents.load(path)
    if not isinstance(document, Map):
        return None
    return next((name for name, keys in _MARKS.items() if keys & document.keys()), None)


def check(tool: Path, path: Path) -> Verdict:
    """What promtool or amtool, whichever is *tool*, says of the file at *path*."""
    what = kind(path)
    if what == "alertmanager":
        return alertmanager.check_config(tool, path)
    return promtool.check_rules(tool, path) if what == "rules" else promtool.check_config(tool, path)
