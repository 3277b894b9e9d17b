"""How much history a CPU-second plays through rules: `python -m benchmarks.backtest [DAYS]`, samples each 15 s.

*rule_days_per_cpu_s*: alerts times days, per CPU-second of upcheck and of the Prometheus that it asks, together. The
peer in the same run asks that Prometheus for each alert at each evaluation, over one connection, for a part of the same
history; its answers are held against ours. *peer_server_ratio* leaves the peer's own CPU out. *import_cpu_s* is what it
takes to make blocks of the OpenMetrics file.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from upcheck.rules import backtest
from upcheck.rules.backtest.history import Part, opened
from upcheck.rules.backtest.recorded import Recorded
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]
SERVICES, STEP, DAY = 15, 15, 86400
START = 1_700_006_400  # midnight
PEER_STEPS = 60  # evaluations that the peer asks for, spread over the history
RULES = """
      - {{record: 'errors_{0}:ratio', expr: 'sum(rate(requests_{0}_total{{status="500"}}[5m]))
          / sum(rate(requests_{0}_total[5m]))'}}
      - {{alert: Errors_{0}, expr: 'errors_{0}:ratio > 0.05', for: 5m}}
      - {{alert: Slow_{0}, expr: 'histogram_quantile(0.95, sum by (le) (rate(took_{0}_bucket[5m]))) > 1', for: 5m}}
      - {{alert: Full_{0}, expr: 'used_{0} / size_{0} > 0.9', for: 10m}}
      - {{alert: Down_{0}, expr: 'up_{0} == 0', for: 1m}}"""


def samples(service: int, number: int) -> Iterator[tuple[str, float]]:
    """The series of a service at its sample *number*: an hour of trouble each six."""
    bad = (number * STEP // 3600 + service) % 6 == 0
    yield f'requests_{service}_total{{status="500"}}', number * 15 * (0.1 if bad else 0.01)
    yield f'requests_{service}_total{{status="200"}}', number * 150
    for le, share in (("0.1", 0.5), ("0.5", 0.8), ("1", 0.9), ("5", 0.99), ("+Inf", 1)):
        yield f'took_{service}_bucket{{le="{le}"}}', number * 15 * share
    yield f"used_{service}", 95 if bad else 50 + number % 10
    yield f"size_{service}", 100
    yield f"up_{service}", 0 if bad and number % 40 < 8 else 1


def history(file: Path, days: float) -> None:
    """Write OpenMetrics: the samples of each series stand together."""
    with file.open("w") as out:
        for service in range(SERVICES):
            kept: dict[str, list[str]] = {}
            for number in range(int(days * DAY / STEP)):
                for name, value in samples(service, number):
                    kept.setdefault(name, []).append(f"{name} {value:.10g} {START + number * STEP}\n")
            for lines in kept.values():
                out.writelines(lines)
        out.write("# EOF\n")


def used(whose: int) -> float:
    """CPU seconds: of this process, or of its children that have ended."""
    found = resource.getrusage(whose)
    return found.ru_utime + found.ru_stime


def of_server() -> float:
    """CPU seconds of the Prometheus that this process has started."""
    return sum(one.user + one.system for one in (child.cpu_times() for child in psutil.Process().children()))


def cpu() -> float:
    """CPU seconds of both."""
    return used(resource.RUSAGE_SELF) + of_server()


def main() -> None:
    """Print the line."""
    days = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        history(folder / "history.om", days)
        rules = folder / "rules.yml"
        rules.write_text("groups:\n  - name: a\n    rules:" + "".join(map(RULES.format, range(SERVICES))))
        read = backtest.rules_of([rules])
        alerts = [rule for rule in read if rule.name.kind == "alert"]
        imported = used(resource.RUSAGE_CHILDREN)
        with opened(str(folder / "history.om"), Settings.load(ROOT), Part(), interval=STEP) as whole:
            imported = used(resource.RUSAGE_CHILDREN) - imported
            before, began = cpu(), time.monotonic()
            (told,) = backtest.run(whole, [read], interval=STEP, advance=lambda done, of: None)
            ours, wall = cpu() - before, time.monotonic() - began
            recorded = Recorded(read, STEP)
            queries = [str(recorded.expression(rule)) for rule in alerts]
            every = math.floor(whole.span / STEP / PEER_STEPS) * STEP
            times = [math.ceil(whole.start / STEP) * STEP + number * every for number in range(PEER_STEPS)]
            before, server = cpu(), of_server()
            with httpx.Client(base_url=whole.api._url, trust_env=False) as client:
                active = [
                    [
                        bool(client.get("/query", params={"query": one, "time": at}).json()["data"]["result"])
                        for at in times
                    ]
                    for one in queries
                ]
            scale = whole.span / STEP / PEER_STEPS
            peer, server = (cpu() - before) * scale, (of_server() - server) * scale
    expected = [
        [any(one.since <= at < (one.over or math.inf) for one in alert.episodes) for at in times] for alert in told
    ]
    rule_days = len(alerts) * days
    figures = {
        "rule_days_per_cpu_s": rule_days / ours,
        "peer_rule_days_per_cpu_s": rule_days / peer,
        "ratio": peer / ours,
        "peer_server_ratio": server / ours,
        "rules": len(alerts),
        "days": days,
        "cpu_s": ours,
        "wall_s": wall,
        "import_cpu_s": imported,
        "pages": sum(len(one.pages) for one in told),
    }
    line: dict[str, float | bool] = {name: round(figure, 3) for name, figure in figures.items()}
    line["answers_equal"] = active == expected
    print(json.dumps(line))


if __name__ == "__main__":
    main()
