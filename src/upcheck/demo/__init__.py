"""A demonstration that is real: made-up traffic, the repo's own collector, and Prometheus with the rules that ship.

Traffic ── POST /api/events ──> collector.py ── /metrics ──> prometheus (monitoring/prometheus/rules) ── its pages
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from upcheck import run, tools
from upcheck.demo.traffic import Traffic
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.settings import Settings

START = 20.0  # seconds that Prometheus may take
SCRAPE = "2s"
TICK = 1.0  # seconds between two batches of events


class DemoError(Exception):
    """The demonstration can't go on; the sentence says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: the addresses of the collector and of Prometheus."""

    collector: str
    prometheus: str

    def tell(self, traffics: Sequence[Traffic]) -> int:
        """Have each of *traffics* tell a batch of events to the collector; how many were taken. Raises DemoError."""
        events = [event for traffic in traffics for event in traffic.batch()]
        headers = (("Content-Type", "application/json"),)
        request = Request(f"{self.collector}/api/events", "POST", headers, json.dumps(events).encode())
        try:
            answer = fetch(request)
            told = json.loads(answer.body)
        except (ProbeFailure, ValueError) as error:
            raise DemoError(f"the collector takes no events: {error}") from None
        if told.get("rejected") or answer.status != 200:
            raise DemoError(f"the collector refused events: {answer.text[:300]}")
        return int(told["accepted"])


@contextlib.contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    """The collector and Prometheus on free ports, for as long as the block lasts. Raises DemoError, run.RunError."""
    found = tools.find("prometheus", settings)
    if found is None:
        raise DemoError("there is no prometheus: type `upcheck tools install`")
    with (
        tempfile.TemporaryDirectory(prefix="upcheck-demo-") as folder,
        run.collector(settings, UPCHECK_HISTORY=f"{folder}/history.sqlite") as collector,  # no checks of ours in it
    ):
        file = Path(folder, "prometheus.yml")
        file.write_text(configuration(settings, collector.removeprefix("http://")))
        url = f"http://127.0.0.1:{_free_port()}"
        argv = [
            str(found.path), f"--config.file={file}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn",
        ]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            _wait(process, url, Path(folder, "log"))
            yield Stage(collector, url)
        finally:
            process.terminate()
            process.wait()


def configuration(settings: Settings, collector: str) -> str:
    """A Prometheus configuration that scrapes *collector* alone, and loads all rules of the repo."""
    document = {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(settings.monitoring / "prometheus/rules/*.yml")],
        "scrape_configs": [{"job_name": "collector", "static_configs": [{"targets": [collector]}]}],
    }
    return yaml.safe_dump(document, sort_keys=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until Prometheus is ready. Raises DemoError."""
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ProbeFailure):  # not yet
            if fetch(Request(f"{url}/-/ready", deadline=1.0)).is_success:
                return
        time.sleep(0.1)
    told = log.read_text(errors="replace").strip().splitlines()
    raise DemoError(f"prometheus did not get ready: {told[-1] if told else 'it says nothing'}")
