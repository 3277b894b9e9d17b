"""The one configuration: `[tool.upcheck]` in pyproject.toml, with environment variables above it."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upcheck.maintenance import Window


class SettingsError(ValueError):
    """A setting that can't be used, in a sentence that names the file and the key."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint for a mistyped *word*: `; did you mean 'every'?`, or the list of what is valid."""
    known = sorted(valid)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid: {', '.join(known)}" if known else ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a monitoring repo says of itself. Paths are absolute, resolved against *root*; *retention* is in seconds.

    *probes* is the modules file of the collector's /probe, *probe_networks* what it may ask, apart by blanks;
    *push* is the folder of the reports of jobs, *procfs* the /proc of the host that the collector tells of.
    *ports* are those of the stack's services that are not the usual ones, *tsdb_retention* and *tsdb_size* how long,
    and how much, its Prometheus keeps. *metrics_token_file* has the token that the collector asks for, and *ca_file*
    the authorities (PEM) that checks trust in place of certifi's: both are below *root*, unless absolute.
    """

    root: Path
    target: str = "http://127.0.0.1:9909"
    checks: Path = Path("checks")
    rules_tests: Path = Path("rules_tests")
    monitoring: Path = Path("monitoring")
    history: Path = Path(".upcheck/history.sqlite")
    probes: Path = Path("monitoring/exporters/blackbox.yml")
    probe_networks: str = ""
    push: Path = Path(".upcheck/push")
    procfs: Path = Path("/proc")
    retention: float = 30 * 86400.0
    tools: Path = Path(".tools")
    sla_source: str = ""
    health: str = ""
    ports: str = ""
    tsdb_retention: str = "15d"
    tsdb_size: str = "10GB"
    metrics_token_file: str = ""
    ca_file: str = ""
    maintenance: tuple[Window, ...] = ()

    @classmethod
    def load(cls, root: Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings of the repo at *root*: defaults, then pyproject.toml, then `UPCHECK_<KEY>`.

        Raises SettingsError for an unknown key, a value that is no text or no duration, or a file that is no TOML.
        """
        keys = {field.name for field in fields(cls)} - {"root", "maintenance"}
        values, windows = _table(root / "pyproject.toml", keys)
        values.update({key: environ[name] for key in keys if (name := f"UPCHECK_{key.upper()}") in environ})
        kept = values.pop("retention", None)
        paths = {field.name for field in fields(cls) if isinstance(field.default, Path)}
        settings = cls(root, **{k: Path(v) if k in paths else v for k, v in values.items()})  # type: ignore[arg-type]
        for key in paths:
            object.__setattr__(settings, key, root / getattr(settings, key))
        if kept is not None:
            object.__setattr__(settings, "retention", _retention(kept, root, environ))
        if windows is not None:
            object.__setattr__(settings, "maintenance", _maintenance(windows, root / "pyproject.toml"))
        return settings


def here() -> Settings:
    """Those of the repo that this folder is in, or else that the program is in."""
    folder = Path.cwd()
    places = (folder, *folder.parents, Path(sys.argv[0]).resolve().parent)
    return Settings.load(next((one for one in places if declared(one)), folder))


def declared(root: Path) -> bool:
    """Whether *root* is a monitoring repo: its pyproject.toml has a `[tool.upcheck]` table."""
    return "upcheck" in _tools_of(root / "pyproject.toml")


def _retention(text: str, root: Path, environ: Mapping[str, str]) -> float:
    from upcheck.declaration import seconds  # which imports `nearest` from here

    try:
        return seconds(text)
    except ValueError as error:
        file = f"{root / 'pyproject.toml'}: [tool.upcheck] retention"
        where = "UPCHECK_RETENTION" if "UPCHECK_RETENTION" in environ else file
        raise SettingsError(f"{where}: {str(error).replace('30s', '30d')}") from None


def _maintenance(tables: object, file: Path) -> tuple[Window, ...]:
    from upcheck.maintenance import window  # which imports `nearest` from here

    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{file}: [tool.upcheck] maintenance: expected tables [[tool.upcheck.maintenance]]")
    windows = []
    for number, table in enumerate(tables, 1):
        try:
            windows.append(window(table))
        except ValueError as error:
            raise SettingsError(f"{file}: [[tool.upcheck.maintenance]] number {number}: {error}") from None
    return tuple(windows)


def _tools_of(file: Path) -> Mapping[str, object]:
    try:
        return dict(tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not readable as TOML: {error}") from None


def _table(file: Path, keys: set[str]) -> tuple[dict[str, str], Any]:
    """What the file says, all of it text; and its windows of maintenance as they stand."""
    table = _tools_of(file).get("upcheck", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: upcheck: expected a table [tool.upcheck]")
    windows = table.pop("maintenance", None)
    for key, value in table.items():
        if key not in keys:
            raise SettingsError(f"{file}: [tool.upcheck] has no key '{key}'{nearest(key, {*keys, 'maintenance'})}")
        if not isinstance(value, str):
            raise SettingsError(f"{file}: [tool.upcheck] {key} = {value!r}: expected text in quotes")
    return table, windows
