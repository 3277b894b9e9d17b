"""What a machine for monitoring needs, the figures of docs/production.md: `python -m benchmarks.sizing`, ten minutes.

*watch*: CPU and memory of an engine by how many checks it runs a second. *history*: bytes on disk of a result, and of
an hour's sums of a check. *prometheus*: the collector's pages while all services of the demonstration have traffic, two
hours of one each 15 s, are played to a real Prometheus as often as makes so many series; counted are its memory at the
most, its CPU, and its log of samples. *block*: bytes of a sample in the blocks that promtool makes of the same pages.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.request import urlopen

import psutil

from benchmarks import stage
from benchmarks.history import BATCH, BATCHES, results
from benchmarks.scale import said
from upcheck import catalog, demo, tools
from upcheck.demo.scenario import load
from upcheck.history import HOUR, History
from upcheck.servers import prometheus
from upcheck.servers.exporter import exporter
from upcheck.settings import Settings

SETTINGS = Settings.load(stage.ROOT, {})
RATES = (10, 100, 1000)  # checks a second, each every 10 s
WARM, SECONDS = 15, 20
FACTOR = 120.0
PAGES, APART = 480, 15  # two hours, a page each 15 s
SERIES = (1, 5, 25)  # how many times the series of all services
AT_ONCE = 8  # pages that Prometheus takes at a scrape
LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def watch(url: str, rate: int) -> dict[str, float]:
    """Percent of a core and MB of an engine that runs *rate* checks a second."""
    with stage.repo() as folder:
        (folder / "checks/all.yml").write_text(stage.yaml_checks(url, rate * 10, "10s"))
        with stage.watching(folder) as engine:
            time.sleep(WARM)
            before, cpu = said(folder), stage.cpu(engine)
            time.sleep(SECONDS)
            after, used = said(folder), stage.cpu(engine) - cpu
            passed = after.updated - before.updated
            return {
                "per_s": round((after.runs - before.runs) / passed),
                "cpu_percent": round(used / passed * 100, 1),
                "rss_mb": round(engine.memory_info().rss / 2**20),
            }


def history(folder: Path) -> dict[str, float]:
    """Bytes of a result, and of an hour's sums of a check."""
    file, now = folder / "h.sqlite", time.time() // HOUR * HOUR
    with History(file) as kept:
        for batch in range(BATCHES):  # within an hour: sums are few
            kept.append(results(1000, batch * BATCH, now + batch))
    of_results = file.stat().st_size / (BATCHES * BATCH)
    sparse = folder / "sparse.sqlite"
    with History(sparse) as kept:
        for hour in range(200):  # a result an hour: each has sums of its own
            kept.append(results(1000, 0, now + hour * HOUR))
    of_both = sparse.stat().st_size / 200_000
    return {"bytes_per_result": round(of_results), "bytes_per_check_hour": round(of_both - of_results)}


def recorded() -> list[list[tuple[str, str, str]]]:
    """The collector's pages while all services have traffic: name, labels and value of each sample."""
    scenarios = [
        load(one, stage.ROOT / "monitoring/demo") for one in catalog.load_all(stage.ROOT / "monitoring/services")
    ]
    pages = []
    with demo.stage(SETTINGS, scenarios, FACTOR) as made:
        for _ in range(PAGES):
            made.play(APART / FACTOR)
            with urlopen(f"{made.collector}/metrics") as answer:
                found = [LINE.match(line) for line in answer.read().decode().splitlines() if not line.startswith("#")]
            pages.append([(one[1], one[2] or "", one[3]) for one in found if one])
    return pages


def played(pages: list[list[tuple[str, str, str]]], times: int, milliseconds: bool) -> Iterator[str]:
    """*pages* as text with a time beside each sample, each series *times* times."""
    begin, unit = int(time.time()) - PAGES * APART, 1000 if milliseconds else 1
    for number, page in enumerate(pages):
        at = (begin + number * APART) * unit
        lines = [
            f'{name}{{{labels}{"," if labels else ""}copy="{copy}"}} {value} {at}\n'
            for name, labels, value in page
            for copy in range(times)
        ]
        yield "".join(lines)


def server(pages: list[list[tuple[str, str, str]]], times: int, folder: Path) -> dict[str, float]:
    """What a Prometheus needs for two hours of *times* the series."""
    texts = played(pages, times, True)
    left = [PAGES]

    def page(_: str) -> str:
        left[0] -= AT_ONCE
        return "".join(islice(texts, AT_ONCE))

    file, data = folder / f"{times}.yml", folder / f"data-{times}"
    with exporter(page) as target:
        job = {"job_name": "j", "static_configs": [{"targets": [target.address]}]}
        seconds = f"{max(1, times // 6)}s"
        every = {"scrape_interval": seconds, "scrape_timeout": seconds}
        file.write_text(json.dumps({"global": every, "scrape_configs": [job]}))
        before = {one.pid for one in psutil.Process().children()}
        with prometheus(SETTINGS, file, data) as url:
            (process,) = [one for one in psutil.Process().children() if one.pid not in before]
            began = stage.cpu(process)
            while left[0] > 0:
                time.sleep(1)
            time.sleep(5)
            with urlopen(f"{url}/api/v1/status/tsdb") as answer:
                series = json.load(answer)["data"]["headStats"]["numSeries"]
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            assert peak
            samples = sum(map(len, pages)) * times
            log = sum(one.stat().st_size for one in (data / "wal").iterdir() if one.is_file())
            return {
                "series": series,
                "rss_mb": round(int(peak[1]) / 1024),
                "cpu_us_per_sample": round((stage.cpu(process) - began) / samples * 1e6, 2),
                "wal_bytes_per_sample": round(log / samples, 2),
            }


def blocks(pages: list[list[tuple[str, str, str]]], folder: Path) -> float:
    """Bytes of a sample in a block, its part of the index included."""
    file, data = folder / "pages.om", folder / "blocks"
    by_name: dict[str, list[str]] = {}
    for text in played(pages, 1, False):
        for line in text.splitlines():
            by_name.setdefault(line.partition("{")[0], []).append(line)
    file.write_text("\n".join([*(line for lines in by_name.values() for line in lines), "# EOF\n"]))
    promtool = tools.ensure(["promtool"], SETTINGS)["promtool"].path
    argv = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(file), str(data)]
    subprocess.run(argv, check=True, stdout=sys.stderr)
    size = sum(one.stat().st_size for one in data.rglob("*") if one.is_file())
    return round(size / sum(map(len, pages)), 2)


def main() -> None:
    """Print the line."""
    with stage.target() as url:
        watched = [watch(url, rate) for rate in RATES]
    pages = recorded()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "watch": watched,
            "history": history(folder),
            "block_bytes_per_sample": blocks(pages, folder),
            "prometheus": [server(pages, times, folder) for times in SERIES],
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
