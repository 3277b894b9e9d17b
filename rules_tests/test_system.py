"""What the system alerts must do, where loops say it better than a file: exact times, and that nothing else fires."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from upcheck import alert
from upcheck.rules.play import Rules

SYSTEM = "monitoring/prometheus/rules/system.yml"
Load = Callable[..., Rules]


def test_a_target_pages_after_a_minute_and_resolves_when_it_is_back(rules: Load) -> None:
    timeline = rules(SYSTEM).play({'up{job="api", instance="a"}': "1x3 0x19 1x9"}, interval="15s")
    assert timeline.first_pending("TargetDown") == "1m"
    assert timeline.first_firing("TargetDown") == "2m"
    assert timeline.firing("5m") == [alert("TargetDown", severity="critical", job="api")]
    assert timeline.resolved("TargetDown") == "6m"


@pytest.mark.parametrize(
    ("used", "fires"),
    [(0.79, set()), (0.81, {"HighCpuUsage"}), (0.94, {"HighCpuUsage"}), (0.96, {"HighCpuUsage", "CriticalCpuUsage"})],
)
def test_a_busy_cpu_warns_and_a_full_one_pages(rules: Load, used: float, fires: set[str]) -> None:
    idle = [15.0 * (1 - used) * sample for sample in range(61)]
    timeline = rules(SYSTEM).play({'node_cpu_seconds_total{cpu="0", mode="idle"}': idle}, interval="15s")
    assert timeline.fired == fires
