"""HTTP requests as an event of the catalogue: what the ASGI and the WSGI middleware share."""

from __future__ import annotations

from collections.abc import Callable

from upcheck.recording.event import Recording
from upcheck.recording.family import Action, RecordingError

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

Done = Callable[[float, int, int], None]
"""Records one request that took these seconds, and had these bytes in its body and in its response's."""


class Requests:
    """How requests are recorded: the fields of an event, known by their span attributes.

    *sized*: whether the sizes of the bodies are asked for.
    """

    def __init__(self, recording: Recording) -> None:
        """Raises RecordingError where the event needs what no request has, or can't tell one route from another."""
        self._recording = recording
        self._known: dict[tuple[str, str | None, int], Done] = {}
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

    def record(self, method: str, route: str | None, status: int) -> Done:
        """What records a request with these labels; *route* is None where it met none."""
        done = self._known.get((method, route, status))
        return done if done is not None else self._find(method, route, status)

    def _find(self, method: str, route: str | None, status: int) -> Done:
        told = {"method": method, "route": route or UNMATCHED, "status": status} | dict.fromkeys(_MEASURED, 0)
        actions = self._recording.actions([None if fact is None else told[fact] for fact in self._facts])
        measured = tuple((action, _MEASURED.index(self._facts[index] or "")) for action, index in actions.valued)
        done = _done(actions.constants, measured)
        if actions.lasting:
            self._known[method, route, status] = done
        return done


def _done(constants: tuple[tuple[Action, float], ...], measured: tuple[tuple[Action, int], ...]) -> Done:
    timed = [action for action, which in measured if which == 0]
    if len(constants) == len(timed) == len(measured) == 1:  # a counter and a histogram: what nearly all record
        ((count, one),), (observe,) = constants, timed

        def both(seconds: float, _received: int, _sent: int) -> None:
            count(one)
            observe(seconds)

        return both

    def each(seconds: float, received: int, sent: int) -> None:
        values = (seconds, received, sent)
        for action, amount in constants:
            action(amount)
        for action, which in measured:
            action(values[which])

    return each
