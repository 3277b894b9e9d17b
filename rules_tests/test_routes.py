"""Who is told of which alert, where a loop says it better than a file: none that ships goes astray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from upcheck.routes import Routes
from upcheck.rules import alerts_of

MONITORING = Path(__file__).parents[1] / "monitoring"
ALERTS = sorted(name for file in MONITORING.glob("prometheus/rules/*.yml") for name in alerts_of(file))


@pytest.mark.parametrize("severity", ["critical", "warning", "info"])
def test_each_alert_is_told_by_its_severity(routes: Callable[..., Routes], severity: str) -> None:
    shipped = routes("monitoring/alertmanager/alertmanager.yml")
    for alertname in ALERTS:
        delivery = shipped.of({"alertname": alertname, "severity": severity}, at="2026-11-18T12:00:00Z")
        assert delivery.receivers == ["watchdog" if alertname == "Watchdog" else severity]
