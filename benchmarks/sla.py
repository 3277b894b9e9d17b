"""How long an SLA of 30 days takes to be told, over 10,000 checks that ran each minute: `python -m benchmarks.sla`.

*one_ms*: availability and p99 of one check, through the source that the fixture `sla` asks. *all_ms*: of all checks
taken together. *each_ms*: of each of them. *naive_ms*, the peer: the same sums over the rows of each hour, in SQL.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from upcheck.history import DAY, HOUR, History
from upcheck.history.tally import ALL_TIME, COLUMNS, MARK
from upcheck.result import Outcome, Result
from upcheck.sla import HistorySource, Sla

CHECKS, DAYS, ROUNDS = 10_000, 31, 7
AN_HOUR = {"held": 59, "failed": 1, "seconds": 3.0, "b3": 50, "b6": 9, "b8": 1}  # what a check's runs come to


def fill(file: Path) -> None:
    """Put down what a month of runs has left: each hour is like the next, so that a mark is a multiple of one."""
    now = int(time.time())
    first = (now // DAY - DAYS) * DAY
    hours = (now - first) // HOUR
    with History(file) as history:
        history.append(
            [Result(f"checks/api.yml::endpoint {one}", Outcome.HELD, now - 60, 0.04) for one in range(CHECKS)]
        )
        history.prune()  # which folds
        db = history._db
        names = ", ".join(COLUMNS)
        hour = ", ".join(f"{AN_HOUR.get(name, 0)} * :times" for name in COLUMNS)
        numbers = "WITH RECURSIVE hours(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM hours WHERE n + 1 < :hours)"
        db.execute("BEGIN")
        db.execute("DELETE FROM marks")
        db.execute(f"DELETE FROM rollups WHERE span != {DAY}")
        db.execute(
            f"INSERT INTO rollups (span, start, check_id, {names}) {numbers} "
            f"SELECT {HOUR}, {first} + n * {HOUR}, id, {hour} FROM hours CROSS JOIN checks",
            {"hours": hours, "times": 1},
        )
        db.execute(
            f"INSERT INTO rollups (span, start, check_id, {names}) SELECT {ALL_TIME}, 0, id, {hour} FROM checks",
            {"times": hours},
        )
        for mark in range(first, now, MARK):
            db.execute(
                f"INSERT INTO marks (start, check_id, {names}) SELECT {mark}, id, {hour} FROM checks",
                {"times": (mark - first) // HOUR},
            )
        db.execute("COMMIT")


def median_ms(ask: Callable[[], object]) -> float:
    """Milliseconds that *ask* takes, the middle of several rounds after a first one."""
    ask()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 3)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.sqlite"
        fill(file)
        source = HistorySource(file)
        check = "checks/api.yml::endpoint 4711"

        def one() -> tuple[float, float]:
            sla = Sla(check, "30d", source.past(check, "", 30 * DAY))
            return sla.availability, sla.latency(0.99)

        with History(file, read_only=True) as history:

            def together() -> tuple[float | None, float | None]:
                found = history.summary("", 30 * DAY)
                return found.availability, found.quantile(0.99)

            def each() -> list[tuple[float | None, float | None]]:
                return [(found.availability, found.quantile(0.99)) for found in history.summaries("", 30 * DAY)]

            sums = ", ".join(f"sum({name})" for name in COLUMNS)

            def naive() -> object:
                since = (time.time() - 30 * DAY) // HOUR * HOUR
                return history._db.execute(
                    f"SELECT check_id, {sums} FROM rollups WHERE span = {HOUR} AND start >= {since} GROUP BY check_id"
                ).fetchall()

            answers = {round(availability or 0, 9) for availability, _ in (one(), together(), *each())}
            if answers != {round(59 / 60, 9)}:
                raise SystemExit(f"the answers differ: {sorted(answers)[:5]}")
            figures = {"one_ms": median_ms(one), "all_ms": median_ms(together), "each_ms": median_ms(each)}
            began = time.perf_counter()
            naive()
            figures["naive_ms"] = round(1000 * (time.perf_counter() - began), 1)
            figures["checks"] = CHECKS
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
