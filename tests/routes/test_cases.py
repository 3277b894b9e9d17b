"""Route tests: as pytest items, by `upcheck rules test`, and in Python; what is told where an alert goes elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

import upcheck
from tests.conftest import ROOT, Repo
from upcheck.cli import main
from upcheck.documents import DocumentError
from upcheck.routes import cases

ALERTMANAGER = """\
route:
  receiver: team
  routes:
    - {matchers: [severity="critical"], receiver: pager, group_wait: 10s, group_by: [alertname, job], continue: true}
    - {matchers: [severity=~"critical|info"], receiver: log, mute_time_intervals: [nights]}
inhibit_rules:
  - {source_matchers: [alertname="Down"], target_matchers: [alertname!="Down"], equal: [job]}
time_intervals:
  - {name: nights, time_intervals: [{times: [{start_time: "22:00", end_time: "24:00"}]}]}
receivers: [{name: team}, {name: pager}, {name: log}]
"""
HEAD = "alertmanager: ../monitoring/alertmanager.yml\ntests:\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where route tests belong, beside a configuration."""
    for folder in ("monitoring", "rules_tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "monitoring/alertmanager.yml").write_text(ALERTMANAGER)
    return tmp_path / "rules_tests/routes.yml"


def missed(file: Path, test: str) -> cases.Miss | None:
    """What is told of one test."""
    file.write_text(f"{HEAD}  - {{name: a, {test}}}\n")
    loaded = cases.load(file)
    return cases.miss(loaded.tests[0], loaded.routes)


@pytest.mark.parametrize(
    "test",
    [
        "alert: {severity: critical}, receivers: [pager, log]",
        "alert: {severity: critical}, receivers: [log, pager]",
        "alert: {severity: critical}, receivers: [log, {name: pager, group_wait: 10s, group_by: [job, alertname]}]",
        "alert: {severity: critical}, at: '2026-01-01T22:00', receivers: [pager], muted_by: [nights]",
        "alert: {severity: [warning, '']}, receivers: [{name: team, repeat_interval: 4h}], muted_by: []",
        "alert: {job: a}, beside: [{alertname: Down, job: a}], receivers: [], inhibited_by: {alertname: Down}",
        "alert: {severity: info, job: a}, beside: [{alertname: Down, job: b}], receivers: [log]",
    ],
)
def test_what_holds(file: Path, test: str) -> None:
    assert missed(file, test) is None


@pytest.mark.parametrize(
    ("test", "asked", "want", "got"),
    [
        ("alert: {severity: critical}, receivers: [pager]", '{severity="critical"}', "pager", "pager, log"),
        ("alert: {severity: [critical, x]}, receivers: [pager, log]", '{severity="x"}', "pager, log", "team"),
        ("alert: {a: b}, receivers: []", '{a="b"}', "nobody", "team"),
        (
            "alert: {a: b}, receivers: [{name: team, group_wait: 31s, group_by: [a]}]",
            '{a="b"}',
            "team (group_by a; group_wait 31s)",
            "team (group_by ; group_wait 30s)",
        ),
        ("alert: {a: b}, receivers: [{name: team, group_by: [a]}]", '{a="b"}', "team (group_by a)", "team (group_by )"),
        (
            "alert: {severity: critical}, at: '2026-01-01T22:00', receivers: [pager, log]",
            '{severity="critical"} at 2026-01-01T22:00:00+00:00',
            "pager, log",
            "pager: muted by nights",
        ),
        (
            "alert: {severity: critical}, at: '2026-01-01T22:00', receivers: [pager], muted_by: []",
            '{severity="critical"} at 2026-01-01T22:00:00+00:00',
            "pager: muted by nothing",
            "pager: muted by nights",
        ),
        (
            "alert: {a: b}, beside: [{alertname: Down}], receivers: [], inhibited_by: {alertname: Up}",
            '{a="b"} beside {alertname="Down"}',
            'nobody: inhibited by {alertname="Up"}',
            'nobody: inhibited by {alertname="Down"} (line 7)',
        ),
    ],
)
def test_what_does_not_hold_is_told(file: Path, test: str, asked: str, want: str, got: str) -> None:
    told = missed(file, test)
    assert told is not None
    assert (told.asked, told.want, told.got) == (asked, want, got)
    assert told.diff.startswith("> route ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("alertmanager: x.yml\ntests: []", ":2:8: tests: expected a list with at least one test, not []"),
        ("alertmanager: gone.yml\ntests: [{name: a, alert: {a: b}, receivers: []}]", ":1:15: alertmanager: gone.yml: "),
        (f"{HEAD}  - {{name: a, alert: {{a: b}}}}", ":3:5: lacks 'receivers': a list of all receivers that are told"),
        (f"{HEAD}  - {{name: a, alrt: {{a: b}}, receivers: []}}", "unknown key 'alrt'; did you mean 'alert'?"),
        (
            f"{HEAD}  - {{name: a, alert: {{a: b}}, receivers: [{{name: a, group_wiat: 1s}}]}}",
            "unknown key 'group_wiat'; did you mean 'group_wait'?",
        ),
        (
            f"{HEAD}  - {{name: a, alert: {{a: 1}}, receivers: []}}",
            "a: expected text, or a list of texts, not 1",
        ),
        (f"{HEAD}  - {{name: a, alert: {{a: b}}, at: noon, receivers: []}}", ":3:34: at: expected a moment such as"),
        (
            f"{HEAD}  - &a {{name: a, alert: {{a: b}}, receivers: []}}\n  - *a",
            "name: 'a' is another test's, too: give each its own",
        ),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(file: Path, text: str, sentence: str) -> None:
    file.write_text(text)
    with pytest.raises(DocumentError) as caught:
        cases.load(file)
    assert sentence in str(caught.value)


def test_all_mistakes_of_a_file_are_told(file: Path) -> None:
    file.write_text(f"{HEAD}  - {{nam: a, alert: {{a: 1}}}}\n  - {{name: b, alert: {{a: b}}, receivers: 1}}\nmore: 1\n")
    with pytest.raises(DocumentError) as caught:
        cases.load(file)
    assert str(caught.value).replace(str(file), "").splitlines() == [
        ":3:6: unknown key 'nam'; did you mean 'name'?",
        ":3:25: a: expected text, or a list of texts, not 1",
        ":4:41: receivers: expected a list of all receivers that are told, by name; [] is nobody, not 1",
        ":5:1: unknown key 'more'; valid: alertmanager, tests",
    ]


def test_the_schema_is_valid() -> None:
    text = (Path(upcheck.__file__).parent / "schemas/routes.json").read_text()
    Draft202012Validator.check_schema(json.loads(text))


PYTHON = """
def test_python(routes):
    delivery = routes("monitoring/alertmanager.yml").of({"severity": "critical"})
    assert delivery.receivers == ["pager"]
"""


def test_as_pytest_items(repo: Repo) -> None:
    repo.write("monitoring/alertmanager.yml", ALERTMANAGER)
    tests = (
        "  - {name: good, alert: {a: b}, receivers: [team]}\n  - {name: bad, alert: {a: b, c: d}, receivers: [pager]}\n"
    )
    repo.write("rules_tests/routes.yml", HEAD + tests)
    repo.write("rules_tests/broken.yml", "alertmanager: gone.yml\ntests: [{name: a, alert: {a: b}, receivers: []}]")
    repo.write("rules_tests/test_routes.py", PYTHON)
    told = repo.pytest("--results=results")
    lines = [json.loads(line) for line in (repo.path / "results").read_text().splitlines()]
    found = {one["facts"]["name"]: one for one in lines if "facts" in one}
    assert {name: (one["kind"], one["outcome"]) for name, one in found.items()} == {
        "alertmanager": ("config", "held"),
        "good": ("rule", "held"),
        "bad": ("rule", "failed"),
        "test_python": ("rule", "failed"),
        "rules_tests/broken.yml": ("rule", "error"),
    }
    assert found["bad"]["facts"]["line"] == 4
    told.stdout.fnmatch_lines(
        [
            '*asked  {a="b", c="d"}',
            "*got    team",
            "*want   pager",
            "*> route*team  <",
            '*      {severity="critical"}*pager',
            "*assert *'pager', 'log'* == *'pager'*",
            "*got pager, log",
            '*>   {severity="critical"}*pager  <',
        ]
    )
    told.stdout.no_fnmatch_line("*Traceback*")


def test_by_the_command_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPCHECK_TOOLS", str(ROOT / ".tools"))
    file.write_text(f"{HEAD}  - {{name: fine, alert: {{a: b}}, receivers: [team]}}\n")
    told = CliRunner().invoke(main, ["rules", "test", str(file.parents[1])])
    assert (told.exit_code, "1 with route tests" in told.output, "1 held" in told.output) == (0, True, True)
    file.write_text(f"{HEAD}  - {{name: wrong, alert: {{a: b}}, receivers: [pager]}}\n")
    told = CliRunner().invoke(main, ["rules", "test", str(file.parents[1])])
    assert told.exit_code == 1
    assert "  want   pager\n  > route" in told.output
    file.write_text(f"{HEAD}  - {{name: wrong}}\n")
    told = CliRunner().invoke(main, ["rules", "test", str(file.parents[1])])
    assert told.exit_code == 3
    assert "lacks 'alert'" in told.output
    assert "lacks 'receivers'" in told.output
