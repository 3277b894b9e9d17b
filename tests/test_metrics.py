from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from tests.collector.test_application import inside
from tests.collector.test_serving import running, script
from tests.conftest import ROOT
from tests.test_shipped_monitoring import serving, wait_for
from upcheck import metrics
from upcheck.collector import Collector
from upcheck.exposition import labelled
from upcheck.history import BUCKETS, Engine, History
from upcheck.metrics import FAMILIES, CheckMetrics
from upcheck.probes.families import FAMILIES as OF_PROBES
from upcheck.promtool import check_metrics
from upcheck.result import Outcome, Result
from upcheck.servers import free_port

RESULTS = [
    Result("checks/a.yml::up", Outcome.HELD, 1000.0, 0.25, facts={"severity": "critical"}),
    Result("checks/a.yml::down", Outcome.FAILED, 1001.0, 0.5, facts={"severity": "warning"}),
    Result("checks/a.yml::unknown", Outcome.ERROR, 1002.0, 0.0, facts={"severity": "critical"}),
    Result('checks/a.yml::odd["\n\\ü]', Outcome.SKIPPED, 1003.0, 0.0),
]


def test_failed_is_zero_and_could_not_tell_is_absent(tmp_path: Path) -> None:
    file = tmp_path / "upcheck.prom"
    metrics.write_textfile(file, RESULTS)
    text = file.read_text()
    assert 'probe_success{check="checks/a.yml::up",severity="critical"} 1.0' in text
    assert 'probe_success{check="checks/a.yml::down",severity="warning"} 0.0' in text
    assert 'probe_success{check="checks/a.yml::unknown"' not in text
    assert 'upcheck_check_outcome{check="checks/a.yml::unknown",outcome="error"} 1.0' in text
    assert 'probe_duration_seconds{check="checks/a.yml::down"} 0.5' in text
    assert 'upcheck_last_run_timestamp_seconds{check="checks/a.yml::unknown"} 1002.0' in text
    assert list(tmp_path.iterdir()) == [file]


def test_promtool_finds_nothing_to_say(promtool_path: Path) -> None:
    verdict = check_metrics(promtool_path, generate_latest(metrics.families(RESULTS)).decode())
    assert (verdict.ok, verdict.text) == (True, "")


def test_labels_of_any_length_stay_short_and_distinct() -> None:
    long, other = "x" * 10_000 + "a", "x" * 10_000 + "b"
    assert metrics.label("short") == "short"
    assert len(metrics.label(long)) == metrics.MAX_LABEL
    assert metrics.label(long) != metrics.label(other)
    assert metrics.label(long) == metrics.label(long)
    assert metrics.label("\ud800" * 500)


def results(now: float) -> list[Result]:
    """One of each kind, with all facts that a prober may find."""
    samples = [labelled(one.name, [(name, "a") for name in one.labels]) for one in OF_PROBES]
    some, others = (dict.fromkeys(samples[rest::2], 1) for rest in (0, 1))  # no check has as many as all of them
    facts = {
        "severity": "critical", "status": 200, "certificate_expiry": 1_900_000_000,
        "phases": {"resolve": 0.001, "connect": 0.002, "tls": 0.003, "processing": 0.1, "transfer": 0.004},
        "metrics": some,
    }  # fmt: skip
    down = {"severity": "warning", "status": 503, "code": "bad_status"}
    return [
        Result("checks/a.yml::up", Outcome.HELD, now - 30, 0.02, facts=facts),
        Result("checks/a.yml::up", Outcome.HELD, now - 20, 0.2, facts=facts),
        Result("checks/a.yml::up", Outcome.HELD, now - 10, 20.0, facts=facts),
        Result("checks/a.yml::down", Outcome.HELD, now - 20, 0.1, facts={"severity": "warning"}),
        Result("checks/a.yml::down", Outcome.FAILED, now - 10, 0.1, facts=down),
        Result(
            "checks/a.yml::unknown", Outcome.ERROR, now - 10, 0.0, facts={"severity": "critical", "metrics": others}
        ),
        Result("checks/a.yml::waits", Outcome.BLOCKED, now - 10, 0.1, facts={"blocked_by": "checks/a.yml::down"}),
        Result('checks/a.yml::odd["\n\\ü\ud800]', Outcome.SKIPPED, now - 10, 0.0),
    ]


ENGINE = Engine(
    "1/1", 42, 1.0, 2.0, checks=5, in_flight=2, missed=3, lag_count=6, lag_sum=0.5, lag_buckets=[1, 2, 3, *[0] * 9],
    write_errors=7, reloads=8, stale=["a.py"],
)  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Path:
    now = time.time()
    with History(tmp_path / "h.sqlite") as history:
        engine = Engine(**{name: getattr(ENGINE, name) for name in Engine.__slots__} | {"updated": now})
        history.append(results(now), engine=engine)
    return tmp_path / "h.sqlite"


def values(page: bytes) -> dict[str, float]:
    """Each sample's value by its name and the values of its labels."""
    return {
        " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels, key="le".__eq__))]): sample.value
        for family in text_families(page.decode())
        for sample in family.samples
    }


def test_a_history_is_exposed(history: Path) -> None:
    got = values(CheckMetrics(history).page())
    up, down, unknown = (f"checks/a.yml::{name}" for name in ("up", "down", "unknown"))
    assert (got[f"probe_success {up} critical"], got[f"probe_success {down} warning"]) == (1, 0)
    assert not any(name.startswith(f"probe_success {unknown}") for name in got)
    assert got[f"probe_duration_seconds {up}"] == 20.0
    assert got[f"probe_http_duration_seconds {up} processing"] == 0.1
    assert got[f"probe_http_status_code {down}"] == 503
    assert got[f"probe_ssl_earliest_cert_expiry {up}"] == 1_900_000_000
    assert (got[f"upcheck_check_outcome {down} failed"], got[f"upcheck_check_outcome {down} held"]) == (1, 0)
    assert got[f"upcheck_check_runs_total {up} held"] == 3
    buckets = [got[f"upcheck_check_duration_seconds_bucket {up} {bound}"] for bound in (*map(repr, BUCKETS), "+Inf")]
    assert buckets == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert got[f"upcheck_check_duration_seconds_count {up}"] == 3
    assert got[f"upcheck_check_duration_seconds_sum {up}"] == pytest.approx(20.22)
    assert (
        got[f"upcheck_check_failure_info {down} bad_status"] == got[f"upcheck_check_failure_info {unknown} other"] == 1
    )
    assert (
        got[f"upcheck_last_run_timestamp_seconds {down}"] == got[f"upcheck_last_success_timestamp_seconds {down}"] + 10
    )
    assert f"upcheck_last_success_timestamp_seconds {unknown}" not in got
    assert got["upcheck_schedule_lag_seconds_bucket 1/1 0.025"] == got["upcheck_schedule_lag_seconds_count 1/1"] == 6
    engine = {"scheduled_checks": 5, "checks_in_flight": 2, "schedule_missed_total": 3, "engine_reloads_total": 8,
              "engine_stale_files": 1, "history_write_errors_total": 7}  # fmt: skip
    assert {name: got[f"upcheck_{name} 1/1"] for name in engine} == engine


def test_counters_never_go_back_when_results_are_deleted(history: Path) -> None:
    before = values(CheckMetrics(history).page())
    with History(history) as opened:
        assert opened.prune(keep=1) > 0
    after = values(CheckMetrics(history).page())
    assert {name: value for name, value in after.items() if "_total" in name or "_bucket" in name} == {
        name: value for name, value in before.items() if "_total" in name or "_bucket" in name
    }


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The table of docs/metrics.md: type and labels of each metric."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_table_in_the_docs_is_what_is_exposed(history: Path) -> None:
    exposed: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in text_families(CheckMetrics(history).page().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples}
        assert len(labels) == 1, name
        exposed[name] = (family.type, labels.pop())
        assert family.documentation
    assert {name: (kind, tuple(sorted(labels))) for name, (kind, labels) in documented().items()} == exposed
    assert set(exposed) == {family.name for family in FAMILIES}


def test_promtool_finds_nothing_to_say_about_the_page(history: Path, promtool_path: Path) -> None:
    verdict = check_metrics(promtool_path, CheckMetrics(history).page().decode())
    assert (verdict.ok, verdict.text) == (True, "")


def test_the_page_is_openmetrics_too(history: Path) -> None:
    page = CheckMetrics(history).page(openmetrics=True).decode() + "# EOF\n"
    got: dict[str, Metric] = {family.name: family for family in openmetrics_families(page)}  # type: ignore[no-untyped-call]
    assert set(got) == {family.name.removesuffix("_total") for family in FAMILIES}
    assert got["upcheck_check_runs"].type == "counter"


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_the_collector_s_page_is_one_page_in_either_format(history: Path, accept: str) -> None:
    collector = Collector(history=history)

    async def ask(client: httpx.AsyncClient) -> None:
        text = (await client.get("/metrics", headers={"Accept": accept})).text
        openmetrics = "openmetrics" in accept
        got = {family.name for family in (openmetrics_families if openmetrics else text_families)(text)}
        assert {"node_load1", "probe_success", "upcheck_schedule_missed"} <= got
        assert text.count("# EOF\n") == text.endswith("# EOF\n") == openmetrics

    inside(collector, ask)


def test_a_metric_of_the_user_s_own_can_not_take_a_name_of_ours(history: Path) -> None:
    collector = Collector(history=history)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Gauge("probe_success", "Mine.", registry=collector.registry)


@pytest.mark.usefixtures("history")
def test_the_collector_finds_the_history_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.upcheck]\nhistory = "h.sqlite"\n')
    (tmp_path / "below").mkdir()
    monkeypatch.delenv("UPCHECK_HISTORY", raising=False)
    monkeypatch.chdir(tmp_path / "below")
    assert b"probe_success" in Collector().checks.page()
    monkeypatch.setenv("UPCHECK_HISTORY", str(tmp_path / "other.sqlite"))
    assert b"probe_success" not in Collector().checks.page()


def test_a_collector_that_samples_often_reads_the_history_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRICS_SYSTEM_INTERVAL", "100")
    checks = Collector(history=tmp_path / "h.sqlite").checks
    assert b"probe_success" not in checks.page()
    with History(tmp_path / "h.sqlite") as history:
        history.append(results(time.time()))
    time.sleep(0.11)
    assert b"probe_success" in checks.page()


def test_a_registry_of_prometheus_client_has_the_same(history: Path) -> None:
    registry = CollectorRegistry()
    checks = CheckMetrics(history)
    registry.register(checks)
    assert values(generate_latest(registry)) == values(checks.page())


def test_what_was_only_ever_skipped_has_no_state(tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite") as history:
        for name, outcomes in (("never", (Outcome.SKIPPED,)), ("once", (Outcome.ERROR, Outcome.SKIPPED))):
            for number, outcome in enumerate(outcomes):
                history.append([Result(name, outcome, time.time() - 5 + number, 0.0)])
    page = CheckMetrics(tmp_path / "history.sqlite").page().decode()
    assert 'upcheck_check_outcome{check="never",outcome="skipped"} 1' in page
    assert re.findall(r"upcheck_check_state\{.*", page) == ['upcheck_check_state{check="once",state="unknown"} 1']


def test_a_missing_history_has_no_series_and_one_that_comes_is_seen(tmp_path: Path) -> None:
    checks = CheckMetrics(tmp_path / "h.sqlite", fresh=0.0)
    assert values(checks.page()) == {"upcheck_history_read_errors_total": 0, "upcheck_checks_dropped": 0}
    assert list(tmp_path.iterdir()) == []
    with History(tmp_path / "h.sqlite") as history:
        history.append(results(time.time()))
    assert values(checks.page())["upcheck_check_runs_total checks/a.yml::up held"] == 3


@pytest.mark.parametrize("damage", ["text", "pages", "facts", "newer", "folder"])
def test_a_history_that_can_not_be_read_is_counted(history: Path, damage: str) -> None:
    import sqlite3

    if damage == "text":
        history.write_text("no database " * 100)
    elif damage == "pages":
        history.write_bytes(history.read_bytes()[:4096] + b"\xa5" * 50_000)
    elif damage == "folder":
        history.unlink()
        history.mkdir()
    else:
        statement = "UPDATE checks SET facts = '[1]'" if damage == "facts" else "PRAGMA user_version = 99"
        with sqlite3.connect(history) as db:
            db.execute(statement)
        db.close()
    checks = CheckMetrics(history, fresh=0.0)
    assert values(checks.page())["upcheck_history_read_errors_total"] == 1
    assert values(checks.page()) == {"upcheck_history_read_errors_total": 2}


def test_facts_of_any_kind_make_a_page(tmp_path: Path, promtool_path: Path) -> None:
    odd = [math.nan, math.inf, -1, 10**400, "text", None, [], {}, True, {"tls": "x", "connect": math.nan, "evil": 1.0}]
    names = ["x" * 10_000 + "a", "x" * 10_000 + "b", "\ud800", "🛫\u202e", 'a"b\\c\nd', "nul\0"]
    now = time.time()
    with History(tmp_path / "h.sqlite") as history:
        history.append(
            [
                Result(f"{names[at % len(names)]}{at}", Outcome.FAILED, now, [math.nan, math.inf, -1.0][at % 3],
                       facts={"status": value, "certificate_expiry": value, "phases": value, "code": value,
                              "severity": value})
                for at, value in enumerate(odd)
            ]
        )  # fmt: skip
    page = CheckMetrics(tmp_path / "h.sqlite").page()
    got = values(page)
    assert sum(name.startswith("probe_success") for name in got) == len(odd)
    assert [name for name in got if name.startswith(("probe_duration", "probe_http", "probe_ssl"))] == []
    assert all(len(name) < 200 for name in got)
    assert check_metrics(promtool_path, page.decode()).text == ""


def test_more_checks_than_a_page_holds_are_dropped_and_counted(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_CHECKS", 4)
    got = values(CheckMetrics(history).page())
    assert got["upcheck_checks_dropped"] == 1
    assert sum(name.startswith("upcheck_last_run") for name in got) == 4


def test_names_that_are_one_as_a_label_are_one_series(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "label", lambda text: text[:13])
    page = CheckMetrics(history).page().decode()
    assert len(re.findall("^upcheck_last_run_timestamp_seconds{", page, re.MULTILINE)) == 1
    assert "upcheck_checks_dropped 4" in page


def test_what_has_not_run_for_a_week_is_no_more(history: Path) -> None:
    later = time.time() + metrics.FORGOTTEN
    got = values(CheckMetrics(history, time=lambda: later).page())
    assert set(got) == {"upcheck_history_read_errors_total", "upcheck_checks_dropped"}


def test_scrapes_that_come_together_are_answered_from_one_reading(history: Path) -> None:
    checks = CheckMetrics(history)
    first = checks.page()
    history.unlink()
    assert checks.page() is first


@pytest.fixture
def prometheus(history: Path, tmp_path: Path, tool_paths: dict[str, Path]) -> Iterator[str]:
    """The URL of a Prometheus that scrapes a collector whose history has results."""
    own = script(
        tmp_path,
        "from pathlib import Path; from upcheck.collector import Collector\n"
        f"Collector(history=Path({str(history)!r})).serve()",
    )
    with running(own) as collector:
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: checks\n  static_configs:\n"
            f"  - targets: ['{collector.url.removeprefix('http://')}']\n"
        )
        address = f"127.0.0.1:{free_port()}"
        argv: list[str | Path] = [
            tool_paths["prometheus"], f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address={address}",
        ]  # fmt: skip
        with serving(argv, f"http://{address}", tmp_path / "prometheus.log") as url:
            yield url


def test_a_real_prometheus_scrapes_it(prometheus: str, history: Path) -> None:
    def ask(query: str) -> Any:
        told = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, trust_env=False).json()
        return {one["metric"].get("check"): float(one["value"][1]) for one in told["data"]["result"]}

    wait_for(lambda: ask("probe_success"), lambda: httpx.get(f"{prometheus}/api/v1/targets").text)
    assert ask("probe_success") == {"checks/a.yml::up": 1, "checks/a.yml::down": 0}
    assert ask('upcheck_check_duration_seconds_count{check="checks/a.yml::up"}') == {"checks/a.yml::up": 3}
    assert ask("upcheck_scheduled_checks") == {None: 5}
    with History(history) as opened:
        ours = {one.check: one.quantile(0.4) for one in opened.summaries() if one.quantile(0.4) is not None}
    theirs = ask("histogram_quantile(0.4, upcheck_check_duration_seconds_bucket)")
    assert {name: value for name, value in theirs.items() if not math.isnan(value)} == pytest.approx(ours)


def test_the_exported_history_becomes_blocks(history: Path, tmp_path: Path, promtool_path: Path) -> None:
    from click.testing import CliRunner

    from upcheck.cli import main

    told = CliRunner(env={"UPCHECK_HISTORY": str(history)}).invoke(main, ["history", "--format", "openmetrics"])
    assert told.exit_code == 0, told.output
    (tmp_path / "a.om").write_text(told.output)
    (tmp_path / "blocks/wal").mkdir(parents=True)  # without which `dump` does not start
    argv: list[str | Path] = [
        promtool_path,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        tmp_path / "a.om",
        tmp_path / "blocks",
    ]
    made = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stdout + made.stderr
    dumped = subprocess.run(
        [promtool_path, "tsdb", "dump", tmp_path / "blocks"], capture_output=True, text=True, timeout=60
    )
    assert dumped.stdout.count("probe_success") == 5, dumped.stderr
    assert dumped.stdout.count("probe_duration_seconds") == 5
