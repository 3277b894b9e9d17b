"""The ASGI application: what is asked over HTTP, answered from what is already known."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from upcheck import __version__
from upcheck.collector import scrape
from upcheck.collector.environment import METRICS_PATH, PROBE_PATHS, EnvironmentVariableError
from upcheck.collector.push import PATH as PUSH_PATH
from upcheck.health import ComponentHealth, Health, Status
from upcheck.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from upcheck.collector.environment import Environment
    from upcheck.collector.probe import Prober
    from upcheck.collector.push import Reports
    from upcheck.collector.sampling import Sampling
    from upcheck.collector.scrape import Exposition
    from upcheck.collector.services import Services, Table
    from upcheck.system import Clock, SystemCollector
    from upcheck.system.own import OwnProcess

_DEAD_AFTER = 3  # sample intervals
_NO_STORE = {"Cache-Control": "no-store"}

_log = logging.getLogger("upcheck.collector")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application answers from, and keeps going."""

    exposition: Exposition
    system: SystemCollector
    process: OwnProcess
    sampling: Sampling
    health: Health
    services: Services
    prober: Prober
    reports: Reports
    clock: Clock
    environment: Environment


class Endpoints:
    """One method a path; `table` is what the index, the router and a 404 show."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = parts.clock.monotonic()
        pushed = ("a job reports that it ran: ?status=up&msg=&ping=", parts.reports.take)
        self.posts = {**parts.services.posts, PUSH_PATH: pushed}
        self.table: Table = {
            "/": ("this page", self.index),
            "/metrics": ("what Prometheus scrapes", self.metrics),
            "/api/metrics": ("the same", self.metrics),
            "/health/metrics": ("the same", self.metrics),
            "/api/metrics/current": ("the host, the sampling and their cost, as JSON", self.current),
            "/health": ("overall health: 200 healthy or degraded, 503 unhealthy", self.small_health),
            "/api/health": ("health of every component, same codes", self.full_health),
            "/ready": ("whether to send work here: 200 or 503", self.ready),
            "/live": ("whether the background loop is alive: 200 or 503", self.live),
            "/health/ready": ("as /ready", self.ready),
            "/health/live": ("as /live", self.live),
            **parts.services.gets,
            **parts.prober.gets,
            PUSH_PATH: pushed,
        }

    async def index(self, _: Request) -> Response:
        rows = "".join(f'<li><a href="{path}">{path}</a>: {says}</li>\n' for path, (says, _) in self.table.items())
        rows += "".join(f"<li>{path}: {says}</li>\n" for path, (says, _) in self.posts.items())
        title = f"upcheck collector {__version__}"
        page = f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{rows}</ul>\n"
        return HTMLResponse(page, headers=_NO_STORE)

    async def metrics(self, request: Request) -> Response:
        asked = request.headers
        try:
            body, headers = await self._parts.exposition.render(
                asked.get("accept", ""), asked.get("accept-encoding", "")
            )
        except scrape.ScrapeTimeoutError:
            seconds = scrape.SCRAPE_DEADLINE
            return _json({"error": f"a collector in the registry did not answer within {seconds:g} s"}, 503)
        except asyncio.CancelledError:  # by uvicorn alone, at the end of a drain
            return _json({"error": "the collector was stopped before this scrape was done"}, 503)
        except Exception as error:  # noqa: BLE001 - a user's collector may raise anything
            _log.exception("/metrics: a collector in the registry raised")
            told = redacted(f"a collector in the registry raised {type(error).__name__}: {error}")
            return _json({"error": told}, 500)
        return Response(body, headers=headers | _NO_STORE)

    async def current(self, _: Request) -> Response:
        count, seconds = self._parts.exposition.scrapes
        performance = {
            "cpu_percent": round(self._parts.sampling.cpu_percent, 3),
            "rss_bytes": self._parts.process.resident(),
            "cycle_ms": self._parts.sampling.cycles(),
            "scrapes": count,
            "scrape_mean_ms": round(1000 * seconds / count, 3) if count else None,
            "event_loop_lag": self._parts.process.lag,
        }
        return _json(
            {
                "timestamp": _iso(self._parts.clock.time()),
                "sampling": self._parts.sampling.state(),
                "performance": performance,
                "system": asdict(self._parts.system.snapshot()),
            }
        )

    async def small_health(self, _: Request) -> Response:
        overall = self._parts.health.overall()
        return _json(self._summary(overall), _code(overall))

    async def full_health(self, _: Request) -> Response:
        overall = self._parts.health.overall()
        known = self._parts.health.components()
        told = {"timestamp": _iso(self._parts.clock.time()), "checks": [_check(one) for one in known]}
        return _json(self._summary(overall) | told | {"summary": _counted(known)}, _code(overall))

    async def ready(self, _: Request) -> Response:
        if reason := self._parts.health.not_ready():
            return _json({"status": "not ready", "reason": reason}, 503)
        return _json({"status": "ready"})

    async def live(self, _: Request) -> Response:
        age, interval = self._parts.system.sample_age, self._parts.system.interval
        if age is not None and age <= _DEAD_AFTER * interval:
            return _json({"status": "alive"})
        last = "never ran" if age is None else f"last ran {age:.0f} s ago"
        return _json({"status": "dead", "reason": f"the background loop {last}; it should every {interval:g} s"}, 503)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """404 and 405, in JSON, with what there is instead."""
        assert isinstance(error, HTTPException)
        asked = f"{request.method[:20]} {request.url.path[:200]}"
        if error.status_code == 405:
            path = request.url.path
            answered = [*(["GET", "HEAD"] if path in self.table else []), *(["POST"] if path in self.posts else [])]
            are = "are" if len(answered) > 1 else "is"
            content = {"error": f"{asked}: only {' and '.join(answered)} {are} answered"}
            return _json(content, 405, {"Allow": ", ".join(answered)})
        return _json({"error": f"{asked}: no such path", "paths": list(self.table | self.posts)}, error.status_code)

    def _summary(self, overall: Status) -> dict[str, object]:
        uptime = round(self._parts.clock.monotonic() - self._started, 3)
        version = self._parts.environment.service_version or __version__
        service = {"service": self._parts.environment.service_name} if self._parts.environment.service_name else {}
        return {"overall": overall, "status": overall, **service, "version": version, "uptime": uptime}


def create_app(parts: Parts) -> Starlette:
    """The application. Its lifespan takes the first samples and the first health round, then keeps all going.

    Raises EnvironmentVariableError where PROMETHEUS_PATH is a path that something else has.
    """
    endpoints = Endpoints(parts)
    _arrange(endpoints.table, parts.environment)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await parts.sampling.first_round()
        await parts.health.first_round()
        work = (parts.sampling.run(), parts.health.run(), parts.process.watch(), parts.services.run())
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    app = Starlette(
        routes=[
            Route(path, handler, methods=[method])
            for method, table in (("GET", endpoints.table), ("POST", endpoints.posts))
            for path, (_, handler) in table.items()
        ],
        exception_handlers={404: endpoints.refuse, 405: endpoints.refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _arrange(table: Table, environment: Environment) -> None:
    """Add to *table* and take out of it what *environment* says."""
    path = environment.metrics_path
    if path != METRICS_PATH and path in table:
        raise EnvironmentVariableError(f"PROMETHEUS_PATH={path!r}: expected a path that nothing else stands under")
    table[path] = table[METRICS_PATH]
    for closed in () if environment.metrics else (METRICS_PATH, "/api/metrics", "/health/metrics", path):
        table.pop(closed, None)
    for closed in () if environment.probes else PROBE_PATHS:
        table.pop(closed, None)


def _json(content: object, code: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, code, headers={**(headers or {}), **_NO_STORE})


def _code(overall: Status) -> int:
    return 503 if overall is Status.UNHEALTHY else 200


def _check(component: ComponentHealth) -> dict[str, object]:
    check: dict[str, object] = {
        "name": component.name,
        "status": component.status,
        "responseTime": round(component.response_time * 1000, 3),
        "circuit": component.circuit,
        "timestamp": _iso(component.timestamp),
        "critical": component.critical,
    }
    words = {"message": component.message, "error": component.error, "details": component.details}
    return check | {key: told for key, told in words.items() if told}


def _counted(components: list[ComponentHealth]) -> dict[str, object]:
    """How many components are how, and how long the slowest took, in milliseconds."""
    counts: dict[str, object] = {status.value: sum(one.status is status for one in components) for status in Status}
    slowest = max((one.response_time for one in components), default=0.0)
    return {"total": len(components), **counts, "responseTime": round(slowest * 1000, 3)}


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
