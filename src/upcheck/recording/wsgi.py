"""A WSGI middleware that records each request as an event of the catalogue, under its route's template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from upcheck.recording.event import Recording
from upcheck.recording.request import Requests

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class RecordRequests:
    """Records each request: `app.wsgi_app = RecordRequests(app.wsgi_app, recorder.event("shop", "api_request"))`.

    The fields are known as in the ASGI middleware. The route is the template that Flask (Werkzeug) or Bottle leave in
    the environment; for others *route* tells it. A request that met none is `unmatched`. It counts as done when its
    response is closed.
    """

    def __init__(
        self,
        app: WSGIApplication,
        recording: Recording,
        *,
        route: Callable[[WSGIEnvironment], str | None] | None = None,
    ) -> None:
        """Raises RecordingError where the event needs what no request has."""
        self._app = app
        self._requests = Requests(recording)
        self._route = route or _template

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status = 500
        route: str | None = None
        started = perf_counter()

        def starting(line: str, *rest: Any) -> Any:
            nonlocal status, route
            status, route = int(line[:3]), self._route(environ)  # Flask forgets its request before it is closed
            return start_response(line, *rest)

        def ended(sent: int) -> None:
            length = environ.get("CONTENT_LENGTH") or ""
            received = int(length) if length.isdecimal() and len(length) < 16 else 0
            take = self._requests.take(environ["REQUEST_METHOD"], route or self._route(environ), status)
            take((perf_counter() - started, received, sent))

        try:
            return _Response(self._app(environ, starting), ended)
        except BaseException:
            ended(0)
            raise


class _Response:
    """The response of the application, which tells when it is closed."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[int], None]) -> None:
        self._body = body
        self._ended: Callable[[int], None] | None = ended
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._sent += len(part)
            yield part

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            if self._ended is not None:
                self._ended(self._sent)
                self._ended = None


def _template(environ: WSGIEnvironment) -> str | None:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None) or environ.get("bottle.route")
    return getattr(rule, "rule", None)
