"""Windows of maintenance: once, or as cron says, in any zone, through every change of its clocks."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from upcheck.maintenance import covering, window
from upcheck.settings import Settings, SettingsError


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_once_is_from_its_start_to_its_end() -> None:
    one = window({"name": "move", "start": "2026-12-01T22:00:00+01:00", "end": "2026-12-02T02:00:00+01:00"})
    assert [one.open(at(f"2026-12-01T{time}Z")) for time in ("20:59:59", "21:00:00", "23:00:00")] == [False, True, True]
    assert one.open(at("2026-12-02T00:59:59Z"))
    assert not one.open(at("2026-12-02T01:00:00Z"))


def test_a_time_without_an_offset_is_in_the_zone() -> None:
    start = datetime.fromisoformat("2026-07-01T02:00")  # as TOML reads it
    one = window({"name": "x", "start": start, "end": "2026-07-01T03:00", "timezone": "Europe/Berlin"})
    assert one.open(at("2026-07-01T00:00:00Z"))
    assert not one.open(at("2026-07-01T01:00:00Z"))


def test_cron_names_the_beginnings() -> None:
    one = window({"name": "x", "cron": "0 3 * * SUN", "duration": "90m", "timezone": "Europe/Berlin"})
    assert not one.open(at("2026-07-05T00:59:59Z"))
    assert one.open(at("2026-07-05T01:00:00Z"))  # summer: 3 o'clock there
    assert one.open(at("2026-07-05T02:29:59Z"))
    assert not one.open(at("2026-07-05T02:30:00Z"))
    assert one.open(at("2026-12-06T02:00:00Z"))  # winter
    assert not one.open(at("2026-12-06T01:59:00Z"))
    assert not one.open(at("2026-12-05T02:00:00Z"))  # a Saturday


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("2026-03-29T01:15:00Z", "2026-03-29T02:05:00Z"),  # 2:30 does not exist there: it is at 3:00 instead
        ("2026-10-25T00:45:00Z", "2026-10-25T02:00:00Z"),  # 2:30 comes twice there: the first counts
    ],
)
def test_the_days_on_which_clocks_change(inside: str, outside: str) -> None:
    one = window({"name": "x", "cron": "30 2 * * *", "duration": "1h", "timezone": "Europe/Berlin"})
    assert one.open(at(inside))
    assert not one.open(at(outside))


def test_a_window_that_is_longer_than_its_period_never_closes() -> None:
    one = window({"name": "x", "cron": "0 * * * *", "duration": "2h"})
    assert all(one.open(at(f"2026-07-05T{hour:02}:30:00Z")) for hour in range(24))


def test_it_covers_the_checks_that_it_names() -> None:
    always = {"name": "x", "start": "2020-01-01T00:00Z", "end": "2030-01-01T00:00Z"}
    now = at("2026-01-01T00:00:00Z")
    for checks, covered in (
        ([], True), (["orders"], True), (["order*"], True), (["checks/a.yml::*"], True), (["*"], True),
        (["order"], False), (["checks/b.yml::*"], False),
    ):  # fmt: skip
        assert window({**always, "checks": checks}).covers("checks/a.yml::orders", "orders", now) is covered, checks
    windows = [window({**always, "name": "a", "checks": ["x"]}), window({**always, "name": "b"})]
    assert covering(windows, "checks/a.yml::orders", "orders", now) == "b"
    assert covering(windows[:1], "checks/a.yml::orders", "orders", now) == ""


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"nam": "x"}, "no key 'nam'; did you mean 'name'?"),
        ({}, "name: say what the window is for"),
        ({"name": "x"}, "say either start and end, or cron and duration"),
        ({"name": "x", "start": "2026-01-01T00:00Z"}, "say either start and end, or cron and duration"),
        ({"name": "x", "start": "2026-01-01T00:00Z", "duration": "1h"}, "say either start and end, or cron"),
        ({"name": "x", "start": "soon", "end": "later"}, "start: expected a date and a time such as"),
        ({"name": "x", "start": "2026-01-02T00:00Z", "end": "2026-01-01T00:00Z"}, "end: 2026-01-01T00"),
        ({"name": "x", "cron": "0 25 * * *", "duration": "1h"}, "cron: '0 25 * * *': "),
        ({"name": "x", "cron": "0 3 * * *", "duration": "soon"}, "duration: expected a duration"),
        ({"name": "x", "cron": "0 3 * * *", "duration": "1h", "timezone": "Mars"}, "timezone: no zone"),
        ({"name": "x", "cron": "0 3 * * *", "duration": "1h", "timezone": "../etc"}, "timezone: no zone"),
        ({"name": "x", "cron": "0 3 * * *", "duration": "1h", "checks": "a"}, "checks: expected a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_key_and_its_place(table: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        window(table)


def test_settings_read_them_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool.upcheck]\ntarget = "http://x"\n'
        '[[tool.upcheck.maintenance]]\nname = "move"\nstart = 2026-12-01T22:00:00+01:00\nend = 2026-12-02T02:00:00Z\n'
    )
    (one,) = Settings.load(tmp_path, {}).maintenance
    assert (one.name, one.start) == ("move", datetime(2026, 12, 1, 21, tzinfo=UTC))
    file.write_text('[tool.upcheck]\n[[tool.upcheck.maintenance]]\nname = "a"\ncron = "0 3 * * *"\n')
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path, {})
    assert str(caught.value) == (
        f"{file}: [[tool.upcheck.maintenance]] number 1: say either start and end, or cron and duration"
    )
    file.write_text('[tool.upcheck]\nmaintenance = "sunday"\n')
    with pytest.raises(SettingsError, match=r"expected tables \[\[tool\.upcheck\.maintenance\]\]"):
        Settings.load(tmp_path, {})
