"""A thousand checks of a target that answers after 100 ms, all at once: `python -m benchmarks.suite`.

The peers run the same file: pytest alone, and pytest -n 8. A run is from the start of the first item to the end of the
last, as the results tell; the whole of each process stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import stage

CHECKS = 1000
SUITE = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_get(http, number):
    assert http.get("/").status_code == 200
"""
IDLE = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_nothing(number):
    pass
"""


def once(folder: Path, url: str, *arguments: str) -> tuple[float, float]:
    """Seconds of the run, and of the whole process."""
    results = folder / "results"
    results.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pytest", "-q", "checks", f"--target={url}", f"--results={results}", *arguments]
    began = time.perf_counter()
    told = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    whole = time.perf_counter() - began
    assert told.returncode == 0, told.stdout[-2000:]
    runs = [one for line in results.read_text().splitlines() if "check" in (one := json.loads(line))]
    assert len(runs) == CHECKS
    return max(run["started"] + run["duration"] for run in runs) - min(run["started"] for run in runs), whole


def main() -> None:
    """Print the line."""
    with stage.repo() as folder, stage.target(0.1) as url:
        (folder / "checks/test_suite.py").write_text(IDLE.format(count=CHECKS))
        idle = min(once(folder, url, "--concurrency=200")[0] for _ in range(3))
        (folder / "checks/test_suite.py").write_text(SUITE.format(count=CHECKS))
        runs = [once(folder, url, "--concurrency=200") for _ in range(5)]
        ours, whole = min(run for run, _ in runs), min(whole for _, whole in runs)
        eight, eight_whole = once(folder, url, "-n", "8")
        alone, alone_whole = once(folder, url)
    figures = {
        "run_s": ours,
        "vs_pytest": alone / ours,
        "vs_xdist8": eight / ours,
        "overhead_us_per_item": idle / CHECKS * 1e6,
        "whole_s": whole,
        "whole_vs_pytest": alone_whole / whole,
        "whole_vs_xdist8": eight_whole / whole,
    }
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
