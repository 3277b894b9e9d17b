"""From nothing to a stack that is well, and an alert from Prometheus to a receiver: `python -m benchmarks.stack`.

*time_to_ready_s*: from the exec of a first `upcheck stack up`, in a repo of `upcheck init`, until its last service is
well. *drill_s*: from the evaluation in which a critical alert fires until a stand-in for Slack has the message, the
10 s of `group_wait` for critical alerts included. Goals: 20 and 15.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from upcheck.probes.http import Request, fetch
from upcheck.servers import free_port
from upcheck.servers.loopback import Answer, Loopback
from upcheck.stack.services import PORTS

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
HELD = 30.0  # seconds: a Prometheus that has just begun knows of no Alertmanager, and says it again only after a minute
UPCHECK = [sys.executable, "-m", "upcheck.cli"]
RULE = """\
groups:
  - name: benchmark
    rules:
      - alert: BenchmarkDrill
        expr: vector(1)
        for: {held:g}s
        labels: {{severity: critical}}
        annotations: {{summary: BenchmarkDrill, description: BenchmarkDrill, runbook_url: "https://example.com"}}
"""


@contextmanager
def stopped(folder: Path, environ: dict[str, str]) -> Iterator[None]:
    """Ends what runs there, however the block ends."""
    try:
        yield
    finally:
        subprocess.run([*UPCHECK, "stack", "stop"], cwd=folder, env=environ, check=True, capture_output=True)


def ready(folder: Path, environ: dict[str, str]) -> float:
    """Seconds until all is well."""
    began, well = time.monotonic(), 0.0
    with subprocess.Popen([*UPCHECK, "stack", "up"], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        for line in up.stdout:
            well = time.monotonic() - began if " well after " in line else well
    assert up.returncode == 0
    return well


def fired(prometheus: str) -> float:
    """When the alert fired, in Unix time."""
    groups = json.loads(fetch(Request(f"{prometheus}/api/v1/rules", deadline=5.0)).body)["data"]["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["name"] == "BenchmarkDrill"]
    return datetime.fromisoformat(rule["alerts"][0]["activeAt"]).timestamp() + HELD


def main() -> None:
    """Print the line."""
    received: list[float] = []

    def slack(_: str, body: bytes) -> Answer:
        if b"BenchmarkDrill" in body:
            received.append(time.time())
        return 200, "text/plain", b"ok"

    ports = {name: free_port() for name in PORTS}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UPCHECK_")}
    environ = {
        **kept,
        "UPCHECK_TOOLS": os.environ.get("UPCHECK_TOOLS", str(ROOT / ".tools")),
        "UPCHECK_PORTS": ",".join(f"{name}={port}" for name, port in ports.items()),
    }
    with tempfile.TemporaryDirectory() as name, Loopback(slack) as receiver:
        folder = Path(name)
        subprocess.run([*UPCHECK, "init", folder], env=environ, check=True, capture_output=True)
        (folder / "monitoring/prometheus/rules/benchmark.yml").write_text(RULE.format(held=HELD))
        (folder / "monitoring/alertmanager/secrets").mkdir()
        (folder / "monitoring/alertmanager/secrets/slack-url").write_text(f"http://{receiver.address}/")
        with stopped(folder, environ):
            seconds = ready(folder, environ)
            end = time.monotonic() + PATIENCE
            while not received:
                assert time.monotonic() < end, "nobody was told"
                time.sleep(0.05)
            drill = received[0] - fired(f"http://127.0.0.1:{ports['prometheus']}")
    print(json.dumps({"time_to_ready_s": round(seconds, 1), "drill_s": round(drill, 1)}))


if __name__ == "__main__":
    main()
