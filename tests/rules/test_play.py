"""Rule tests in Python: the `rules` fixture, its timelines, and what is shown where one does not hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import Repo
from tests.test_run import upcheck
from upcheck import alert, promtool
from upcheck.rules.evaluate import EvaluationError, Sample
from upcheck.rules.play import Alert, Moment, PlayError, Rules

RULES = """\
groups:
  - name: api
    rules:
      - alert: HighErrorRate
        expr: |
          sum by (job) (rate(http_requests_total{status=~"5.."}[5m]))
            / sum by (job) (rate(http_requests_total[5m])) > 0.05
        for: 5m
        labels: {severity: critical}
        annotations: {summary: "{{ $value | humanizePercentage }} of {{ $labels.job }} fail"}
      - alert: NoRequests
        expr: sum(rate(http_requests_total[5m])) == 0
        labels: {severity: warning, cluster: "{{ $externalLabels.cluster }}"}
"""
BAD = {'http_requests_total{job="a",status="500"}': "0+10x20", 'http_requests_total{job="a",status="200"}': "0+90x20"}


@pytest.fixture
def api(tmp_path: Path, promtool_path: Path) -> Rules:
    (tmp_path / "api.yml").write_text(RULES)
    return Rules(promtool_path, [tmp_path / "api.yml"])


def test_a_timeline_knows_when_and_what(api: Rules) -> None:
    timeline = api.play(BAD)
    assert timeline.first_pending("HighErrorRate") == "1m"
    assert timeline.first_firing("HighErrorRate") == "6m" == Moment(360)
    assert timeline.first_firing("HighErrorRate", job="b") is None
    assert timeline.resolved("HighErrorRate") is None
    assert timeline.firing("5m") == []
    assert timeline.pending("5m") == [alert("HighErrorRate", job="a")]
    assert timeline.firing("10m") == [
        alert("HighErrorRate", severity="critical", annotations={"summary": "10% of a fail"})
    ]
    assert timeline.fired == {"HighErrorRate"}


def test_what_ends_is_resolved(api: Rules) -> None:
    errors = [number * 10.0 for number in range(11)] + [100.0] * 20
    fine = [number * 90.0 for number in range(31)]
    series = {'http_requests_total{job="a",status="500"}': errors, 'http_requests_total{job="a",status="200"}': fine}
    timeline = api.play(series)
    assert timeline.first_firing("HighErrorRate") == "6m"
    assert timeline.resolved("HighErrorRate") == "13m"


def test_nothing_else_fires_is_meant(api: Rules) -> None:
    timeline = api.play({**BAD, 'http_requests_total{job="b",status="500"}': "0+10x20"})
    assert timeline.firing("10m") != [alert("HighErrorRate", job="a")]
    assert timeline.firing("10m") == [alert("HighErrorRate", job="b"), alert("HighErrorRate", job="a")]


def test_numbers_gaps_intervals_and_external_labels(api: Rules) -> None:
    timeline = api.play(
        {"http_requests_total": [0, 0, None, 0, 0]}, interval=30, until="5m", external_labels={"cluster": "eu"}
    )
    assert timeline.times[-1] == 300
    assert timeline.first_firing("NoRequests", cluster="eu") == "30s"
    assert timeline.samples("http_requests_total", 0) == (Sample({"__name__": "http_requests_total"}, 0.0),)
    assert timeline.value("count(http_requests_total) + 1", "1m") == 2
    assert timeline.value("nothing", "1m") is None


@pytest.mark.parametrize(
    ("written", "said"), [(0, "0s"), (59.5, "59.5s"), ("90s", "1m30s"), ("36h", "1d12h"), (3600, "1h"), ("0s", "0s")]
)
def test_a_moment_is_written_as_prometheus_writes_it(written: str | float, said: str) -> None:
    assert str(Moment.of(written)) == said
    assert Moment.of(written) == said


def test_an_expected_alert_is_equal_to_one_that_says_more() -> None:
    got = Alert("A", {"job": "a", "severity": "page"}, {"summary": "s"}, whole=True)
    assert alert("A") == got == alert("A", job="a")
    assert alert("A", annotations={"summary": "s"}) == got
    for other in (alert("B"), alert("A", job="b"), alert("A", region="eu"), alert("A", annotations={"summary": "t"})):
        assert other != got
    assert got != Alert("A", {"job": "a"}, {"summary": "s"}, whole=True)


def test_what_can_not_be_played_is_a_sentence(api: Rules, promtool_path: Path) -> None:
    with pytest.raises(PlayError, match=r"nowhere\.yml: there is no such rule file"):
        Rules(promtool_path, [Path("nowhere.yml")])
    timeline = api.play(BAD)
    with pytest.raises(PlayError, match="HighErorRate is defined in no rule file that is played; did you mean"):
        timeline.first_firing("HighErorRate")
    with pytest.raises(PlayError, match="1m30s is no evaluation: from 0s to 20m, each 1m"):
        timeline.firing("90s")
    with pytest.raises(PlayError, match="a time: expected a duration"):
        timeline.firing("soon")
    with pytest.raises(PlayError, match="more than 1000 evaluations"):
        api.play(BAD, until="30d")
    with pytest.raises(PlayError, match="2 samples"):
        timeline.value("http_requests_total", "1m")
    with pytest.raises(PlayError, match="unclosed left parenthesis"):
        timeline.samples("sum(", "1m")
    with pytest.raises(EvaluationError, match="parse error"):
        api.play({"up{": "1"})


def test_it_writes_itself_as_promtool_s_file(api: Rules, tmp_path: Path, promtool_path: Path) -> None:
    api.play(BAD).write(tmp_path / "written.yml")
    verdict = promtool.test_rules(promtool_path, [tmp_path / "written.yml"])
    assert verdict.ok, verdict.text
    (tmp_path / "api.yml").write_text(RULES.replace("for: 5m", "for: 7m"))
    assert not promtool.test_rules(promtool_path, [tmp_path / "written.yml"]).ok


def test_a_picture_has_a_row_for_each_alert(api: Rules) -> None:
    head, fired, silent = api.play(BAD, until="10m").picture("NoRequests").splitlines()
    assert head.split() == ["0s", "5m", "10m"]
    assert fired == "alert('HighErrorRate', job='a', severity='critical')  .pppppFFFFF"
    assert silent == "alert('NoRequests')".ljust(len(fired) - 11) + "." * 11
    assert [head.index(time) for time in ("0s", "5m", "10m")] == [len(fired) - 11, len(fired) - 6, len(fired) - 1]


TEST = """\
from upcheck import alert

def test_errors_page(rules):
    timeline = rules("monitoring/api.yml").play(%r)
    assert timeline.first_firing("HighErrorRate") == %r
    assert timeline.firing("10m") == [alert("HighErrorRate", severity="critical")]
"""


def test_the_fixture_s_proofs_count_and_its_failures_show_the_timeline(repo: Repo) -> None:
    repo.write("monitoring/api.yml", RULES)
    repo.write("collector.py", "")
    repo.write("rules_tests/test_api.py", TEST % (BAD, "6m"))
    held = repo.pytest()
    held.stdout.fnmatch_lines(["*rules       1 held*2 alerts, never seen fired: NoRequests"])
    repo.write("rules_tests/test_api.py", TEST % (BAD, "5m"))
    failed = repo.pytest()
    failed.stdout.fnmatch_lines(["*6m == '5m'*", "*F fires, p is pending*", "*HighErrorRate*.pppppFFF*"])
    failed.stdout.fnmatch_lines(["*rules       1 failed*"])


def test_a_timeline_is_drawn(api: Rules) -> None:
    root = ET.fromstring(api.play(BAD, until="10m").svg())
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["alert('HighErrorRate', job='a', severity='critical')", "0s", "5m", "10m"]
    colours = [(one.get("fill"), int(one.get("width", 0))) for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert [width // 12 for _, width in colours] == [1, 5, 5]
    assert len({colour for colour, _ in colours}) == 3


def test_upcheck_check_tells_the_same(repo: Repo) -> None:
    repo.write("monitoring/api.yml", RULES)
    repo.write("rules_tests/test_api.py", TEST % (BAD, "5m"))
    told = upcheck(repo, "check", "--target", "http://127.0.0.1:1")
    assert told.returncode == 1
    assert "FAILED   test_errors_page" in told.stdout
    assert "rules_tests/test_api.py:" in told.stdout
    assert "alert('HighErrorRate', job='a', severity='critical')  .pppppFFF" in told.stdout
    assert "  see    .upcheck/timelines/test_errors_page-1.svg" in told.stdout
    assert (repo.path / ".upcheck/timelines/test_errors_page-1.svg").read_text().startswith("<svg")
