"""What a scrape of the collector costs, beside node_exporter's of the same things: `python -m benchmarks.collector`.

Scrapes go over connections that are kept, with Prometheus' own headers, a few milliseconds apart, in alternating
rounds. Counted is the CPU of the whole process. node_exporter runs by its default and with GOMAXPROCS=1; the cheaper
one counts. It goes without `processes`: that reads the files of every process there, and two numbers here.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import time
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from benchmarks import stage
from upcheck import tools
from upcheck.settings import Settings

COLLECTORS = (
    *("cpu", "meminfo", "vmstat", "filesystem", "diskstats", "netdev"),
    *("loadavg", "time", "stat", "filefd", "pressure", "uname"),
)
ROUNDS, SCRAPES, APART = 5, 150, 0.005  # APART: seconds
IDLE = 30  # seconds
CYCLES = 200
PROMETHEUS = {
    "User-Agent": "Prometheus/2.42.0",
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


class Scraper:
    """A connection to one exporter, as Prometheus keeps it, and what its process has spent on it."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._process = process
        self.cpu = 0.0
        self.page = ""
        for _ in range(SCRAPES):
            self.scrape()

    def scrape(self) -> None:
        self._connection.request("GET", "/metrics", headers=PROMETHEUS)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200
        assert answer.headers["Content-Encoding"] == "gzip"
        self.page = gzip.decompress(body).decode()

    def round(self) -> None:
        before = stage.cpu(self._process)
        for _ in range(SCRAPES):
            self.scrape()
            time.sleep(APART)
        self.cpu += stage.cpu(self._process) - before

    def microseconds(self) -> float:
        return self.cpu / (ROUNDS * SCRAPES) * 1e6

    def series(self) -> int:
        return sum(not line.startswith("#") for line in self.page.splitlines())


def scraped() -> dict[str, object]:
    """The cost of scrapes, side by side."""
    path = tools.ensure(["node_exporter"], Settings.load(stage.ROOT))["node_exporter"].path
    with contextlib.ExitStack() as stack:
        collector, process = stack.enter_context(stage.collector())
        ours = Scraper(collector, process)
        theirs = [
            Scraper(*stack.enter_context(stage.node_exporter(path, *COLLECTORS, **environ)))
            for environ in ({}, {"GOMAXPROCS": "1"})
        ]
        for _ in range(ROUNDS):
            for one in (ours, *theirs):
                one.round()
        cheaper = min(theirs, key=Scraper.microseconds)
        return {
            "cpu_vs_node_exporter": round(ours.microseconds() / cheaper.microseconds(), 3),
            "rss_mb": round(process.memory_info().rss / 1e6, 1),
            "ours_us": round(ours.microseconds()),
            "node_exporter_us": round(cheaper.microseconds()),
            "series": [ours.series(), cheaper.series()],
        }


def idle() -> float:
    """Percent of one CPU that a collector takes whom nobody asks."""
    with stage.collector() as (_, process):
        time.sleep(3)
        before = stage.cpu(process)
        time.sleep(IDLE)
        return 100 * (stage.cpu(process) - before) / IDLE


def cycle() -> float:
    """Milliseconds of the 99th percentile of background samples, made often."""
    with stage.collector("--sample-interval", "0.1") as (url, _):
        while True:
            time.sleep(2)
            with urlopen(f"{url}/api/metrics/current") as answer:
                told = json.load(answer)
            if told["sampling"]["buffer"]["fill"] >= CYCLES:
                return float(told["performance"]["cycle_ms"]["system"]["p99"])


def main() -> None:
    """Print the line."""
    print(json.dumps(scraped() | {"cycle_p99_ms": cycle(), "idle_cpu_percent": round(idle(), 3)}))


if __name__ == "__main__":
    main()
