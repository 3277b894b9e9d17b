from __future__ import annotations

from pathlib import Path

import pytest

from upcheck import alertmanager, promtool
from upcheck.command import CommandError
from upcheck.promtool import Mismatch

RULES = """
groups:
  - name: g
    rules:
      - alert: Down
        expr: up == 0
        for: 1m
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.job }}, down"}
"""

TESTS = """
rule_files: [rules.yml]
tests:
  - name: fires
    interval: 1m
    input_series: [{series: 'up{job="a"}', values: "0x5"}]
    alert_rule_test:
      - alertname: Down
        eval_time: 2m
        exp_alerts: %s
    promql_expr_test:
      - expr: up{job="a"} + 1
        eval_time: 1m
        exp_samples: [{labels: '{job="a"}', value: %d}]
"""

GOOD = '[{exp_labels: {job: a, severity: critical}, exp_annotations: {summary: "a, down"}}]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "good.yml").write_text(TESTS % (GOOD, 1))
    (tmp_path / "bad.yml").write_text(TESTS % ("[]", 7))
    return tmp_path


def test_one_run_is_one_verdict(folder: Path, promtool_path: Path) -> None:
    good, bad = folder / "good.yml", folder / "bad.yml"
    assert promtool.test_rules(promtool_path, [good, good]).ok
    assert not promtool.test_rules(promtool_path, [good, bad]).ok


def test_mismatches_are_read_from_what_promtool_prints(folder: Path, promtool_path: Path) -> None:
    verdict = promtool.test_rules(promtool_path, [folder / "bad.yml"])
    got = ('{alertname="Down", job="a", severity="critical"} summary="a, down"',)
    assert promtool.mismatches(verdict.text) == [
        Mismatch("Down", "2m", (), got, is_alert=True),
        Mismatch('up{job="a"} + 1', "1m", ('{job="a"} 7E+00',), ('{job="a"} 1E+00',)),
    ]


def test_an_expression_that_can_not_run_is_an_error_of_its_own(folder: Path, promtool_path: Path) -> None:
    file = folder / "broken.yml"
    file.write_text((TESTS % (GOOD, 1)).replace('up{job="a"} + 1', "up +"))
    (mismatch,) = promtool.mismatches(promtool.test_rules(promtool_path, [file]).text)
    assert mismatch.subject == "up +"
    assert "parse error" in mismatch.error


def test_several_samples_are_told_apart() -> None:
    text = 'expr: "up", time: 1m,\n  exp: {a="x, y"} 1E+00, {b="z"} 2E+00\n  got: nil'
    assert promtool.mismatches(text) == [Mismatch("up", "1m", ('{a="x, y"} 1E+00', '{b="z"} 2E+00'), ())]


def test_output_without_a_mismatch_has_none() -> None:
    assert promtool.mismatches("yaml: unmarshal errors:\n  line 1: field foo not found") == []


def test_rule_files_and_configurations(folder: Path, promtool_path: Path) -> None:
    assert promtool.check_rules(promtool_path, folder / "rules.yml").ok
    config = folder / "prometheus.yml"
    config.write_text("rule_files: [rules.yml]\n")
    assert promtool.check_config(promtool_path, config).ok
    (folder / "rules.yml").write_text(RULES.replace("up == 0", "up =="))
    for verdict in (
        promtool.check_rules(promtool_path, folder / "rules.yml"),
        promtool.check_config(promtool_path, config),
    ):
        assert not verdict.ok
        assert "could not parse expression" in verdict.text


def test_alertmanager_files(tmp_path: Path, tool_paths: dict[str, Path]) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text("route: {receiver: a}\nreceivers: [{name: a}]\n")
    assert alertmanager.check_config(tool_paths["amtool"], file).ok
    file.write_text("route: {receiver: b}\nreceivers: [{name: a}]\n")
    verdict = alertmanager.check_config(tool_paths["amtool"], file)
    assert not verdict.ok
    assert 'undefined receiver "b"' in verdict.text


def test_metrics_are_linted(promtool_path: Path) -> None:
    assert promtool.check_metrics(promtool_path, "# HELP a A.\n# TYPE a gauge\na 1\n").ok
    verdict = promtool.check_metrics(promtool_path, "a_total 1\n")
    assert "no help text" in verdict.text


def stand_in(folder: Path, script: str) -> Path:
    path = folder / "promtool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 0", "exited 0, but with 0 SUCCESS for 1 files"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("yes", "printed more than 4 MiB"),
    ],
)
def test_a_promtool_that_tells_nothing_is_no_success(folder: Path, script: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        promtool.test_rules(stand_in(folder, script), [folder / "good.yml"])
