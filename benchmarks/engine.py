"""What a check costs in `upcheck watch`, from its schedule to its row in the history: `python -m benchmarks.engine`.

Each check opens a new connection to a loopback target; starts are spread evenly. The peer is blackbox_exporter's
CPU for `/probe` of the same target at the same rate, by its default and with GOMAXPROCS=1, whichever is cheaper. The
rates are given because both cost more when they are woken for each check: 1,000 a second, and 200 (slow, TLS, Python).
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from benchmarks import stage
from benchmarks.scale import said
from upcheck import tools
from upcheck.history import History
from upcheck.settings import Settings

RATE, PYTHON_RATE = 1000, 200  # checks a second: what 10,000 checks every 10 s come to; and those that are written
SECONDS, WARM = 15, 8
ASKERS = 8
BIAS_RATE, BIAS_DELAY = 1000, 0.1
PYTHON = """
import pytest
from upcheck import check

@check(every="2s", timeout="5s")
@pytest.mark.parametrize("number", range({count}))
def test_get(http, number):
    assert http.get("/").status_code == 200
"""


def cost(folder: Path, *arguments: str) -> float:
    """Microseconds of CPU that the engine spends on a check."""
    with stage.watching(folder, *arguments) as engine:
        time.sleep(WARM)
        before, cpu = said(folder), stage.cpu(engine)
        time.sleep(SECONDS)
        after, used = said(folder), stage.cpu(engine) - cpu
    return used / (after.runs - before.runs) * 1e6


def yaml_cost(url: str, rate: int, ca_file: Path | None = None) -> float:
    """The same of a check in YAML, at *rate* a second."""
    with stage.repo() as folder:
        (folder / "checks/all.yml").write_text(stage.yaml_checks(url, 2 * rate, "2s", ca_file))
        return cost(folder)


def python_cost(url: str) -> float:
    """The same of a check in Python."""
    with stage.repo() as folder:
        (folder / "checks/test_all.py").write_text(PYTHON.format(count=2 * PYTHON_RATE))
        return cost(folder, "--target", url)


def blackbox_cost(url: str, rate: int, ca_file: Path | None = None) -> float:
    """Microseconds of CPU that blackbox_exporter spends on a probe, at *rate* a second."""
    settings = Settings.load(stage.ROOT)
    path = tools.ensure(["blackbox_exporter"], settings)["blackbox_exporter"].path
    costs: list[float] = []
    for environ in ({}, {"GOMAXPROCS": "1"}):
        with stage.blackbox(path, ca_file, **environ) as (probe, process):
            paced(f"{probe}&target={url}/", rate, 2)
            before = stage.cpu(process)
            count = paced(f"{probe}&target={url}/", rate, SECONDS)
            costs.append((stage.cpu(process) - before) / count * 1e6)
    return min(costs)


def paced(url: str, rate: int, seconds: int) -> int:
    """Ask *url* for *rate* probes a second, evenly, on connections that are kept, as Prometheus does; how many."""
    with ThreadPoolExecutor(ASKERS) as pool:
        return sum(pool.map(lambda number: _ask(url, rate, seconds, number), range(ASKERS)))


def _ask(url: str, rate: int, seconds: int, number: int) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    began, count = time.perf_counter() + number / rate, 0
    while (moment := count * ASKERS / rate) < seconds:
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        connection.request("GET", f"{parts.path}?{parts.query}")
        told = connection.getresponse().read()
        assert b"probe_success 1" in told, told
        count += 1
    connection.close()
    return count


def bias() -> float:
    """By how much the latency that we report for a target of 100 ms is off, at 1,000 checks a second: a ratio."""
    with stage.target(BIAS_DELAY) as url, stage.repo() as folder:
        (folder / "checks/all.yml").write_text(stage.yaml_checks(url, 2 * BIAS_RATE, "2s"))
        with stage.watching(folder):
            time.sleep(WARM)
            began = time.time()
            time.sleep(5)
        with History(folder / ".upcheck/history.sqlite") as history:
            checks = [f"checks/all.yml::check {number}" for number in range(0, 2 * BIAS_RATE, 7)]
            took = [run.duration for check in checks for run in history.results(check, since=began)]
    return statistics.median(took) / BIAS_DELAY - 1


def main() -> None:
    """Print the line."""
    with tempfile.TemporaryDirectory() as folder:
        authority, pem, roots = trustme.CA(), Path(folder, "server.pem"), Path(folder, "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        authority.cert_pem.write_to_path(roots)
        with stage.target() as url, stage.target(certificate=pem) as secure:
            costs = {
                "blackbox_us": blackbox_cost(url, RATE),
                "blackbox_slow_us": blackbox_cost(url, PYTHON_RATE),
                "blackbox_tls_us": blackbox_cost(secure, PYTHON_RATE, roots),
                "yaml_us": yaml_cost(url, RATE),
                "yaml_slow_us": yaml_cost(url, PYTHON_RATE),
                "yaml_tls_us": yaml_cost(secure, PYTHON_RATE, roots),
                "python_us": python_cost(url),
            }
    figures = {
        "yaml_vs_blackbox": costs["yaml_us"] / costs["blackbox_us"],
        "yaml_slow_vs_blackbox": costs["yaml_slow_us"] / costs["blackbox_slow_us"],
        "python_vs_blackbox": costs["python_us"] / costs["blackbox_slow_us"],
        "yaml_tls_vs_blackbox": costs["yaml_tls_us"] / costs["blackbox_tls_us"],
        "latency_bias_p50": bias(),
    }
    told = {name: round(figure, 3) for name, figure in figures.items()}
    print(json.dumps(told | {name: round(figure) for name, figure in costs.items()}))


if __name__ == "__main__":
    main()
