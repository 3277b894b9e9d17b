"""What services send: events in JSON, spans and metrics in OTLP. Decoded whole, then recorded; bounded per client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from upcheck.collector.limits import BodyError, RateLimit, client_of, parsed, read_body
from upcheck.exposition import Block, Family
from upcheck.recording import RecordingError
from upcheck.recording.otlp import OtlpError, Taken, from_json
from upcheck.recording.otlp.points import Points
from upcheck.recording.otlp.spans import Raised, Spans

if TYPE_CHECKING:
    from starlette.requests import Request

    from upcheck.recording import Recorder

MAX_BODY = 4 * 1024 * 1024  # bytes, as sent and as decoded
DEADLINE = 10.0  # seconds for a body to arrive
RATE, BURST = 50_000, 200_000  # events, spans or points: a second, and at once, of one client
MAX_ERRORS = 20  # told of one batch
_BREATH = 2_000  # events, after which other requests have their turn
REFUSED = Family(
    "upcheck_ingest_refused_total", "counter", ("source",), "Events, spans and data points that were not taken in."
)
PATHS = {
    "/api/events": "POST: events of services, as JSON",
    "/v1/traces": "POST: OpenTelemetry spans (OTLP/HTTP)",
    "/v1/metrics": "POST: OpenTelemetry metrics (OTLP/HTTP)",
}


class Ingest:
    """The endpoints that take in; `routes` has one for each of PATHS. A source of /metrics for what was refused."""

    def __init__(self, recorder: Recorder, alarm: Callable[[Raised], None]) -> None:
        """*alarm* is called with each alert that a span raises."""
        self._recorder = recorder
        self._limit = RateLimit(RATE, BURST)
        self._refused = {"events": 0, "traces": 0, "metrics": 0}
        spans, points = Spans(recorder, alarm), Points(recorder)
        self.routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/events": self._events,
            "/v1/traces": partial(self._otlp, source="traces", take=spans.take),
            "/v1/metrics": partial(self._otlp, source="metrics", take=points.take),
        }

    def blocks(self) -> Iterator[Block]:
        """How much was refused."""
        lines = [f'{REFUSED.name}{{source="{source}"}} {count}\n' for source, count in self._refused.items()]
        yield REFUSED, "".join(lines)

    async def _events(self, request: Request) -> Response:
        try:
            told = _told(await self._body(request, "events"))
            self._afford(request, len(told))
        except BodyError as error:
            return self._refuse(error, "events")
        taken = Taken()
        errors = []
        for index, one in enumerate(told):
            try:
                if not isinstance(one, dict):
                    raise RecordingError("expected an object")
                taken.take(self._recorder.tell(one))
            except RecordingError as error:
                errors.append({"index": index, "error": str(error)})
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        for service, count in taken.taken.items():
            self._recorder.took(service, count)
        self._refused["events"] += len(errors)
        accepted = len(told) - len(errors)
        answer = {"accepted": accepted, "rejected": len(errors), "errors": errors[:MAX_ERRORS]}
        return JSONResponse(answer, 400 if errors and not accepted else 200)

    async def _otlp(self, request: Request, source: str, take: Callable[[Iterable[Any]], Taken]) -> Response:
        try:
            decoder, content_type = _decoder(request)
            body = await self._body(request, source)
            decode = decoder.spans if source == "traces" else decoder.points
            batches = decode(body)
            self._afford(request, sum(len(found) for _, found in batches))
        except OtlpError as error:
            return self._refuse(BodyError(400, str(error)), source)
        except BodyError as error:
            return self._refuse(error, source)
        taken = take(batches)
        self._refused[source] += taken.refused
        answer = decoder.traces_answer(taken) if source == "traces" else decoder.metrics_answer(taken)
        return Response(answer, media_type=content_type)

    async def _body(self, request: Request, source: str) -> bytes:
        wait = self._limit.wait(client_of(request.scope))
        if wait:
            raise _TooMuchError(wait, source)
        return await read_body(request, limit=MAX_BODY, deadline=DEADLINE)

    def _afford(self, request: Request, count: int) -> None:
        wait = self._limit.take(client_of(request.scope), max(1, count))
        if wait:
            raise _TooMuchError(wait, "events")

    def _refuse(self, error: BodyError, source: str) -> Response:
        self._refused[source] += 1
        headers = {"Retry-After": f"{error.wait:.0f}"} if isinstance(error, _TooMuchError) else None
        return JSONResponse({"error": str(error)}, error.status, headers=headers)


class _TooMuchError(BodyError):
    """A client is over its rate: *wait* is the seconds after which it may come again."""

    def __init__(self, wait: float, source: str) -> None:
        self.wait = max(1.0, wait)
        super().__init__(429, f"more than {RATE} {source} a second: come again in {self.wait:.0f} s")


def _told(body: bytes) -> list[Any]:
    """The events in *body*: an object, a list of objects, or an object with such a list under `events`."""
    told = parsed(body)
    if isinstance(told, dict) and isinstance(told.get("events"), list):
        told = told["events"]
    if isinstance(told, dict):
        return [told]
    if not isinstance(told, list):
        raise BodyError(400, f"expected an event or a list of events, not {json.dumps(told)[:80]}")
    return told


def _decoder(request: Request) -> tuple[ModuleType, str]:
    """What decodes the body of *request* and encodes the answer, by its Content-Type; raises BodyError."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return from_json, content_type
    if content_type != "application/x-protobuf":
        raise BodyError(415, "Content-Type: expected application/x-protobuf or application/json")
    try:
        from upcheck.recording.otlp import from_protobuf  # 4 MB of memory that only who sends protobuf should cost
    except ImportError:
        fix = "pip install 'upcheck[otlp]' where the collector runs, or send application/json"
        raise BodyError(501, f"protobuf is read with opentelemetry-proto, which is not installed: {fix}") from None
    return from_protobuf, content_type
