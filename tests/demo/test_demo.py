"""The demonstration, for real: documented metrics come to Prometheus, and faults that hide others fire their alerts."""

from __future__ import annotations

import time

import httpx
import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.waiting import PATIENCE
from upcheck import catalog
from upcheck.cli import main
from upcheck.demo import DemoError, stage
from upcheck.demo.scenario import load
from upcheck.prometheus import Prometheus
from upcheck.settings import Settings

SETTINGS = Settings.load(ROOT, {})
SCENARIOS = {one.name: load(one, ROOT / "monitoring/demo") for one in catalog.load_all(ROOT / "monitoring/services")}
FACTOR = 60.0
SPAN = 3 * 3600.0  # seconds of the time that is played: a busy machine falls behind
LEAD = 6.0  # seconds in which all is well, so that every rate is known
# Faults that would hide others: one that is silent tells of no other, and 900 requests a second dilute errors.
APART: dict[str, list[str]] = {
    "coderunner": [], "codesync": [], "vibebox": ["service-down"], "codex-clone": ["telemetry-lost", "api-rate"],
}  # fmt: skip


@pytest.mark.parametrize(
    "faults", [{"vibebox": "service-down", "codex-clone": "telemetry-lost"}, {"codex-clone": "api-rate"}]
)
@pytest.mark.usefixtures("tool_paths")
def test_the_alerts_of_faults_that_hide_others_fire_and_no_more(faults: dict[str, str]) -> None:
    with stage(SETTINGS, [SCENARIOS[name] for name in faults], FACTOR) as made:
        made.play(LEAD)
        assert made.until(["Watchdog"], SPAN) == {"Watchdog"}
        made.fault(*faults.values())
        alerts = {alert for name, fault in faults.items() for alert in SCENARIOS[name].faults[fault].alerts}
        assert made.until(alerts, SPAN) - {"Watchdog"} == alerts


@pytest.mark.usefixtures("tool_paths")
def test_a_series_for_every_metric_of_every_service_is_in_prometheus() -> None:
    wanted = {
        metric.name if metric.type != "histogram" else f"{metric.name}_count"
        for scenario in SCENARIOS.values() for metric in scenario.service.metrics.values()
    }  # fmt: skip
    assert len(wanted) > 70
    with stage(SETTINGS, list(SCENARIOS.values()), FACTOR) as made:
        api, end, found = Prometheus(made.prometheus), time.monotonic() + PATIENCE, set[str]()
        while not wanted <= found and time.monotonic() < end:
            made.play(0.5)
            found = {one.labels["__name__"] for one in api.query('count by (__name__) ({job="collector"})')}
        assert wanted - found == set()
        assert not any(name.startswith("Check") for name in made.until(())), "no checks of ours"
        host = httpx.get(f"{made.collector}/metrics", trust_env=False).text
        assert "node_memory_MemTotal_bytes 17179869184" in host, "the host is made up"


@pytest.mark.usefixtures("tool_paths")
def test_a_collector_that_is_gone_is_told() -> None:
    with stage(SETTINGS, [SCENARIOS["codesync"]], 1.0) as made:
        gone = type(made)("http://127.0.0.1:1", made.prometheus, 1.0, made.traffics, made.host, {})
        with pytest.raises(DemoError, match="the collector takes no events: Connection refused"):
            gone.play(0.01)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["codrunner"], "there is no service 'codrunner'; did you mean 'coderunner'?"),
        (["codesync", "--fault", "laten"], "--fault laten: codesync has none; did you mean 'latency'?"),
        (["--fault", "laten"], "--fault laten: no service has it; did you mean 'latency'?"),
        (["--for", "soon"], "--for: expected a duration"),
        (["--speed", "0"], "0.0 is not in the range 1<=x<=120"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["demo", *arguments])
    assert result.exit_code == 2
    assert sentence in result.output


def test_the_faults_are_listed_with_their_alerts() -> None:
    result = CliRunner().invoke(main, ["demo", "codesync", "--fault", "list"])
    assert result.output.splitlines()[:3] == [
        "codesync",
        "  error-rate  a third of the requests is answered with 500",
        "              CodeSyncHighErrorRate",
    ]


@pytest.mark.usefixtures("tool_paths")
def test_what_happens_is_a_line() -> None:
    said = ["demo", "codesync", "--fault", "memory", "--speed", "60", "--for", "16s"]
    lines = CliRunner().invoke(main, said).output.splitlines()
    assert lines[2] == "traffic      codesync: 16 metrics"
    assert lines[3] == "time-lapse   60x: five minutes pass in 5 s; Ctrl-C ends it"
    assert lines[4].endswith("  fault     memory")
    # Others may be pending for a moment: on a busy machine the made-up one looks busy, too.
    told = [line.split(maxsplit=1)[1] for line in lines[4:] if "CodeSync" in line]
    alert = "CodeSyncHighMemoryUsage  resource=memory, service=codesync, severity=warning"
    assert told == [f"pending   {alert}", f"firing    {alert}"]
