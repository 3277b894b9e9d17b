"""Objectives: figures from the history and from a real Prometheus, policies, and what is no data."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Repo, Serve, answer
from tests.test_shipped_monitoring import serving
from upcheck.history import History
from upcheck.prometheus import Prometheus, PrometheusError
from upcheck.result import Outcome, Result, Unknown
from upcheck.servers import free_port
from upcheck.sla import HistorySource, NoDataError, Objectives, PrometheusSource, Sla, Source

CHECK = "checks/test_api.py::test_api"
RUNS = {
    Outcome.HELD: 960, Outcome.FAILED: 20, Outcome.ERROR: 10, Outcome.BLOCKED: 5, Outcome.MAINTENANCE: 4,
    Outcome.SKIPPED: 1,
}  # fmt: skip


def runs(now: float) -> list[Result]:
    """A thousand runs over the last 20 hours: 2% of them failed, and 5% took over a second."""
    outcomes = [outcome for outcome, count in RUNS.items() for _ in range(count)]
    return [
        Result(CHECK, outcome, now - 3600 - number * 68, 2.0 if number % 20 == 0 else 0.02)
        for number, outcome in enumerate(outcomes)
    ]


@pytest.fixture
def now() -> float:
    return time.time()


@pytest.fixture
def history(tmp_path: Path, now: float) -> Path:
    with History(tmp_path / "h.sqlite") as history:
        history.append(runs(now))
        history.append([Result(f"checks/a.yml::page[{one}]", Outcome.HELD, now - one, 20.0) for one in range(5)])
        history.append([Result("checks/a.yml::never", Outcome.ERROR, now, 0.1)])
    return tmp_path / "h.sqlite"


def objectives(source: Source) -> Objectives:
    return Objectives(source, "checks/test_api.py", lambda asked, got: None)


@pytest.fixture
def sla(history: Path) -> Objectives:
    return objectives(HistorySource(history))


def test_figures(sla: Objectives) -> None:
    found = sla("test_api", window="30d")
    assert found.availability == 960 / 980
    assert found.error_rate == pytest.approx(20 / 980)
    assert found.runs == 980
    assert 0.01 <= found.latency(0.5) <= 0.025
    assert 1.0 <= found.latency(0.99) <= 2.5
    assert 3599 <= found.time_since_success <= 3700
    assert sla("test_api", window="10m").runs == 0


@pytest.mark.parametrize(
    ("policy", "up", "down"),
    [
        ({}, 960, 20),
        ({"unknown": "down"}, 960, 35),
        ({"unknown": "up"}, 975, 20),
        ({"maintenance": "down"}, 960, 24),
        ({"maintenance": "up", "unknown": "down"}, 964, 35),
    ],
)
def test_what_is_unknown_and_what_was_planned_count_as_is_said(
    sla: Objectives, policy: dict[str, str], up: int, down: int
) -> None:
    assert sla("test_api", window="30d", **policy).availability == up / (up + down)


def test_what_can_not_be_meant_is_no_broken_promise(sla: Objectives) -> None:
    with pytest.raises(Unknown, match="unknown='ignore': expected one of exclude, up, down"):
        sla("test_api", unknown="ignore")
    with pytest.raises(Unknown, match=r"window: expected a duration such as .*, not '1 hour'"):
        sla("test_api", window="1 hour")
    with pytest.raises(Unknown, match=r"latency\(95\): expected a quantile from 0 to 1"):
        sla("test_api").latency(95)


def test_names(sla: Objectives) -> None:
    assert [sla(name).runs for name in (CHECK, "test_api", "page", "page[1]", "checks/a.yml::*", "*")] == [
        980, 980, 5, 1, 5, 985,
    ]  # fmt: skip


def test_what_took_longer_than_any_bucket_took_for_ever(sla: Objectives) -> None:
    assert sla("page").latency(0.5) == math.inf


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        (lambda sla: sla("never").availability, "Sla never, 30d: 1 error: no run told how its target was"),
        (lambda sla: sla("never").latency(0.9), "Sla never, 30d: 1 error: no run has a duration"),
        (lambda sla: sla("never").time_since_success, "Sla never, 30d: 1 error: it has never held"),
        (lambda sla: sla("tset_api").availability, "no check called 'tset_api' has ever run; did you mean 'test_api'?"),
        (lambda sla: sla.query("up"), "the history knows no PromQL: name a Prometheus with --sla-source=URL"),
    ],
)
def test_no_data_is_neither_good_nor_bad(sla: Objectives, figure: Callable[[Objectives], float], sentence: str) -> None:
    with pytest.raises(NoDataError) as caught:
        figure(sla)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("begun", "sentence"), [(False, "no history at"), (True, r"history .* is empty")])
def test_before_the_first_run_there_are_none(tmp_path: Path, begun: bool, sentence: str) -> None:
    file = tmp_path / "none.sqlite"
    if begun:  # as another process has it for a moment, when it makes one
        file.touch()
    found = objectives(HistorySource(file))("test_api")
    assert found.runs == 0
    with pytest.raises(NoDataError, match=f"no check has run yet: {sentence}"):
        _ = found.availability


def test_in_a_check_it_is_an_error_and_a_broken_promise_is_a_failure(repo: Repo, history: Path) -> None:
    repo.write(
        "checks/test_api.py",
        """
def test_kept(sla): assert sla("test_api").availability >= 0.9
def test_broken(sla): assert sla("test_api").availability >= 0.999
def test_unknown(sla): assert sla("test_x").availability >= 0.9
def test_empty(sla): assert sla("test_api", window="1m").error_rate <= 0.1
""",
    )
    run = repo.pytest("--results=lines.jsonl", "-o", "filterwarnings=error")
    run.assert_outcomes(failed=4)  # another history
    repo.write("pyproject.toml", f'[tool.upcheck]\nhistory = "{history}"\n')
    run = repo.pytest("--results=lines.jsonl")
    run.assert_outcomes(passed=1, failed=3)
    run.stdout.fnmatch_lines(["*1 held, 1 failed, 2 error*"])
    run.stdout.fnmatch_lines(["*assert 0.97* >= 0.999", "*Sla test_api, 30d: 960 held, 20 failed, 10 error*"])


def scraped(now: int) -> str:
    """OpenMetrics: the counters of the same runs, as they were each minute."""
    done = sorted(runs(now), key=lambda one: one.started)
    lines = ["# TYPE upcheck_check_runs counter"]
    for outcome in Outcome:
        for at in range(now - 22 * 3600, now - 60, 60):
            count = sum(one.outcome is outcome and one.started <= at for one in done)
            lines.append(f'upcheck_check_runs_total{{check="{CHECK}",outcome="{outcome}"}} {count} {at}')
    lines.append("# TYPE upcheck_check_duration_seconds histogram")
    told = [one for one in done if one.outcome in (Outcome.HELD, Outcome.FAILED)]
    for bound in (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf):
        le = "+Inf" if bound == math.inf else bound
        for at in range(now - 22 * 3600, now - 60, 60):
            count = sum(one.duration <= bound and one.started <= at for one in told)
            lines.append(f'upcheck_check_duration_seconds_bucket{{check="{CHECK}",le="{le}"}} {count} {at}')
    lines.append("# TYPE upcheck_last_success_timestamp_seconds gauge")
    held = max(one.started for one in done if one.outcome is Outcome.HELD)
    lines.append(f'upcheck_last_success_timestamp_seconds{{check="{CHECK}"}} {held} {now - 60}')
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture
def prometheus(tmp_path: Path, now: float) -> Iterator[str]:
    """A real Prometheus that has scraped them."""
    page = tmp_path / "page.om"
    page.write_text(scraped(int(now)))
    tools = ROOT / ".tools"
    argv: list[str | Path] = [tools / "promtool", "tsdb", "create-blocks-from", "openmetrics", page, tmp_path / "data"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    (tmp_path / "prometheus.yml").write_text("")
    port = free_port()
    with serving(
        [tools / "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=10m"],
        f"http://127.0.0.1:{port}", tmp_path / "prometheus.log",
    ) as url:  # fmt: skip
        yield url


def test_a_prometheus_says_the_same(prometheus: str, sla: Objectives) -> None:
    there, here = objectives(PrometheusSource(prometheus)), sla("test_api", window="30d")
    found = there("test_api", window="30d")
    assert found.availability == pytest.approx(here.availability, abs=0.002)
    assert found.latency(0.99) == pytest.approx(here.latency(0.99), rel=0.05)
    assert found.latency(0.5) == pytest.approx(here.latency(0.5), rel=0.05)
    assert found.time_since_success == pytest.approx(here.time_since_success, abs=10)
    assert there("test_*", window="30d").runs == 0, "a pattern is of the whole name"
    assert there(f"*{CHECK[-8:]}", window="30d").runs == pytest.approx(980, abs=5)
    with pytest.raises(NoDataError, match="no series of upcheck_check_runs_total has a check called 'nobody'"):
        _ = there("nobody").availability
    runs_total = {"window": "30d", "total": "upcheck_check_runs_total"}
    assert there.kept({**runs_total, "good": 'upcheck_check_runs_total{outcome="held"}'}) == pytest.approx(0.96, 0.001)
    assert there.kept({**runs_total, "good": "nothing"}) == 0, "none was good"
    with pytest.raises(NoDataError, match="no value"):
        there.kept({**runs_total, "good": "nothing", "total": "nothing"})
    assert there.used({"used": "vector(3)", "limit": 4}) == 0.75
    assert there.used({"used": "vector(3)", "limit": "vector(6)"}) == 0.5
    assert there.query("vector(3)") == 3
    assert there.query("time()") == pytest.approx(time.time(), abs=5)
    for query, sentence in (
        ("nothing", "nothing: no value"), ("0/0", "0/0: no value"), ("1 +", "1 \\+: bad_data: .*parse error"),
        ("upcheck_check_runs_total", "6 series where one was wanted"), ("up[5m]", "a matrix has no value"),
    ):  # fmt: skip
        with pytest.raises(NoDataError, match=sentence):
            there.query(query)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (answer("200 OK", "<html>fine</html>"), r'is no Prometheus API: 200 "<html>fine</html>"'),
        (answer("200 OK", '{"status": "success"}'), "is no Prometheus API"),
        (answer("200 OK", "[]"), "is no Prometheus API"),
        (answer("422 No", '{"status":"error","errorType":"execution","error":"too many"}'), "up: execution: too many"),
    ],
)
def test_a_server_that_is_no_prometheus(serve: Serve, reply: Callable[..., None], sentence: str) -> None:
    with pytest.raises(PrometheusError, match=sentence):
        Prometheus(serve(reply)).query("up")


def test_a_prometheus_that_does_not_answer(serve: Serve) -> None:
    url = serve(lambda connection: time.sleep(1))
    with pytest.raises(PrometheusError, match=r"up: POST http.*/api/v1/query: no complete answer within 0.2 s"):
        Prometheus(url, deadline=0.2).query("up")
    with pytest.raises(PrometheusError, match="Connection refused"):
        Prometheus("http://127.0.0.1:1").query("up")


def test_a_source_that_is_no_url_is_refused_before_anything_runs(repo: Repo) -> None:
    run = repo.pytest("--sla-source=prometheus:9090")
    assert run.ret == 4
    run.stderr.fnmatch_lines(["*--sla-source prometheus:9090: expected a URL; did you mean http://prometheus:9090?*"])


def test_what_it_shows(sla: Objectives) -> None:
    told: list[tuple[str, str]] = []
    asking = Objectives(sla._source, "", lambda asked, got: told.append((asked, got)))
    assert isinstance(asking("test_api", window="1d"), Sla)
    assert told == [
        ("test_api over 1d",
         "Sla test_api, 1d: 960 held, 20 failed, 10 error, 1 skipped, 5 blocked, 4 maintenance"),
    ]  # fmt: skip
