"""Who is told of what, at the edges; `test_truth` holds the rest against Alertmanager itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.routes.conftest import Made
from upcheck.documents import DocumentError

TREE = """\
route:
  receiver: root
  group_by: [alertname]
  group_interval: 2m
  mute_time_intervals: [nights]
  routes:
    - matchers: [team="db"]
      receiver: db
      group_wait: 0s
      mute_time_intervals: [nights]
      continue: true
      routes:
        - matchers: [severity="critical"]
          group_by: ['...']
        - matchers: [severity="info"]
          group_by: []
    - match: {team: db}
      active_time_intervals: [work]
    - match_re: {code: 5..}
      receiver: five
time_intervals:
  - name: nights
    time_intervals: [{times: [{start_time: 22:00, end_time: 24:00}, {start_time: 00:00, end_time: 06:00}]}]
  - name: work
    time_intervals:
      - {weekdays: ['monday:friday'], location: Europe/Berlin, times: [{start_time: 09:00, end_time: 17:00}]}
"""


def test_what_a_route_does_not_say_is_that_above_it(made: Made) -> None:
    critical, second = made(TREE).of({"team": "db", "severity": "critical"}).notifications
    assert (critical.receiver, critical.group_by, critical.place) == ("db", ("...",), (0, 0))
    assert (critical.group_wait, critical.group_interval, critical.repeat_interval) == (0, 120, 4 * 3600)
    assert (critical.mute, critical.active) == ((), ())  # which are not inherited
    assert (second.receiver, second.group_by, second.group_wait) == ("root", ("alertname",), 30)
    assert made(TREE).of({"team": "db", "severity": "info"}).notifications[0].group_by == ("alertname",)


@pytest.mark.parametrize(
    ("at", "told", "muted"),
    [
        ("2026-11-20T12:00:00Z", ["db", "root"], []),
        ("2026-11-20T05:59:59Z", [], ["nights", "work"]),
        ("2026-11-20T06:00:00Z", ["db"], ["work"]),
        ("2026-11-20T22:00", [], ["nights", "work"]),
        ("2026-11-20T07:59:00Z", ["db"], ["work"]),
        ("2026-11-20T08:00:00Z", ["db", "root"], []),
        ("2026-11-20T16:00:00Z", ["db"], ["work"]),
        ("2026-11-21T12:00:00+02:00", ["db"], ["work"]),  # a Saturday
        (datetime(2026, 7, 20, 7, tzinfo=UTC), ["db", "root"], []),  # Berlin's summer
        (None, ["db", "root"], []),
    ],
)
def test_intervals_mute_routes(made: Made, at: str | datetime | None, told: list[str], muted: list[str]) -> None:
    delivery = made(TREE).of({"team": "db"}, at=at)
    assert (delivery.receivers, delivery.muted_by) == (told, muted)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("days_of_month: ['-1']", "2028-02-29", "2028-02-28"),
        ("days_of_month: ['29:31']", "2026-03-29", "2026-02-28"),
        ("days_of_month: ['-31:1']", "2026-02-01", "2026-02-02"),
        ("months: ['november:12'], years: ['2026:2027']", "2027-12-31", "2028-12-31"),
        ("weekdays: [Sunday]", "2026-11-22", "2026-11-23"),
        ("weekdays: ['monday:wednesday', saturday]", "2026-11-21", "2026-11-20"),
    ],
)
def test_spans(made: Made, span: str, inside: str, outside: str) -> None:
    routes = made(
        f"""\
route: {{receiver: a, routes: [{{mute_time_intervals: [x]}}]}}
mute_time_intervals: [{{name: x, time_intervals: [{{{span}}}]}}]
"""
    )
    assert routes.of({"a": "b"}, at=inside).muted_by == ["x"]
    assert routes.of({"a": "b"}, at=outside).muted_by == []


INHIBITION = """\
route: {receiver: a}
inhibit_rules:
  - source_matchers: [severity="critical"]
    target_matchers: [severity=~"critical|warning"]
    equal: [host, disk]
"""


@pytest.mark.parametrize(
    ("target", "source", "inhibited"),
    [
        ({"severity": "warning", "host": "a"}, {"severity": "critical", "host": "a"}, True),
        ({"severity": "warning", "host": "a", "disk": ""}, {"severity": "critical", "host": "a"}, True),
        ({"severity": "warning", "host": "a", "disk": "d"}, {"severity": "critical", "host": "a"}, False),
        ({"severity": "critical", "host": "a", "x": "1"}, {"severity": "critical", "host": "a"}, False),
        ({"severity": "info"}, {"severity": "critical"}, False),
    ],
)
def test_inhibition(made: Made, target: dict[str, str], source: dict[str, str], inhibited: bool) -> None:
    delivery = made(INHIBITION).of(target, beside=[source])
    assert delivery.receivers == ([] if inhibited else ["a"])
    assert delivery.inhibited_by == ([source] if inhibited else [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1", "alertmanager.yml:1:1: expected an Alertmanager configuration: a mapping with route and receivers"),
        ("route:\n  routes: {a: b}", ":2:11: routes: expected a list"),
        ("route:\n  routes: [a]", ":2:12: routes: expected a list of mappings"),
        ("route:\n  receiver: [a]", ":2:13: receiver: expected text"),
        ("route:\n  match: [a]", ":2:10: match: expected a mapping"),
        (
            "route:\n  matchers: [a]",
            ":2:14: 'a' is no matcher: write it as severity=\"critical\", with",
        ),
        ("route:\n  matchers: ['a=\"b']", ":2:14: 'a=\"b': the quotes do not fit"),
        ("route:\n  match_re: {a: '(?=b)'}", ":2:17: '(?=b)' is no regular expression of RE2: invalid perl operator"),
        (
            "route: {}\ntime_intervals: [{name: x, time_intervals: [{weekdays: [mon]}]}]",
            "thursday, friday, saturday, or two with a colon between, not 'mon'",
        ),
        (
            "route: {}\ntime_intervals: [{time_intervals: [{times: [{start_time: '9:00', end_time: '10:00'}]}]}]",
            "expected a time such as 09:00, up to 24:00, not '9:00'",
        ),
        (
            "route: {}\ntime_intervals: [{name: x, time_intervals: [{location: Mars}]}]",
            ":2:56: location: 'Mars' is no time zone that is known here: write one such as Europe/Berlin",
        ),
    ],
)
def test_what_can_t_be_read_is_told_with_its_place(made: Made, text: str, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        made(text)
    assert told in str(caught.value)


def test_names_that_there_are_not_are_amtool_s_to_tell(made: Made) -> None:
    routes = made("route: {routes: [{receiver: gone, mute_time_intervals: [gone], active_time_intervals: [lost]}]}")
    delivery = routes.of({"a": "b"}, at="2026-01-01")
    assert ([one.receiver for one in delivery.notifications], delivery.muted_by) == (["gone"], ["lost"])


def test_the_picture_shows_the_way(made: Made) -> None:
    routes = made(TREE)
    delivery = routes.of({"team": "db", "severity": "info"}, at="2026-11-21T23:00:00Z")
    assert delivery.picture().splitlines() == [
        "> route                      root",
        '>   {team="db"}              db',
        '      {severity="critical"}  db',
        '>     {severity="info"}      db  <',
        '>   {team="db"}              root  < (muted by work)',
        '    {code=~"5.."}            five',
    ]
