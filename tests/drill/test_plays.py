"""What a drill plays: the samples of promtool's notation, on their way from one to the next, until somebody is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from upcheck.drill.plays import FACTOR, HOLD, DrillError, Play, chosen, lookback, value, values
from upcheck.routes import Routes

RULES = ROOT / "monitoring/prometheus/rules"
ROUTES = Routes.load(ROOT / "monitoring/alertmanager/alertmanager.yml")


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("1 2 3.5", [1, 2, 3.5]),
        ("0+10x3", [0, 10, 20, 30]),
        ("5-2x2 7", [5, 3, 1, 7]),
        ("4x2", [4, 4, 4]),
        ("1 _ _x2 2", [1, None, None, None, 2]),
        ("1 stale", [1, None]),
        ("-3 1e3 inf", [-3, 1000, float("inf")]),
    ],
)
def test_the_notation_of_promtool_is_read(text: str, samples: list[float | None]) -> None:
    assert list(values(text)) == samples


def test_a_native_histogram_is_refused() -> None:
    with pytest.raises(DrillError, match="a drill plays numbers only"):
        list(values("{{schema:1}}"))


@pytest.mark.parametrize(
    ("told", "place", "grows", "expected"),
    [
        ((0, 10, 30), 0.5, True, 5),
        ((0, 10, 30), 1.5, True, 20),
        ((0, 10, 30), 0.5, False, 0),  # it jumps
        ((0, 10, 20), 1.5, False, 15),  # it goes in a line
        ((5, 0, 0), 0.5, True, 5),  # a counter that was reset
        ((1, None, 2), 0.5, True, 1),
        ((1, None, 2), 1.5, True, None),
        ((1, 2), -0.5, True, None),
        ((1, 2), 2.0, True, None),
        ((1, 2), 1.9, True, 2),
    ],
)
def test_a_series_is_on_its_way_to_the_next_sample(
    told: tuple[float | None, ...], place: float, grows: bool, expected: float | None
) -> None:
    assert value(told, place, growing=grows) == expected


def test_a_play_looks_back_as_far_as_what_its_alert_is_made_of(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    rules = [
        {"record": "a:b", "expr": "rate(x[10m])"},
        {"alert": "A", "expr": "max_over_time(a:b[1h]) > 1"},
        {"alert": "B", "expr": "rate(y[7d]) > 1"},
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    assert lookback([file], "A") == 300 + 3600 + 600
    assert lookback([file], "B") == 300 + 7 * 86400


def play(tool: Path, tests: Path, alert: str) -> Play:
    (found,) = chosen(tool, [tests], ROUTES, {}, [alert])
    return found


def test_an_alert_goes_on_to_fire_until_its_group_is_told(promtool_path: Path) -> None:
    made = play(promtool_path, ROOT / "rules_tests/checks.yml", "CheckFlapping")
    firing = made.expected[made.target]
    wait = 120.0  # the route of warnings
    assert firing.ended is not None
    assert firing.ended - firing.began >= wait + HOLD * FACTOR
    assert made.factor == FACTOR
    assert made.interval == made.step == 15.0


def test_a_long_play_is_played_faster(promtool_path: Path) -> None:
    made = play(promtool_path, ROOT / "rules_tests/codex-clone-days.yml", "CodexAvailabilityViolated")
    assert made.factor > 1000
    assert made.length / made.factor < 60


def test_an_alert_that_no_test_fires_is_told(promtool_path: Path) -> None:
    with pytest.raises(
        DrillError, match="Nothing: no rule test fires it, so there is nothing to play; write one first"
    ):
        chosen(promtool_path, [ROOT / "rules_tests/checks.yml"], ROUTES, {}, ["Nothing"])
