"""The ASGI and the WSGI middleware, on real applications: routes are templates, whatever is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from upcheck.recording import Recorder, RecordingError
from upcheck.recording.asgi import RecordRequests
from upcheck.recording.wsgi import RecordRequests as RecordWsgiRequests

Samples = Callable[[Recorder], dict[str, float]]
SERVICE = """\
service: web
about: It answers.
metrics:
  web_requests_total:
    layer: application
    type: counter
    help: Requests.
    labels:
      method: [GET, POST]
      route: {any: a template, max: 100}
      status: {any: a code, max: 20}
  web_duration_seconds: {layer: application, type: histogram, help: Durations.}
  web_received_bytes_total: {layer: application, type: counter, help: Bytes.}
  web_sent_bytes_total: {layer: application, type: counter, help: Bytes.}
events:
  request:
    help: A request was answered.
    fields:
      verb: {type: text, span: [http.request.method]}
      path: {type: text, span: [http.route]}
      code: {type: http_status, span: [http.response.status_code]}
      took: {type: seconds, span: duration}
      received: {type: bytes, span: [http.request.body.size]}
      sent: {type: bytes, span: [http.response.body.size]}
    records:
      - {metric: web_requests_total, add: 1, labels: {method: $verb, route: $path, status: $code}}
      - {metric: web_duration_seconds, observe: took}
      - {metric: web_received_bytes_total, add: received}
      - {metric: web_sent_bytes_total, add: sent}
  visit:
    help: Somebody came.
    fields: {took: {type: seconds}}
    records: [{metric: web_duration_seconds, observe: took}]
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    (tmp_path / "web.yml").write_text(SERVICE)
    return Recorder.load(tmp_path / "web.yml")


async def answer(_: Request) -> Response:
    return PlainTextResponse("ok")


async def fail(_: Request) -> Response:
    raise RuntimeError("on purpose")


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"1234567890"

    await request.body()
    return StreamingResponse(parts(), 201)


def starlette(folder: Path) -> Starlette:
    return Starlette(
        routes=[
            Route("/", answer),
            Route("/fail", fail),
            Route("/users/{user}", answer),
            Route("/users/{user}/orders/{order:int}", stream, methods=["GET", "POST"]),
            Route("/files/{path:path}", answer),
            Route("/{owner}/tree/{path:path}", answer),
            Mount("/tenants/{tenant}", routes=[Route("/bills/{bill}", answer)]),
            Mount("/static", app=StaticFiles(directory=folder)),
        ]
    )


def fastapi() -> FastAPI:
    inner = APIRouter()

    @inner.get("/things/{thing}")
    def thing(thing: int) -> int:
        return thing

    app = FastAPI()
    app.include_router(inner, prefix="/v1/{area}")
    app.include_router(inner, prefix="/v2/{area}")
    return app


async def ask(app: Any, *requests: tuple[str, str], content: bytes = b"") -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        for method, path in requests:
            await client.request(method, path, content=content)


def seen(told: dict[str, float]) -> dict[tuple[str, ...], float]:
    """Requests by method, route and status."""
    start = "web_requests_total{"
    return {
        tuple(part.split("=")[1].strip('"') for part in name[len(start) : -1].split(",")): value
        for name, value in told.items()
        if name.startswith(start)
    }


def test_a_route_is_its_template(recorder: Recorder, samples: Samples, tmp_path: Path) -> None:
    app = RecordRequests(starlette(tmp_path), recorder.event("web", "request"))
    paths = ["/", "/users/7", "/users/8", "/users/7/orders/9", "/files/a/b/c", "/tenants/x/bills/5", "/none", "/users/"]
    paths.append("/alice/tree/src/main.py")
    asyncio.run(ask(app, *(("GET", path) for path in paths)))
    assert seen(samples(recorder)) == {
        ("GET", "/", "200"): 1,
        ("GET", "/users/{user}", "200"): 2,
        ("GET", "/users/{user}/orders/{order}", "201"): 1,
        ("GET", "/files/{path}", "200"): 1,
        ("GET", "/{owner}/tree/{path}", "200"): 1,
        ("GET", "/tenants/{tenant}/bills/{bill}", "200"): 1,
        ("GET", "unmatched", "404"): 2,
    }


def test_random_paths_and_methods_never_become_labels(recorder: Recorder, samples: Samples, tmp_path: Path) -> None:
    app = RecordRequests(starlette(tmp_path), recorder.event("web", "request"))
    paths = [f"{start}/{number}x" for number in range(50) for start in ("", "/users", "/static", "/users/1/orders")]
    asyncio.run(ask(app, *((f"M{number % 9}", path) for number, path in enumerate(paths)), ("GET", "/static/none.css")))
    routes = {route for _, route, _ in seen(samples(recorder))}
    assert routes <= {"/users/{user}", "/static/*", "unmatched"}
    assert {method for method, _, _ in seen(samples(recorder))} == {"other", "GET"}


@pytest.mark.parametrize("first", ["users", "7"])
def test_a_parameter_that_looks_like_the_path_is_no_trouble_once_one_does_not(
    recorder: Recorder, samples: Samples, tmp_path: Path, first: str
) -> None:
    app = RecordRequests(starlette(tmp_path), recorder.event("web", "request"))
    asyncio.run(ask(app, ("GET", f"/users/{first}"), ("GET", "/users/8"), ("GET", "/users/users"), ("GET", "/users/9")))
    told = seen(samples(recorder))
    assert told["GET", "/users/{user}", "200"] == (4 if first == "7" else 3)


def test_routers_and_their_prefixes_are_part_of_the_route(recorder: Recorder, samples: Samples) -> None:
    app = fastapi()
    app.add_middleware(RecordRequests, recording=recorder.event("web", "request"))
    paths = ["/v1/a/things/7", "/v2/a/things/7", "/v1/b/things/8", "/v1/b/things/nine", "/v3/a/things/7"]
    asyncio.run(ask(app, *(("GET", path) for path in paths)))
    assert seen(samples(recorder)) == {
        ("GET", "/v1/{area}/things/{thing}", "200"): 2,
        ("GET", "/v2/{area}/things/{thing}", "200"): 1,
        ("GET", "/v1/{area}/things/{thing}", "422"): 1,
        ("GET", "unmatched", "404"): 1,
    }


def test_what_raises_is_a_500_and_goes_on(recorder: Recorder, samples: Samples, tmp_path: Path) -> None:
    app = RecordRequests(starlette(tmp_path), recorder.event("web", "request"))
    asyncio.run(ask(app, ("GET", "/fail")))
    assert seen(samples(recorder)) == {("GET", "/fail", "500"): 1}


def test_a_client_that_goes_away_is_a_499(recorder: Recorder, samples: Samples) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    async def leave() -> None:
        app = RecordRequests(hang, recorder.event("web", "request"), route=lambda scope: "/mine")
        await asyncio.wait_for(ask(app, ("GET", "/x")), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    assert seen(samples(recorder)) == {("GET", "/mine", "499"): 1}


def test_sizes_and_durations_are_recorded(recorder: Recorder, samples: Samples, tmp_path: Path) -> None:
    app = RecordRequests(starlette(tmp_path), recorder.event("web", "request"))
    asyncio.run(ask(app, ("POST", "/users/7/orders/9"), ("POST", "/users/7/orders/9"), content=b"x" * 100))
    told = samples(recorder)
    assert (told["web_received_bytes_total"], told["web_sent_bytes_total"]) == (200, 60)
    assert told["web_duration_seconds_count"] == 2
    assert 0 < told["web_duration_seconds_sum"] < 5


def test_what_is_no_request_is_left_alone(recorder: Recorder, samples: Samples) -> None:
    scopes = []

    async def app(scope: Any, *_: Any) -> None:
        scopes.append(scope["type"])

    asyncio.run(RecordRequests(app, recorder.event("web", "request"))({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert scopes == ["lifespan"]
    assert seen(samples(recorder)) == {}


@pytest.mark.parametrize("middleware", [RecordRequests, RecordWsgiRequests])
def test_an_event_that_is_none_of_requests_is_refused(recorder: Recorder, middleware: Any) -> None:
    with pytest.raises(RecordingError, match="event visit is not one of HTTP requests: no span attribute"):
        middleware(None, recorder.event("web", "visit"))


def test_flask(recorder: Recorder, samples: Samples) -> None:
    app = flask.Flask("web")

    @app.route("/users/<int:user>", methods=["GET", "POST"])
    def user(user: int) -> tuple[Iterator[str], int]:
        return iter(["ab", str(user)]), 201

    @app.route("/fail")
    def failing() -> str:
        raise RuntimeError("on purpose")

    app.wsgi_app = RecordWsgiRequests(app.wsgi_app, recorder.event("web", "request"))  # type: ignore[method-assign]
    client = app.test_client()
    for path in ("/users/7", "/users/8", "/users/x", "/none", "/fail"):
        client.get(path).close()
    client.post("/users/9", data=b"x" * 10).close()
    told = samples(recorder)
    assert seen(told) == {
        ("GET", "/users/<int:user>", "201"): 2,
        ("POST", "/users/<int:user>", "201"): 1,
        ("GET", "unmatched", "404"): 2,
        ("GET", "/fail", "500"): 1,
    }
    assert told["web_received_bytes_total"] == 10


def test_a_wsgi_application_that_raises_is_recorded_once(recorder: Recorder, samples: Samples) -> None:
    def app(*_: Any) -> Any:
        raise RuntimeError("on purpose")

    wrapped = RecordWsgiRequests(app, recorder.event("web", "request"), route=lambda environ: "/mine")
    with pytest.raises(RuntimeError):
        wrapped({"REQUEST_METHOD": "GET", "CONTENT_LENGTH": "9" * 5000}, lambda *_: None)  # type: ignore[arg-type]
    assert seen(samples(recorder)) == {("GET", "/mine", "500"): 1}
