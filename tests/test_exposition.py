"""Families as text: one page of what many sources give."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from upcheck.exposition import Family, page

JOBS = Family("jobs_total", "counter", ("queue",), 'Jobs of a "queue"\\.\nAll.')
FREE = Family("free", "untyped", (), "Free.")


def test_parts_of_a_family_are_put_together_and_what_has_no_samples_is_left_out() -> None:
    silent = Family("silent", "gauge", (), "Nothing to say.")
    text = page(
        [(JOBS, 'jobs_total{queue="a"} 1\n'), (silent, ""), (FREE, "free 2\n"), (JOBS, 'jobs_total{queue="b"} 3\n')]
    )
    assert text.decode() == (
        '# HELP jobs_total Jobs of a "queue"\\\\.\\nAll.\n# TYPE jobs_total counter\n'
        'jobs_total{queue="a"} 1\njobs_total{queue="b"} 3\n'
        "# HELP free Free.\n# TYPE free untyped\nfree 2\n"
    )


def test_both_formats_say_the_same() -> None:
    blocks = [(JOBS, 'jobs_total{queue="a"} 1.0\n'), (FREE, "free 2.0\n")]
    plain = list(parse(page(blocks).decode()))
    openmetrics = list(parse_openmetrics(page(blocks, openmetrics=True).decode() + "# EOF\n"))  # type: ignore[no-untyped-call]  # the library has no types there
    assert [(one.name, one.type, one.documentation, one.samples) for one in plain] == [
        (one.name, one.type, one.documentation, one.samples) for one in openmetrics
    ]
    assert [(one.name, one.type) for one in plain] == [("jobs", "counter"), ("free", "unknown")]


def test_a_family_that_takes_over_a_name_is_introduced_by_its_own_words() -> None:
    assert b"# HELP free Free.\n" in page([(FREE, "free 2\n")])
    assert b"# HELP free Of charge.\n" in page([(Family("free", "gauge", (), "Of charge."), "free 2\n")])
