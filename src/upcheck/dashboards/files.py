"""The files that are made of a repo's dashboards, and which of them are no longer what would be made."""

from __future__ import annotations

from pathlib import Path

from upcheck.dashboards import DashboardError
from upcheck.dashboards.reading import load_all


def made(monitoring: Path) -> dict[Path, str]:
    """The text of the JSON file of each dashboard in `grafana` of the folder *monitoring*.

    Raises DocumentError for a dashboard that can't be read, DashboardError where there is none or no SDK.
    """
    dashboards = load_all(monitoring)
    if not dashboards:
        raise DashboardError(
            f"there is no dashboard in {monitoring / 'grafana'}: write one, as docs/dashboards.md shows"
        )
    try:
        from upcheck.dashboards import grafana
    except ImportError:
        raise DashboardError(
            "no JSON was made: the extra `grafana` is not installed: pip install 'upcheck[grafana]'"
        ) from None
    folder = monitoring / "grafana/dashboards"
    return {folder / one.folder / f"{one.name}.json": grafana.text(one) for one in dashboards}


def drifted(monitoring: Path) -> dict[Path, str]:
    """The files that `write` would change, each with how it is: missing, differs, or of no dashboard.

    Raises as `made` does.
    """
    expected = made(monitoring)
    found = {path: path.read_text(encoding="utf-8") for path in (monitoring / "grafana/dashboards").rglob("*.json")}
    told = {
        path: "missing" if path not in found else "differs" for path in expected if found.get(path) != expected[path]
    }
    return told | dict.fromkeys(sorted(found.keys() - expected.keys()), "of no dashboard")


def write(monitoring: Path) -> dict[Path, str]:
    """Make the files as they should be; what `drifted` told of. Raises as `made` does, and OSError."""
    expected, told = made(monitoring), drifted(monitoring)
    for path in told:
        if path in expected:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected[path], encoding="utf-8")
        else:
            path.unlink()
    return told
