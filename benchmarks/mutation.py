"""Mutants of the shipped rules, judged together, against one run of promtool over the test file for each mutant.

Both judge by `rules_tests/system.yml`, in the same run, without what is remembered: `python -m benchmarks.mutation`.
Of the second, every SAMPLED-th mutant is run; only promtool's own CPU is counted, of ours the whole process's. Beside
them those of the shipped Alertmanager configuration, judged by `rules_tests/routes.yml` in this process.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from upcheck import tools
from upcheck.routes.mutation import prove as prove_routes
from upcheck.rules import judging, suite
from upcheck.rules.mutation import prove
from upcheck.settings import Settings

ROOT = Path(__file__).parents[1]
SAMPLED = 10


def cpu(*, own: bool) -> float:
    """CPU seconds so far, of children that have ended, and with *own*, of this process."""
    times = os.times()
    return times.children_user + times.children_system + (times.user + times.system if own else 0)


def main() -> None:
    """Print the line."""
    promtool = tools.ensure(["promtool"], Settings.load(ROOT))["promtool"].path
    tests = ROOT / "rules_tests/system.yml"
    before, began = cpu(own=True), time.monotonic()
    proof = prove(promtool, [tests])
    wall, ours = time.monotonic() - began, cpu(own=True) - before
    whole = suite.read(tests)
    sample = proof.judged[::SAMPLED]
    before = cpu(own=False)
    for one in sample:
        assert judging.alone(promtool, whole, one.mutant) == one.verdict
    theirs = cpu(own=False) - before
    mutants = len(proof.judged)
    before = cpu(own=True)
    routes = prove_routes([ROOT / "rules_tests/routes.yml"])
    routing = cpu(own=True) - before
    figures = {
        "mutants_per_s": mutants / wall,
        "cpu_ratio": (ours / mutants) / (theirs / len(sample)),
        "mutants": mutants,
        "cpu_ms_per_mutant": ours / mutants * 1000,
        "alone_cpu_ms_per_mutant": theirs / len(sample) * 1000,
        "route_mutants": len(routes.judged),
        "route_cpu_ms_per_mutant": routing / len(routes.judged) * 1000,
    }
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
