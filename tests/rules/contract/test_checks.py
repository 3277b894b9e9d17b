"""Each check: what it finds, under which words, and what it leaves alone."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.conftest import ROOT
from tests.rules.contract.conftest import Run, alert, marked
from upcheck.report.contract import lines
from upcheck.rules.contract import CHECKS


def record(name: str, expr: str, group: str = "g") -> str:
    return f"  - name: {group}\n    rules:\n      - record: {name}\n        expr: {expr}\n"


def rules(*groups: str) -> str:
    return "groups:\n" + "".join(groups)


def in_group(name: str, expr: str) -> str:
    return alert(expr).removeprefix("groups:\n").replace("name: g", f"name: {name}")


PROMETHEUS = """\
global: {scrape_interval: 30s, evaluation_interval: 30s, external_labels: {cluster: a}}
storage: {tsdb: {retention: {time: 10d}}}
scrape_configs:
  - job_name: api
    static_configs: [{targets: ["a:1"], labels: {env: prod}}]
  - {job_name: often, scrape_interval: 5s}
"""
SERVICE = """\
service: shop
about: It sells.
metrics:
  shop_orders_total: {layer: business, type: counter, help: Orders., labels: {plan: [free, paid]}}
  shop_waiting: {layer: business, type: gauge, help: Orders that wait.}
events: {order: {help: An order., fields: {plan: {type: text}}, records: [{metric: shop_orders_total, add: 1}]}}
slos:
  orders: {about: a, objective: 0.9, window: 30d, good: 'shop_orders_total{plan="paid"}', total: shop_orders_total}
"""
TEST = "rule_files: [a.yml]\ntests:\n  - %s\n"
READ = "promql_expr_test: [{expr: 'job:http_requests:rate5m'}]"
PAID = 'rate(shop_orders_total{plan=~"free|%s"}[5m]) > 1'
SUMMARY = "{summary: '%s', description: b}"

# check, expression of an alert, what the caret is under
EXPRESSIONS = [
    ("unknown-metric", "http_request_total > 1", "http_request_total"),
    ("unknown-metric", "rate(http_nothing_like_it[5m]) > 1", "http_nothing_like_it"),
    ("unknown-metric", "{__name__=~'http_re.+_x'} > 1", "http_re.+_x"),
    ("unknown-metric", "upp == 0 or scrape_durations_seconds > 1", "scrape_durations_seconds"),
    ("unknown-label", "http_in_flight{route='/x'} > 1", "route"),
    ("unknown-label", "sum by (endpoint, route) (http_in_flight) > 1", "route"),
    ("unknown-label", "sum without (endpoints) (http_in_flight) > 1", "endpoints"),
    ("unknown-label", "http_in_flight * on(path) node_load5 > 1", "path"),
    ("unknown-label", "http_in_flight * on(instance) group_left(zone) node_load5 > 1", "zone"),
    ("unknown-label", "http_in_flight * on(instance) group_left(endpoint) node_load5 > 1", "endpoint"),
    ("unknown-label", "node_load5 * on(instance) group_right(endpoint) http_in_flight > 1", "endpoint"),
    ("unknown-label", "max by (le) (histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m]))) > 1", "le"),
    ("unknown-label", "sum by (method) (sum by (status) (rate(http_requests_total[5m]))) > 1", "method"),
    ("unknown-label-value", "rate(http_requests_total{method='PUT'}[5m]) > 1", "PUT"),
    ("unknown-label-value", "rate(http_requests_total{status=~'4..'}[5m]) > 1", "4.."),
    ("unknown-label-value", "rate(http_duration_seconds_bucket{le='5'}[5m]) > 1", "5"),
    ("unreachable-threshold", "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) > 10", "10"),
    ("unreachable-threshold", "1e4 < histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) * 1000", "1e4"),
    ("unreachable-threshold", "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) >= 10.5", "10.5"),
    ("short-range", "rate(http_requests_total[20s]) > 1", "20s"),
    ("rate-of-gauge", "increase(http_in_flight[5m]) > 1", "increase"),
    ("gauge-of-counter", "sum(http_requests_total) > 100", "http_requests_total"),
    ("gauge-of-counter", "100 < http_duration_seconds_count", "http_duration_seconds_count"),
    ("vanished-labels", "sum(http_in_flight) / http_in_flight > 1", "/"),
    ("vanished-labels", "http_in_flight > 1 and on(endpoint) node_load5 > 1", "and"),
    (
        "vanished-labels",
        "rate(http_requests_total{status='500'}[5m]) / rate(http_requests_total{status='200'}[5m]) > 1",
        "/",
    ),
    ("vanished-labels", "http_in_flight unless sum by (instance) (http_in_flight)", "unless"),
]


@pytest.mark.parametrize(("check", "expr", "under"), EXPRESSIONS, ids=[f"{one[0]}-{one[2]}" for one in EXPRESSIONS])
def test_a_bad_expression_is_found(held: Run, check: str, expr: str, under: str) -> None:
    report = held({"rules.yml": alert(f'"{expr}"')})
    assert (check, under) in marked(report.findings)


@pytest.mark.parametrize(
    "expr",
    [
        "up == 0",
        'up{job="any"} == 0 and scrape_duration_seconds > 1',
        'ALERTS{alertname="Other", severity="high"} == 1',
        "prometheus_notifications_dropped_total > 1",
        'rate(http_requests_total{status=~"5..", method!="PUT"}[5m]) > 1',
        'rate(http_requests_total{status=~"5.*|2.*"}[5m]) > 1',
        'http_in_flight{method=""} > 1',
        'rate(http_requests_total{method!~"PUT", method!=""}[5m]) > 1',
        'http_in_flight{zone=~".*"} > 1',
        'rate(http_duration_seconds_bucket{le="10"}[5m]) > 1',
        "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) > 9.9",
        "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) < 10",
        "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) >= 10",
        "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m])) * 1000 > 5000",
        "http_requests_total > http_requests_total offset 1h",
        "rate(http_requests_total[30s]) > 1",
        "deriv(http_in_flight[5m]) > 1",
        "http_requests_total - http_requests_total offset 1h > 5",
        'sum(rate(http_requests_total{status="500"}[5m])) / sum(rate(http_requests_total[5m])) > 0.1',
        "http_in_flight / on(instance) group_left() node_load5 > 1",
        "http_in_flight * ignoring(endpoint) group_left() node_load5 > 1",
        "node_load5 / count without (endpoint) (http_in_flight) > 1",
        "sum(http_in_flight) > 1 or http_in_flight > 5",
        "time() - node_load5 > 5",
        'label_replace(http_in_flight, "a", "$1", "job", ".*") * on(a) label_replace(node_load5, "a", "b", "", "")',
        'count_values("zone", http_in_flight) > 1 and on(zone) sum by (zone) (count_values("zone", node_load5))',
        'absent(http_in_flight{endpoint="/"}) and on(endpoint) sum by (endpoint) (http_in_flight)',
        "sum without (pod) (http_in_flight) > 1",
        '{__name__=~"http_in_.*"} > 1',
    ],
)
def test_a_good_expression_is_left_alone(held: Run, expr: str) -> None:
    report = held({"rules.yml": alert(f"'{expr}'")})
    assert marked(report.findings) == []
    assert [one.sentence for one in report.unknown] == []


RECORDED = record("job:http_requests:rate5m", "sum by (job) (rate(http_requests_total[5m]))")

# check, files, what the caret is under
FILES = [
    (
        "unknown-label",
        {"a.yml": rules(RECORDED, in_group("h", 'job:http_requests:rate5m{status="500"} > 1'))},
        "status",
    ),
    (
        "group-race",
        {"a.yml": rules(RECORDED, in_group("h", "job:http_requests:rate5m > 1"))},
        "job:http_requests:rate5m",
    ),
    ("dead-recording-rule", {"a.yml": rules(RECORDED)}, "job:http_requests:rate5m"),
    ("dead-recording-rule", {"a.yml": rules(RECORDED), "t.yml": TEST % READ}, "job:http_requests:rate5m"),
    ("dead-recording-rule", {"a.yml": rules(record("a:b:c", "a:b:c > 1"))}, "a:b:c"),
    ("naming", {"a.yml": rules(record("job_requests", "sum(node_load5)"))}, "job_requests"),
    ("naming", {"a.yml": alert("up == 0").replace("Wrong", "'it-is_wrong'")}, "it-is_wrong"),
    (
        "unknown-metric",
        {"a.yml": rules(RECORDED, in_group("g", "job:http_request:rate5m > 1"))},
        "job:http_request:rate5m",
    ),
    (
        "unreachable-threshold",
        {
            "a.yml": rules(
                record("a:b:p9", "histogram_quantile(0.9, rate(http_duration_seconds_bucket[5m]))"),
                in_group("g", "a:b:p9 > 20"),
            )
        },
        "20",
    ),
    ("short-range", {"p/prometheus.yml": PROMETHEUS, "a.yml": alert("rate(http_requests_total[45s]) > 1")}, "45s"),
    ("short-for", {"a.yml": alert("up == 0", **{"for": "10s"})}, "10s"),
    ("long-window", {"prometheus.yml": PROMETHEUS, "a.yml": alert("node_load5 offset 2w > 1")}, "node_load5"),
    (
        "long-window",
        {"prometheus.yml": PROMETHEUS, "a.yml": alert("max_over_time(deriv(node_load5[6d])[5d:1h]) > 1")},
        "6d",
    ),
    ("unknown-label-value", {"prometheus.yml": PROMETHEUS, "a.yml": alert('up{job="apy"} == 0')}, "apy"),
    ("annotations", {"a.yml": alert("up == 0", annotations="{description: b}")}, "Wrong"),
    ("annotations", {"a.yml": alert("up == 0", annotations="{summary: a}")}, "Wrong"),
    ("annotations", {"a.yml": alert("up == 0", annotations="{summary: a, runbook_url: wiki}")}, "wiki"),
    ("severity", {"a.yml": alert("up == 0", labels="{team: a}")}, "Wrong"),
    ("severity", {"a.yml": alert("up == 0", labels="{severity: urgent}")}, "urgent"),
    ("duplicate", {"a.yml": alert("up == 0"), "b.yml": alert("up == 1")}, "Wrong"),
    ("template", {"a.yml": alert("sum(up) == 0", annotations=SUMMARY % "{{ $labels.instance }}")}, "instance"),
    ("template", {"a.yml": alert("up == 0", annotations=SUMMARY % "{{ $labels.severity }}")}, "severity"),
    ("template", {"a.yml": alert("up == 0", annotations=SUMMARY % "{{ $labels.instance ")}, "{{"),
    ("template", {"a.yml": alert("up == 0", annotations=SUMMARY % "{{ $value | humanise }}")}, "humanise"),
    ("template", {"a.yml": alert("up == 0", annotations=SUMMARY % "{{ if $value }}a")}, "{{ if $value }}"),
    ("template", {"a.yml": alert("up == 0", annotations=SUMMARY % "{{ $valeu }}")}, "$valeu"),
    ("template", {"a.yml": alert("up == 0", labels="{severity: low, now: '{{ $value }}'}")}, "$value"),
    ("unknown-label-value", {"services/shop.yml": SERVICE, "a.yml": alert(PAID % "payed")}, "payed"),
    ("unknown-label-value", {"services/shop.yml": SERVICE.replace('"paid"', '"gold"')}, "gold"),
    (
        "unknown-metric",
        {"t.yml": TEST % "input_series: [{series: 'http_request_total{status=\"1\"}', values: 1}]"},
        "http_request_total",
    ),
    (
        "unknown-label",
        {"t.yml": TEST % "promql_expr_test: [{expr: 'http_in_flight{route=\"1\"}'}]"},
        "route",
    ),
    (
        "unknown-label-value",
        {"t.yml": TEST % "input_series: [{series: 'http_duration_seconds_bucket{le=\"7\"}', values: 1}]"},
        "7",
    ),
    ("unknown-metric", {"a.md": "Ask:\n\n```promql\nhttp_in_flight\n  + http_in_fligt\n```\n"}, "http_in_fligt"),
]


@pytest.mark.parametrize(("check", "files", "under"), FILES, ids=[f"{one[0]}-{one[2]}" for one in FILES])
def test_a_bad_file_is_found(held: Run, check: str, files: dict[str, str], under: str) -> None:
    assert (check, under) in marked(held(files).findings)


@pytest.mark.parametrize(
    "files",
    [
        {"a.yml": rules(RECORDED, in_group("g", "job:http_requests:rate5m > 1"))},
        {"a.yml": rules(RECORDED, in_group("g", 'job:http_requests:rate5m{job="a"} > 1'))},
        {"a.yml": rules(RECORDED, in_group("g", "{__name__=~'job:.*'} > 1"))},
        {"a.yml": rules(RECORDED), "a.md": "```promql\njob:http_requests:rate5m\n```\n"},
        {"prometheus.yml": PROMETHEUS, "a.yml": alert('up{job="api", env="prod", cluster="a"} == 0')},
        {"prometheus.yml": PROMETHEUS, "a.yml": alert('rate(http_requests_total{job="often"}[15s]) > 1')},
        {
            "prometheus.yml": PROMETHEUS,
            "a.yml": alert("max_over_time(deriv(node_load5[1d])[9d:1h]) > 1", **{"for": "30s"}),
        },
        {"a.yml": alert("up == 0", annotations="{summary: a, runbook_url: 'https://wiki/{{ $labels.job }}'}")},
        {"a.yml": alert("up == 0", labels="{severity: '{{ if $labels.job }}low{{ else }}high{{ end }}'}")},
        {"a.yml": alert("up == 0"), "b.yml": alert("up == 0", labels="{severity: critical}")},
        {
            "a.yml": alert(
                "up == 0",
                annotations=SUMMARY % '{{ with $labels }}{{ .job }}{{ end }} {{/* a note */}}{{ print "}}" }}',
            )
        },
        {"a.yml": alert("up == 0", annotations=SUMMARY % '{{ range query "up" }}{{ .Labels.other }}{{ end }}')},
        {"a.yml": alert("up == 0", annotations=SUMMARY % '{{ range $i, $x := query "up" }}{{ $x | value }}{{ end }}')},
        {"a.yml": alert("up == 0", annotations=SUMMARY % '{{ printf "%.2f %s" $value $externalLabels.a | title }}')},
        {"services/shop.yml": SERVICE, "a.yml": alert(PAID % "other")},
        {"prometheus.yml": PROMETHEUS, "t.yml": TEST % "input_series: [{series: 'up{job=\"any\"}', values: 1}]"},
        {"t.yml": TEST % 'input_series: [{series: \'http_in_flight{job="a", endpoint="/z"}\', values: 1}]'},
    ],
)
def test_a_good_file_is_left_alone(held: Run, files: dict[str, str]) -> None:
    assert marked(held(files).findings) == []


def test_a_metric_that_nobody_reads_is_found_where_that_is_asked(held: Run) -> None:
    files = {"services/shop.yml": SERVICE}
    assert held(files).findings == []
    assert marked(held(files, dead_metrics=True).findings) == [("dead-metric", "shop_waiting")]


def test_retention_can_be_given(held: Run) -> None:
    files = {"a.yml": alert("deriv(node_load5[2d]) > 1")}
    assert held(files).findings == []
    assert marked(held(files, retention=86400.0).findings) == [("long-window", "2d")]


def test_what_no_exporter_was_given_for_is_not_broken(held: Run) -> None:
    report = held({"a.yml": alert("mysql_up{role='x'} == 0 or team:load:sum > 1")})
    assert report.findings == []
    assert [one.sentence for one in report.unknown] == [
        "no exporter was given that has metrics beginning with mysql_",
        "no rule was given that records names beginning with team:",
    ]


def test_without_a_configuration_a_label_may_be_the_targets(held: Run) -> None:
    files = {"a.yml": alert("http_in_flight{zone='a'} > 1 and http_in_flight{endpoints='/'} > 1 and up{pod='a'}")}
    report = held({**files, "p/other-prometheus.yml": "{}"})
    assert marked(report.findings) == [("unknown-label", "endpoints")]
    assert [one.sentence for one in report.unknown] == [
        "no Prometheus configuration was given, whose targets may have zone",
        "no Prometheus configuration was given, whose targets may have pod",
    ]


def test_a_label_that_the_target_has_too_is_renamed(held: Run) -> None:
    text = alert("pushed{exported_job='a', job='b'} > 1 or pushed{exported_zone='a'} > 1")
    report = held({"a.yml": text}, exposition='# TYPE pushed gauge\npushed{job="a"} 1\n')
    assert marked(report.findings) == [("unknown-label", "exported_zone")]


def test_a_label_that_some_series_lack_can_still_match(held: Run) -> None:
    exposition = "# TYPE mixed gauge\nmixed 1\nmixed{zone='a'} 1\n# TYPE all gauge\nall{zone='a'} 1\n".replace("'", '"')
    texts = {name: alert(f"{name} > 1 and up") for name in ("mixed", "all")}
    assert held({"a.yml": texts["mixed"]}, exposition=exposition).findings == []
    assert marked(held({"a.yml": texts["all"]}, exposition=exposition).findings) == [("vanished-labels", "and")]


def test_a_recording_rule_s_own_labels_are_known(held: Run) -> None:
    recorded = RECORDED + "        labels: {team: shop}\n"

    def found(matcher: str) -> list[tuple[str, str]]:
        alerting = in_group("g", f"job:http_requests:rate5m{{{matcher}}} > 1")
        return marked(held({"a.yml": rules(recorded, alerting)}).findings)

    assert found("team='shop'") == []
    assert found("team='shops'") == [("unknown-label-value", "shops")]
    assert found("teem='shop'") == [("unknown-label", "teem")]


def test_a_recording_rule_that_reads_itself_may_have_any_label(held: Run) -> None:
    text = rules(record("a:b:c", "'a:b:c{x=\"1\"} or up'"), in_group("g", "sum by (y) (a:b:c) > 1"))
    assert held({"a.yml": text}).findings == []


def test_a_template_that_wants_the_alert_s_own_label_is_told_why(held: Run) -> None:
    (finding,) = held({"a.yml": alert("up == 0", annotations=SUMMARY % "{{ $labels.severity }}")}).findings
    assert finding.fix == "templates see the expression's labels, not those that the rule adds"


def test_a_slip_in_a_name_is_told_even_where_its_prefix_is_new(held: Run) -> None:
    (finding,) = held({"a.yml": alert("nod_load5 > 1")}).findings
    assert finding.fix == "did you mean 'node_load5'?"


@pytest.mark.parametrize(
    ("expr", "column", "sentence", "fix"),
    [
        ("up ==", 15, "not PromQL: ", "correct it: `promtool check rules` says more"),
        ("sum(rate(x[5m]) > 1", 18, "not PromQL: unclosed left parenthesis", "close this ("),
        ("sum(x[5m)", 23, "not PromQL: ", "remove this ), or open it before"),
        ("sum(x)) > 1", 21, "not PromQL: unexpected right parenthesis", "remove this ), or open it before"),
        ('x{y="("} > foo(x)', 26, "not PromQL: ", "correct its name, or take a release of upcheck that knows it"),
        ("x{y='z} > 1", 19, "not PromQL: ", "close the quotes that begin here"),
    ],
)
def test_what_is_no_promql_is_told_with_its_place(held: Run, expr: str, column: int, sentence: str, fix: str) -> None:
    report = held({"a.yml": alert(expr)})
    assert report.findings == []
    (told,) = report.unknown
    assert told.sentence.startswith(sentence)
    assert (told.line, told.column, told.fix) == (5, column, fix)
    shown = next(line for line in lines(report, lambda text, _: text) if line.startswith("could not check"))
    assert shown.endswith(f"a.yml:5:{column}  {told.sentence}; {fix}")


def test_all_documents_of_a_rule_file_are_read(held: Run) -> None:
    resource = "kind: PrometheusRule\nspec:\n" + "".join(f"  {row}\n" for row in alert("up == 0").splitlines())
    second = resource.replace("up == 0", "nod_load5 > 1").replace("Wrong", "Other")
    report = held({"a.yml": f"{resource}---\nkind: ConfigMap\n---\n{second}"})
    assert report.rules == 2
    (finding,) = report.findings
    assert (finding.line, finding.fix) == (19, "did you mean 'node_load5'?")
    assert report.unreadable == []


def test_a_file_that_can_not_be_read_is_told(held: Run) -> None:
    report = held({"a.yml": "groups: [\n", "b.yml": alert("up == 0")})
    assert len(report.unreadable) == 1
    assert report.rules == 1


def test_what_promtool_refuses_is_left_to_it(held: Run) -> None:
    rule = "{alert: Wrong, expr: 1, labels: [a], annotations: {summary: 5, description: b}}"
    files = {
        "a.yml": f"groups: [{{name: a, rules: [{rule}, 7]}}, 3]",
        "t.yml": "rule_files: [a]\ntests: [{input_series: [{series: 5}, 3], promql_expr_test: [{expr: 1}]}, 4]",
        "b.json": '{"panels": [{"targets": [{"expr": 5}, {"expr": "up == \\ud83d"}], "title": null}]}',
    }
    report = held(files)
    assert marked(report.findings) == [("severity", "Wrong")]
    assert [one.file.name for one in report.unknown] == ["b.json"]


def test_a_resource_of_kubernetes_is_read(held: Run) -> None:
    rules = textwrap.indent(alert("http_in_fligt > 1"), "  ")
    report = held({"a.yml": f"kind: PrometheusRule\nspec:\n{rules}"})
    assert [(one.check, one.line, one.column) for one in report.findings] == [("unknown-metric", 7, 17)]


def test_every_check_has_its_section_and_an_example() -> None:
    page = (ROOT / "docs/contract.md").read_text()
    assert re.findall(r"^### (.*)$", page, re.MULTILINE) == list(CHECKS)
    tested = {one[0] for one in [*EXPRESSIONS, *FILES]} | {"dead-metric", "allowance"}
    assert tested == set(CHECKS)


SCALARS = {
    "plain": "expr: http_in_flight > 1 and http_in_fligt > 1",
    "plain over lines": "expr: http_in_flight > 1\n  and http_in_fligt > 1",
    "literal": "expr: |\n    http_in_flight > 1\n      # a remark\n      and\n    http_in_fligt > 1",
    "literal with an indicator": "expr: |2-\n      http_in_flight > 1\n    and http_in_fligt > 1",
    "folded": "expr: >-\n    http_in_flight > 1\n\n    and\n    http_in_fligt > 1",
    "single-quoted": "expr: 'http_in_flight{endpoint=''/''} > 1 and http_in_fligt > 1'",
    "double-quoted": 'expr: "http_in_flight{endpoint=\\"/\\"} \\x3e 1\\n \\\n  \\u0061nd http_in_fligt > 1"',
    "double-quoted over lines": 'expr: "http_in_flight > 1\n\n  and http_in_fligt > 1"',
    "anchored": "expr: &x http_in_flight > 1 and http_in_fligt > 1",
    "not ASCII": "expr: http_in_flight{endpoint!=\"é漢\"} > 1 and http_in_fligt > 1",
}  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS.values(), ids=SCALARS.keys())
def test_the_caret_stands_under_the_word_however_it_is_quoted(held: Run, scalar: str) -> None:
    text = alert("EXPR").replace("        expr: EXPR\n", textwrap.indent(scalar, " " * 8) + "\n")
    report = held({"a.yml": text})
    assert marked(report.findings) == [("unknown-metric", "http_in_fligt")]


def test_behind_an_alias_the_finding_is_where_the_alias_stands(held: Run) -> None:
    text = alert("&x http_in_fligt > 1") + alert("*x").removeprefix("groups:\n").replace("name: g", "name: h")
    report = held({"a.yml": text.replace("alert: Wrong", "alert: Other", 1)})
    assert [(one.check, one.line) for one in report.findings] == [("unknown-metric", 5), ("unknown-metric", 11)]


def test_a_name_of_another_exporter_is_no_slip_of_one_that_is_known(held: Run) -> None:
    exposition = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\n"
    report = held({"a.yml": alert("rate(node_cpu_seconds_total[5m]) > 1")}, exposition=exposition)
    assert report.findings == []
    assert [one.sentence for one in report.unknown] == ["no exporter was given that has metrics beginning with node_"]
    slip = held({"a.yml": alert("rate(proces_cpu_seconds_total[5m]) > 1")}, exposition=exposition)
    assert marked(slip.findings) == [("unknown-metric", "proces_cpu_seconds_total")]
