"""Comments that allow a finding."""

from __future__ import annotations

import json

import pytest

from tests.rules.contract.conftest import Run, alert, marked

WRONG = "http_in_flight{route='/'} > 1"


def with_comment(before: str = "", after: str = "", expr: str = WRONG) -> dict[str, str]:
    text = alert("EXPR")
    line = f'        expr: "{expr}"{after and "  " + after}\n'
    return {"a.yml": text.replace("        expr: EXPR\n", (before and f"        {before}\n") + line)}


@pytest.mark.parametrize(
    "files",
    [
        with_comment("# upcheck: allow unknown-label until the v2 exporter ships"),
        with_comment("# upcheck: allow contract/unknown-label because it is rare"),
        with_comment(after="# upcheck: allow unknown-label because it is rare"),
        with_comment("# upcheck: allow unknown-label because it is rare\n        # and more of it"),
        {"a.yml": alert("|\n          # upcheck: allow unknown-label because it is rare\n          " + WRONG)},
        {
            "a.yml": alert(
                ">- # upcheck: allow unknown-label because it is rare\n          sum(up) or\n          " + WRONG
            )
        },
    ],
)
def test_a_comment_with_a_reason_allows(held: Run, files: dict[str, str]) -> None:
    report = held(files)
    assert report.findings == []
    assert marked(report.allowed) == [("unknown-label", "route")]


@pytest.mark.parametrize(
    ("files", "sentences"),
    [
        (with_comment("# upcheck: allow unknown-label"), ["it gives no reason", "no exporter has this label"]),
        (with_comment("# upcheck: allow unknown-label because"), ["it gives no reason", "no exporter has this label"]),
        (
            with_comment("# upcheck: allow unknown-labels because a"),
            ["no check is called this", "no exporter has this label"],
        ),
        (with_comment("# upcheck: allow severity because a"), ["it allows nothing", "no exporter has this label"]),
        (
            with_comment("# upcheck: allow unknown-metric because a"),
            ["it allows nothing", "no exporter has this label"],
        ),
        (with_comment("# upcheck: allow unknown-label because a", expr="up == 0"), ["it allows nothing"]),
        (with_comment("# upcheck: allow no-assertion because another command reads this", expr="up == 0"), []),
        (with_comment("# upcheck: allow unknown-metric because a", expr="mysql_up == 0"), []),
        (with_comment("# upcheck: allow long-window because a", expr="up offset 1y == 0"), []),
    ],
)
def test_a_comment_that_allows_nothing_is_found(held: Run, files: dict[str, str], sentences: list[str]) -> None:
    report = held(files)
    assert [one.sentence for one in report.findings] == sentences
    assert report.allowed == []


def test_an_allowance_reaches_no_further_than_the_next_line(held: Run) -> None:
    expr = (
        "|\n          # upcheck: allow unknown-label because a\n          http_in_flight{route='/'} or\n          "
        + WRONG
    )
    report = held({"a.yml": alert(expr)})
    assert [one.line for one in report.allowed] == [7]
    assert [one.line for one in report.findings] == [8]


def test_a_panel_s_description_allows(held: Run) -> None:
    panel = {
        "title": "A",
        "description": "What flies.\nupcheck: allow unknown-label until v2",
        "targets": [{"expr": WRONG}],
    }
    report = held({"a.json": json.dumps({"panels": [panel]})})
    assert report.findings == []
    assert marked(report.allowed) == [("unknown-label", "route")]
