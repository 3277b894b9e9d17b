"""The demonstration: every documented metric of every service comes to a real Prometheus, and faults show."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from upcheck import catalog
from upcheck.cli import main
from upcheck.demo import DemoError, Stage, stage
from upcheck.demo.traffic import FAULTS, Traffic
from upcheck.prometheus import Prometheus
from upcheck.settings import Settings

SERVICES = catalog.load_all(ROOT / "monitoring/services")


@pytest.mark.usefixtures("tool_paths")
def test_a_series_for_every_metric_of_every_service_is_in_prometheus() -> None:
    wanted = {
        metric.name if metric.type != "histogram" else f"{metric.name}_count"
        for service in SERVICES for metric in service.metrics.values()
    }  # fmt: skip
    assert len(wanted) > 70
    with stage(Settings.load(ROOT, {})) as made:
        traffics = [Traffic(service) for service in SERVICES]
        api, end, found = Prometheus(made.prometheus), time.monotonic() + 30, set[str]()
        while not wanted <= found and time.monotonic() < end:
            assert made.tell(traffics) > 100
            time.sleep(0.5)
            found = {one.labels["__name__"] for one in api.query('count by (__name__) ({job="collector"})')}
        assert wanted - found == set()
        assert not any(one.labels["alertname"].startswith("Check") for one in api.query("ALERTS")), "no checks of ours"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_fault_shows_in_the_traffic(service: catalog.Service) -> None:
    def share(*faults: str) -> tuple[float, float]:
        traffic = Traffic(service, faults)
        told = [one for _ in range(60) for one in traffic.batch()]
        fields = {event.name: event.fields for event in service.events.values()}

        def values(kind: str) -> list[float]:
            return [one[f.name] for one in told for f in fields.get(one.get("event", ""), ()) if f.type == kind]

        statuses, seconds = values("http_status"), values("seconds")
        return sum(status >= 500 for status in statuses) / len(statuses), sum(seconds) / len(seconds)

    errors, took = share()
    assert errors < 0.05
    assert took < 0.2
    assert 0.2 < share("error-rate")[0] < 0.4
    assert share("latency")[1] > 20 * took
    assert Traffic(service, seed=7).batch() == Traffic(service, seed=7).batch()


def test_a_collector_that_is_gone_is_told() -> None:
    with pytest.raises(DemoError, match="the collector takes no events: Connection refused"):
        Stage("http://127.0.0.1:1", "http://127.0.0.1:1").tell([Traffic(SERVICES[0])])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["codrunner"], "there is no service 'codrunner'; did you mean 'coderunner'?"),
        (["--fault", "laten"], "--fault laten: there is none; did you mean 'latency'?"),
        (["--for", "soon"], "--for: expected a duration"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["demo", *arguments])
    assert result.exit_code == 2
    assert sentence in result.output


def test_the_faults_are_listed() -> None:
    result = CliRunner().invoke(main, ["demo", "--fault", "list"])
    assert [line.split()[0] for line in result.output.splitlines()] == list(FAULTS)
