from __future__ import annotations

import contextlib
import json
import math
import random
import sqlite3
import sys
import tempfile
from bisect import bisect_left
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upcheck.history import BUCKETS, DAY, HOUR, VERSION, Claim, ClaimError, Engine, History, HistoryError, Summary
from upcheck.history.fold import fold, waiting
from upcheck.history.tally import COLUMNS
from upcheck.result import Outcome, Result

NOW = 1_700_000_000.0
FACTS = {"name": "a", "file": "checks/a.yml", "line": 3, "every": 10.0, "timeout": 5.0, "severity": "critical"}


def result(outcome: Outcome = Outcome.HELD, started: float = 1.0, check: str = "a") -> Result:
    return Result(check, outcome, started, 0.5, reason="why" if outcome is Outcome.FAILED else "", facts={"line": 3})


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    with History(tmp_path / "sub/h.sqlite") as history:
        history.append([result(started=2.0), result(Outcome.FAILED, 1.0), result(check="b")])
    with History(tmp_path / "sub/h.sqlite") as history:
        assert history.results("a") == [result(Outcome.FAILED, 1.0), result(started=2.0)]
        assert history.results("a", since=1.5) == [result(started=2.0)]
        assert history.results("nobody") == []


def test_a_streak_counts_from_the_last_change(tmp_path: Path) -> None:
    outcomes = [Outcome.FAILED, Outcome.HELD, Outcome.HELD, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED]
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(outcome, float(at)) for at, outcome in enumerate(outcomes)])
        streak = history.streak("a")
        assert streak is not None
        assert (streak.outcome, streak.since, streak.runs, streak.last_held) == (Outcome.FAILED, 3.0, 3, 2.0)
        assert history.streak("nobody") is None


def test_a_first_failure_has_never_held(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(Outcome.FAILED, 0.0)])
        streak = history.streak("a")
        assert streak is not None
        assert (streak.runs, streak.since, streak.last_held) == (1, 0.0, None)


def test_a_newer_history_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 6}")
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = file.read_bytes()
    with pytest.raises(
        HistoryError, match=rf"newer upcheck \(schema {VERSION + 6}, this one knows {VERSION}\).*UPCHECK_HISTORY"
    ):
        History(file)
    assert file.read_bytes() == before


def test_an_engine_sets_a_newer_history_aside_unless_another_engine_has_it(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with History(file) as theirs:
        theirs.append([result(check="theirs")])
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    other = Claim(file, "2/2")
    with pytest.raises(ClaimError, match="in use by another engine"):
        History.of_engine(file)
    other.close()
    with History.of_engine(file) as history:
        history.append([result(check="ours")])
        assert history.names() == ["ours"]
        assert history.set_aside is not None
        assert history.set_aside.name.startswith("h.sqlite.newer-")
        with contextlib.closing(sqlite3.connect(history.set_aside)) as db:
            db.execute(f"PRAGMA user_version = {VERSION}")
        with History(history.set_aside) as kept:
            assert kept.names() == ["theirs"]


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at " * 40, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_history_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "h.sqlite"
    file.write_bytes(content)
    with History(file) as history:
        history.append([result()])
        assert history.set_aside is not None
        assert history.set_aside.read_bytes() == content
        assert history.results("a") == [result()]


def test_a_history_whose_pages_are_damaged_is_set_aside_when_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with History(file) as history:
        history.append([result(check=f"check {number}") for number in range(300)])
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with History(file) as history:
        assert history.streak("check 0") is None
        history.append([result()])
        assert history.set_aside is not None
        assert history.results("a") == [result()]


def test_what_is_set_aside_replaces_nothing_that_was_set_aside_before(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    contents = [b"damaged %d" % number * 100 for number in range(3)]
    for content in contents:
        file.write_bytes(content)
        History(file).close()
    assert sorted(path.read_bytes() for path in tmp_path.glob("h.sqlite.damaged-*")) == contents


def test_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite"), sqlite3.connect(tmp_path / "h.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match=r"file/h\.sqlite can't be written.*UPCHECK_HISTORY"):
        History(tmp_path / "file" / "h.sqlite")


def test_a_failed_write_loses_nothing_that_was_there(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result()])
        history._db.execute("PRAGMA max_page_count = 8")  # a full disk, as SQLite sees it
        many = [Result(f"check {n}", Outcome.HELD, 1.0, 0.0, reason="x" * 1000) for n in range(500)]
        with pytest.raises(HistoryError, match="500 results could not be written"):
            history.append(many)
        history._db.execute("PRAGMA max_page_count = 100000")
        history.append([result(started=2.0)])
        assert [one.started for one in history.results("a")] == [1.0, 2.0]
        assert history.results("check 0") == []


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(file)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_facts_of_the_check_are_stored_once_and_a_run_keeps_its_own(tmp_path: Path) -> None:
    held = [Result("a", Outcome.HELD, at, 0.1, facts=FACTS) for at in (1.0, 2.0)]
    failed = Result("a", Outcome.FAILED, 3.0, 0.1, reason="r", facts={**FACTS, "line": 9, "got": "503"})
    with History(tmp_path / "h.sqlite") as history:
        for one in (*held, failed):
            history.append([one])
        assert history.results("a") == [*held, failed]
        assert history.results("a", limit=1) == [failed]
    stored = rows(tmp_path / "h.sqlite", "SELECT facts FROM results ORDER BY started")
    assert stored == [("",), ("",), ('{"line":9,"got":"503"}',)]
    assert [json.loads(str(facts)) for (facts,) in rows(tmp_path / "h.sqlite", "SELECT facts FROM checks")] == [FACTS]


def test_facts_of_the_check_follow_the_check(tmp_path: Path) -> None:
    changed = {**FACTS, "every": 60.0}
    with History(tmp_path / "h.sqlite") as history:
        history.append([Result("a", Outcome.HELD, 1.0, 0.1, facts=FACTS)])
        history.append([Result("a", Outcome.HELD, 2.0, 0.1, facts=changed)])
        assert history.results("a", since=2.0)[0].facts == changed
        assert history.latest()[0].result.facts == changed


VERSION_1 = """
CREATE TABLE checks (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE results (
    check_id INTEGER NOT NULL REFERENCES checks, started REAL NOT NULL, duration REAL NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, facts TEXT NOT NULL
) STRICT;
CREATE INDEX results_by_check ON results (check_id, started);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_a_history_of_version_1_keeps_its_results_and_gets_rollups(tmp_path: Path, read_only: bool) -> None:
    file = tmp_path / "h.sqlite"
    db = sqlite3.connect(file)
    db.executescript(VERSION_1)
    db.execute("INSERT INTO checks VALUES (7, 'a'), (8, 'b')")
    old = [(7, NOW - 90 + at * 10, 0.02, "failed" if at > 5 else "held", "", json.dumps(FACTS)) for at in range(9)]
    db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", old)
    db.commit()
    db.close()
    with History(file, read_only=read_only) as history:
        assert [(one.started, one.outcome, one.facts) for one in history.results("a")] == [
            (row[1], row[3], FACTS) for row in old
        ]
        assert history.summary("a", HOUR, now=NOW).counts[Outcome.FAILED] == 3
        streak = history.streak("a")
        assert streak is not None
        assert (streak.runs, streak.last_held) == (3, NOW - 40)
    with History(file) as history:
        history.append([result(started=NOW, check="b")])
        assert [one.result.check for one in history.latest()] == ["a", "b"]
    assert rows(file, "PRAGMA user_version") == [(VERSION,)]
    assert rows(file, "PRAGMA auto_vacuum") == [(2,)]


OLD_COLUMNS = [name for name in COLUMNS if name not in ("blocked", "maintenance")]
VERSION_2 = f"""
CREATE TABLE checks (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, facts TEXT NOT NULL, started REAL, duration REAL, outcome TEXT,
    reason TEXT, details TEXT, since REAL, runs INTEGER, last_held REAL
) STRICT;
CREATE TABLE results (
    check_id INTEGER NOT NULL REFERENCES checks, started REAL NOT NULL, duration REAL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, facts TEXT NOT NULL
) STRICT;
CREATE INDEX results_by_check ON results (check_id, started);
CREATE INDEX results_by_time ON results (started);
CREATE TABLE rollups (
    span INTEGER NOT NULL, start INTEGER NOT NULL, check_id INTEGER NOT NULL REFERENCES checks,
    {", ".join(f"{name} {'REAL' if name == 'seconds' else 'INTEGER'} NOT NULL" for name in OLD_COLUMNS)},
    PRIMARY KEY (span, start, check_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE kept (what TEXT PRIMARY KEY, since REAL NOT NULL) STRICT;
CREATE TABLE engines (shard TEXT PRIMARY KEY, engine TEXT NOT NULL) STRICT;
PRAGMA journal_mode = WAL;
PRAGMA user_version = 2;
INSERT INTO checks VALUES (1, 'a', '{{"line":3}}', {NOW}, 0.5, 'failed', 'why', '', {NOW - 10}, 2, {NOW - 20}),
    (2, 'never ran', '{{}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO results VALUES (1, {NOW - 10}, 0.5, 'failed', 'why', ''), (1, {NOW}, 0.5, 'failed', 'why', '');
INSERT INTO rollups VALUES (0, 0, 1, 7, 2, 0, 0, 4.5, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0),
    (86400, {NOW // DAY * DAY:.0f}, 1, 0, 2, 0, 0, 1.0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0),
    (3600, {NOW // HOUR * HOUR:.0f}, 1, 0, 2, 0, 0, 1.0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0);
"""
VERSION_3 = """
CREATE TABLE recent (
    check_id INTEGER NOT NULL REFERENCES checks, started REAL NOT NULL, duration REAL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, facts TEXT NOT NULL
) STRICT;
CREATE TABLE states (
    check_id INTEGER PRIMARY KEY REFERENCES checks, started REAL NOT NULL, duration REAL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, details TEXT NOT NULL, since REAL NOT NULL, runs INTEGER NOT NULL, last_held REAL
) STRICT;
INSERT INTO states SELECT id, started, duration, outcome, reason, details, since, runs, last_held
FROM checks WHERE outcome IS NOT NULL;
PRAGMA user_version = 3;
""" + "".join(
    f"ALTER TABLE checks DROP COLUMN {column};"
    for column in ("started", "duration", "outcome", "reason", "details", "since", "runs", "last_held")
)


@pytest.mark.parametrize("script", [VERSION_2, VERSION_2 + VERSION_3], ids=["2", "3"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_history_of_an_older_version_keeps_all_that_it_says(tmp_path: Path, script: str, read_only: bool) -> None:
    file = tmp_path / "h.sqlite"
    db = sqlite3.connect(file)
    db.executescript(script)
    db.close()
    with History(file, read_only=read_only) as history:
        assert history.results("a") == [result(Outcome.FAILED, at) for at in (NOW - 10, NOW)]
        (latest,) = history.latest()
        assert latest.result == result(Outcome.FAILED, NOW)
        assert (latest.streak.since, latest.streak.runs, latest.streak.last_held) == (NOW - 10, 2, NOW - 20)
        assert latest.totals.runs == 9
        assert history.summary("a", DAY, now=NOW).runs == 2
    with History(file) as history:
        history.append([result(Outcome.FAILED, NOW + 1), result(started=NOW, check="never ran")])
        assert [(one.streak.runs, one.totals.runs) for one in history.latest()] == [(3, 10), (1, 1)]
    assert rows(file, "PRAGMA user_version") == [(VERSION,)]


def counted(results: list[Result]) -> tuple[dict[Outcome, int], list[int]]:
    """What a Summary of *results* should say, counted one by one."""
    buckets = [0] * (len(BUCKETS) + 1)
    for one in results:
        if one.outcome in (Outcome.HELD, Outcome.FAILED):
            buckets[bisect_left(BUCKETS, one.duration)] += 1
    return {outcome: sum(one.outcome is outcome for one in results) for outcome in Outcome}, buckets


@pytest.mark.parametrize("window", [60.0, 1800.0, HOUR, 5.5 * HOUR, 26 * HOUR, 3 * DAY, 40 * DAY])
def test_rollups_say_what_the_results_say(tmp_path: Path, window: float) -> None:
    chance = random.Random(3)
    durations = [0.0, 0.005, 0.0051, 0.3, 1.0, 9.99, 10.0, 11.0]
    every = [
        Result(f"c{chance.randrange(4)}", chance.choice(list(Outcome)), NOW - chance.random() * 4 * DAY,
               chance.choice(durations))
        for _ in range(3_000)
    ]  # fmt: skip
    with History(tmp_path / "h.sqlite") as history:
        for at in range(0, 3_000, 250):
            history.append(every[at : at + 250])
        for one in history.summaries("", window, now=NOW):
            since = NOW - window if window < DAY else (NOW - window) // HOUR * HOUR
            mine = [r for r in every if r.check == one.check and r.started >= since]
            assert (dict(one.counts), list(one.buckets)) == counted(mine)
            timed = [r.duration for r in mine if r.outcome in (Outcome.HELD, Outcome.FAILED)]
            assert one.seconds == pytest.approx(math.fsum(timed))
            assert history.one(one.check, window, now=NOW) == one
        assert history.summary("c*", window, now=NOW).runs == sum(r.started >= since for r in every)
        assert sum(one.totals.runs for one in history.latest()) == 3_000


@pytest.mark.parametrize("seed", range(3))
def test_a_long_window_is_the_difference_of_two_marks(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    now, every = NOW - 4 * DAY, list[Result]()
    monkeypatch.setattr(sys.modules["upcheck.history.fold"], "time", SimpleNamespace(time=lambda: now))
    with History(tmp_path / "h.sqlite") as history:
        while now < NOW:
            # Some come late, some from a clock that is ahead, some checks are new, and some batches wait to be folded.
            shift = chance.choice([0, 0, 0, 0, -30 * HOUR, 2 * HOUR])
            batch = [
                Result(
                    f"c{chance.randrange(1 + len(every) // 40)}", chance.choice(list(Outcome)), now + shift - at, 0.3
                )
                for at in range(chance.randrange(1, 9))
            ]
            history.append(batch)
            every += batch
            if chance.random() < 0.8:
                fold(history._db)
            now += chance.random() * 4 * HOUR
        assert len(rows(tmp_path / "h.sqlite", "SELECT DISTINCT start FROM marks")) > 10
        for window in (DAY, 1.4 * DAY, 2 * DAY, 2.9 * DAY):
            since = (now - window) // HOUR * HOUR
            found = history.summaries("", window, now=now)
            for one in found:
                mine = [r for r in every if r.check == one.check and r.started >= since]
                assert (dict(one.counts), list(one.buckets)) == counted(mine)
                assert history.one(one.check, window, now=now) == one
            assert history.summary("", window, now=now).counts == Summary.total("", found).counts
            assert history.one("nobody", window, now=now).runs == 0


def test_a_pattern_is_a_part_of_the_name_or_the_whole_with_stars(tmp_path: Path) -> None:
    names = ["checks/a.py::test_x[1]", "checks/a.py::test_x[2]", "checks/b.yml::shop?", "Straße"]
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(check=name) for name in names])
        for pattern, found in (
            ("test_x[1]", names[:1]), ("*[2]", names[1:2]), ("shop?", names[2:3]), ("shop*", []), ("a.py", names[:2]),
            ("ß", names[3:]), ("", [*sorted(names[3:]), *names[:3]]),
        ):  # fmt: skip
            assert [one.check for one in history.summaries(pattern)] == sorted(found), pattern


def summary(buckets: dict[float, int], held: int = 1, failed: int = 0) -> Summary:
    counts = [held, failed, *[0] * (len(Outcome) - 2)]
    return Summary.of("a", [*counts, 1.0, *(buckets.get(bound, 0) for bound in (*BUCKETS, math.inf))])


def test_quantiles_are_linear_inside_a_bucket_and_end_at_the_highest_bound() -> None:
    assert summary({0.1: 10, 0.25: 10}).quantile(0.5) == pytest.approx(0.1)
    assert summary({0.1: 10, 0.25: 10}).quantile(0.75) == pytest.approx(0.175)
    assert summary({0.005: 4}).quantile(0.5) == pytest.approx(0.0025)
    assert summary({math.inf: 3}).quantile(0.99) == 10.0
    assert summary({}).quantile(0.5) is None


@given(st.lists(st.integers(0, 50), min_size=12, max_size=12), st.floats(0, 1))
@settings(deadline=None)
def test_a_quantile_lies_in_the_bucket_that_it_falls_into(buckets: list[int], q: float) -> None:
    found = Summary.of("a", [*[0] * len(Outcome), 0.0, *buckets]).quantile(q)
    if not sum(buckets):
        assert found is None
        return
    assert found is not None
    below = sum(count for bound, count in zip(BUCKETS, buckets, strict=False) if bound < found)
    within = sum(count for low, count in zip((0.0, *BUCKETS), buckets, strict=False) if low <= found)
    assert below <= q * sum(buckets) + 1e-9
    assert found == BUCKETS[-1] or within >= q * sum(buckets) - 1e-9


def test_no_data_is_neither_up_nor_down() -> None:
    assert summary({}, held=0).availability is None
    assert summary({}, held=3, failed=1).availability == 0.75


def test_what_is_no_number_is_kept_and_counted_in_no_histogram(tmp_path: Path) -> None:
    odd = [math.nan, math.inf, -math.inf, -1.0]
    with History(tmp_path / "h.sqlite") as history:
        history.append([Result("a", Outcome.HELD, 1.0 + at, value) for at, value in enumerate(odd)])
        history.append([Result("a", Outcome.HELD, math.nan, 0.1), Result("a", Outcome.HELD, 1e300, 0.1)])
        assert [math.isnan(one.duration) for one in history.results("a")] == [True] * 4 + [False] * 2
        (latest,) = history.latest()
        assert (latest.totals.runs, sum(latest.totals.buckets), latest.totals.seconds) == (6, 2, 0.2)
        assert latest.result.started == pytest.approx(latest.streak.last_held)


def test_any_text_can_be_written(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    names = ["\ud800", "\\ud800", "nul\0in it", "x" * 10_000, "🛫\u202e", "'; DROP TABLE checks; --"]
    with History(tmp_path / "h.sqlite") as history:
        history.append(
            [Result(name, Outcome.FAILED, 1.0, 0.1, reason="\udfff", facts={"got": "\ud800"}) for name in names]
        )
        history.append([Result("loop", Outcome.FAILED, 1.0, 0.1, facts=loop)])
        assert history.results(names[0])[0].reason == "\\udfff"
        assert len(history.results(names[1])) == 2, "an escaped surrogate and its escape are one check"
        assert all(history.streak(name) for name in names)
        assert len(history.latest()) == len(names)


def test_two_writers_count_together(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as one, History(tmp_path / "h.sqlite") as other:
        for at in range(10):
            (one, other)[at % 2].append([result(Outcome.FAILED, float(at))])
        streak = one.streak("a")
        assert streak is not None
        assert (streak.runs, streak.since) == (10, 0.0)
        assert one.latest()[0].totals.runs == 10


def test_after_a_failed_write_nothing_is_remembered_that_is_not_in_the_file(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result()])
        history._db.execute("PRAGMA max_page_count = 8")
        many = [Result(name, Outcome.FAILED, 2.0, 0.0, reason="x" * 9000) for name in ("a", "new")]
        with pytest.raises(HistoryError):
            history.append(many)
        history._db.execute("PRAGMA max_page_count = 100000")
        history.append([result(started=3.0), result(started=3.0, check="new")])
        streak = history.streak("a")
        assert streak is not None
        assert (streak.outcome, streak.runs) == (Outcome.HELD, 2)
        assert len(history.results("new")) == 1


def engine(shard: str = "1/1", **rest: float) -> Engine:
    return Engine(shard, 42, NOW, NOW + 1, lag_buckets=[1] * (len(BUCKETS) + 1), stale=["checks/a.py"], **rest)  # type: ignore[arg-type]


def test_an_engine_is_what_it_last_said(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([], engine=engine(missed=1))
        history.append([result()], engine=engine(missed=2))
        history.append([], engine=engine("2/2"))
        assert history.engines() == [engine(missed=2), engine("2/2")]
        assert Engine.from_json('{"shard": "1/1", "pid": 1, "started": 0, "updated": 0, "newer": 1}').checks == 0


def test_a_second_engine_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    with History(file) as history, history.claim("1/2") as first:
        with pytest.raises(ClaimError, match=r"in use by another engine, process \d+ \(shard 1/2\).*UPCHECK_HISTORY"):
            history.claim("1/2")
        Claim(file, "2/2").close()
        with pytest.raises(ClaimError, match=r"shard 1/2\), so shard 1/3"):
            history.claim("1/3")
        first.close()
        history.claim("1/3").close()


@pytest.mark.parametrize("shard", ["", "0/1", "2/1", "1", "1/0", "a/b", "1/2/3", "-1/2"])
def test_a_shard_is_i_of_n(tmp_path: Path, shard: str) -> None:
    with pytest.raises(ValueError, match="expected i/n"):
        Claim(tmp_path / "h", shard)


def test_a_history_to_read_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"no history at .*`upcheck check` makes one"):
        History(tmp_path / "h.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_history_that_is_only_read_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite").write_bytes(b"damaged" * 100)
    with pytest.raises(HistoryError, match="can't be read"):
        History(tmp_path / "h.sqlite", read_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["h.sqlite"]


def test_what_is_old_goes_and_the_sums_stay(tmp_path: Path) -> None:
    file = tmp_path / "h.sqlite"
    begin = NOW - NOW % HOUR - 420 * DAY
    old = [result(started=begin + at * 60, check=f"c{at % 5}") for at in range(12_000)]
    recent = [result(Outcome.FAILED, NOW - at * 60, "c0") for at in range(100)]
    with History(file) as history:
        history.append(old)
        history.append(recent)
        history._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = file.stat().st_size
        gone = history.prune(NOW, budget=30)
        hours = 5 * 12_000 // 60  # each hour of the old has a rollup of each check
        assert gone == 12_000 + hours
        history._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert file.stat().st_size < size / 2
        assert len(history.results("c0")) == 100
        assert history.summary("c", 500 * DAY, now=NOW).counts == {
            **dict.fromkeys(Outcome, 0), Outcome.HELD: 12_000, Outcome.FAILED: 100,
        }  # fmt: skip
        assert sum(one.totals.runs for one in history.latest()) == 12_100
    days = rows(file, "SELECT start FROM rollups WHERE span = 86400")
    assert [start for (start,) in days if int(str(start)) % DAY] == []
    assert len(days) <= 5 * (12_000 // 1440 + 2) + 2


def test_a_window_that_begins_where_results_are_gone_takes_the_whole_hour(tmp_path: Path) -> None:
    hour = NOW - NOW % HOUR - 20 * HOUR
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=hour + at) for at in (600, 1800, 3000)] + [result(started=NOW)])
        window = NOW - (hour + 1200)
        assert history.summary("a", window, now=NOW).runs == 3
        history.prune(NOW, keep=10 * HOUR)
        assert history.summary("a", window, now=NOW).runs == 4
        history.append([result(started=hour + 700)])
        assert history.summary("a", window, now=NOW).runs == 5, "what comes late counts before it is folded"
        fold(history._db)
        assert history.summary("a", window, now=NOW).runs == 5


def test_a_window_that_begins_where_hours_are_gone_takes_the_whole_day(tmp_path: Path) -> None:
    day = NOW - NOW % DAY - 410 * DAY
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=day + hour * HOUR) for hour in range(24)] + [result(started=NOW)])
        window = NOW - (day + 12 * HOUR)
        assert history.summary("a", window, now=NOW).runs == 13
        history.prune(NOW)
        assert history.summary("a", window, now=NOW).runs == 25
        history.append([result(started=day + 2.5 * HOUR)])
        assert history.summary("a", window, now=NOW).runs == 26
        fold(history._db)
        assert history.summary("a", window, now=NOW).runs == 26


def test_pruning_ends_in_its_time_and_goes_on_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upcheck.history.retention.CHUNK", 10)
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=NOW - 50 * DAY + at) for at in range(1_000)] + [result(started=NOW)])
        assert history.prune(NOW, budget=0) == 0
        deleted = 0
        while some := history.prune(NOW, budget=0.001):
            assert some < 1_000
            deleted += some
        assert deleted == 1_000


def test_a_clock_that_is_ahead_deletes_nothing(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=NOW)])
        assert history.prune(NOW + 365 * DAY) == 0
        assert len(history.results("a")) == 1


def answers(history: History) -> list[object]:
    """What *history* says when it is asked everything; sums of seconds as exact as any order of addition gives."""
    windows = (60.0, 1800.0, HOUR, 5.5 * HOUR, 26 * HOUR, 3 * DAY, 40 * DAY, 410.7 * DAY, 411.3 * DAY)
    summaries = [one for window in windows for one in history.summaries("", window, now=NOW)]
    latest = history.latest()
    return [
        [replace(one, seconds=round(one.seconds, 6)) for one in summaries],
        [replace(one, totals=replace(one.totals, seconds=round(one.totals.seconds, 6))) for one in latest],
        [history.streak(one.check) for one in summaries],
        [history.results(one.check, since=since, limit=limit)
         for one in summaries for since in (0.0, NOW - DAY) for limit in (-1, 3)],
        [history.listed("", window, limit=limit, now=NOW) for window in windows for limit in (1, 7, 1000)],
    ]  # fmt: skip


runs = st.builds(
    Result,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(list(Outcome)),
    st.one_of(
        st.floats(NOW - 4 * DAY, NOW + HOUR),
        st.floats(NOW - 412 * DAY, NOW - 410 * DAY),
        st.sampled_from([NOW - 1, NOW // HOUR * HOUR, NOW // DAY * DAY]),
    ),
    st.one_of(st.floats(0, 20), st.sampled_from([*BUCKETS, -1.0, math.inf])),
    facts=st.sampled_from([{"line": 3}, {"line": 3, "got": "x"}, {}]),
)


@given(st.lists(st.tuples(st.lists(runs, max_size=40), st.sampled_from(["", "fold", "prune"])), max_size=6))
@settings(deadline=None, max_examples=60)
def test_a_fold_changes_no_answer(batches: list[tuple[list[Result], str]]) -> None:
    batches = [([replace(one, duration=5.0) if not 0 <= one.duration < math.inf else one for one in batch], then)
               for batch, then in batches]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, History(Path(folder, "h.sqlite")) as history:
        for batch, then in batches:
            history.append(batch)
            if then == "fold":
                fold(history._db)
            elif then == "prune":
                history.prune(NOW, keep=DAY)
        before = answers(history)
        every = [one for batch, _ in batches for one in batch]
        assert sum(one.totals.runs for one in history.latest()) == len(every)
        fold(history._db)
        assert waiting(history._db) == 0
        assert answers(history) == before
        for one in history.latest():
            mine = [run for run in every if run.check == one.result.check]
            assert (dict(one.totals.counts), list(one.totals.buckets)) == counted(mine)


def test_durations_that_are_none_are_folded_too(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([Result("a", Outcome.HELD, NOW + at, value) for at, value in enumerate((math.nan, -1.0, 0.25))])
        before = history.latest()[0].totals
        fold(history._db)
        assert history.latest()[0].totals == before
        assert (before.runs, sum(before.buckets), before.seconds) == (3, 1, 0.25)


@pytest.mark.parametrize("count", [0, 1, 5, 33, 255, 256, 257, 1000])
def test_a_batch_of_any_size_is_written_whole(tmp_path: Path, count: int) -> None:
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=NOW + at, check=f"c{at}") for at in range(count)])
        assert {one.result.check: one.result.started - NOW for one in history.latest()} == {
            f"c{at}": float(at) for at in range(count)
        }
        assert len(history.listed("", limit=2000, now=NOW)) == count


def test_a_fold_comes_after_some_rows_or_some_time_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upcheck.history.writer.FOLD_ROWS", 10)
    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=NOW + at) for at in range(9)])
        assert waiting(history._db) == 9
        history.append([result(started=NOW + 9)])
        assert waiting(history._db) == 0
        history.append([result(started=NOW + 10)])
        history._writer._fold_at = 0.0  # long ago
        history.append([])
        assert waiting(history._db) == 0
        history.append([result(started=NOW + 11)])
    assert rows(tmp_path / "h.sqlite", "SELECT count(*) FROM results") == [(12,)]
    with History(tmp_path / "h.sqlite", read_only=True) as history:
        assert history.latest()[0].totals.runs == 12


def test_nothing_goes_that_is_not_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with History(tmp_path / "h.sqlite") as history:
        history.append([result(started=NOW - 50 * DAY + at) for at in range(10)])
        fold(history._db)
        history.append([result(started=NOW - 50 * DAY + at) for at in range(7)] + [result(started=NOW)])
        with monkeypatch.context() as patch:
            patch.setattr("upcheck.history.retention.fold", full)
            assert history.prune(NOW) == 10, "those that are folded go, to make room"
        assert len(history.results("a")) == 8
        assert history.latest()[0].totals.runs == 18
        assert history.prune(NOW) == 7
        assert len(history.results("a")) == 1
        assert history.latest()[0].totals.runs == 18
        assert history.summary("a", 60 * DAY, now=NOW).runs == 18


def test_what_can_not_be_folded_is_in_the_file_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def full(_: sqlite3.Connection) -> None:
        tried.append(1)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("upcheck.history.writer.FOLD_ROWS", 10)
    with History(tmp_path / "h.sqlite") as history:
        with monkeypatch.context() as patch:
            patch.setattr("upcheck.history.writer.fold", full)
            for at in range(25):
                history.append([result(started=NOW + at)])
        assert len(tried) == 2, "not at each batch"
        assert history.latest()[0].totals.runs == len(history.results("a")) == 25
        for at in range(25, 30):
            history.append([result(started=NOW + at)])
        assert waiting(history._db) == 0
        assert history.latest()[0].totals.runs == 30
