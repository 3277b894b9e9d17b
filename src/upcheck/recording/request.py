"""HTTP requests as an event of the catalogue: what the ASGI and the WSGI middleware share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from upcheck.recording.event import Recording, Step
from upcheck.recording.family import RecordingError

UNMATCHED = "unmatched"  # the route of a request that met none: its path could be anything
_FACTS = {
    "http.request.method": "method",
    "http.method": "method",
    "http.route": "route",
    "http.response.status_code": "status",
    "http.status_code": "status",
    "duration": "seconds",
    "http.request.body.size": "received",
    "http.response.body.size": "sent",
}
_MEASURED = ("seconds", "received", "sent")
_FOLD = 500  # requests of one kind that wait at most to be added up

Measure = tuple[float, int, int]
"""The seconds that a request took, and the bytes in its body and in its response's."""


class Requests:
    """How requests are recorded: the fields of an event, known by their span attributes.

    To add to a counter and a histogram takes 2 us, to append to a list a twentieth of one. So the measures of each kind
    of request wait in a list, and are added up together: before the metrics are read, and when _FOLD wait.
    """

    def __init__(self, recording: Recording) -> None:
        """Raises RecordingError where the event needs what no request has."""
        self._recording = recording
        self._known: dict[tuple[str, str | None, int], _Kind] = {}
        self._passing: list[_Kind] = []
        self._folding = threading.Lock()
        self._facts: list[str | None] = []
        for field in recording.event.fields:
            fact = next((_FACTS[name] for name in field.span if name in _FACTS), None)
            if fact is None and not field.optional:
                raise RecordingError(
                    f"event {recording.event.name} is not one of HTTP requests: no span attribute of its field"
                    f" '{field.name}' is theirs ({', '.join(_FACTS)})"
                )
            self._facts.append(fact)
        self.sized = not {"received", "sent"}.isdisjoint(self._facts)
        recording.before_reading(self._fold_all)

    def take(self, method: str, route: str | None, status: int) -> Callable[[Measure], None]:
        """What takes the measure of a request with these labels; *route* is None where it met none."""
        kind = self._known.get((method, route, status))
        if kind is None:
            if len(self._passing) >= _FOLD:
                self._fold_all()
            kind = self._find(method, route, status)
        if len(kind.waiting) >= _FOLD:
            self._fold(kind)
        return kind.waiting.append

    def _find(self, method: str, route: str | None, status: int) -> _Kind:
        told = {"method": method, "route": route or UNMATCHED, "status": status} | dict.fromkeys(_MEASURED, 0)
        actions = self._recording.actions([None if fact is None else told[fact] for fact in self._facts])
        kind = _Kind([], tuple(self._step(step) for step in actions.steps))
        if actions.lasting:
            self._known[method, route, status] = kind
        else:  # a label has given way: what that leads to is not to be remembered under its value
            self._passing.append(kind)
        return kind

    def _step(self, step: Step) -> Callable[[Sequence[Measure]], None]:
        many = step.child.many(step.action)
        if isinstance(step.value, float):
            amount = step.value
            return lambda measures: many([amount] * len(measures))
        which = _MEASURED.index(self._facts[step.value] or "")
        return lambda measures: many([measure[which] for measure in measures])

    def _fold_all(self) -> None:
        passing, self._passing = self._passing, []
        for kind in (*list(self._known.values()), *passing):
            self._fold(kind)

    def _fold(self, kind: _Kind) -> None:
        with self._folding:
            measures = kind.waiting[:]
            del kind.waiting[: len(measures)]  # others may have appended meanwhile
        if measures:
            for step in kind.steps:
                step(measures)


class _Kind(NamedTuple):
    """Requests with the same labels: the measures that wait, and what is to be done with them."""

    waiting: list[Measure]
    steps: tuple[Callable[[Sequence[Measure]], None], ...]
