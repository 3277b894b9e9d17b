"""`upcheck rules test`, on directories as other people have them: the verdict is promtool's, but for false greens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upcheck import promtool as tool
from upcheck.rules import repository, verdicts
from upcheck.rules.known import Cache
from upcheck.rules.reduce import WORTH

RULES = """\
groups:
  - name: api
    rules:
      - record: job:errors:rate5m
        expr: sum by (job) (rate(errors_total[5m]))
      - alert: Errors
        expr: job:errors:rate5m > 1
        for: 5m
      - alert: Gone
        expr: absent(up)
"""
TESTS = """\
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - name: errors fire
    interval: 1m
    input_series: [{series: 'errors_total{job="a"}', values: 0+120x20}, {series: up, values: 1x20}]
    alert_rule_test:
      - {alertname: Errors, eval_time: 10m, exp_alerts: [{exp_labels: {job: a}}]}
      - {alertname: Gone, eval_time: 10m}
"""
RESOURCE = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: api}\nspec:\n" + "".join(
    f"  {line}\n" for line in RULES.splitlines()
)
HELM = "groups:\n{{- if .Values.on }}\n  - name: {{ .Release.Name }}\n{{- end }}\n"


def type_rules_test(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "upcheck.cli", "rules", "test", *arguments]
    given = os.environ | {"XDG_CACHE_HOME": str(folder / ".cache"), "UPCHECK_TOOLS": str(TOOLS), **environ}
    return subprocess.run(argv, cwd=folder, env=given, capture_output=True, text=True, timeout=60)


TOOLS = Path(__file__).parents[2] / ".tools"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "rules_test.yml").write_text(TESTS)
    return tmp_path


def test_files_are_told_apart_by_their_content(repo: Path) -> None:
    (repo / "deep").mkdir()
    (repo / "deep/resource.yaml").write_text(RESOURCE)
    (repo / "deep/helm.yaml").write_text(HELM)
    (repo / "prometheus.yml").write_text("rule_files: [rules.yml]\nscrape_configs: []\n")
    (repo / "flow.yml").write_text('{"rule_files": ["rules.yml"], "tests": []}')
    (repo / "values.yaml").write_text("a: 1\n")
    (repo / ".hidden").mkdir()
    (repo / ".hidden/rules.yml").write_text(RULES)
    found = repository.find([repo, repo / "rules.yml"])
    assert found.rules == [repo / "rules.yml"]
    assert found.tests == [repo / "flow.yml", repo / "rules_test.yml"]
    assert found.custom == [repo / "deep/resource.yaml"]
    assert {path.name: why for path, why in found.aside.items()} == {
        "helm.yaml": "a template",
        "prometheus.yml": "no rules",
        "values.yaml": "no rules",
    }


def test_what_was_judged_is_not_run_again_until_something_changes(repo: Path) -> None:
    first, second = type_rules_test(repo, "."), type_rules_test(repo, ".")
    assert first.returncode == second.returncode == 0
    assert "1 of 1 from cache" not in first.stdout
    assert "1 of 1 from cache" in second.stdout
    assert "rules       1 held                   2 alerts, never seen fired: Gone" in second.stdout
    (repo / "rules.yml").write_text(RULES.replace("> 1", "> 3"))
    changed = type_rules_test(repo, ".")
    assert changed.returncode == 1
    assert "FAILED   errors fire" in changed.stdout
    assert '- {alertname="Errors", job="a"}' in changed.stdout
    again = type_rules_test(repo, ".")
    assert "1 of 1 from cache" in again.stdout
    assert (
        again.stdout.partition("FAILED")[2].partition("\n1 failed")[0]
        == (changed.stdout.partition("FAILED")[2].partition("\n1 failed")[0])
    )


@pytest.mark.parametrize("what", ["--no-cache", "touched", "broken", "other shape", "other tool"])
def test_what_is_not_known_is_run(repo: Path, what: str) -> None:
    type_rules_test(repo, ".")
    stored = repo / ".cache/upcheck/rules.json"
    if what == "touched":
        (repo / "rules_test.yml").write_text(TESTS + "# a comment\n")
    elif what == "broken":
        stored.write_text('{"by": 7')
    elif what == "other shape":
        stored.write_text(json.dumps({"by": json.loads(stored.read_text())["by"], "held": []}))
    elif what == "other tool":
        stored.write_text(json.dumps(json.loads(stored.read_text()) | {"by": "an older promtool"}))
    told = type_rules_test(repo, ".", *(["--no-cache"] if what == "--no-cache" else []))
    assert told.returncode == 0
    assert "from cache" not in told.stdout


def test_a_cache_that_can_not_be_written_is_no_trouble(repo: Path) -> None:
    (repo / ".cache").write_text("a file where a folder should be")
    assert type_rules_test(repo, ".").returncode == 0


def test_a_resource_is_read_as_rules(repo: Path) -> None:
    (repo / "rules.yml").write_text(f"{RESOURCE}---\nkind: ConfigMap\n")
    told = type_rules_test(repo, ".")
    assert told.returncode == 0, told.stdout
    assert "1 of them PrometheusRule resources" in told.stdout
    (repo / "rules_test.yml").write_text(TESTS.replace("job: a", "job: b"))
    assert 'job="b"' in type_rules_test(repo, ".").stdout


FALSE = {
    "no-tests": ("rule_files: [rules.yml]\ntests: []\n", "tests: is empty"),
    "no-rule-files": (TESTS.partition("\n")[2], "names no rule file"),
    "unmatched-rule-files": (TESTS.replace("[rules.yml]", "[rules.yml, nothing*.yml]"), "nothing*.yml matches no file"),
    "unknown-alert": (TESTS.replace("alertname: Gone", "alertname: Gnoe"), "Gnoe is defined in no loaded rule file"),
    "no-assertion": (f"{TESTS}  - {{name: idle, interval: 1m}}\n", "asserts nothing"),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_green_fails_by_its_name_and_can_be_allowed(repo: Path, name: str) -> None:
    text, sentence = FALSE[name]
    (repo / "rules_test.yml").write_text(text)
    told = type_rules_test(repo, ".")
    assert told.returncode == 1
    assert f"passes for no reason ({name})" in told.stdout
    assert sentence in told.stdout
    (repo / "rules_test.yml").write_text(f"# upcheck: allow {name}\n{text}")
    assert type_rules_test(repo, ".").returncode == 1, "a reason is asked for"
    (repo / "rules_test.yml").write_text(f"# upcheck: allow {name} because the exporter comes later\n{text}")
    others = {"no-rule-files": ["--allow", "unknown-alert"]}.get(name, [])
    allowed = type_rules_test(repo, ".", *others)
    assert f"({name})" not in allowed.stdout
    (repo / "rules_test.yml").write_text(text)
    assert f"({name})" not in type_rules_test(repo, ".", "--allow", name).stdout


def test_a_file_that_we_can_not_read_has_promtool_s_verdict(repo: Path) -> None:
    (repo / "rules_test.yml").write_text(f"{TESTS}---\ntests: []\n")
    told = type_rules_test(repo, ".")
    assert told.returncode == 1
    assert "passes for no reason (several-documents)" in told.stdout
    assert "promtool reads only the first" in told.stdout
    (repo / "rules_test.yml").write_text(TESTS.replace("interval: 1m\n    input", "interval: [\n    input"))
    assert type_rules_test(repo, ".").returncode == 1


def test_nothing_to_test_is_not_healthy(tmp_path: Path) -> None:
    told = type_rules_test(tmp_path, ".")
    assert told.returncode == 3
    assert "nothing ran, so nothing is known" in told.stdout


def test_a_path_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    told = type_rules_test(tmp_path, "nowhere")
    assert told.returncode == 2
    assert "nowhere: there is no such file or folder" in told.stderr


def large(entries: list[tuple[int, int, int]]) -> tuple[str, str]:
    """Rules of 40 services, and entries: of one of them each, with errors a minute, and whether they should fire."""
    rules = [
        f"      - {{record: 'job:m{number}:rate5m', expr: 'sum by (job) (rate(m{number}_total[5m]))'}}\n"
        f"      - {{alert: High{number}, expr: 'job:m{number}:rate5m > 1', for: 5m}}\n"
        f"      - {{alert: Gone{number}, expr: 'absent(m{number}_total)'}}\n"
        for number in range(40)
    ]
    tests = []
    for number, rate, expected in entries:
        fires = ", exp_alerts: [{exp_labels: {job: a}}]" if expected else ""
        tests.append(
            f"  - interval: 1m\n    input_series: [{{series: 'm{number}_total{{job=\"a\"}}', values: 0+{rate}x20}}]\n"
            f"    alert_rule_test:\n      - {{alertname: High{number}, eval_time: 15m{fires}}}\n"
            f"      - {{alertname: Gone{(number + 1) % 40}, eval_time: 5m, exp_alerts: [{{}}]}}\n"
        )
    return f"groups:\n  - name: all\n    rules:\n{''.join(rules)}", (
        f"rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n{''.join(tests)}"
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 39), st.sampled_from([30, 61, 120]), st.integers(0, 1)), min_size=3, max_size=8)
)
def test_small_files_have_the_verdict_of_the_large_one(
    tmp_path: Path, promtool: Path, entries: list[tuple[int, int, int]]
) -> None:
    rules, tests = large(entries)
    assert 120 * len(entries) >= WORTH, "or nothing would be made small"
    (tmp_path / "rules.yml").write_text(rules)
    path = tmp_path / "tests.yml"
    path.write_text(tests)
    whole = tool.test_rules(promtool, [path]).ok
    expected = [(rate > 60) is bool(fires) for _, rate, fires in entries]
    judged = verdicts.judge(promtool, repository.find([tmp_path]), None)
    assert [result.outcome.value == "held" for result in judged.results] == expected
    assert whole is all(expected)


def test_what_a_rule_reads_of_another_rule_stays(tmp_path: Path, promtool: Path) -> None:
    rules, tests = large([(3, 120, 1)] * 4)
    rules += "      - {alert: Chain, expr: 'sum(ALERTS{alertname=\"High3\"}) > 0 and on () job:m3:rate5m'}\n"
    tests += "      - {alertname: Chain, eval_time: 15m, exp_alerts: [{}]}\n"
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "tests.yml").write_text(tests)
    judged = verdicts.judge(promtool, repository.find([tmp_path]), None)
    assert {result.outcome.value for result in judged.results} == {"held"}


def test_the_cache_forgets_what_was_asked_for_least(
    tmp_path: Path, promtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upcheck.rules.known.MOST", 3)
    for number in range(5):
        (tmp_path / f"{number}_test.yml").write_text(TESTS)
    (tmp_path / "rules.yml").write_text(RULES)
    cache = Cache(tmp_path / "cache.json", promtool)
    verdicts.judge(promtool, repository.find([tmp_path]), cache)
    again = Cache(tmp_path / "cache.json", promtool)
    known = [again.get(tmp_path / f"{number}_test.yml") is not None for number in range(5)]
    assert known == [False, False, True, True, True]


def test_a_rule_file_that_promtool_refuses_fails_though_its_tests_are_elsewhere(repo: Path) -> None:
    (repo / "broken.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'sum(up > 1', fro: 5m}]}]\n")
    for _ in range(2):
        told = type_rules_test(repo, ".")
        assert told.returncode == 1
        assert "FAILED   broken.yml: not valid" in told.stdout
        assert "field fro not found" in told.stdout


def test_python_is_said_to_be_left_to_pytest(repo: Path) -> None:
    (repo / "test_api.py").write_text("def test_errors(rules):\n    assert rules\n")
    (repo / "test_other.py").write_text("def test_other(http):\n    assert http\n")
    told = type_rules_test(repo, ".").stdout
    assert "python      1 with rule tests, which are not run here: `upcheck check` runs them\n" in told
    assert "aside" not in told


def test_another_s_folder_is_left_as_it_was(repo: Path) -> None:
    type_rules_test(repo, ".")
    assert {path.name for path in repo.iterdir()} == {"rules.yml", "rules_test.yml", ".cache"}
