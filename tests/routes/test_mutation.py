"""Mutants of Alertmanager's configuration: which there are, which mean the same, and what is told of survivors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings

from tests.conftest import ROOT
from tests.routes.test_truth import ALERTS, TREES
from upcheck.cli import main
from upcheck.routes import Routes, configuration
from upcheck.routes import mutants as room
from upcheck.routes.mutants import Mutant, mutants
from upcheck.routes.mutation import prove
from upcheck.routes.witness import UNTOLD, witness
from upcheck.rules.mutation import MutationError

TESTS = "alertmanager: alertmanager.yml\ntests: [{name: one, alert: {severity: critical}, receivers: [pager]}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration is written."""
    return tmp_path / "alertmanager.yml"


def of(file: Path, text: str) -> list[Mutant]:
    """The mutants of the configuration *text*."""
    file.write_text(text)
    return list(mutants(configuration.load(file)))


def changes(found: list[Mutant]) -> set[tuple[str, str]]:
    """What becomes of what."""
    return {(one.before, one.after) for one in found}


ROUTES = """\
route:
  receiver: team
  group_by: [job]
  repeat_interval: 1h
  routes:
    - matchers: [severity="critical"]
      receiver: pager
      group_wait: 10s
      mute_time_intervals: [nights]
    - matchers: [team=~"db|web"]
      continue: true
"""


def test_mutants_of_routes(file: Path) -> None:
    assert changes(of(file, ROUTES)) == {
        ("receiver: team", "receiver: pager"),
        ("group_by: [job]", "group_by: []"),
        ("group_by: [job]", "group_by: [job, severity]"),
        ("repeat_interval: 1h", "repeat_interval: 2h"),
        ('severity="critical"', ""),
        ('severity="critical"', 'severity!="critical"'),
        ('severity="critical"', 'severity="not critical"'),
        ('{severity="critical"} to pager', ""),
        ("continue: false", "continue: true"),
        ("receiver: pager", "receiver: team"),
        ("group_wait: 10s", "group_wait: 20s"),
        ("mute_time_intervals: nights", ""),
        ('{severity="critical"} before {team=~"db|web"}', '{team=~"db|web"} before {severity="critical"}'),
    }  # the second route does what the first one above it does: none of its mutants differs but by order


@pytest.mark.parametrize(
    ("routes", "kind"),
    [
        ("[{match: {a: x}, receiver: r}, {match: {a: y}}]", "order"),
        ("[{match: {a: x}, receiver: r, continue: true}, {match: {a: y}, receiver: s}]", "continue"),
        ("[{match: {a: x}, receiver: r}]", "continue"),
        ("[{match: {b: x}, continue: true, receiver: r}, {match: {a: y}, continue: true, receiver: s}]", "order"),
    ],
)
def test_what_means_the_same_is_not_made(file: Path, routes: str, kind: str) -> None:
    assert kind not in {one.kind for one in of(file, f"route: {{receiver: top, routes: {routes}}}")}
    different = "[{match_re: {a: x|y}, receiver: r}, {match: {a: y}, receiver: s}]"
    assert kind in {one.kind for one in of(file, f"route: {{receiver: top, routes: {different}}}")}


INTERVAL = """\
route: {receiver: a, routes: [{match: {a: b}, mute_time_intervals: [nights]}]}
time_intervals:
  - name: nights
    time_intervals:
      - {times: [{start_time: 00:00, end_time: 06:00}], weekdays: ['monday:friday'], location: Europe/Berlin}
  - name: unused
    time_intervals: [{weekdays: [monday]}]
"""


def test_mutants_of_intervals(file: Path) -> None:
    found = [one for one in of(file, INTERVAL) if one.subject == "interval"]
    assert changes(found) == {
        ("times: 00:00 to 06:00", "times: 00:01 to 06:00"),
        ("times: 00:00 to 06:00", "times: 00:00 to 05:59"),
        ("times: 00:00 to 06:00", "times: 00:00 to 06:01"),
        ("times: 00:00 to 06:00", ""),
        ("weekdays: monday:friday", ""),
        ("weekdays: monday:friday", "weekdays: tuesday:friday"),
        ("weekdays: monday:friday", "weekdays: monday:thursday"),
        ("location: Europe/Berlin", "location: UTC"),
    }
    (later,) = (one for one in found if one.after == "times: 00:01 to 06:00")
    assert later.hint == "no test stands at Wednesday 2025-12-31T23:00Z, within nights: add one"


INHIBITION = """\
route: {receiver: a}
inhibit_rules:
  - source_matchers: [severity="critical"]
    target_matchers: [severity="warning"]
    equal: [job, host]
"""


def test_mutants_of_inhibition(file: Path) -> None:
    found = of(file, INHIBITION)
    assert changes(found) == {
        ('{severity="critical"} inhibits {severity="warning"}', ""),
        *((f'{side} severity="{is_now}"', after and f"{side} {after}") for side, is_now in
          (("source", "critical"), ("target", "warning")) for after in
          ("", f'severity!="{is_now}"', f'severity="not {is_now}"')),
        ("equal: [job, host]", "equal: [host]"),
        ("equal: [job, host]", "equal: [job]"),
    }  # fmt: skip
    (host,) = (one for one in found if one.after == "equal: [job]")
    assert host.hint.startswith(
        'no test expects that {severity="warning", host="a", job="a"} is told beside {severity='
    )
    assert host.hint.endswith('"critical", job="a", host="b"}: add one')


def test_what_a_pattern_leaves_open_is_made(file: Path) -> None:
    text = INHIBITION.replace('severity="warning"', "'disk=~\"[0-9]+\"'")
    assert {one.hint for one in of(file, text) if one.before.startswith("equal")} == {UNTOLD}
    routes = "route: {receiver: r, routes: [{match_re: {disk: '[0-9]+'}, receiver: s}]}"
    assert {one.hint for one in of(file, routes) if one.kind == "receiver" and one.before.endswith("s")} == {UNTOLD}


def test_what_groups_by_all_labels_has_none_to_add(file: Path) -> None:
    found = of(file, "route: {receiver: r, group_by: [job], routes: [{match: {a: b}, group_by: ['...']}]}")
    assert ("group_by: [...]", "group_by: []") in changes(found)
    assert not any(after.startswith("group_by: [...,") for _, after in changes(found))


@pytest.mark.parametrize("pattern", ["a|b", "^(a|b)$", "(?:a|b)", "^a|b$"])
def test_anchors_and_parentheses_around_values_are_seen_through(file: Path, pattern: str) -> None:
    found = of(file, f"route: {{receiver: r, routes: [{{match_re: {{x: '{pattern}'}}, receiver: s}}]}}")
    assert {("x=~" + json.dumps(pattern), 'x=~"a"'), ("x=~" + json.dumps(pattern), 'x=~"b"')} <= changes(found)
    assert UNTOLD not in {one.hint for one in found}


def test_a_value_called_other_is_one_that_is_named(file: Path) -> None:
    routes = "[{matchers: ['a!=other', 'a=~.+'], receiver: s}]"
    assert {"receiver", "route"} <= {one.kind for one in of(file, f"route: {{receiver: r, routes: {routes}}}")}


@settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES, alerts=ALERTS)
def test_no_alert_tells_what_is_not_made(tmp_path_factory: Any, tree: Any, alerts: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "made.yml"
    file.write_text(json.dumps({"route": {"receiver": "r0", "routes": tree}}))
    whole = configuration.load(file)
    for subject, where, _, _, _, changed in room._changes(whole):
        if witness(whole, changed, subject, where) is None:
            for alert in alerts:
                was, is_now = (Routes(one).of(alert) for one in (whole, changed))
                assert sorted(was.receivers) == sorted(is_now.receivers)


def mutate(*arguments: str) -> Result:
    """What `upcheck rules mutate` says."""
    return CliRunner().invoke(main, ["rules", "mutate", *arguments])


@pytest.fixture
def folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a route test, which is the working directory."""
    monkeypatch.setenv("UPCHECK_TOOLS", str(ROOT / ".tools"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(file.parent))
    monkeypatch.chdir(file.parent)
    file.write_text(f"{ROUTES}receivers: []\n{INHIBITION.partition('a}')[2]}")
    (file.parent / "routes.yml").write_text(TESTS)
    return file.parent


@pytest.mark.usefixtures("folder")
def test_survivors_are_told_with_the_test_that_is_missing() -> None:
    told = mutate(".", "--fail-under", "0.9")
    assert told.exit_code == 1
    assert 'SURVIVED  alertmanager.yml:6  route {severity="critical"}  [' in told.output
    assert "  - group_wait: 10s\n  + group_wait: 20s\n" in told.output
    assert (
        '  no test of {severity="critical"} says group_wait: add it to the receiver, beside routes.yml:2\n'
        in told.output
    )
    assert "say so in the file it is of: # upcheck: equivalent ID because" in told.output
    facts = json.loads(mutate(".", "--json").output)
    assert facts["score"] < 0.9
    assert {one.get("route", one.get("inhibition"))[:5] for one in facts["mutants"]} == {"route", "{seve"}


def test_an_equivalent_is_recorded_with_its_reason(folder: Path) -> None:
    facts = json.loads(mutate(".", "--json").output)
    survivor = next(one for one in facts["mutants"] if one["verdict"] == "survived")
    config = folder / "alertmanager.yml"
    config.write_text(f"# upcheck: equivalent {survivor['id']} because nobody looks\n{config.read_text()}")
    again = json.loads(mutate(".", "--json").output)
    assert (again["equivalent"], again["survived"]) == (1, facts["survived"] - 1)
    assert [one["reason"] for one in again["mutants"] if one["verdict"] == "equivalent"] == ["nobody looks"]


def test_what_no_test_looks_at_is_one_line(folder: Path) -> None:
    other = folder / "other/alertmanager.yml"
    other.parent.mkdir()
    other.write_text(f"{INHIBITION}receivers: []\n")
    told = mutate(".").output
    title = '{severity="critical"} inhibits {severity="warning"}'
    assert f"SURVIVED  other/alertmanager.yml:3  {title}  9 mutants: no test looks at it" in told


def test_a_test_that_fails_as_it_is_proves_nothing(folder: Path) -> None:
    (folder / "routes.yml").write_text(TESTS.replace("[pager]", "[team]"))
    with pytest.raises(MutationError, match="'one' fails as it is"):
        prove([folder / "routes.yml"])
    assert mutate(".").exit_code == 3


def test_what_ships_is_proven() -> None:
    proof = prove([ROOT / "rules_tests/routes.yml"])
    assert [one.mutant.before for one in proof.judged if one.verdict == "survived"] == []
    assert len(proof.judged) > 50
