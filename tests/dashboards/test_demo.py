"""Every panel asks a real Prometheus, and gets data; what it asks is what is produced."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.demo.test_demo import FACTOR, LEAD, SCENARIOS, SETTINGS
from tests.waiting import PATIENCE
from upcheck.cli import main
from upcheck.cli.rules import proof
from upcheck.dashboards import Dashboard, Panel, rehearsal
from upcheck.dashboards.reading import load_all
from upcheck.demo import Stage, stage
from upcheck.demo.checks import CHECKS
from upcheck.prometheus import Prometheus, Sample
from upcheck.rules import contract
from upcheck.rules.timelapse import Lapse

MONITORING = ROOT / "monitoring"
Asked = tuple[Dashboard, Panel, str, str]


def queries() -> list[Asked]:
    return [
        (dashboard, panel, legend, text)
        for dashboard in map(Dashboard.with_all, load_all(MONITORING))
        for panel in dashboard.panels
        for legend, text in panel.queries
    ]


@pytest.fixture(scope="module")
def played(tool_paths: dict[str, Path]) -> Iterator[Stage]:  # noqa: ARG001 - the tools must be there
    """All services, which have been well; then the memory of the host is short, so that alerts fire."""
    with stage(SETTINGS, list(SCENARIOS.values()), FACTOR, monitors=True) as made:
        made.play(LEAD)
        made.fault("memory")
        yield made


def test_every_panel_has_data_and_names_each_series(played: Stage) -> None:
    api, lapse = Prometheus(played.prometheus), Lapse(FACTOR, wall_clock=True)
    end, missing = time.monotonic() + PATIENCE, queries()
    names: dict[tuple[str, str], list[str]] = {}
    while missing and time.monotonic() < end:
        played.play(0.5)
        still: list[Asked] = []
        for dashboard, panel, legend, text in missing:
            found = api.query(lapse.promql(text))
            if any(math.isfinite(one.value) for one in found):
                names.setdefault((dashboard.name, panel.title), []).extend(named(legend, one) for one in found)
            else:
                still.append((dashboard, panel, legend, text))
        missing = still
    assert [(dashboard.name, panel.title, text) for dashboard, panel, _, text in missing] == []
    assert [where for where, legends in names.items() if len(set(legends)) < len(legends)] == []
    assert [where for where, legends in names.items() if "" in legends] == []


def test_the_command_draws_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool_paths: dict[str, Path]
) -> None:
    monkeypatch.setenv("UPCHECK_TOOLS", str(tool_paths["prometheus"].parent))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(rehearsal, "LEAD", 5.0)  # as long as Prometheus waits before it scrapes
    for name in ("WELL", "WRONG", "AFTER"):
        monkeypatch.setattr(rehearsal, name, 1.0)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(proof, "progress", lambda unit: contextlib.nullcontext(lambda *done: told.append(done)))
    result = CliRunner().invoke(main, ["dashboards", "--pictures", str(tmp_path / "new")])
    assert len(told) > 3
    assert told[-1] == (8, 8)
    assert result.output == f"nothing to write\ndrawn            15 in {tmp_path / 'new'}\n"
    drawn = {path.stem: ElementTree.parse(path).getroot() for path in (tmp_path / "new").iterdir()}
    assert drawn.keys() == {one.name for one in load_all(MONITORING)}
    lines = [line for root in drawn.values() for line in root.iter() if line.tag.endswith("polyline")]
    assert len(lines) > 100
    assert sum(len(line.attrib["points"].split()) > 3 for line in lines) > 100
    result = CliRunner().invoke(main, ["dashboards", "--check", "--pictures", "docs"])
    assert (result.exit_code, "--check writes nothing, so it draws nothing" in result.output) == (2, True)


def named(legend: str, sample: Sample) -> str:
    """A series as Grafana names it."""
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda match: sample.labels.get(match[1], ""), legend).strip()


def test_exporters_count_and_checks_run(played: Stage) -> None:
    api, lapse = Prometheus(played.prometheus), Lapse(FACTOR, wall_clock=True)
    text = lapse.promql('sum(rate(pg_stat_database_xact_commit{service="codesync"}[5m])) > 0')
    end = time.monotonic() + PATIENCE
    while not (commits := api.query(text)) and time.monotonic() < end:
        played.play(0.5)
    assert commits
    assert {one.labels["check"] for one in api.query("probe_success")} == set(CHECKS)
    assert {one.labels["job"] for one in api.query("up == 1")} == {"collector", "exporters", "prometheus"}


def test_what_they_ask_is_produced(played: Stage) -> None:
    played.play(1.0)
    pages = {url: httpx.get(f"{url}/metrics", trust_env=False).text for url in (played.collector, played.prometheus)}
    pages["exporters"] = "".join(f"{series} {value}\n" for series, value in played.exported.items())
    series = [one for source, page in pages.items() for one in contract.read_exposition(page, source)]
    report = contract.check([MONITORING / "grafana"], series, context_paths=[MONITORING])
    assert report.queries >= len(queries())
    assert [str(one) for one in (*report.findings, *report.unknown, *report.unreadable)] == []
