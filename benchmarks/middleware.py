"""What recording a request costs, beside starlette_exporter and the FastAPI instrumentator, at 50 routes.

`python -m benchmarks.middleware`; needs `pip install starlette-exporter prometheus-fastapi-instrumentator`. Requests go
straight to the ASGI application, in turns, and what the bare application takes is subtracted.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.responses import Response
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware

from upcheck.recording import Recorder
from upcheck.recording.asgi import RecordRequests

ROUTES = 50
REQUESTS = 500  # in a round, spread over the routes
ROUNDS = 40  # in turns, and the least counts: what disturbs only adds
SERVICES = Path(__file__).parents[1] / "monitoring/services"


def application() -> FastAPI:
    async def answer(_: Any) -> Response:
        return Response(b"ok")

    # Plain routes: what FastAPI does for its own would drown what is measured.
    return FastAPI(routes=[Route(f"/things{number}/{{thing}}", answer) for number in range(ROUTES)])


async def seconds(app: Any) -> float:
    """CPU seconds that one request takes."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(_: Any) -> None: ...

    scopes: list[dict[str, Any]] = [
        {
            "type": "http",
            "method": "GET",
            "path": f"/things{number % ROUTES}/{number}",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
            "query_string": b"",
            "scheme": "http",
            "server": ("localhost", 80),
        }
        for number in range(REQUESTS)
    ]
    started = time.process_time()
    for scope in scopes:
        await app(scope, receive, send)
    return (time.process_time() - started) / REQUESTS


async def main() -> None:
    ours = application()
    recording = Recorder.load(SERVICES).event("coderunner", "api_request")
    ours.add_middleware(RecordRequests, recording=recording)
    exporter = application()
    exporter.add_middleware(PrometheusMiddleware, group_paths=True)
    instrumentator = application()
    Instrumentator(registry=CollectorRegistry()).instrument(instrumentator)
    apps = {"bare": application(), "ours": ours, "starlette_exporter": exporter, "instrumentator": instrumentator}
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(ROUNDS):
        for name, app in apps.items():
            times[name].append(await seconds(app))
    least = {name: min(rounds) for name, rounds in times.items()}
    added = {name: (each - least["bare"]) * 1e6 for name, each in least.items()}
    spread = statistics.pstdev(times["bare"]) * 1e6
    line = {
        "us_per_request": round(added["ours"], 2),
        "vs_starlette_exporter": round(added["ours"] / added["starlette_exporter"], 3),
        "vs_instrumentator": round(added["ours"] / added["instrumentator"], 3),
        "starlette_exporter_us": round(added["starlette_exporter"], 1),
        "instrumentator_us": round(added["instrumentator"], 1),
        "bare_us": round(least["bare"] * 1e6, 1),
        "bare_spread_us": round(spread, 1),
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
