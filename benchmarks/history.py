"""How fast the history takes results, and answers for 30 days of them: `python -m benchmarks.history`.

Writing: batches of 1,000, once with each of 100 checks ten times in a batch, once with 1,000 of 10,000 (the worst
case: no two of a check in a batch), beside plain sqlite3's executemany into a table with an index. All folds are in the
time, as is the close. Contended: the CPU time that a row costs, the worst case again, while the main thread is busy and
lets go of the GIL often, as an engine is; what the main thread did meanwhile is taken off at its price alone.
Reading: the availability and latency of 1,000 checks over 30 days and 10 million results (ROWS in the environment says
otherwise), from rollups and, as a peer, from the rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from upcheck.history import DAY, HOUR, History
from upcheck.history.fold import tally
from upcheck.history.tally import COLUMNS
from upcheck.result import Outcome, Result

BATCHES, BATCH = 200, 1_000
CHECKS = 1_000
ROWS = int(os.environ.get("ROWS", "10_000_000"))


def results(checks: int, number: int, now: float) -> list[Result]:
    """A batch as an engine has it: facts that never change, and one that does."""
    return [
        Result(
            f"checks/api.yml::endpoint {one % checks}", Outcome.HELD, now + one / BATCH, 0.02 + one / 1e5,
            facts={"name": f"endpoint {one % checks}", "file": "checks/api.yml", "line": one % checks, "every": 10.0,
                   "timeout": 5.0, "severity": "critical", "status": 200},
        )
        for one in range(number, number + BATCH)
    ]  # fmt: skip


def rate(write: Callable[[int], object], batches: int = BATCHES) -> float:
    """Rows a second that *write* takes, a batch a call."""
    began = time.perf_counter()
    for batch in range(batches):
        write(batch)
    return batches * BATCH / (time.perf_counter() - began)


def written(folder: Path) -> dict[str, float]:
    """Rows a second: ours, and plain SQLite's."""
    figures = {}
    now = time.time() - BATCHES
    for name, checks in (("rows_per_s", 100), ("distinct_rows_per_s", 10_000)):
        batches = [results(checks, batch * BATCH, now + batch) for batch in range(BATCHES)]
        began = time.perf_counter()
        with History(folder / f"{name}.sqlite") as history:
            for batch in batches:
                history.append(batch)
        figures[name] = BATCHES * BATCH / (time.perf_counter() - began)
    db = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE results (name TEXT, started REAL, duration REAL, outcome TEXT, reason TEXT, facts TEXT)")
    db.execute("CREATE INDEX by_name ON results (name, started)")
    rows = [[(r.check, r.started, r.duration, r.outcome, r.reason, json.dumps(r.facts)) for r in b] for b in batches]

    def plain(batch: int) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", rows[batch])
        db.execute("COMMIT")

    return figures | {"plain_rows_per_s": rate(plain)}


def busy(go_on: Callable[[], bool]) -> int:
    """Small pieces of Python, and the GIL let go of twice after each, for as long as *go_on* says; how many."""
    done = 0
    reader, writer = os.pipe()
    while go_on():
        os.write(writer, b"x")
        os.read(reader, 1)
        dict.fromkeys(range(50))
        done += 1
    os.close(reader)
    os.close(writer)
    return done


def contended(folder: Path) -> dict[str, float]:
    """Microseconds a row beside a busy thread: of CPU time, and of the time that the busy thread has lost."""
    now = time.time() - 1000
    batches = [results(10_000, batch * BATCH, now + batch) for batch in range(110)]
    with History(folder / "contended.sqlite") as history:
        for batch in batches[:50]:  # checks that are known, and hours that are begun
            history.append(batch)
        history.prune()
        thread = threading.Thread(target=lambda: deque(map(history.append, batches[50:])))
        wall, cpu = time.perf_counter(), time.process_time()
        thread.start()
        done = busy(thread.is_alive)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    alone, end = time.process_time(), time.perf_counter() + 1
    counted = busy(lambda: time.perf_counter() < end)
    price = (time.process_time() - alone) / counted
    rows = 60 * BATCH / 1e6
    return {
        "contended_us_per_row": (cpu - done * price) / rows,
        "contended_lost_us_per_row": (wall - done * price) / rows,
    }


def fill(file: Path, now: float) -> None:
    """30 days of ROWS results of CHECKS checks, by SQL; the rollups are made from them."""
    History(file).close()
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -500000")
    indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE name LIKE 'results_by%'").fetchall()
    db.execute("BEGIN")
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    names = [(number, f"checks/api.yml::endpoint {number}", "{}") for number in range(1, CHECKS + 1)]
    db.executemany("INSERT INTO checks (id, name, facts) VALUES (?, ?, ?)", names)
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - 1) "
        "INSERT INTO results SELECT i % :checks + 1, :start + i * :step, 0.02 + (i * 7919 % 1000) / 5000.0, "
        "CASE i % 997 WHEN 0 THEN 'failed' ELSE 'held' END, '', '' FROM n",
        {"rows": ROWS, "checks": CHECKS, "start": now - 30 * DAY, "step": 30 * DAY / ROWS},
    )
    for _, statement in indexes:
        db.execute(statement)
    for span in (HOUR, DAY):
        sums = tally("results", start=f"CAST(started AS INTEGER) / {span} * {span}")
        db.execute(f"INSERT INTO rollups SELECT {span}, start, check_id, {', '.join(COLUMNS)} FROM ({sums})")
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def asked(file: Path, now: float) -> dict[str, float]:
    """What `upcheck history --window 30d` asks: from rollups (the median of five), and from the rows."""
    with History(file, read_only=True) as history:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            total = history.summary("", 30 * DAY, now=now)
            times.append(time.perf_counter() - began)
    db = sqlite3.connect(file)
    began = time.perf_counter()
    query = (
        "SELECT sum(outcome = 'held') * 1.0 / sum(outcome IN ('held', 'failed')), sum(duration), count(*) "
        "FROM results WHERE started >= ? GROUP BY check_id"
    )
    rows = db.execute(query, (now - 30 * DAY,)).fetchall()
    raw = time.perf_counter() - began
    db.close()
    assert total.runs == sum(row[2] for row in rows), (total.runs, sum(row[2] for row in rows))
    return {"query_30d_ms": statistics.median(times) * 1000, "raw_30d_s": raw, "file_mb": file.stat().st_size / 1e6}


def main() -> None:
    """Print the line."""
    with tempfile.TemporaryDirectory() as folder:
        figures = written(Path(folder)) | contended(Path(folder))
        now = float(int(time.time()))
        fill(Path(folder, "30d.sqlite"), now)
        figures |= asked(Path(folder, "30d.sqlite"), now)
    print(json.dumps({name: round(figure, 1) for name, figure in figures.items()} | {"rows": ROWS}))


if __name__ == "__main__":
    main()
