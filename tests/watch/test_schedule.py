"""Schedules, with a clock of our own."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upcheck.watch.schedule import JITTER, Schedule, fraction, in_shard


def play(schedule: Schedule, until: float, *, took: float = 0.0) -> list[tuple[float, str]]:
    """When each run starts, if each takes *took* seconds."""
    now, started = 0.0, []
    ends: list[tuple[float, str]] = []
    while now < until:
        for end, key in [one for one in ends if one[0] <= now]:
            ends.remove((end, key))
            schedule.ended(schedule.entries[key])
        for entry in schedule.due(now):
            started.append((now, entry.key))
            ends.append((now + took, entry.key))
        now = min([now + max(schedule.wait(now), 1e-6), *(end for end, _ in ends if end > now)])
    return started


def test_each_runs_as_often_as_it_says() -> None:
    schedule = Schedule(offset=1000.0, seed=1)
    schedule.update([("a", 10.0), ("b", 60.0)], now=0.0)
    started = play(schedule, 600)
    assert 59 <= sum(key == "a" for _, key in started) <= 61
    assert 9 <= sum(key == "b" for _, key in started) <= 11
    assert schedule.missed == 0


@given(st.floats(-1e9, 1e9), st.sampled_from([1.0, 7.5, 60.0, 3600.0]), st.integers(0, 5))
def test_runs_are_one_every_apart_give_or_take_the_jitter(offset: float, every: float, seed: int) -> None:
    schedule = Schedule(offset, seed)
    schedule.update([("a", every)], now=0.0)
    moments = [moment for moment, _ in play(schedule, 12 * every)][1:]  # the first comes early
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    jitter = min(1.0, JITTER * every) + 1e-3
    assert all(every - jitter <= gap <= every + jitter for gap in gaps)


def test_starts_are_spread_evenly() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([(f"check {number}", 60.0) for number in range(6000)], now=0.0)
    started = [moment for moment, _ in play(schedule, 180) if moment > 60]
    a_second = [sum(1 for moment in started if second <= moment < second + 1) for second in range(70, 130)]
    assert min(a_second) >= 60
    assert max(a_second) <= 140


def test_phases_are_the_same_after_a_restart() -> None:
    wall = 1_000_000.0
    moments = []
    for start in (0.0, 123.4):  # the monotonic clock begins anew with each boot, the wall clock goes on
        schedule = Schedule(offset=wall + start, seed=2)
        schedule.update([("a", 600.0)], now=0.0)
        *_, (last, _) = play(schedule, 6000)
        moments.append((wall + start + last) % 600)
    assert abs(moments[0] - moments[1]) <= 1.0


def test_a_run_that_has_not_ended_is_passed_over_and_counted() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([("a", 10.0)], now=0.0)
    started = play(schedule, 300, took=25.0)
    assert 9 <= len(started) <= 12
    assert schedule.missed >= 18


def test_after_a_standstill_each_runs_once() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([("a", 10.0), ("b", 10.0)], now=0.0)
    for entry in schedule.due(15.0):
        schedule.ended(entry)
    late = schedule.due(1000.0)
    assert sorted(entry.key for entry in late) == ["a", "b"]
    assert schedule.missed >= 2 * 96
    assert schedule.due(1000.0) == []


def test_what_is_known_keeps_its_next_run() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([("a", 100.0), ("b", 100.0)], now=0.0)
    due = schedule.entries["a"].due
    schedule.update([("a", 100.0), ("c", 5.0)], now=1.0)
    assert schedule.entries["a"].due == due
    assert set(schedule.entries) == {"a", "c"}
    schedule.update([("c", 5.0)], now=1.0)
    removed = schedule.due(200.0)
    assert [entry.key for entry in removed] == ["c"]


def test_another_every_holds_from_now_on() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([("a", 3600.0)], now=0.0)
    for entry in schedule.due(20.0):
        schedule.ended(entry)
    old = schedule.entries["a"].due
    schedule.update([("a", 5.0)], now=21.0)
    assert schedule.wait(21.0) <= 5.25
    assert old > 60
    due = {entry.due for entry in schedule.due(26.0)}
    assert len(due) == 1
    schedule.ended(schedule.entries["a"])
    schedule.update([("a", 36000.0)], now=27.0)
    assert schedule.due(old + 1) == []


def test_retries_back_off_and_give_way_to_the_next_run() -> None:
    schedule = Schedule(offset=0.0, seed=1)
    schedule.update([("a", 20.0)], now=0.0)
    (entry,) = schedule.due(10.0)
    waits = []
    now = 10.0
    while (moment := schedule.retry(entry, now)) is not None:
        waits.append(moment - now)
        now = moment
    assert waits == sorted(waits)
    assert waits[0] <= 0.6
    assert now <= entry.due
    schedule.ended(entry)
    assert entry.attempt == 1


def test_nothing_is_due_where_there_is_nothing() -> None:
    schedule = Schedule(offset=0.0)
    schedule.update([], now=0.0)
    assert schedule.wait(0.0) == math.inf
    assert schedule.due(1e9) == []


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_each_check_is_in_one_shard(of: int) -> None:
    keys = [f"checks/test_{number}.py::test" for number in range(2000)]
    sizes = [sum(in_shard(key, (number, of)) for key in keys) for number in range(1, of + 1)]
    assert sum(sizes) == len(keys)
    assert min(sizes) > len(keys) / of * 0.8


@given(st.text())
def test_a_phase_is_a_fraction_and_stays(key: str) -> None:
    assert 0 <= fraction(key) < 1
    assert fraction(key) == fraction(key)
