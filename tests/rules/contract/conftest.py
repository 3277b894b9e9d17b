"""A repository in a folder, and what its exporter says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from upcheck.rules.contract import Finding, Report, check, read_exposition

EXPOSITION = """\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",endpoint="/",status="200"} 10
http_requests_total{method="POST",endpoint="/",status="500"} 1
# TYPE http_in_flight gauge
http_in_flight{endpoint="/"} 1
# TYPE http_duration_seconds histogram
http_duration_seconds_bucket{endpoint="/",le="0.5"} 1
http_duration_seconds_bucket{endpoint="/",le="10.0"} 2
http_duration_seconds_bucket{endpoint="/",le="+Inf"} 3
http_duration_seconds_sum{endpoint="/"} 20
http_duration_seconds_count{endpoint="/"} 3
# TYPE node_load5 gauge
node_load5 0.1
"""

PROMETHEUS = "global: {scrape_interval: 15s, evaluation_interval: 15s}\n"

Run = Callable[..., Report]


@pytest.fixture
def held(tmp_path: Path) -> Run:
    """`held(files, ...)` writes them and holds them against the exposition."""

    def run(
        files: dict[str, str], *, exposition: str = EXPOSITION, configuration: str = PROMETHEUS, **options: object
    ) -> Report:
        own = {} if any(name.endswith("prometheus.yml") for name in files) else {"prometheus.yml": configuration}
        for name, text in {**own, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        series = read_exposition(exposition, "http") if exposition else []
        return check([tmp_path], series, **options)  # type: ignore[arg-type]

    return run


def alert(expr: str, **keys: str) -> str:
    """A rule file with one alert that has all that is needed."""
    given = {
        "labels": "{severity: warning}",
        "annotations": "{summary: something is wrong, description: look at it}",
        **keys,
    }
    lines = [f"        {key}: {value}" for key, value in given.items() if value]
    text = "groups:\n  - name: g\n    rules:\n      - alert: Wrong\n"
    return text + f"        expr: {expr}\n" + "\n".join(lines) + "\n"


def marked(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Each finding's check, and what its caret is under, in the excerpt and in the file."""
    found: list[tuple[str, str]] = []
    for one in findings:
        under = one.excerpt[one.caret : one.caret + one.length]
        if not one.place:
            line = one.file.read_text().split("\n")[one.line - 1]
            assert line[one.column - 1 : one.column - 1 + one.length] == under
        found.append((one.check, under))
    return found
