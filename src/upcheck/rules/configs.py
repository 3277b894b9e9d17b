"""The configuration files that ship: what each is, and whether its own tool accepts it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from upcheck import alertmanager, catalog, documents, promtool, yaml_checks
from upcheck.documents import DocumentError, Map
from upcheck.promtool import Verdict

_MARKS = {
    "rules": frozenset({"groups"}),
    "prometheus": frozenset({"scrape_configs", "rule_files", "alerting", "remote_write", "scrape_config_files"}),
    "alertmanager": frozenset({"route", "receivers"}),
}
TOOLS = {"rules": "promtool", "prometheus": "promtool", "alertmanager": "amtool"}


def kind(path: Path) -> str | None:
    """`rules`, `prometheus` or `alertmanager` by the keys at its top, else by its name; `service` by its folder.

    `components` are the checks in a folder called health. None for any other file.

    Raises DocumentError where it can't be read as YAML at all.
    """
    if path.parent.name == "services":
        return "service"
    document = documents.load(path)
    keys = {str(key) for key in document} if isinstance(document, Map) else set()
    if "checks" in keys and path.parent.name == "health":
        return "components"
    for name, marks in _MARKS.items():
        if keys & marks:
            return name
    for name, marks in _MARKS.items():  # a mistyped key is for the tool to refuse, not for us to pass over
        if any(get_close_matches(key, marks, cutoff=0.8) for key in keys):
            return name
    return path.stem if path.stem in ("prometheus", "alertmanager") else None


def check(tool: Path | None, path: Path) -> Verdict:
    """What promtool or amtool, whichever is *tool*, says of the file at *path*, and what it should have said.

    The files of services and of health components need none.
    """
    what = kind(path)
    if tool is None:
        return _service(path) if what == "service" else _components(path)
    if what == "alertmanager":
        return alertmanager.check_config(tool, path)
    if what == "rules":
        return promtool.check_rules(tool, path)
    verdict = promtool.check_config(tool, path)
    return _emptiness(path) or verdict if verdict.ok else verdict


def _service(path: Path) -> Verdict:
    """Whether the catalogue can be read with the file at *path* in it."""
    try:
        catalog.load_all(path.parent)
    except DocumentError as error:
        return Verdict(False, str(error))
    return Verdict(True, "")


def _components(path: Path) -> Verdict:
    """Whether the collector could ask the components in the file at *path*."""
    try:
        yaml_checks.load(path)
    except DocumentError as error:
        return Verdict(False, str(error))
    return Verdict(True, "")


def _emptiness(path: Path) -> Verdict | None:
    """A configuration that promtool accepts and that does nothing."""
    document = documents.load(path)
    if not document:
        return Verdict(False, "it is empty: Prometheus would scrape nothing and load no rule")
    for index, pattern in enumerate(document.get("rule_files") or []):
        if not any(Path("/").glob(str(path.parent.absolute() / str(pattern)).lstrip("/"))):
            line = documents.where(document, ["rule_files", index])[0]
            return Verdict(
                False, f"line {line}: rule_files: {pattern} matches no file, so Prometheus would load no rule"
            )
    return None
