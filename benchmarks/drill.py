"""Every shipped alert through the real Prometheus and Alertmanager to its receiver: `python -m benchmarks.drill`.

*agree_with_simulation*: of the alerts, those that fired when promtool says, told whom the routes say, in words, and
were over when promtool says. *wall_s*: of all of it, the simulation too.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from upcheck.drill import drill
from upcheck.drill.plays import FACTOR
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]


def main() -> None:
    began = time.monotonic()
    outcomes = drill(Settings.load(ROOT, {}))
    right = [one for one in outcomes if not one.problems]
    answer = {
        "time_lapse_factor": FACTOR, "alerts": len(outcomes), "messages": sum(len(one.told) for one in outcomes),
        "wall_s": round(time.monotonic() - began, 1), "agree_with_simulation": len(right) / len(outcomes),
    }  # fmt: skip
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
