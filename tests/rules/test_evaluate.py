"""promtool as an evaluator: it is asked what can't be expected, and tells what is."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.rules.evaluate import EvaluationError, Firing, Question, Sample, evaluate

RULES = """\
groups:
  - name: one
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Down
        expr: job:up:sum == 0
        for: 2m
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.job }} has "{{ $value }}" up, in {{ $externalLabels.cluster }}'}
"""
ODD = 'a"b,} 1\\é\n\x07'


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yml"
    file.write_text(RULES)
    return file


def test_any_expression_at_any_time(rules: Path, promtool: Path) -> None:
    question = Question(
        series={'up{job="a"}': "1 1 0x10", "requests_total": "0+60x20"},
        interval=60,
        queries=[
            ("job:up:sum", 60), ("rate(requests_total[2m])", 600), ("ALERTS", 180), ("nothing", 0),
            ("vector(-2.5e-7)", 0), ("up + on (x) group_left up", 0), ("up +", 0),
        ],
    )  # fmt: skip
    (answer,) = evaluate(promtool, [rules], [question])
    total, rate, pending, nothing, number, joined, broken = answer.samples
    assert total == (Sample({"__name__": "job:up:sum", "job": "a"}, 1.0),)
    assert rate == (Sample({}, 1.0),)
    pending_labels = {"__name__": "ALERTS", "alertname": "Down", "alertstate": "pending", "job": "a"}
    assert pending == (Sample(pending_labels | {"severity": "critical"}, 1.0),)
    assert (nothing, number) == ((), (Sample({}, -2.5e-7),))
    assert joined == (Sample({"job": "a"}, 2.0),)
    assert isinstance(broken, str)
    assert "unexpected end of input" in broken


def test_what_fires_with_what_it_says(rules: Path, promtool: Path) -> None:
    question = Question(
        series={'up{job="a"}': "1 1 0x10", 'up{job="b"}': "0x20"},
        interval=60,
        alerts=[("Down", 300), ("Down", 60), ("Down", 120)],
        external_labels={"cluster": "eu"},
    )
    (answer,) = evaluate(promtool, [rules], [question])
    a, b = (
        Firing("Down", {"job": job, "severity": "critical"}, {"summary": f'{job} has "0" up, in eu'}) for job in "ab"
    )
    assert answer.firing == ((a, b), (), (b,))


def test_labels_come_back_as_they_were(rules: Path, promtool: Path) -> None:
    written = ODD.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\x07", "\\a")
    question = Question({f'up{{job="{written}"}}': "0x9"}, 60, queries=[("up", 60)], alerts=[("Down", 300)])
    (answer,) = evaluate(promtool, [rules], [question])
    assert answer.samples == ((Sample({"__name__": "up", "job": ODD}, 0.0),),)
    assert [one.labels["job"] for one in answer.firing[0]] == [ODD]


def test_many_questions_are_one_run(rules: Path, promtool: Path) -> None:
    questions = [
        Question({'up{job="a"}': f"{number}x5"}, 60, queries=[("up", 0)], alerts=[("Down", 120)])
        for number in range(30)
    ]
    answers = evaluate(promtool, [rules], questions)
    assert [answer.samples[0][0].value for answer in answers if isinstance(answer.samples[0], tuple)] == list(range(30))
    assert [len(answer.firing[0]) for answer in answers] == [1] + [0] * 29


def test_a_finer_evaluation_sees_more(rules: Path, promtool: Path) -> None:
    question = Question({'up{job="a"}': "1 0x40"}, 15, alerts=[("Down", 135), ("Down", 120)])
    (answer,) = evaluate(promtool, [rules], [question], evaluation_interval=15)
    assert [len(firing) for firing in answer.firing] == [1, 0]


@pytest.mark.parametrize(
    ("series", "sentence"), [({"up{": "1"}, "parse error"), ({"up": "a+b"}, "parse error")], ids=["name", "values"]
)
def test_what_promtool_refuses_is_told(rules: Path, promtool: Path, series: dict[str, str], sentence: str) -> None:
    with pytest.raises(EvaluationError, match=sentence):
        evaluate(promtool, [rules], [Question(series, 60, queries=[("up", 0)])])


def test_a_rule_file_that_is_broken_is_told(tmp_path: Path, promtool: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'up +'}]}]")
    with pytest.raises(EvaluationError, match="could not parse expression"):
        evaluate(promtool, [tmp_path / "rules.yml"], [Question({"up": "1"}, 60, queries=[("up", 0)])])
