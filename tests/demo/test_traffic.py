"""Made-up traffic: what is said of an event is told, as often as it is said, and the rest goes well."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from upcheck import catalog
from upcheck.demo.scenario import Fault, Play, Scenario
from upcheck.demo.traffic import RATE, Traffic

SERVICES = {service.name: service for service in catalog.load_all(ROOT / "monitoring/services")}
CODESYNC = SERVICES["codesync"]


def told(traffic: Traffic, event: str, spans: int = 50) -> list[dict[str, object]]:
    """What is told of *event* in so many batches of a second."""
    return [one for _ in range(spans) for one in traffic.batch(1.0) if one.get("event") == event]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_what_is_made_up_goes_well_and_is_the_same_each_time(service: catalog.Service) -> None:
    scenario = Scenario(service, Play(), {})
    batches = [Traffic(scenario, seed=7).batch(60.0) for _ in range(2)]
    assert batches[0] == batches[1]
    words = {value for one in batches[0] for name, value in one.items() if name in ("status", "success", "status_code")}
    assert not any(str(word).lower().startswith(("fail", "err", "timeout", "5")) for word in words - {True})
    assert False not in words


def test_an_event_is_told_as_often_as_its_rate_says() -> None:
    play = Play({"http_request": ({"rate": 3, "status": [500, 200]},), "ws_message": ({"rate": 0.5},)})
    traffic = Traffic(Scenario(CODESYNC, play, {}))
    requests = told(traffic, "http_request")
    assert len(requests) == pytest.approx(150, abs=2)
    assert {one["status"] for one in requests} == {500, 200}
    assert len(told(traffic, "ws_message")) == pytest.approx(25, abs=2)
    assert len(told(traffic, "yjs_operation")) == pytest.approx(50 * RATE, abs=2)


def test_each_row_of_an_event_is_told() -> None:
    rows = ({"status": "running", "count": 4}, {"status": "error", "count": 8})
    (batch,) = [Traffic(Scenario(SERVICES["vibebox"], Play({"environments": rows}), {})).batch(0.1)]
    assert [(one["status"], one["count"]) for one in batch if one.get("event") == "environments"] == [
        ("running", 4),
        ("error", 8),
    ]


def test_a_counter_adds_what_a_second_adds_and_a_gauge_is_set() -> None:
    play = Play({}, {"process_cpu_seconds_total": 0.5, "process_open_fds": 60})
    batch = Traffic(Scenario(CODESYNC, play, {})).batch(4.0)
    found = {one["metric"]: one for one in batch if "metric" in one}
    assert found["process_cpu_seconds_total"]["add"] == 2.0
    assert found["process_open_fds"]["set"] == 60


def test_a_metric_of_an_event_can_be_told_of_itself() -> None:
    batch = Traffic(Scenario(CODESYNC, Play({}, {"http_requests_total": 900}), {})).batch(2.0)
    assert [one["add"] for one in batch if one.get("metric") == "http_requests_total"] == [1800]


def test_a_silent_service_tells_nothing_until_it_is_well_again() -> None:
    scenario = Scenario(CODESYNC, Play(), {"down": Fault("down", "it is down", ("A",), Play(silent=True))})
    traffic = Traffic(scenario)
    traffic.play = scenario.play(["down"])
    assert traffic.batch(60.0) == []
    traffic.play = scenario.play()
    assert traffic.batch(60.0)
