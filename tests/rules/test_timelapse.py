"""A time-lapse changes when something is said, and nothing of what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from upcheck import documents
from upcheck.declaration import seconds
from upcheck.rules.evaluate import Answer, Question, evaluate
from upcheck.rules.promql import PromQLError
from upcheck.rules.timelapse import Lapse, LapseError

RULES = ROOT / "monitoring/prometheus/rules"
TESTED = sorted(path.stem for path in RULES.glob("*.yml"))
EXPRESSIONS = [
    "rate(errors_total[5m])",
    "irate(errors_total[5m])",
    "increase(errors_total[5m])",
    "deriv(queue[10m])",
    "delta(queue[10m])",
    "predict_linear(queue[10m], 2 * 3600)",
    "avg_over_time(queue[7m])",
    "max_over_time(rate(errors_total[3m])[10m:1m])",
    "quantile_over_time(0.9, queue[10m] offset 2m)",
    "queue offset 3m",
    "time() - queue",
    "time() - timestamp(queue)",
    "minute()",
    "hour(timestamp(queue) + 7200)",
    "sum(rate(errors_total[5m])) / sum(rate(errors_total[10m])) > 0.5",
    "-rate(errors_total[5m]) ^ 2",
    "changes(queue[10m]) + resets(errors_total[10m])",
    "absent(queue) or absent_over_time(nothing[5m])",
]
SERIES = {
    'errors_total{code="500"}': "0+7x10 70+90x10 3+5x10",
    'errors_total{code="503"}': "5+1x30",
    "queue": "4 9 1 7 7 30 2+3x24",
}


def answers(tool: Path, folder: Path, lapse: Lapse) -> tuple[Answer, ...]:
    """What the expressions come to at some times, and which alerts fire, of rules in the time-lapse."""
    file = folder / f"rules-{lapse.factor}.yml"
    rules = [
        {"alert": "Growing", "expr": "deriv(queue[5m]) * 60 > 2", "for": "3m", "keep_firing_for": "2m"},
        {"alert": "Errors", "expr": "rate(errors_total[5m]) > 1", "for": "2m"},
    ]
    file.write_text(json.dumps(lapse.rules({"groups": [{"name": "g", "interval": "1m", "rules": rules}]})))
    times = [minute * 60 / lapse.factor for minute in range(2, 31, 4)]
    queries = [(lapse.promql(expression), time) for expression in EXPRESSIONS for time in times]
    alerts = [(name, minute * 60 / lapse.factor) for name in ("Growing", "Errors") for minute in range(31)]
    question = Question(SERIES, 60 / lapse.factor, queries, alerts)
    return tuple(evaluate(tool, [file], [question], evaluation_interval=60 / lapse.factor))


@pytest.mark.parametrize("factor", [10.0, 60.0])
def test_every_value_is_what_it_would_have_been(promtool_path: Path, tmp_path: Path, factor: float) -> None:
    (plain,), (lapsed,) = (answers(promtool_path, tmp_path, Lapse(one)) for one in (1.0, factor))
    assert sum(len(alerts) for alerts in plain.firing) > 5
    assert lapsed.firing == plain.firing
    told = 0
    for one, other in zip(plain.samples, lapsed.samples, strict=True):
        assert not isinstance(one, str), one
        assert not isinstance(other, str), other
        # A value that was divided has no name: it is the same series without.
        assert [{**sample.labels, "__name__": ""} for sample in one] == [
            {**each.labels, "__name__": ""} for each in other
        ]
        assert [sample.value for sample in one] == pytest.approx([each.value for each in other])
        told += len(one)
    assert told > 100


@pytest.mark.parametrize("stem", TESTED)
def test_the_rules_that_ship_fire_as_their_tests_say(promtool_path: Path, tmp_path: Path, stem: str) -> None:
    lapse = Lapse(10.0)
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps(lapse.rules(yaml.safe_load((RULES / f"{stem}.yml").read_text()))))
    for tests in sorted((ROOT / "rules_tests").glob(f"{stem}*.yml")):
        document = documents.load(tests, texts=True)  # to YAML, 0x20 is 32
        step = seconds(document["evaluation_interval"]) / lapse.factor
        entries = [entry for entry in document["tests"] if entry.get("alert_rule_test")]
        found = evaluate(promtool_path, [file], [asked(entry, lapse) for entry in entries], evaluation_interval=step)
        for entry, answer in zip(entries, found, strict=True):
            for case, firing in zip(entry["alert_rule_test"], answer.firing, strict=True):
                expected = [one.get("exp_labels", {}) for one in case.get("exp_alerts") or ()]
                assert sorted(map(str, (dict(sorted(one.labels.items())) for one in firing))) == sorted(
                    str(dict(sorted((name, str(value)) for name, value in labels.items()))) for labels in expected
                ), (entry["name"], case["eval_time"])


def asked(entry: dict[str, Any], lapse: Lapse) -> Question:
    """A rule test, all of whose times are of the time-lapse."""
    series = {one["series"]: str(one["values"]) for one in entry["input_series"]}
    alerts = [
        (
            case["alertname"],
            seconds(case["eval_time"]) / lapse.factor if case["eval_time"] not in (0, "0s", "0m") else 0.0,
        )
        for case in entry["alert_rule_test"]
    ]
    labels = entry.get("external_labels", {})
    return Question(series, seconds(entry["interval"]) / lapse.factor, (), alerts, labels)


@pytest.mark.parametrize(
    ("expression", "lapsed"),
    [
        ("rate(x[5m])", "(rate(x[5s]) / 60)"),
        ("time() - x_timestamp_seconds", "(time() * 60) - (x_timestamp_seconds * 60)"),
        ("time() - timestamp(x)", "(time() * 60) - (timestamp(x) * 60)"),
        ("max_over_time(x_timestamp_seconds[1h])", "max_over_time(x_timestamp_seconds[1m])"),
        ("hour()", "hour(vector((time() * 60)))"),
        ("predict_linear(x[6h], 24 * 3600)", "predict_linear(x[6m], (24 * 3600) / 60)"),
    ],
)
def test_gauges_that_hold_a_time_tell_ours(expression: str, lapsed: str) -> None:
    assert Lapse(60.0, wall_clock=True).promql(expression) == lapsed


def test_time_begins_where_it_is_said_to() -> None:
    assert Lapse(60.0, epoch=1000.0).promql("time()") == "((time() - 1000) * 60)"


@pytest.mark.parametrize(("expression", "error"), [("x @ 1609746000", LapseError), ("rate(", PromQLError)])
def test_what_can_not_be_lapsed_is_refused(expression: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Lapse(60.0).promql(expression)


def test_alertmanager_tells_and_repeats_sooner() -> None:
    document: dict[str, Any] = {
        "global": {"resolve_timeout": "5m"},
        "route": {"receiver": "a", "group_wait": "30s", "routes": [{"receiver": "b", "repeat_interval": "12h"}]},
    }
    made = Lapse(60.0).alertmanager(document)
    assert made["global"] == {"resolve_timeout": "5s"}
    assert (made["route"]["group_wait"], made["route"]["group_interval"]) == ("500ms", "5s")
    assert made["route"]["repeat_interval"] == "4m"
    assert made["route"]["routes"] == [{"receiver": "b", "repeat_interval": "12m"}]
    assert document["route"]["group_wait"] == "30s", "the original stays as it is"


def test_prometheus_looks_back_and_sends_again_sooner() -> None:
    assert Lapse(60.0).flags() == (
        "--query.lookback-delta=5s",
        "--rules.alert.resend-delay=1s",
        "--rules.alert.for-grace-period=10s",
    )
