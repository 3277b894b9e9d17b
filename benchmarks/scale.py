"""Ten thousand checks every ten seconds, then as many as one core can: `python -m benchmarks.scale`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks import stage
from upcheck.history import BUCKETS, Engine, History

CHECKS, EVERY, SECONDS = 10_000, "10s", 15
FLOOD, FLOOD_SECONDS = 20_000, 10  # every 2 s: more than one core can do


def said(folder: Path) -> Engine:
    """What the engine last said of itself."""
    with History(folder / ".upcheck/history.sqlite", read_only=True) as history:
        (engine,) = history.engines()
    return engine


def quantile(engine: Engine, before: Engine, wanted: float) -> float:
    """The upper bound, in seconds, of the bucket of lags that *wanted* of the runs between the two are within."""
    counts = [now - then for now, then in zip(engine.lag_buckets, before.lag_buckets, strict=True)]
    seen = 0
    for bound, count in zip([*BUCKETS, float("inf")], counts, strict=True):
        seen += count
        if seen >= wanted * sum(counts):
            return bound
    return float("inf")


def measure(url: str, count: int, every: str, warm: float, seconds: float) -> dict[str, float]:
    """Watch *count* checks for *seconds*, after *warm* in which all have started once."""
    with stage.repo() as folder:
        (folder / "checks/all.yml").write_text(stage.yaml_checks(url, count, every))
        with stage.watching(folder) as engine:
            time.sleep(warm)
            before, cpu = said(folder), stage.cpu(engine)
            time.sleep(seconds)
            after, used = said(folder), stage.cpu(engine) - cpu
            rss = engine.memory_info().rss / 2**20
    runs = after.runs - before.runs
    return {
        "per_s": runs / (after.updated - before.updated),
        "lag_p99_s": quantile(after, before, 0.99),
        "missed": after.missed - before.missed,
        "rss_mb": rss,
        "cpu_us": used / runs * 1e6,
    }


def main() -> None:
    """Print the line."""
    with stage.target() as url:
        steady = measure(url, CHECKS, EVERY, 15, SECONDS)
        flood = measure(url, FLOOD, "2s", 6, FLOOD_SECONDS)
    figures = {
        "checks_per_s": round(steady["per_s"]),
        "lag_p99_s": steady["lag_p99_s"],
        "missed": steady["missed"],
        "rss_mb": round(steady["rss_mb"]),
        "cpu_us_per_check": round(steady["cpu_us"]),
        "ceiling_per_core": round(flood["per_s"]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
