"""Backtests: what history says, against promtool over the same series and a Prometheus that was there; the command."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, Serve, answer
from tests.test_docs import blocks
from tests.waiting import eventually
from upcheck.cli import main
from upcheck.prometheus import Prometheus
from upcheck.rules.backtest import Played, rules_of, run
from upcheck.rules.backtest.history import Part, opened
from upcheck.rules.backtest.recorded import NotPlayedError, Recorded
from upcheck.rules.backtest.states import Timing, episodes
from upcheck.rules.play import Rules
from upcheck.servers import prometheus
from upcheck.settings import Settings

T0 = 1_700_002_800  # a full hour, in 2023
STEP = 30
Values = Sequence[float | None]

RULES = """\
groups:
  - name: all
    rules:
      - {alert: Early, expr: 'team:bad:sum > 0'}
      - {alert: EarlyRange, expr: 'avg_over_time(team:bad:sum[2m]) > 0.5'}
      - {alert: EarlyFiltered, expr: 'bad:only'}
      - {record: 'bad:only', expr: 'bad == 1'}  # which is stale whenever it is another
      - {record: 'team:bad:sum', expr: 'sum by (job) (bad)', labels: {team: 'a$1b'}}
      - {record: 'bad:again', expr: 'team:bad:sum * 2'}
      - {alert: AtOnce, expr: 'bad == 1'}
      - {alert: For, expr: 'bad == 1', for: 2m, labels: {severity: page, of: 'job {{ $labels.job }}'}}
      - {alert: Between, expr: 'bad == 1', for: 50s, keep_firing_for: 70s}
      - {alert: Kept, expr: 'bad == 1', keep_firing_for: 3m}
      - {alert: NotANumber, expr: 'bad != 0'}
      - {alert: Any, expr: 'bad', for: 1m}
      - {alert: Missing, expr: 'absent(bad{job="x"})', for: 90s}
      - {alert: Rate, expr: 'rate(bad[3m]) > 0', for: 1m}
      - {alert: Flapping, expr: 'label_replace(bad, "at", "$1", "job", "(.)") * on (job) group_left (zone) (at == 1)'}
      - {alert: Read, expr: 'team:bad:sum{job=~"x|y",team="a$1b",job!="y"} >= 1', for: 1m}
      - {alert: Ranged, expr: 'sum_over_time(bad:again{job!~"z"}[2m]) > 3'}
      - {alert: Before, expr: 'team:bad:sum offset 1m > team:bad:sum offset 40s'}
      - {alert: Sub, expr: 'max_over_time((team:bad:sum + 0)[2m:1m]) > 1'}
      - {alert: SubAnyStep, expr: 'count_over_time((bad + 0)[2m:]) > 4'}
      - {alert: SubBetween, expr: 'count_over_time(bad:only[2m:20s]) > 4'}
      - {alert: Shifted, expr: 'bad:only offset 1m', for: 30s}
      - {alert: ShiftedBetween, expr: 'bad:only offset 50s'}
      - {alert: Nothing, expr: 'team:bad:sum > bool 5 == 1'}
"""


def openmetrics(path: Path, series: Mapping[str, Values], step: int = STEP) -> Path:
    """Write *series* as OpenMetrics, a value each *step* seconds from T0."""
    lines, families = [], set()
    for name, values in sorted(series.items()):
        family = name.partition("{")[0]
        lines += [] if family in families else [f"# TYPE {family} unknown"]
        families.add(family)
        lines += [f"{name} {value} {T0 + number * step}" for number, value in enumerate(values) if value is not None]
    path.write_text("\n".join([*lines, "# EOF", ""]))
    return path


def backtested(source: Path, rules: Path, step: float = STEP) -> list[Played]:
    """What becomes of the alerts of *rules*."""
    with opened(str(source), Settings.load(ROOT, {}), Part(), interval=step) as history:
        (told,) = run(history, [rules_of([rules])], interval=step, advance=lambda done, of: None)
    return told


Moments = set[tuple[str, str, frozenset[tuple[str, str]], float]]


def moments(played: Sequence[Played], end: float) -> Moments:
    """Each evaluation at which an alert is pending or firing, as ALERTS would have it; times since T0."""
    found: Moments = set()
    for one in played:
        assert not one.problem, one
        for episode in one.episodes:
            labels = frozenset(item for item in episode.labels.items() if item[0] != "alertname")
            over = end + STEP if episode.over is None else episode.over - T0
            at = episode.since - T0
            while at < over:
                state = "firing" if episode.fired is not None and at >= episode.fired - T0 else "pending"
                found.add((one.rule.name.text, state, labels, at))
                at += STEP
    return found


def played(promtool: Path, rules: Path, series: Mapping[str, Values]) -> Moments:
    """The same, as promtool has it."""
    timeline = Rules(promtool, [rules]).play(series, interval=STEP)
    told = {"firing": timeline.firing, "pending": timeline.pending}
    return {
        (one.name, state, frozenset(one.labels.items()), float(at))
        for state, ask in told.items()
        for at in timeline.times
        for one in ask(at)
    }


LENGTH = 36
VALUES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 1.0, None, math.nan]), st.integers(1, 12)).map(lambda one: [one[0]] * one[1]),
    min_size=LENGTH,
    max_size=LENGTH,
).map(lambda runs: [value for run in runs for value in run][:LENGTH])


# To shrink a counterexample would take minutes.
@settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(x=VALUES, y=VALUES, zones=VALUES)
def test_history_fires_as_promtool_does(
    promtool_path: Path, tmp_path: Path, x: Values, y: Values, zones: Values
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    every: dict[str, list[float | None]] = {
        'bad{job="x"}': [0.0, *x, 0.0],  # so that there is a first and a last sample
        'bad{job="y"}': [None, *y, None],
        'at{job="x",zone="a"}': [1.0, *(1.0 if zone else 0.0 for zone in zones), 0.0],
        'at{job="x",zone="b"}': [0.0, *(0.0 if zone else 1.0 for zone in zones), 1.0],
    }
    series = {name: values for name, values in every.items() if any(value is not None for value in values)}
    expected = played(promtool_path, rules, series)
    told = moments(backtested(openmetrics(tmp_path / "h.om", series), rules), (LENGTH + 1) * STEP)
    assert told == expected


@pytest.mark.parametrize(
    ("active", "timing", "expected"),
    [
        ([0, 15, 30], Timing(15, 30, 0, 90), [(0, 30, 45)]),
        ([0, 15], Timing(15, 30, 0, 90), [(0, None, 30)]),
        ([0, 15, 30, 75, 90], Timing(15, 30, 0, 90), [(0, 30, 45), (75, None, None)]),
        ([0, 15], Timing(15, 20, 0, 90), [(0, None, 30)]),  # evaluations at 15 are too early, at 30 there is nothing
        ([0, 60], Timing(15, 0, 45, 90), [(0, 0, None)]),  # kept to 45, over at 60, when it is there again
        ([0, 75], Timing(15, 0, 45, 90), [(0, 0, 60), (75, 75, None)]),
        ([0, 30], Timing(15, 30, 45, 90), [(0, None, 15), (30, None, 45)]),  # what never fired is not kept
        ([], Timing(15, 0, 0, 90), []),
    ],
)
def test_for_and_keep_firing_for(
    active: list[float], timing: Timing, expected: list[tuple[float, float | None, float | None]]
) -> None:
    assert [(one.since, one.fired, one.over) for one in episodes({}, active, timing)] == expected


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("- {alert: A, expr: 'ALERTS > 0'}", "it reads ALERTS, which is no history but what rules make"),
        ("- {alert: A, expr: 'up @ end()'}", "up @ end() has @"),
        ("- {alert: A, expr: 'sum('}", "the expression of A is PromQL that is not known here"),
        ("- {record: 'a:b', expr: up}\n      - {alert: A, expr: '{__name__=~\"a:.*\"}'}", "by a pattern: name them"),
        ("- {record: 'a:b', expr: 'a:b offset 1m'}\n      - {alert: A, expr: 'a:b'}", "a:b is recorded from itself"),
        ("- {record: 'a:b', expr: up}\n      - {alert: A, expr: 'a:b offset -1m'}", "looks ahead"),
        ("- {alert: A, expr: up, labels: {at: '{{ $value }}'}}", "its label at is a template of more than labels"),
    ],
)
def test_what_can_not_be_played_exactly_is_not_played(tmp_path: Path, rules: str, why: str) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(f"groups:\n  - name: a\n    rules:\n      {rules}\n")
    (told,) = backtested(openmetrics(tmp_path / "h.om", {"up": [1.0] * 3}), file)
    assert why in told.problem


def test_a_group_has_its_own_interval_and_what_else_it_says_is_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(
        "groups: [{name: a, interval: 1m, rules: [{record: slow, expr: up},"
        "{alert: C, expr: 'max_over_time(slow[30s:30s]) == 0'}]},"
        "{name: b, rules: [{alert: A, expr: slow == 0}]},"
        "{name: c, limit: 3, rules: [{alert: B, expr: up}]}]"
    )
    read = rules_of([file])
    recorded = Recorded(read, 15)
    assert [recorded.interval(rule) for rule in read] == [60, 60, 15, 15]
    with pytest.raises(NotPlayedError, match="the group of B has limit"):
        recorded.expression(read[3])
    never, told, _ = backtested(openmetrics(tmp_path / "h.om", {"up": [1, 1, 1, 0, 0, 1, 1, 1, 1]}), file)
    assert not never.episodes, "at 1m30s it is recorded as it was at 1m"
    (episode,) = told.episodes  # down from 1m30s to 2m30s: what is recorded each minute is so from 2m to 3m
    assert (episode.since - T0, episode.over and episode.over - T0) == (120, 180)


EACH_SECOND = (
    "{{global: {{scrape_interval: 1s}}, scrape_configs: [{{job_name: a, static_configs: [{{targets: [{}]}}]}}]}}"
)


@pytest.mark.usefixtures("tool_paths")
def test_a_series_that_ends_is_stale_and_the_directory_is_left_alone(tmp_path: Path, serve: Serve) -> None:
    page = ["other 1\n", "job_failed 1\n"]
    url = serve(lambda connection: answer("200 OK", "".join(page))(connection))
    (tmp_path / "rules.yml").write_text("groups: [{name: a, rules: [{alert: Failed, expr: job_failed == 1}]}]")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(EACH_SECOND.format(url.removeprefix("http://")))
    with prometheus(Settings.load(ROOT, {}), configuration, folder / "data") as there:
        api = Prometheus(there)
        eventually(lambda: api.query("count_over_time(job_failed[1m]) >= 2"))
        page.pop()
        eventually(lambda: not api.query("job_failed"))
        gone = time.time()
        eventually(lambda: api.query(f"timestamp(other) > {gone + 2}"))
        url = there.replace("://", "://reader:correct-horse@")
        with opened(url, Settings.load(ROOT, {}), Part(back=60), interval=1) as history:
            assert history.name.partition("correct-horse")[1] == ""
            (live,) = run(history, [rules_of([tmp_path / "rules.yml"])], interval=1, advance=lambda done, of: None)
    before = contents(folder)
    stopped = backtested(folder / "data", tmp_path / "rules.yml", step=1)
    (episode,) = stopped[0].episodes
    assert episode.over is not None, "it fires for five minutes where staleness is not seen"
    assert [one.since for one in live[0].episodes] == [episode.since]
    assert [one.over for one in live[0].episodes] == [episode.over]
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below *folder*."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


API = """\
groups:
  - name: api
    rules:
      - record: api:errors:ratio
        expr: errors / requests
      - alert: Errors
        expr: api:errors:ratio > {threshold}
        for: 2m
        labels: {{severity: critical}}
      - {{alert: Quiet, expr: requests < 1}}
      - {{alert: Foreign, expr: foreign_metric > 1}}
"""
DAY = 2 * 24 * 60  # samples of two days, one a minute
INCIDENTS = """\
incidents:
  - {name: deploy, start: '2023-11-15T03:00:00Z', end: '2023-11-15T03:30:00Z', alerts: [Errors]}
  - {name: slow leak, start: '2023-11-15T13:00:00Z', end: '2023-11-15T14:00:00Z', labels: {severity: critical}}
  - {name: earlier, start: '2023-10-01T00:00:00Z', end: '2023-10-01T01:00:00Z'}
"""


def two_days() -> dict[str, list[float]]:
    """Of which 30% fail from 03:00 to 03:20, 8% from 13:00 to 14:00, and 20% from 22:00 to 22:05."""
    start = 23 * 60  # T0 is 23:00

    def errors(number: int) -> float:
        minute = (number + start) % 1440 if number < 1440 else 0
        return 30 if 180 <= minute < 200 else 8 if 780 <= minute < 840 else 20 if 1320 <= minute < 1325 else 0

    return {"errors": [errors(number) for number in range(DAY)], "requests": [100.0] * DAY}


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of history, two versions of the rules, and incidents."""
    folder = tmp_path_factory.mktemp("week")
    openmetrics(folder / "h.om", two_days(), 60)
    (folder / "new.yml").write_text(API.format(threshold="0.05"))
    (folder / "old.yml").write_text(API.format(threshold="0.1"))
    (folder / "incidents.yml").write_text(INCIDENTS)
    return folder


def backtest(*arguments: str | Path, **environ: str) -> Result:
    runner = CliRunner(env={"UPCHECK_TOOLS": str(ROOT / ".tools"), **environ})
    return runner.invoke(main, ["rules", "backtest", "--interval=1m", *map(str, arguments)])


def test_the_command_tells_what_fired_what_was_missed_and_what_was_false(week: Path) -> None:
    told = backtest(week / "h.om", week / "new.yml", "--incidents", week / "incidents.yml")
    assert told.exit_code == 0, told.output
    assert (
        told.output
        == f"""\
history     2023-11-14 23:00:00 to 2023-11-16 22:59:00 UTC (1d23h59m), {week / "h.om"}

alert   pages  a week  firing  precision
Errors      3    10.5   1h19m       0.67

silent      Quiet
no data     Foreign reads foreign_metric: not in this history

found       deploy, 2023-11-15 03:00:00: Errors after 2m
found       slow leak, 2023-11-15 13:00:00: Errors after 2m
outside     earlier, 2023-10-01 00:00:00: not in this history
false       2023-11-15 22:02:00, 3m: Errors {{severity="critical"}}
3 pages, 10.5 a week, precision 0.67, recall 1.00
"""
    )


def test_two_versions_stand_side_by_side(week: Path) -> None:
    asked = ("--incidents", week / "incidents.yml")
    told = backtest(week / "h.om", week / "new.yml", "--against", week / "old.yml", *asked).output
    assert "alert   pages  was  a week  was  firing  was  precision   was\n" in told
    assert "Errors      3    2    10.5  7.0   1h19m  21m       0.67  0.50\n" in told
    assert "found       slow leak, 2023-11-15 13:00:00: Errors after 2m, was missed\n" in told
    shown = next(block for block in blocks(ROOT / "docs/backtest.md", "") if block.startswith("history"))
    assert told.replace(str(week / "h.om"), "week.om") == shown
    assert told.endswith(
        "3 pages, 10.5 a week, precision 0.67, recall 1.00; was 2 pages, 7.0 a week, precision 0.50, recall 0.50\n"
    )


def test_json_has_all_of_it_and_a_part_can_be_played(week: Path) -> None:
    asked = ("--json", "--start=2023-11-15T12:00:00Z", "--end=2023-11-15T13:30:00Z")
    told = json.loads(backtest(week / "h.om", week / "new.yml", *asked).output)
    errors, _, foreign = told["versions"][0]["alerts"]
    (episode,) = errors["episodes"]
    assert (episode["fired"] - told["start"], episode["over"]) == (3600 + 120, None)
    assert episode["labels"] == {"alertname": "Errors", "severity": "critical"}
    assert foreign["lacks"] == ["foreign_metric"]
    recent = json.loads(backtest(week / "h.om", week / "new.yml", "--json", "--start=1h").output)
    assert recent["end"] - recent["start"] == 3600


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{0}/nowhere", "{0}/new.yml"), 3, "nowhere: there is no such file or directory"),
        (("{0}/new.yml", "{0}/new.yml"), 3, "new.yml is no OpenMetrics with a time beside each sample and `# EOF` at"),
        (("{0}", "{0}/new.yml"), 3, "is no TSDB directory: it has neither blocks nor a folder wal"),
        (("http://127.0.0.1:1", "{0}/new.yml"), 3, "http://127.0.0.1:1/api/v1/label/__name__/values"),
        (("{0}/h.om", "{0}/incidents.yml"), 2, "no alert in"),
        (("{0}/h.om", "{0}/foreign.yml"), 3, "rules and history share no metric, so nothing is known"),
        (("{0}/h.om", "{0}/new.yml", "--incidents", "{0}/other.yml"), 2, "no rule has the alert Errrs; did you mean"),
        (("{0}/h.om", "{0}/new.yml", "--incidents", "{0}/late.yml"), 2, "end: expected a moment such as 2026-11-21T03"),
        (("{0}/h.om", "{0}/new.yml", "--incidents", "{0}/back.yml"), 2, "deploy ends before it starts"),
        (("{0}/h.om", "{0}/new.yml", "--start=soon"), 2, "--start: expected a moment such as"),
        (("{0}/h.om", "{0}/new.yml", "--end=30"), 2, "--end: expected a moment such as"),
        (("{0}/h.om", "{0}/new.yml", "--end=2020-01-01T00:00:00Z"), 2, "nothing of the history is between them"),
        (("{0}/h.om", "{0}/new.yml", "--interval=often"), 2, "--interval: expected a duration"),
    ],
)
def test_what_can_not_be_played_is_a_sentence(week: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (week / "foreign.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'foreign > 1'}]}]")
    (week / "other.yml").write_text(INCIDENTS.replace("[Errors]", "[Errrs]"))
    (week / "late.yml").write_text(INCIDENTS.replace("2023-11-15T03:30:00Z", "later"))
    (week / "back.yml").write_text(INCIDENTS.replace("2023-11-15T03:30:00Z", "2023-11-15T02:30:00Z"))
    told = backtest(*(one.format(week) for one in arguments))
    assert (told.exit_code, said in told.output) == (code, True), told.output


def test_blocks_are_played_and_left_alone_and_an_api_from_where_it_has_samples(
    week: Path, tmp_path: Path, tool_paths: dict[str, Path]
) -> None:
    files = [week / "h.om", tmp_path / "data"]
    subprocess.run([tool_paths["promtool"], "tsdb", "create-blocks-from", "openmetrics", "--quiet", *files], check=True)
    before = contents(tmp_path)
    blocks_told, file_told = (backtest(one, week / "new.yml").output for one in (tmp_path / "data", week / "h.om"))
    assert blocks_told == file_told.replace(str(week / "h.om"), str(tmp_path / "data"))
    assert contents(tmp_path) == before
    (tmp_path / "prometheus.yml").write_text("{}")
    kept = "--storage.tsdb.retention.time=100y"
    with prometheus(Settings.load(ROOT, {}), tmp_path / "prometheus.yml", tmp_path / "data", kept) as url:
        told = json.loads(backtest(url, week / "new.yml", "--json", "--start=30d", "--end=2023-11-17T00:00:00Z").output)
    assert T0 - 30 * 86400 / 200 < told["start"] <= T0, "a month was asked for, and there are two days"
    assert [len(one["episodes"]) for one in told["versions"][0]["alerts"]] == [3, 0, 0]


def test_years_by_mistake_are_told(week: Path) -> None:
    (week / "years.om").write_text(f"errors 1 0\nerrors 1 {T0}\n# EOF\n")
    told = backtest(week / "years.om", week / "new.yml", "--interval=1s")
    assert (told.exit_code, "are more than 5000000 evaluations: play a part" in told.output) == (2, True), told.output


def test_what_is_no_prometheus_is_told_without_its_password(week: Path, serve: Serve) -> None:
    url = serve(answer("404 Not Found", "nothing here")).replace("://", "://reader:correct-horse@")
    told = backtest(url, week / "new.yml")
    assert (told.exit_code, "is no Prometheus API: 404" in told.output) == (3, True), told.output
    assert "correct-horse" not in told.output


def test_without_prometheus_it_can_not_tell(week: Path) -> None:
    told = backtest(week / "h.om", week / "new.yml", UPCHECK_PROMETHEUS=str(week / "nowhere"))
    assert (told.exit_code, "UPCHECK_PROMETHEUS" in told.output) == (3, True), told.output
