"""How long a second `make check` takes until its first check runs: `python -m benchmarks.startup`.

From the exec of make to the start that the first result carries.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 5


def once(results: Path) -> tuple[float, float]:
    """Seconds until the first check began, and until make ended."""
    results.unlink(missing_ok=True)
    began = time.time()
    told = subprocess.run(["make", "check", f"ARGS=--results={results}"], cwd=ROOT, capture_output=True, text=True)
    ended = time.time()
    assert told.returncode == 0, told.stdout + told.stderr
    starts = [json.loads(line).get("started") for line in results.read_text().splitlines()]
    return min(start for start in starts if start) - began, ended - began


def main() -> None:
    """Print the line."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        once(results)
        pairs = [once(results) for _ in range(ROUNDS)]
    figures = {
        "seconds": statistics.median(first for first, _ in pairs),
        "whole_s": statistics.median(end for _, end in pairs),
    }
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
