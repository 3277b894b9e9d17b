"""What a watch tells people: lines, and the live view."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from upcheck.result import Outcome, Result
from upcheck.state import Condition, State, step
from upcheck.watch.board import Board
from upcheck.watch.display import Display, picture, sparkline
from upcheck.watch.schedule import Schedule
from upcheck.watch.writer import Lag


def result(name: str, outcome: Outcome, started: float = 1000.0, reason: str = "", duration: float = 0.02) -> Result:
    return Result(f"checks/{name}", outcome, started, duration, reason=reason, facts={"name": name, "got": reason})


def drawn(board: Board, width: int = 100, height: int = 20) -> list[str]:
    schedule = Schedule(0.0, 1)
    schedule.update([(check, 60.0) for check in [*board.rows, "checks/waits"]], now=0.0)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(picture(board, schedule, Lag(), 1.5, height))
    return out.getvalue().splitlines()


def test_what_does_not_hold_comes_first_and_keeps_its_columns() -> None:
    board = Board()
    board.take(result("fine", Outcome.HELD))
    board.take(result("bad", Outcome.FAILED, reason="[bold] 503 [/red] " * 20))
    board.stale["checks/b.yml"] = "line 3: [/red] not YAML"
    head, first, second, stale = drawn(board)[:4]
    assert head.startswith(" upcheck  1 up  1 down  1 to come   1.5 checks/s   lag p99 0 ms")
    assert first.startswith(" DOWN         bad")
    assert "[bold] 503 [/red]" in first
    assert "next in" in first
    assert second.startswith(" UP           fine")
    assert "20 ms" in second
    assert stale.startswith(" STALE        checks/b.yml")
    assert "[/red] not YAML" in stale
    assert all(len(line) <= 100 for line in (head, first, second, stale))


def test_what_has_no_room_is_counted() -> None:
    board = Board()
    for number in range(30):
        board.take(result(f"check {number}", Outcome.HELD))
    lines = drawn(board, height=13)
    assert sum(line.startswith(" UP") for line in lines) == 10
    assert " and 20 more" in lines[-1]


def test_a_change_is_a_line_and_its_end_says_how_long_it_was() -> None:
    board = Board()
    out = io.StringIO()
    display = Display("lines", board, out)
    for one in (
        result("shop", Outcome.HELD, 1000.0),
        result("shop", Outcome.FAILED, 1060.0, "503 Service Unavailable in 3 ms\nand more"),
        result("shop", Outcome.FAILED, 1120.0, "503 again"),
        result("shop", Outcome.HELD, 1180.0),
    ):
        if flip := board.take(one):
            display.changed(one, flip)
    down, up = out.getvalue().splitlines()
    assert "DOWN        shop" in down
    assert down.endswith("503 Service Unavailable in 3 ms")
    assert "UP          shop" in up
    assert up.endswith("in 20 ms, after 2 m")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, Outcome.HELD, None),
        (None, Outcome.FAILED, State.DOWN),
        (Outcome.HELD, Outcome.HELD, None),
        (Outcome.HELD, Outcome.FAILED, State.DOWN),
        (Outcome.FAILED, Outcome.FAILED, State.DOWN),
        (Outcome.FAILED, Outcome.HELD, State.UP),
    ],
)
def test_the_first_result_after_a_start(before: Outcome | None, now: Outcome, told: State | None) -> None:
    known = step(Condition(), result("shop", before, 5.0)) if before else Condition()
    board = Board(lambda check: known)
    flip = board.take(result("shop", now))
    assert (flip and flip.new) is told
    assert board.rows["checks/shop"].condition.since == (5.0 if before is now else 1000.0)


def test_forgotten_checks_are_counted_no_more() -> None:
    board = Board()
    board.take(result("a", Outcome.HELD))
    board.take(result("b", Outcome.FAILED))
    board.keep(["checks/a"])
    assert (board.counts[State.UP], board.counts[State.DOWN]) == (1, 0)
    assert board.bad() == []


def test_a_sparkline() -> None:
    assert sparkline([0.1, 0.2, None, 0.8, 0.0]) == "▁▂\N{MULTIPLICATION SIGN}█▁"
    assert sparkline([]) == ""
