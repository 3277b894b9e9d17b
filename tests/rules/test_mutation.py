"""Mutants of rules: which there are, that the fast way judges them as the slow one, and what is told of survivors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from tests.conftest import ROOT
from upcheck import promtool as promtool_room
from upcheck.cli import main
from upcheck.promtool import Verdict
from upcheck.rules import judging, suite
from upcheck.rules.judging import Relations
from upcheck.rules.mutants import Mutant, mutants, step
from upcheck.rules.mutation import MutationError, Proof, prove

RULES = """\
groups:
  - name: one
    rules:
      - record: job:errors:ratio
        expr: sum by (job) (rate(errors_total[5m])) / sum by (job) (rate(requests_total[5m]))
      - alert: ErrorRateHigh
        expr: job:errors:ratio > 0.05
        for: 2m
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.job }} fails'}
"""
TESTS = """\
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'errors_total{job="a"}', values: 0+6x20}
      - {series: 'requests_total{job="a"}', values: 0+100x20}
    alert_rule_test:
      - {alertname: ErrorRateHigh, eval_time: 2m}
      - alertname: ErrorRateHigh
        eval_time: 3m
        exp_alerts: [{exp_labels: {severity: critical, job: a}, exp_annotations: {summary: a fails}}]
"""


class Write(Protocol):
    """Writes rules and their tests; the path of the tests."""

    def __call__(self, rules: str, tests: str = TESTS) -> Path: ...


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write rules and tests; the path of the tests."""

    def write(rules: str, tests: str = TESTS) -> Path:
        (tmp_path / "rules.yml").write_text(rules)
        (tmp_path / "tests.yml").write_text(tests)
        return tmp_path / "tests.yml"

    return write


def of(expr: str, rest: str = "") -> list[Mutant]:
    """The mutants of an alert with *expr*."""
    tmp = f"groups: [{{name: a, rules: [{{alert: A, expr: {json.dumps(expr)}{rest}}}]}}]"
    return [mutant for rule in parsed(tmp) for mutant in mutants(rule, 60)]


def parsed(text: str) -> list[suite.Rule]:
    """The rules in *text*."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(text)
        file.flush()
        return suite.rules_in(Path(file.name))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("a > 0.80", {"a >= 0.80", "a != 0.80", "a <= 0.80", "a > 0.81", "a > 0.79"}),
        ("up == 0", {"up != 0", "up >= 0", "up == 1", "up == -1"}),
        ("a > b", {"a >= b", "a != b", "a <= b"}),
        ("a and b", {"a or b", "a unless b", "a", "b"}),
        ("a unless b", {"a and b", "a"}),
        ("rate(a[5m])", {"irate(a[5m])", "increase(a[5m])", "rate(a[2m30s])", "rate(a[10m])"}),
        ("sum by (x, y) (a)", {"avg by (x, y) (a)", "max by (x, y) (a)", "sum by (y) (a)", "sum by (x) (a)"}),
        ('a{b="c"}', {"a", 'a{b!="c"}'}),
        ("a offset 1h", {"a", "a offset 2h"}),
        ("a * on (x, y) b", {"a / on (x, y) b", "a * on (y) b", "a * on (x) b"}),
        ("absent(a)", {"a"}),
        ("topk(3, a)", {"topk(4, a)", "topk(2, a)", "bottomk(3, a)"}),
        ("-a", {"a"}),
        ("vector(1)", set()),
        ("a * (b - 1)", {"a / (b - 1)", "a * (b + 1)", "a * (b - 2)", "a * (b - 0)"}),
    ],
)
def test_mutants_of_an_expression(expr: str, expected: set[str]) -> None:
    assert {one.after for one in of(expr) if one.kind != "for"} == expected


def test_mutants_of_the_rest_of_a_rule() -> None:
    found = of("a", ", for: 2m, labels: {severity: critical}, annotations: {summary: x}")
    assert [(one.kind, one.after) for one in found] == [
        ("for", "for: 3m"), ("for", "for: 1m"), ("for", "for: 0s"),
        ("label", ""), ("label", "severity: warning"), ("annotation", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "moved"),
    [("0.05", "0.01"), ("80", "1"), ("300", "10"), ("3600", "100"), ("0", "1"), ("1", "1"), ("0.950", "0.010")],
)
def test_a_threshold_moves_by_its_last_digit_or_a_hundredth(written: str, moved: str) -> None:
    assert float(step(written)) == float(moved)


def test_ids_stay_when_the_file_changes() -> None:
    text = 'groups: [{name: a, rules: [{alert: A, expr: "a > 1"}]}]'
    more = 'groups: [{name: b, rules: [{alert: B, expr: "b"}]}, {name: a, rules: [{alert: A, expr: "a  >  1"}]}]'
    before, after = ([one.id for rule in parsed(one) for one in mutants(rule, 60)] for one in (text, more))
    assert set(before) <= set(after)
    assert len(set(after)) == len(after)


def test_survivors_are_told_with_the_test_that_is_missing(written: Write, promtool: Path) -> None:
    proof = prove(promtool, [written(RULES)])
    survived = {one.mutant.after: one.mutant.hint for one in proof.judged if one.verdict == "survived"}
    assert survived["job:errors:ratio > 0.04"] == "no test tells 0.05 from 0.04: add one at 0.045"
    assert survived["job:errors:ratio >= 0.05"] == "no test stands at exactly 0.05: add one"
    killed = {one.mutant.after for one in proof.judged if one.verdict == "killed"}
    assert {"job:errors:ratio > 0.06", "for: 3m", "for: 1m", "for: 0s", "severity: warning"} <= killed
    assert proof.score == proof.counts["killed"] / len(proof.judged)


NASTY = """\
groups:
  - name: one
    rules:
      - {record: 'a:one', expr: 'sum by (x) (a)'}
      - {alert: Low, expr: 'a:two < 3', labels: {severity: warning}}
      - {record: 'a:two', expr: 'a:one + on (x) group_left () b', labels: {team: t}}
      - {alert: Low, expr: 'a:two < 2', labels: {severity: critical}, for: 1m}
      - {alert: Slow, expr: 'd > 9', annotations: {summary: 'The {{ $labels.query }} or another query'}}
      - {alert: Join, expr: 'a{y=""} * on (x) b > 1'}
  - name: two
    rules:
      - {record: 'a:count', expr: 'count(ALERTS{alertname="Seen"})'}
      - {alert: Seen, expr: 'a > 5'}
      - {alert: Told, expr: 'a > 7', annotations: {summary: '{{ with query "a" }}{{ . | first | value }}{{ end }}'}}
      - {record: 'b:given', expr: 'b * 2'}
      - {alert: Given, expr: 'b:given > 1'}
      - {record: 'c:sum', expr: 'c + 1'}
      - {alert: Pattern, expr: '{__name__=~"c:.*"} > 3'}
      - {record: 'd:self', expr: 'd:self + 1 or d'}
"""
NASTY_TESTS = """\
rule_files: [rules.yml]
tests:
  - interval: 1m
    input_series:
      - {series: 'a{x="1", y="1"}', values: 1x9}
      - {series: 'a{x="1", y="2"}', values: 1.5x9}
      - {series: 'b{x="1"}', values: 0x9}
    promql_expr_test:
      - {expr: 'vector(1)', eval_time: 2m, exp_samples: [{labels: '{}', value: 1}]}
      - {expr: 'a:one', eval_time: 2m, exp_samples: [{labels: 'a:one{x="1"}', value: 2.5}]}
      - {expr: 'sum(a:two)', eval_time: 2m, exp_samples: [{labels: '{}', value: 2.5}]}
    alert_rule_test:
      - {alertname: Seen, eval_time: 2m}
      - {alertname: Low, eval_time: 2m, exp_alerts: [{exp_labels: {x: 1, team: t, severity: warning}}]}  # of a:two
  - interval: 1m
    input_series:
      - {series: 'a{x="1"}', values: 1 2x9}
      - {series: 'b{x="1"}', values: 1x9}
      - {series: 'b{x="2"}', values: 0x9}
      - {series: 'b:given{x="7"}', values: 3x9}
      - {series: 'c', values: 3x9}
      - {series: 'd', values: 1 _x9}
    promql_expr_test:
      - {expr: 'a:count', eval_time: 3m}
      - {expr: 'd:self', eval_time: 3m, exp_samples: [{labels: 'd:self', value: 4}]}
      - {expr: 'c:sum', eval_time: 3m, exp_samples: [{labels: '{__name__="c:sum"}', value: 4}]}
    alert_rule_test:
      - {alertname: Join, eval_time: 3m, exp_alerts: [{exp_labels: {x: 1}}]}
      - {alertname: Given, eval_time: 0m, exp_alerts: [{exp_labels: {x: 1}}, {exp_labels: {x: 7}}]}
      - {alertname: Pattern, eval_time: 3m, exp_alerts: [{}]}
  - interval: 1m
    input_series: [{series: 'a{x="9"}', values: 8x9}]
    promql_expr_test:
      - {expr: 'a', eval_time: 3m, exp_samples: [{labels: 'a{x="9"}', value: 8}]}
      - {expr: 'a:count', eval_time: 3m, exp_samples: [{labels: 'a:count', value: 1}]}
    alert_rule_test:
      - {alertname: Seen, eval_time: 3m, exp_alerts: [{exp_labels: {x: 9}}]}
      - {alertname: Told, eval_time: 3m, exp_alerts: [{exp_labels: {x: 9}, exp_annotations: {summary: 8}}]}
"""


def slow(promtool: Path, tests: Path, proof: Proof[Mutant], every: int = 1) -> dict[str, tuple[str, str]]:
    """Where one run for each mutant says otherwise than *proof*: both verdicts, by what the mutant is."""
    whole = suite.read(tests)
    found = {}
    for one in proof.judged[::every]:
        verdict = judging.alone(promtool, whole, one.mutant)
        if verdict != one.verdict:
            found[f"{one.mutant.rule.name.text}: {one.mutant.after}"] = (one.verdict, verdict)
    return found


def without(text: str, word: str) -> str:
    """*text* without the lines that have *word*."""
    return "".join(line for line in text.splitlines(keepends=True) if word not in line)


@pytest.mark.parametrize("left_out", ["Told", "a:"])  # a template that asks has all records judged alone
def test_the_fast_way_judges_as_the_slow_one(written: Write, promtool: Path, left_out: str) -> None:
    tests = written(without(NASTY, left_out), without(NASTY_TESTS, left_out))
    proof = prove(promtool, [tests])
    assert len(proof.judged) > 20
    assert 0.1 < proof.score < 1
    assert slow(promtool, tests, proof) == {}


def test_the_fast_way_judges_the_shipped_rules_as_the_slow_one(promtool: Path) -> None:
    tests = ROOT / "rules_tests/coderunner.yml"
    assert slow(promtool, tests, prove(promtool, [tests]), every=10) == {}  # each takes a quarter of a second


def test_what_names_would_change_is_judged_alone(written: Write) -> None:
    relations = Relations(suite.read(written(NASTY, NASTY_TESTS)))
    entangled = {rule.name.text for rule in relations.suite.rules if relations.entangled(relations.closure(rule.name))}
    alerts = {name for name in entangled if ":" not in name}
    assert alerts == {"Seen", "Told", "Pattern"}
    assert {"b:given", "c:sum"} <= entangled


def mutate(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Result:
    """`upcheck rules mutate`, in this repo."""
    monkeypatch.chdir(ROOT)
    return CliRunner().invoke(main, ["rules", "mutate", *map(str, arguments)])


def test_the_shipped_rules_keep_their_score(monkeypatch: pytest.MonkeyPatch) -> None:
    told = mutate(monkeypatch, "--fail-under=0.95", "--json")
    assert told.exit_code == 0, told.output
    facts = json.loads(told.output)
    assert facts["killed"] > 150
    assert facts["notes"] == []


def test_a_survivor_is_shown_as_a_diff(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = written(RULES)
    told = mutate(monkeypatch, tests.parent, "--fail-under=0.99")
    assert told.exit_code == 1
    lines = told.output.splitlines()
    at = next(index for index, line in enumerate(lines) if line.endswith("> 0.04"))
    assert lines[at - 2].startswith(f"SURVIVED  {tests.parent}/rules.yml:7  ErrorRateHigh  [")
    assert lines[at - 1 : at + 2] == [
        "  - job:errors:ratio > 0.05",
        "  + job:errors:ratio > 0.04",
        f"  no test tells 0.05 from 0.04: add one at 0.045, beside {tests}:4",
    ]
    assert "score 0." in lines[-1]


def test_an_equivalent_mutant_is_recorded_with_a_reason(written: Write, promtool: Path) -> None:
    survivor = next(one.mutant for one in prove(promtool, [written(RULES)]).judged if one.verdict == "survived")
    killed = next(one.mutant for one in prove(promtool, [written(RULES)]).judged if one.verdict == "killed")
    comments = (
        f"# upcheck: equivalent {survivor.id} because rates are never exactly that\n"
        f"# upcheck: equivalent {killed.id} because I say so\n# upcheck: equivalent 00000000 because it was\n"
    )
    proof = prove(promtool, [written(RULES + comments)])
    assert [(one.mutant.id, one.reason) for one in proof.judged if one.verdict == "equivalent"] == [
        (survivor.id, "rates are never exactly that")
    ]
    assert proof.score == proof.counts["killed"] / (len(proof.judged) - 1)
    assert [note.partition(": ")[2][:28] for note in proof.notes] == [
        f"{killed.id} is no equivalent, a"[:28],
        "there is no mutant 00000000:",
    ]


def test_rules_that_no_test_loads_survive(written: Write, tmp_path: Path, promtool: Path) -> None:
    tests = written(RULES)
    (tmp_path / "more.yml").write_text('groups: [{name: more, rules: [{alert: More, expr: "up == 0"}]}]')
    proof = prove(promtool, [tests], [tmp_path / "rules.yml", tmp_path / "more.yml"])
    more = [one for one in proof.judged if one.mutant.rule.name.text == "More"]
    assert len(more) == 5
    assert {(one.verdict, one.tests) for one in more} == {("survived", ())}


def test_a_rule_is_judged_by_all_that_load_it(written: Write, tmp_path: Path, promtool: Path) -> None:
    tests = written(RULES)
    text = TESTS.replace("0+6x20", "0+5x20").replace("eval_time: 2m}", "eval_time: 9m}")
    (tmp_path / "boundary.yml").write_text(text[: text.index("      - alertname")])
    (one, both) = prove(promtool, [tests]), prove(promtool, [tests, tmp_path / "boundary.yml"])
    assert len(one.judged) == len(both.judged)
    killed = [{one.mutant.after for one in proof.judged if one.verdict == "killed"} for proof in (one, both)]
    assert killed[0] < killed[1]
    assert "job:errors:ratio >= 0.05" in killed[1] - killed[0]


def test_verdicts_are_remembered_until_something_changes(
    written: Write, tmp_path: Path, promtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Sequence[Path]] = []
    run = promtool_room.test_rules

    def counted(tool: Path, files: Sequence[Path]) -> Verdict:
        runs.append(files)
        return run(tool, files)

    monkeypatch.setattr(promtool_room, "test_rules", counted)  # the real one runs; it is counted, too
    known = tmp_path / "known/mutants.json"

    def proven() -> Proof[Mutant]:
        runs.clear()
        return prove(promtool, [tmp_path / "tests.yml"], known=known)

    written(RULES)
    first = proven()
    assert runs
    again = proven()
    assert not runs
    assert [one.verdict for one in again.judged] == [one.verdict for one in first.judged]
    written(RULES, TESTS.replace("0+6x20", "0+9x20"))
    changed = proven()
    assert runs
    assert changed.counts["killed"] < first.counts["killed"]
    known.write_text("[broken")
    assert proven().counts == changed.counts


def test_tests_that_fail_as_they_are_prove_nothing(
    written: Write, promtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = written(RULES, TESTS.replace("summary: a fails", "summary: b fails"))
    with pytest.raises(MutationError, match="fails as it is"):
        prove(promtool, [tests])
    told = mutate(monkeypatch, tests.parent)
    assert (told.exit_code, "mend it first" in told.output) == (3, True)


def test_output_that_is_too_long_is_asked_for_in_parts(
    written: Write, promtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prove(promtool, [written(RULES)])
    monkeypatch.setattr("upcheck.command.MAX_OUTPUT", 1000)  # bytes; 4 MiB take a thousand rules
    assert prove(promtool, [written(RULES)]).counts == whole.counts


def test_labels_are_written_as_they_were(written: Write, promtool: Path) -> None:
    rules = RULES.replace("severity: critical", "severity: critical, version: 1.10, on: yes")
    tests = TESTS.replace("severity: critical", "severity: critical, version: '1.10', on: 'yes'")
    survived = prove(promtool, [written(RULES)]).counts["survived"]
    assert prove(promtool, [written(rules, tests)]).counts["survived"] == survived > 0


def test_a_path_without_tests_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = mutate(monkeypatch, tmp_path)
    assert (told.exit_code, "no rule-test file in" in told.output) == (2, True)


def test_nothing_and_what_is_merged_are_read(written: Write, promtool: Path) -> None:
    rules = RULES.replace("{severity: critical}", "{<<: {team: core}, severity: critical}")
    tests = TESTS.replace("severity: critical", "severity: critical, team: core").replace("2m}", "2m, exp_alerts: }")
    proof = prove(promtool, [written(rules, tests + "    promql_expr_test:\n")])
    assert {one.mutant.before for one in proof.judged if one.mutant.kind == "label"} == {
        "severity: critical", "team: core",
    }  # fmt: skip
    assert slow(promtool, written(rules, tests), proof, every=5) == {}


def test_a_mutant_that_promtool_refuses_hides_no_other(written: Write, promtool: Path) -> None:
    whole = suite.read(written(RULES))
    rule = whole.rules[1]
    made = list(mutants(rule, 60))
    broken = replace(made[0], id="broken", value={**rule.value, "expr": "job:errors:ratio +"})
    jobs = judging.asking(Relations(whole), [broken, *made])
    marks = jobs[0].marks
    found = judging.together(promtool, jobs)
    assert {marks[mark].id for mark in found.refused} == {"broken"}
    judged = prove(promtool, [whole.path]).judged
    killed = {one.mutant.id for one in judged if one.verdict == "killed" and one.mutant.rule.key == rule.key}
    assert {marks[mark].id for mark in found.killed} == killed
    assert judging.alone(promtool, whole, broken) == "refused"


def test_prometheus_rule_resources_are_judged_as_rule_files(written: Write, promtool: Path) -> None:
    plain = prove(promtool, [written(RULES)])
    resource = "kind: PrometheusRule\nspec:\n" + "".join(f"  {line}\n" for line in RULES.splitlines())
    found = prove(promtool, [written(resource)])
    assert [(one.mutant.id, one.verdict) for one in found.judged] == [
        (one.mutant.id, one.verdict) for one in plain.judged
    ]
    assert found.judged[0].mutant.line == plain.judged[0].mutant.line + 2
    with pytest.raises(MutationError, match="fails as it is"):
        prove(promtool, [written(resource, TESTS.replace("a fails", "b fails"))])


def test_an_alert_that_no_test_loads_is_one_line(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = written(RULES)
    (tests.parent / "other.yml").write_text("groups: [{name: b, rules: [{alert: Lonely, expr: a > 1}]}]")
    told = mutate(monkeypatch, tests.parent)
    lonely = [line for line in told.output.splitlines() if "Lonely" in line]
    assert [line.partition("other.yml:")[2] for line in lonely] == ["1  Lonely  6 mutants: no test looks at it"]
