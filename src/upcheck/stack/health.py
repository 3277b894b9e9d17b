"""How each service of a stack is, and why it is not well."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from upcheck.history import History, HistoryError
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.settings import Settings
from upcheck.stack.record import Record, Run, process
from upcheck.stack.services import Service

_DEADLINE = 2.0  # seconds for an answer
_QUIET = 60.0  # seconds after which an engine that wrote nothing is taken for dead


@dataclass(frozen=True, slots=True)
class Standing:
    """How a service is: *why* it is not well, or nothing; how it runs; *memory* of it and its children in bytes."""

    service: Service
    why: str
    run: Run
    memory: int = 0

    @property
    def healthy(self) -> bool:
        return not self.why


def standings(settings: Settings, record: Record) -> list[Standing]:
    """How each service of the plan is, asked now."""
    state, supervised = record.state(), record.running
    runs = state.runs if state else {}
    return [_standing(settings, record, one, runs.get(one.name, Run()), supervised) for one in record.plan()]


def _standing(settings: Settings, record: Record, service: Service, run: Run, supervised: bool) -> Standing:
    found = process(run.pid, run.created)
    if found is None:
        why = run.ended or "not running"
        said = record.last_line(service.name) if "exit code" in run.ended else ""  # its reason; a signal's is elsewhere
        again = "" if supervised else "; nobody brings it back"
        return Standing(service, f"{why}{again}{said and f': {said}'}", run)
    why = _unanswered(service.ready) if service.ready else _silent(settings, run)
    return Standing(service, why, run, memory(found))


def _unanswered(url: str) -> str:
    """Why *url* does not answer 200, or nothing."""
    try:
        answer = fetch(Request(url, deadline=_DEADLINE))
    except ProbeFailure as error:
        return f"GET {url}: {error}"
    return "" if answer.is_success else f"GET {url}: {answer.status}"


def _silent(settings: Settings, run: Run) -> str:
    """Why the engine is not known to work, or nothing: it writes into the history each second."""
    try:
        with History(settings.history, read_only=True) as history:
            updated = max((one.updated for one in history.engines()), default=0.0)
    except HistoryError as error:
        return str(error)
    if updated < run.since:
        return "has not written into the history yet"
    return (
        "" if time.time() - updated < _QUIET else f"has not written into the history for {time.time() - updated:.0f} s"
    )


def memory(found: psutil.Process) -> int:
    """Of a process and its children, in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error):  # it has ended
        for one in (found, *found.children(recursive=True)):
            total += one.memory_info().rss
    return total
