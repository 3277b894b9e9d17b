from __future__ import annotations

from pathlib import Path

from prometheus_client import generate_latest

from upcheck import metrics
from upcheck.promtool import check_metrics
from upcheck.result import Outcome, Result

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
