"""What exporters, the catalogue and a configuration say is produced."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.rules.contract.produced import ExporterError, Produced, Series, Values, read_configuration, read_exposition


def read(text: str) -> dict[str, Series]:
    return {one.name: one for one in read_exposition(text, "x")}


OPENMETRICS = """\
# TYPE hits counter
# HELP hits Hits.
hits_total{path="/"} 1.0
hits_created{path="/"} 1.0
# TYPE wait histogram
wait_bucket{le="0.5"} 1
wait_bucket{le="+Inf"} 1
wait_count 1
wait_sum 1
# EOF
"""


def test_both_formats_are_read() -> None:
    found = read(OPENMETRICS)
    assert {name: one.type for name, one in found.items()} == {
        "hits_total": "counter", "hits_created": "gauge", "wait_bucket": "counter", "wait_count": "counter",
        "wait_sum": "counter",
    }  # fmt: skip
    assert found["wait_bucket"].buckets == (0.5,)
    assert found["hits_total"].labels == {"path": Values(frozenset({"/"}))}
    assert read('# TYPE q summary\nq{quantile="0.5"} 1\nq_count 1\n')["q"].type == "gauge"


def test_a_family_without_samples_is_known_by_name() -> None:
    found = read("# TYPE hits_total counter\n# TYPE wait histogram\n# TYPE depth gauge\n")
    assert set(found) == {"hits_total", "wait_bucket", "wait_sum", "wait_count", "depth"}
    assert {one.labels for one in found.values()} == {None}


def test_a_counter_keeps_the_name_that_an_exporter_gives_it() -> None:
    found = read(
        "# TYPE pg_xact_commit counter\npg_xact_commit 5\n# TYPE a_total counter\na_total 5\n# TYPE b counter\n"
    )
    assert {name: one.type for name, one in found.items()} == {
        "pg_xact_commit": "counter",
        "a_total": "counter",
        "b": "counter",
    }


def test_a_label_that_only_some_series_have_is_sparse() -> None:
    assert read('# TYPE a gauge\na{x="1"} 1\na{x="2",y="3"} 1\n')["a"].sparse == {"y"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("<html>", "no exposition"), ("a{", "no exposition"), ("", "no metrics"), ("# EOF", "no metrics")],
)
def test_what_is_no_exposition_is_told(text: str, said: str) -> None:
    with pytest.raises(ExporterError, match=f"x (is|has) {said}"):
        read(text)


def test_a_list_counts_for_more_than_what_was_seen() -> None:
    produced = Produced()
    seen, listed = Values(frozenset({"a"})), Values(frozenset({"a", "b"}), True)
    produced.add(Series("x", "unknown", {"l": seen}, "scrape"))
    produced.add(Series("x", "counter", {"l": listed, "m": Values()}, "service"))
    found = produced.find("x")
    assert found is not None
    assert (found.type, found.labels) == ("counter", {"l": listed, "m": Values()})
    assert found.sparse == {"m"}
    assert found.source == "scrape and service"


def test_prometheus_own_are_known_until_an_exporter_tells() -> None:
    produced = Produced()
    assert produced.find("prometheus_tsdb_head_series") is not None
    produced.add(Series("prometheus_build_info", "gauge", {}, "scrape"))
    assert produced.find("prometheus_tsdb_head_series") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("global: [a]\nscrape_configs: {a: 1}", (60.0, 60.0, None, set(), {}, False)),
        ("{}", (60.0, 60.0, None, set(), {}, False)),
        ("global: {scrape_interval: 1m30s}", (90.0, 60.0, None, set(), {}, False)),
        (
            "scrape_configs: [{job_name: a, relabel_configs: [{target_label: zone}, {target_label: __address__}]}]",
            (60.0, 60.0, None, {"zone"}, {"a": 60.0}, False),
        ),
        (
            "scrape_configs:\n  - job_name: a\n    relabel_configs: [{action: labelmap, regex: x_(.+)}]",
            (60.0, 60.0, None, set(), None, True),
        ),
        ("scrape_configs: [{job_name: a, file_sd_configs: [{files: [a]}]}]", (60.0, 60.0, None, set(), None, True)),
        (
            "scrape_configs: [{job_name: a, file_sd_configs: [{files: [targets/*.yml]}]}]",
            (60.0, 60.0, None, {"service"}, {"a": 60.0}, False),
        ),
        ("scrape_configs: [{job_name: a, honor_labels: true}]", (60.0, 60.0, None, set(), None, False)),
        ("storage: {tsdb: {retention: {time: 2w}}}", (60.0, 60.0, 1209600.0, set(), {}, False)),
    ],
)
def test_a_configuration_tells_intervals_labels_and_jobs(tmp_path: Path, text: str, expected: object) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/a.yml").write_text('[{targets: ["a:1"], labels: {service: shop, __scheme__: https}}]')
    (tmp_path / "targets/none.yml").write_text("[]")
    (tmp_path / "prometheus.yml").write_text(text)
    made = read_configuration(tmp_path / "prometheus.yml")
    found = (made.scrape_interval, made.evaluation_interval, made.retention, made.labels, made.jobs, made.open)
    assert found == expected
