"""An ASGI middleware that records each request as an event of the catalogue, under its route's template."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from upcheck.recording.event import Recording
from upcheck.recording.request import Requests
from upcheck.recording.route import Scope, Templates

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED = 499  # nginx's status for a client that went away before its answer


class RecordRequests:
    """Records each request: `app.add_middleware(RecordRequests, recording=recorder.event("shop", "api_request"))`.

    Which field is which is known by the span attributes that the event gives: http.request.method, http.route,
    http.response.status_code, duration, http.request.body.size, http.response.body.size. The route is the template
    that is found from what Starlette, FastAPI or Litestar leave in the scope; for others *route* tells it. A request
    that met none is `unmatched`. Websockets are left alone.
    """

    def __init__(self, app: App, recording: Recording, *, route: Callable[[Scope], str | None] | None = None) -> None:
        """Raises RecordingError where the event needs what no request has."""
        self._app = app
        self._requests = Requests(recording)
        self._route = route or Templates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        sent = 0
        sized = self._requests.sized

        def sending(message: Message) -> Awaitable[None]:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif sized:
                sent += len(message.get("body", b""))
            return send(message)

        started = perf_counter()
        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            status = CLOSED
            raise
        finally:
            seconds = perf_counter() - started
            take = self._requests.take(scope["method"], self._route(scope), status)
            take((seconds, _length(scope) if sized else 0, sent))


def _length(scope: Scope) -> int:
    """The length of the request's body, as its header tells."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 16 else 0
    return 0
