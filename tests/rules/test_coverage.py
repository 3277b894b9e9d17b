"""Coverage of rules, as promtool sees it: what was never seen, seen, or asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from upcheck import tools
from upcheck.cli import main
from upcheck.report.proof import coverage_lines
from upcheck.routes.coverage import Routing
from upcheck.rules.coverage import Coverage, measure
from upcheck.rules.evaluate import EvaluationError
from upcheck.settings import Settings

RULES = """\
groups:
  - name: one
    rules:
      - {record: 'a:sum', expr: 'sum by (job) (a)'}
      - {record: 'b:sum', expr: 'sum(b)'}
      - alert: High
        expr: a:sum > 10 and on (job) enabled == 1 or a:sum < 1
        for: 2m
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.job }} at {{ $value }}', fixed: text}
      - {alert: Other, expr: absent(c)}
      - {alert: Always, expr: vector(1)}
"""
ENTRY = """
  - interval: 1m
    input_series:
      - {{series: 'a{{job="x"}}', values: '{values}'}}
      - {{series: 'enabled{{job="x"}}', values: '{enabled}x20'}}
    alert_rule_test: {tests}
"""
FIRES = (
    "{alertname: High, eval_time: 5m, exp_alerts: "
    "[{exp_labels: {severity: critical, job: x}, exp_annotations: {summary: x at 20, fixed: text}}]}"
)


def covered(folder: Path, promtool: Path, *entries: str) -> Coverage:
    """The coverage of RULES by *entries*."""
    (folder / "rules.yml").write_text(RULES)
    (folder / "tests.yml").write_text("rule_files: [rules.yml]\ntests:" + "".join(entries))
    return measure(promtool, [folder / "tests.yml"])


def states(coverage: Coverage, name: str) -> dict[str, str]:
    """The state of each point of the rule *name*."""
    return {
        f"{point.kind} {point.what}".strip(): point.state for point in coverage.points if point.rule.name.text == name
    }


def entry(values: str, tests: str, enabled: int = 1) -> str:
    return ENTRY.format(values=values, tests=tests, enabled=enabled)


def test_what_is_asserted(tmp_path: Path, promtool: Path) -> None:
    coverage = covered(tmp_path, promtool, entry("20x20", f"[{{alertname: High, eval_time: 1m}}, {FIRES}]"))
    high = states(coverage, "High")
    assert {kind: state for kind, state in high.items() if "branch" not in kind} == {
        "fires": "asserted", "silent": "asserted", "pending": "asserted", "template summary": "asserted",
    }  # fmt: skip
    assert high["branch `a:sum > 10` holds"] == "exercised"
    assert high["branch `a:sum > 10` does not hold"] == "never"
    assert high["branch `a:sum > 10` without `enabled == 1`"] == "never"
    assert high["branch `a:sum < 1` of an `or`, alone"] == "never"
    assert states(coverage, "a:sum") == {"sample": "asserted"}
    assert states(coverage, "b:sum") == {"sample": "never"}


def test_what_is_seen_but_not_asserted(tmp_path: Path, promtool: Path) -> None:
    tests = "[{alertname: Other, eval_time: 9m, exp_alerts: [{}]}]"
    coverage = covered(tmp_path, promtool, entry("20x20", tests))
    assert states(coverage, "High")["fires"] == "exercised"
    assert states(coverage, "High")["pending"] == "exercised"
    assert states(coverage, "High")["template summary"] == "exercised"
    assert states(coverage, "High")["silent"] == "never"
    assert states(coverage, "a:sum") == {"sample": "exercised"}
    assert states(coverage, "Other") == {"fires": "asserted", "silent": "never"}
    assert states(coverage, "Always") == {"fires": "exercised"}


def test_silence_without_data_tells_nothing(tmp_path: Path, promtool: Path) -> None:
    tests = "[{alertname: High, eval_time: 5m}, {alertname: Other, eval_time: 5m, exp_alerts: [{}]}]"
    nothing = f"\n  - {{interval: 1m, input_series: [], alert_rule_test: {tests}}}\n"
    assert states(covered(tmp_path, promtool, nothing), "High")["silent"] == "never"
    assert states(covered(tmp_path, promtool, entry("5x20", tests)), "High")["silent"] == "asserted"


def test_branches_add_up_over_entries(tmp_path: Path, promtool: Path) -> None:
    low, off = (
        entry("0x20", "[{alertname: Other, eval_time: 5m, exp_alerts: [{}]}]"),
        entry("20 5x20", "[{alertname: High, eval_time: 5m}]", 0),
    )
    high = states(covered(tmp_path, promtool, low, off, entry("20x20", f"[{FIRES}]")), "High")
    assert {state for kind, state in high.items() if "branch" in kind} == {"exercised"}
    assert high["pending"] == "exercised"


def test_what_is_missing_is_told(tmp_path: Path, promtool: Path) -> None:
    lines = list(
        coverage_lines(covered(tmp_path, promtool, entry("20x20", f"[{FIRES}]")), Routing(), lambda text, _: text)
    )
    assert lines[0].split() == ["rule", "fires", "silent", "pending", "sample", "templates", "branches"]
    assert "  no test gives it a sample" in lines
    assert "  no test asserts that it is silent where it has data" in lines
    assert "  no test asserts that it is silent before for: 2m is over" in lines
    assert "  no test has `a:sum < 1` of an `or`, alone" in lines
    assert not any("a:sum  " in line for line in lines)  # of which nothing is missing
    assert lines[-1].startswith("5 rules   ")


def test_a_long_entry_is_sampled_and_says_so(tmp_path: Path, promtool: Path) -> None:
    tests = "[{alertname: Other, eval_time: 3d, exp_alerts: [{}]}]"
    coverage = covered(tmp_path, promtool, entry("20x4320", tests))
    assert states(coverage, "High")["branch `a:sum > 10` holds"] == "exercised"
    assert coverage.notes == (f"{tmp_path}/tests.yml: of an entry, 2000 evaluations are looked at",)


def test_the_shipped_rules_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(main, ["rules", "coverage", "--fail-under=1"])
    assert told.exit_code == 0, told.output
    assert len(told.output.splitlines()) == 1
    assert "share 1.000" in told.output


def test_the_command_fails_under_a_share(tmp_path: Path, promtool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    covered(tmp_path, promtool, entry("20x20", f"[{FIRES}]"))
    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(main, ["rules", "coverage", str(tmp_path), "--json", "--fail-under=0.9"])
    assert told.exit_code == 1
    facts = json.loads(told.output)
    assert 0.3 < facts["share"] < 0.9
    assert {"fires", "silent", "pending", "template", "branch", "sample"} == {one["kind"] for one in facts["points"]}


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        ("groups: []\n", 2, "no rule-test file in"),
        ("rule_files: [none.yml]\ntests: 5\n", 3, "tests: expected a list of mappings"),
    ],
    ids=["rules only", "not a test file"],
)
def test_what_can_not_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, code: int, sentence: str
) -> None:
    (tmp_path / "a.yml").write_text(content)
    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(main, ["rules", "coverage", str(tmp_path)])
    assert (told.exit_code, sentence in told.output) == (code, True), told.output


RESOURCE = (
    "kind: Other\nspec: {groups: [{name: x, rules: [{alert: No, expr: a}]}]}\n---\nkind: PrometheusRule\nspec:\n"
    + "".join(f"  {line}\n" for line in RULES.splitlines())
)


def test_prometheus_rule_resources_are_read(tmp_path: Path, promtool: Path) -> None:
    plain = covered(tmp_path, promtool, entry("20x20", f"[{FIRES}]"))
    (tmp_path / "rules.yml").write_text(RESOURCE)
    resource = measure(promtool, [tmp_path / "tests.yml"])
    assert [(one.kind, one.what, one.state) for one in resource.points] == [
        (one.kind, one.what, one.state) for one in plain.points
    ]
    assert resource.points[0].rule.line == plain.points[0].rule.line + 5


def test_resources_that_no_test_loads_count_and_templates_of_them_are_left_aside(
    tmp_path: Path, promtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered(tmp_path, promtool, entry("20x20", f"[{FIRES}]"))
    (tmp_path / "more.yml").write_text(RESOURCE.replace("alert: High", "alert: Unseen"))
    (tmp_path / "helm.yml").write_text("kind: PrometheusRule\nspec: {{ toYaml .Values }}\n  x\n")
    monkeypatch.setenv("UPCHECK_TOOLS", str(ROOT / ".tools"))
    told = CliRunner().invoke(main, ["rules", "coverage", str(tmp_path)])
    assert told.exit_code == 0
    assert "\nUnseen  " in told.output
    assert "left aside: " in told.stderr
    told = CliRunner().invoke(main, ["rules", "mutate", str(tmp_path)])
    assert told.exit_code == 0
    assert len(re.findall(r"  Unseen  \d+ mutants: no test looks at it\n", told.output)) == 1


def test_a_start_timestamp_is_passed_on(tmp_path: Path, promtool: Path) -> None:
    started = "- start_timestamp: 2026-01-01T00:00:00Z\n    interval"
    text = entry("20x20", f"[{FIRES}]").replace("- interval", started, 1)
    tool = tools.find("promtool", Settings.load(ROOT))
    assert tool is not None
    if tools.lacks(tool, "start_timestamp"):
        with pytest.raises(EvaluationError, match="start_timestamp not found"):
            covered(tmp_path, promtool, text)
    else:
        assert states(covered(tmp_path, promtool, text), "High")["fires"] == "asserted"
