"""Pictures of dashboards: what they show of what a Prometheus answered; those in the docs are of what ships."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from upcheck.dashboards import UNITS, Condition, Dashboard, Panel, Row, Threshold
from upcheck.dashboards.numbers import ticks, written
from upcheck.dashboards.pictures import Span, svg
from upcheck.dashboards.reading import load_all
from upcheck.prometheus import Series

SHIPPED = load_all(ROOT / "monitoring")
SPAN = Span(0.0, 60.0, 10.0)
SLOW = Condition("Slow", "x", Threshold(">", 1.0, "orange"))
VERY_SLOW = Condition("VerySlow", "x", Threshold(">", 5.0, "red"))
ORANGE, RED, GREEN, BLUE = "#ff9830", "#f2495c", "#73bf69", "#5794f2"


def drawn(panel: Panel, *answers: Series) -> ElementTree.Element:
    """The picture of *panel* alone, to whose queries these are the answers."""

    def ask(text: str) -> Sequence[Series]:
        assert text == "x"
        return answers

    return ElementTree.fromstring(svg(Dashboard("a", "A", "F", "It.", (Row("R", 0, (panel,)),)), ask, SPAN))


def panel(kind: str, unit: str, *conditions: Condition) -> Panel:
    return Panel("P <1>", "It.", kind, unit, (("{{ route }}", "x"),), conditions, y=1)


def series(route: str, *values: float, start: float = 0.0) -> Series:
    return Series({"route": route}, [(start + 10 * number, value) for number, value in enumerate(values)])


def found(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return root.findall(f".//{{http://www.w3.org/2000/svg}}{kind}")


def texts(root: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in found(root, "text")]


def test_lines_have_their_legend_their_axis_and_the_limits_that_they_come_near() -> None:
    root = drawn(panel("lines", "seconds", SLOW, VERY_SLOW), series("/a", 0.5, math.nan, 0.7), series("/b", 0.2, 0.1))
    assert {"F / A", "R", "P <1>", "/a", "/b", "now", "-1 min", "0 s", "1 s"} <= set(texts(root))
    lines = [one.attrib["points"].split() for one in found(root, "polyline")]
    assert [len(one) for one in lines] == [2, 2]
    (limit,) = (one for one in found(root, "line") if one.attrib["class"] == "limit")
    assert limit.attrib["stroke"] == ORANGE, "the red one is far above"
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert float(limit.attrib["y1"]) < heights[1] < heights[0], "what is larger is higher"


@pytest.mark.parametrize(
    ("value", "shown", "colour"), [(0.3, "300 ms", GREEN), (1.0, "1 s", GREEN), (1.5, "1.5 s", ORANGE), (7, "7 s", RED)]
)
def test_a_stat_has_the_colour_of_the_worst_alert_that_it_would_raise(value: float, shown: str, colour: str) -> None:
    root = drawn(panel("stat", "seconds", SLOW, VERY_SLOW), series("/a", 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, value))
    (big,) = (one for one in found(root, "text") if one.text == shown)
    assert f"fill:{colour}" in big.attrib["style"]


def test_a_word_of_the_unit_has_its_own_colour_and_what_nothing_watches_has_none() -> None:
    root = drawn(panel("stat", "health"), *(series(f"{value}", value, start=60.0) for value in (0.0, 0.5, 1.0)))
    told = {one.text: one.attrib.get("style", "") for one in found(root, "text")}
    assert f"fill:{RED}" in told["unhealthy"]
    assert f"fill:{ORANGE}" in told["degraded"]
    assert f"fill:{GREEN}" in told["healthy"]
    root = drawn(panel("stat", "count"), series("/a", 12_345.0, start=60.0))
    assert [one.text for one in found(root, "text") if f"fill:{BLUE}" in one.attrib.get("style", "")] == ["12.3 K"]


def test_bars_are_sorted_and_as_long_as_their_share_of_the_longest() -> None:
    root = drawn(panel("bars", "bytes"), series("/a", 2.0**20, start=60.0), series("/b", 2.0**22, start=60.0))
    bars = [float(one.attrib["width"]) for one in found(root, "rect") if one.attrib.get("fill") == BLUE]
    assert bars[1] == pytest.approx(bars[0] / 4, rel=0.01)
    assert [one for one in texts(root) if one in ("1 MiB", "4 MiB", "/a", "/b")] == ["/b", "4 MiB", "/a", "1 MiB"]


def test_a_series_that_has_ended_is_no_single_value() -> None:
    root = drawn(panel("stat", "count"), series("/gone", 1.0, 2.0), series("/here", 3.0, start=60.0))
    assert "3" in texts(root)
    assert "2" not in texts(root)


@pytest.mark.parametrize("kind", ["lines", "stat", "bars"])
@pytest.mark.parametrize("answers", [(), (series("/a", math.nan, start=60.0),)])
def test_no_data_is_told(kind: str, answers: tuple[Series, ...]) -> None:
    assert "No data" in texts(drawn(panel(kind, "count"), *answers))


def test_a_legend_with_more_than_there_is_room_for_says_so() -> None:
    many = [series(f"/a/rather/long/route/number/{number}", 1.0) for number in range(30)]
    told = texts(drawn(panel("lines", "count"), *many))
    named = sum(one.startswith("/a/rather") for one in told)
    assert f"and {30 - named} more" in told


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98765, "ratio", "98.8%"), (1.0, "share", "100%"), (-0.0001, "ratio", "-0.01%"), (0.0, "seconds", "0 s"),
        (0.000123, "seconds", "123 µs"), (90.0, "seconds", "1.5 min"), (200_000.0, "seconds", "2.31 d"),
        (1536.0, "bytes", "1.5 KiB"), (0.0, "bytes", "0 B"), (1536.0, "bytes/s", "1.5 KiB/s"), (0.0, "count", "0"),
        (1_234_567.0, "count", "1.23 M"),
        (3.0, "requests/s", "3 req/s"), (14.4, "times", "14.4x"), (1.0, "up", "up"), (0.0, "up", "down"),
        (math.nan, "count", "no data"),
    ],
)  # fmt: skip
def test_a_value_is_written_in_three_digits_with_its_unit(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "wanted"),
    [
        (0, 1, "share", ["0%", "25%", "50%", "75%", "100%"]),
        (0, 0.37, "seconds", ["0 s", "100 ms", "200 ms", "300 ms", "400 ms"]),
        (0, 3.5 * 2**30, "bytes", ["0 B", "1 GiB", "2 GiB", "3 GiB", "4 GiB"]),
        (0, 120, "seconds", ["0 s", "30 s", "1 min", "1.5 min", "2 min"]),
        (-30, 80, "count", ["-50", "0", "50", "100"]),
        (0, 0, "count", ["0", "0.25", "0.5", "0.75", "1"]),
    ],
)
def test_an_axis_has_round_numbers_around_all_values(low: float, high: float, unit: str, wanted: list[str]) -> None:
    assert [written(one, unit) for one in ticks(low, high, unit)] == wanted


def test_there_is_a_unit_for_each_that_the_page_names() -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    table = page.partition("| unit |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == set(UNITS)


@pytest.mark.parametrize("dashboard", SHIPPED, ids=lambda one: one.name)
def test_the_picture_in_the_docs_is_of_what_ships(dashboard: Dashboard) -> None:
    path = ROOT / f"docs/dashboards/{dashboard.name}.svg"
    told = texts(ElementTree.fromstring(path.read_text()))
    again = f"type `upcheck dashboards --pictures {path.parent.relative_to(ROOT)}`"
    assert [one.title for one in dashboard.panels if one.title not in told] == [], again
    assert "No data" not in told, again
    assert f"dashboards/{dashboard.name}.svg" in (ROOT / "docs/dashboards.md").read_text()


def test_no_picture_is_of_nothing() -> None:
    pictures = {path.stem for path in (ROOT / "docs/dashboards").glob("*.svg")}
    assert pictures == {one.name for one in SHIPPED}
