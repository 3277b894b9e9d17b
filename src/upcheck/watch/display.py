"""What people, and programs, read of a watch: changes as lines, as JSON, or a live view of everything."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Self, TextIO

from upcheck.redaction import redacted
from upcheck.result import Outcome, Result
from upcheck.state import Flip, State
from upcheck.watch.board import KEPT, Board, Row, name, why

if TYPE_CHECKING:
    from upcheck.watch.schedule import Schedule
    from upcheck.watch.writer import Lag

_CROSS = "\N{MULTIPLICATION SIGN}"
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    State.UP: "green", State.DOWN: "red", State.FLAPPING: "red", State.UNKNOWN: "magenta", State.PENDING: "yellow",
    State.BLOCKED: "dim", State.MAINTENANCE: "dim",
}  # fmt: skip
RATE_OVER = 30.0  # seconds
REFRESH = 0.5  # seconds between two pictures of the live view
_PLAIN = ("started", "stopping")
KINDS = ("auto", "view", "lines", "json")


class Display:
    """Tells of changes as they come. *kind*: view, lines, json, or auto: the view on a terminal, lines elsewhere."""

    def __init__(self, kind: str, board: Board, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._board = board
        if kind == "auto":
            kind = "view" if self._out.isatty() else "lines"
        self._json = kind == "json"
        if self._json and out is None:  # what others print, child processes too, is not JSON: it goes to stderr
            self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._live: Any = None
        self._shown = 0.0
        self._rate = _Rate()
        self._problem = ""
        if kind == "view":
            from rich.console import Console  # 60 ms that a daemon need not pay
            from rich.live import Live

            console = Console(file=self._out)
            self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, checks: Collection[str], notice: str) -> None:
        """Say that *checks* are watched from now on."""
        count = len(checks)
        self._tell("started", text=f"watching {count} check{'s' if count != 1 else ''}", checks=count)
        self.warn([notice] if notice else [])
        self.refused([f"{file} can't be read: {reason}" for file, reason in self._board.stale.items()])

    def stopping(self, in_flight: int) -> None:
        """Say what is waited for."""
        if in_flight:
            self._tell("stopping", text=f"stopping: {in_flight} still run; a second signal does not wait")

    def changed(self, result: Result, flip: Flip) -> None:
        """Say that a check stands otherwise than before."""
        if self._json:
            facts = {
                key: result.facts[key] for key in ("asked", "got", "want", "code", "severity") if key in result.facts
            }
            values = {"check": result.check, "state": flip.new, "alert": flip.alert, "outcome": result.outcome}
            timed = {"duration": round(result.duration, 6), "reason": result.reason, "since": flip.at}
            self._tell("changed", **values, **timed, **facts)
        else:
            ended = f", after {_span(flip.lasted)}" if flip.new is State.UP and flip.lasted is not None else ""
            self._line(change(result, flip.new) + ended, _COLOURS[flip.new])

    def reloaded(self, told: Sequence[str]) -> None:
        """Say what came of a change on disk."""
        for sentence in told:
            self._tell("reloaded", text=sentence)

    def refused(self, told: Sequence[str]) -> None:
        """Say what was not taken over, and why."""
        for sentence in told:
            self._tell("refused", text=sentence)

    def warn(self, told: Sequence[str]) -> None:
        """Say what went wrong beside the checks."""
        for sentence in told:
            self._tell("warning", text=redacted(sentence))

    def show(self, schedule: Schedule, lag: Lag, problem: str) -> None:
        """Draw the live view anew, if there is one and it is time; say once that the history has a problem."""
        if problem != self._problem:
            self._problem = problem
            self._tell("warning", text=problem or "the history can be written again")
        now = time.monotonic()
        if self._live is not None and now - self._shown >= REFRESH:
            self._shown = now
            height = self._live.console.size.height
            self._live.update(picture(self._board, schedule, lag, self._rate.of(lag.count, now), height), refresh=True)

    def _tell(self, event: str, **values: Any) -> None:
        if self._json:
            print(json.dumps({"time": round(time.time(), 3), "event": event, **values}), file=self._out, flush=True)
        else:
            text = values["text"] if event in _PLAIN else f"{event}: {values['text']}"
            self._line(f"{_clock(time.time())}  {text}", "yellow")

    def _line(self, text: str, colour: str) -> None:
        if self._live is not None:
            self._live.console.print(text, style=colour, markup=False, highlight=False)
        else:
            print(text, file=self._out, flush=True)


class _Rate:
    """Runs a second, over the last pictures."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=int(RATE_OVER / REFRESH))

    def of(self, count: int, now: float) -> float:
        self._seen.append((count, now))
        first, began = self._seen[0]
        return (count - first) / (now - began) if now > began else 0.0


def change(result: Result, state: State) -> str:
    """A change as a line: `14:02:10  DOWN     shop front page   503 after 212 ms`."""
    told = f"in {result.duration * 1000:.0f} ms" if result.outcome is Outcome.HELD else why(result)
    return f"{_clock(result.started)}  {state.upper():<11} {name(result):<40}  {told}".rstrip()


def picture(board: Board, schedule: Schedule, lag: Lag, rate: float, height: int) -> Any:
    """The live view: a line of counts, then the checks, those that do not hold first, as many as *height* allows."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    counts = [f"{board.counts[state]} {state}" for state in State if board.counts[state]]
    if waiting := len(schedule.entries.keys() - board.rows.keys()):
        counts.append(f"{waiting} to come")
    told = f"{rate:.1f} checks/s   lag p99 {lag.p99() * 1000:.0f} ms   {_clock(time.time())}"
    head = Text(f" upcheck  {'  '.join(counts)}   {told}", style="bold", no_wrap=True, overflow="ellipsis")
    table = Table(box=None, show_header=False, padding=(0, 1), expand=True)
    for width, ratio in ((11, None), (None, 3), (None, 5), (KEPT, None), (13, None)):
        table.add_column(width=width, ratio=ratio, no_wrap=True, overflow="ellipsis")
    good = sorted((row for row in board.rows.values() if row.condition.state is State.UP), key=_slow, reverse=True)
    room = max(1, height - 3 - len(board.stale))
    for row in (board.bad() + good)[:room]:
        _add(table, row, schedule)
    for file, reason in board.stale.items():
        table.add_row(Text("STALE", style="yellow"), Text(file), Text(reason))
    left = len(board.rows) - room
    return Group(head, table, Text(f" and {left} more", style="dim")) if left > 0 else Group(head, table)


def _slow(row: Row) -> float:
    return row.durations[-1] or 0.0


def _add(table: Any, row: Row, schedule: Schedule) -> None:
    from rich.text import Text

    result = row.last
    entry = schedule.entries.get(result.check)
    told = f"{result.duration * 1000:.0f} ms"
    if result.outcome is not Outcome.HELD:
        told = f"since {_clock(row.condition.since)}: {why(result)}"
    following = f"next in {_span(max(0.0, entry.due - time.monotonic()))}" if entry else ""
    word = Text(row.condition.state.upper(), style=_COLOURS[row.condition.state])
    table.add_row(word, Text(name(result)), Text(told), Text(sparkline(row.durations)), Text(following, style="dim"))


def sparkline(durations: Sequence[float | None]) -> str:
    """The durations as bars, the longest of them as high as it goes; a cross where a check did not hold."""
    top = max((one for one in durations if one), default=0.0)
    return "".join(
        _CROSS if one is None else _BARS[min(7, int(one / top * 7.99))] if top else _BARS[0] for one in durations
    )


def _span(seconds: float) -> str:
    """`21 s`, `4 m`, `3 h`: about how long."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
