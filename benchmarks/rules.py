"""Rule tests through upcheck against one raw `promtool test rules` over the same files.

Both as whole processes, in turn, on copies of the shipped rules and tests: `python -m benchmarks.rules [FILES]`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from upcheck import tools
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]
ROUNDS = 3


def cost(argv: Sequence[str | Path], folder: Path) -> tuple[float, float]:
    """CPU seconds, of all its children too, and wall seconds of one run of *argv*."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    told = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told.returncode == 0, told.stdout + told.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def generate(folder: Path, files: int) -> list[Path]:
    """A monitoring repo with *files* copies of the shipped rules, each with a copy of their tests."""
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    (folder / "rules_tests").mkdir()
    (folder / "monitoring").mkdir()
    rules = (ROOT / "monitoring/prometheus/rules/system.yml").read_text()
    tests = (ROOT / "rules_tests/system.yml").read_text()
    for number in range(files):
        (folder / f"monitoring/rules{number}.yml").write_text(rules)
        text = tests.replace("prometheus/rules/system.yml", f"rules{number}.yml")
        (folder / f"rules_tests/{number}.yml").write_text(text)
    return sorted((folder / "rules_tests").iterdir())


def main() -> None:
    """Print the line."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    promtool = tools.ensure(["promtool"], Settings.load(ROOT))["promtool"].path
    os.environ["UPCHECK_PROMTOOL"] = str(promtool)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = generate(folder, files)
        ours = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "rules_tests"]
        raw: list[str | Path] = [promtool, "test", "rules", *paths]
        pairs = [(cost(ours, folder), cost(raw, folder)) for _ in range(ROUNDS)]
    figures = {
        "ratio_cpu": statistics.median(our[0] / their[0] for our, their in pairs),
        "ratio_wall": statistics.median(our[1] / their[1] for our, their in pairs),
        "files": files,
        "cpu_s": statistics.median(our[0] for our, _ in pairs),
        "wall_s": statistics.median(our[1] for our, _ in pairs),
        "promtool_cpu_s": statistics.median(their[0] for _, their in pairs),
        "promtool_wall_s": statistics.median(their[1] for _, their in pairs),
    }
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
