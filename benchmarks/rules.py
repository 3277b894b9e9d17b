"""Rule tests of a repository of real size: `upcheck rules test` against promtool over the same files one by one.

`python -m benchmarks.rules [FILES]`. Of 200 files two have 100 services with two rules and an entry each, the others
ten and two or three entries; four fail. Both as whole processes; CPU is of all their children, too.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from upcheck import tools
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]
LARGE, SMALL = 100, 10  # services in a file, two rules each
FAILING = 4


def cost(argv: Sequence[str | Path], folder: Path) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """CPU seconds, of all its children too, and wall seconds of one run of *argv*, and what it said."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environ = os.environ | {"XDG_CACHE_HOME": str(folder / ".cache")}
    told = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, told


def write(folder: Path, name: str, services: int, entries: int, *, fails: bool) -> Path:
    """A rule file and its tests, of which the last expects too much if it *fails*."""
    rules = [
        f"      - {{record: 'job:{name}_{number}:rate5m', expr: 'sum by (job) (rate({name}_{number}_total[5m]))'}}\n"
        f"      - alert: High_{name}_{number}\n        expr: job:{name}_{number}:rate5m > {number + 1}\n"
        "        for: 5m\n        labels: {severity: warning}\n"
        "        annotations: {summary: '{{ $labels.job }} at {{ $value | humanize }}'}\n"
        for number in range(services)
    ]
    tests = []
    for number in range(entries):
        value = number + 2 if not fails or number < entries - 1 else 99
        alert = f"High_{name}_{number}"
        tests.append(
            f"  - name: entry {number}\n    interval: 1m\n    input_series:\n"
            f"      - {{series: '{name}_{number}_total{{job=\"a\"}}', values: 0+{(number + 2) * 60}x60}}\n"
            f"    alert_rule_test:\n      - {{alertname: {alert}, eval_time: 3m}}\n"
            f"      - alertname: {alert}\n        eval_time: 20m\n        exp_alerts:\n"
            f"          - exp_labels: {{severity: warning, job: a}}\n"
            f"            exp_annotations: {{summary: a at {value}}}\n"
        )
    (folder / f"{name}.rules.yml").write_text(f"groups:\n  - name: {name}\n    rules:\n{''.join(rules)}")
    path = folder / f"{name}.test.yml"
    path.write_text(f"rule_files: [{name}.rules.yml]\nevaluation_interval: 1m\ntests:\n{''.join(tests)}")
    return path


def main() -> None:
    """Print the line."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    promtool = tools.ensure(["promtool"], Settings.load(ROOT))["promtool"].path
    os.environ["UPCHECK_PROMTOOL"] = str(promtool)
    ours = [sys.executable, "-m", "upcheck.cli", "rules", "test"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = [write(folder, f"large{number}", LARGE, LARGE, fails=False) for number in range(2)]
        small = [
            write(folder, f"small{number}", SMALL, 2 + number % 2, fails=number < FAILING)
            for number in range(files - 2)
        ]
        raw = {path: cost([promtool, "test", "rules", path], folder) for path in (*large, *small)}
        cold = cost([*ours, "."], folder)
        warm = cost([*ours, "."], folder)
        alone = cost([*ours, "--no-cache", large[0].name], folder)
    failed = set(re.findall(r"^(?:FAILED|ERROR) .* (\S+\.test\.yml):\d+$", cold[2].stdout, re.MULTILINE))
    figures = {
        "cold_cpu_ratio": cold[0] / sum(cpu for cpu, _, _ in raw.values()),
        "cold_wall_ratio": cold[1] / sum(wall for _, wall, _ in raw.values()),
        "monolith_cpu_ratio": alone[0] / raw[large[0]][0],
        "warm_wall_s": warm[1],
        "files": files,
        "cold_cpu_s": cold[0],
        "cold_wall_s": cold[1],
        "promtool_cpu_s": sum(cpu for cpu, _, _ in raw.values()),
        "promtool_small_cpu_s": sum(raw[path][0] for path in small),
    }
    line: dict[str, float | bool] = {name: round(figure, 3) for name, figure in figures.items()}
    line["verdicts_equal"] = failed == {path.name for path, (_, _, told) in raw.items() if told.returncode}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
