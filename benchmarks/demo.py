"""Whether the demonstration shows what is documented: `python -m benchmarks.demo`.

*seen_ratio*: of the metrics of all services, those that a real Prometheus has. *right_ratio*: of their faults, each
alone on a stage of its own, those whose alerts fired, and only those, with none before. *seconds*: of all of it.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from upcheck import catalog
from upcheck.demo import stage
from upcheck.demo.scenario import Scenario, load
from upcheck.prometheus import Prometheus
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]
SETTINGS = Settings.load(ROOT, {})
LEAD = 6.0  # seconds: six minutes at 60x
AT_ONCE = 2 * (os.cpu_count() or 1)  # stages; they wait, most of the time


def seen(scenarios: list[Scenario]) -> tuple[int, int]:
    """How many metrics are documented, and how many of them Prometheus has."""
    wanted = {
        metric.name if metric.type != "histogram" else f"{metric.name}_count"
        for scenario in scenarios
        for metric in scenario.service.metrics.values()
    }
    with stage(SETTINGS, scenarios) as made:
        made.play(LEAD)
        found = Prometheus(made.prometheus).query('count by (__name__) ({job="collector"})')
    return len(wanted), len(wanted & {one.labels["__name__"] for one in found})


def right(scenario: Scenario, fault: str) -> bool:
    """Whether the alerts of *fault* fire, and no others."""
    wanted = set(scenario.faults[fault].alerts)
    with stage(SETTINGS, [scenario]) as made:
        made.play(LEAD)
        before = made.until(())
        made.fault(fault)
        return not before and made.until(wanted) == wanted


def main() -> None:
    began = time.monotonic()
    scenarios = [load(one, ROOT / "monitoring/demo") for one in catalog.load_all(ROOT / "monitoring/services")]
    documented, found = seen(scenarios)
    faults = [(scenario, fault) for scenario in scenarios for fault in scenario.faults]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rights = list(pool.map(lambda one: right(*one), faults))
    answer = {
        "services": len(scenarios), "documented_metrics": documented, "seen_ratio": found / documented,
        "faults": len(faults), "right_ratio": sum(rights) / len(faults), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
