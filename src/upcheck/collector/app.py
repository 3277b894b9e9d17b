"""The ASGI application: what is asked over HTTP, answered from what is already known."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from upcheck import __version__
from upcheck.collector.environment import METRICS_PATH, PROBE_PATHS, EnvironmentVariableError
from upcheck.health import ComponentHealth, Health, Status, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from upcheck.collector.environment import Environment
    from upcheck.metrics import CheckMetrics
    from upcheck.system import Clock, SystemCollector

SCRAPE_DEADLINE = 30.0  # seconds; Prometheus itself gives up after 10 unless told otherwise
PARALLEL_SCRAPES = 8  # threads at most, whatever a metric of the user's own does in them
_DEAD_AFTER = 3  # sample intervals
_EOF = b"# EOF\n"
_NO_STORE = {"Cache-Control": "no-store"}
_LEVEL = {Status.HEALTHY: 1.0, Status.DEGRADED: 0.5, Status.UNHEALTHY: 0.0}

_log = logging.getLogger("upcheck.collector")


class ScrapeTimeoutError(Exception):
    """The registry's collectors did not answer in time."""


class Exposition:
    """The registry as text, and the metrics about that very act."""

    def __init__(self, registry: CollectorRegistry, health: Health, checks: CheckMetrics) -> None:
        self._registry = registry
        self._health = health
        self._checks = checks
        self._scrapes = (0, 0.0)  # count, seconds
        self._free = asyncio.Semaphore(PARALLEL_SCRAPES)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The collector's own families; part of the registry like any other."""
        yield InfoMetricFamily("upcheck_build", "The upcheck that serves this page.", {"version": __version__})
        count, seconds = self._scrapes
        yield SummaryMetricFamily(
            "upcheck_collector_scrape_duration_seconds",
            "Seconds it took to collect and render /metrics, up to the scrape before this one.",
            count_value=count,
            sum_value=seconds,
        )
        status = GaugeMetricFamily(
            "upcheck_health_status",
            "How a health component is: 1 healthy, 0.5 degraded, 0 unhealthy.",
            labels=["component"],
        )
        for component in self._health.components():
            status.add_metric([component.name], _LEVEL[component.status])
        yield status

    async def render(self, accept: str, *, compressed: bool = False) -> tuple[bytes, str]:
        """The page in the format *accept* asks for, gzip if *compressed*, and its content type.

        Raises ScrapeTimeoutError after SCRAPE_DEADLINE, and whatever a collector of the registry raises.
        """
        encode, content_type = choose_encoder(accept)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(SCRAPE_DEADLINE) as deadline:
                await self._free.acquire()
                page = in_thread(lambda: self._page(encode, content_type, compressed))
                page.add_done_callback(lambda _: self._free.release())
                body = await asyncio.shield(page)  # a thread can't be cancelled, and keeps its place until it ends
        except TimeoutError:
            if not deadline.expired():  # a collector's own
                raise
            raise ScrapeTimeoutError from None
        count, seconds = self._scrapes
        self._scrapes = (count + 1, seconds + time.perf_counter() - started)
        return body, content_type

    def _page(self, encode: Callable[[CollectorRegistry], bytes], content_type: str, compressed: bool) -> bytes:
        openmetrics = content_type.startswith("application/openmetrics-text")
        page, checks = encode(self._registry), self._checks.page(openmetrics=openmetrics)
        page = page.removesuffix(_EOF) + checks + _EOF if openmetrics else page + checks
        return gzip.compress(page, compresslevel=1) if compressed else page  # 30 MB of text take a third of a second


class Endpoints:
    """One method a path; `table` is what the index, the router and a 404 show."""

    def __init__(self, exposition: Exposition, system: SystemCollector, health: Health, clock: Clock) -> None:
        self._exposition = exposition
        self._system = system
        self._health = health
        self._clock = clock
        self._started = clock.monotonic()
        self.table: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "/": ("this page", self.index),
            "/metrics": ("what Prometheus scrapes", self.metrics),
            "/health": ("overall health: 200 healthy or degraded, 503 unhealthy", self.small_health),
            "/api/health": ("health of every component, same codes", self.full_health),
            "/ready": ("whether to send work here: 200 or 503", self.ready),
            "/live": ("whether the background loop is alive: 200 or 503", self.live),
        }

    async def index(self, _: Request) -> Response:
        rows = "".join(f'<li><a href="{path}">{path}</a>: {says}</li>\n' for path, (says, _) in self.table.items())
        title = f"upcheck collector {__version__}"
        page = f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{rows}</ul>\n"
        return HTMLResponse(page, headers=_NO_STORE)

    async def metrics(self, request: Request) -> Response:
        compressed = gzip_accepted(request.headers.get("accept-encoding", ""))
        try:
            body, content_type = await self._exposition.render(request.headers.get("accept", ""), compressed=compressed)
        except ScrapeTimeoutError:
            return _json({"error": f"a collector in the registry did not answer within {SCRAPE_DEADLINE:g} s"}, 503)
        except asyncio.CancelledError:  # by uvicorn alone, at the end of a drain
            return _json({"error": "the collector was stopped before this scrape was done"}, 503)
        except Exception as error:  # noqa: BLE001 - a user's collector may raise anything
            _log.exception("/metrics: a collector in the registry raised")
            return _json({"error": f"a collector in the registry raised {type(error).__name__}: {error}"}, 500)
        headers = _NO_STORE | {"Vary": "Accept, Accept-Encoding"}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers | {"Content-Type": content_type})

    async def small_health(self, _: Request) -> Response:
        overall = self._health.overall()
        return _json(self._summary(overall), _code(overall))

    async def full_health(self, _: Request) -> Response:
        overall = self._health.overall()
        checks = [_check(component) for component in self._health.components()]
        now = _iso(self._clock.time())
        return _json(self._summary(overall) | {"timestamp": now, "checks": checks}, _code(overall))

    async def ready(self, _: Request) -> Response:
        if reason := self._health.not_ready():
            return _json({"status": "not ready", "reason": reason}, 503)
        return _json({"status": "ready"})

    async def live(self, _: Request) -> Response:
        age, interval = self._system.sample_age, self._system.interval
        if age is not None and age <= _DEAD_AFTER * interval:
            return _json({"status": "alive"})
        last = "never ran" if age is None else f"last ran {age:.0f} s ago"
        return _json({"status": "dead", "reason": f"the background loop {last}; it should every {interval:g} s"}, 503)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """404 and 405, in JSON, with what there is instead."""
        assert isinstance(error, HTTPException)
        asked = f"{request.method[:20]} {request.url.path[:200]}"
        if error.status_code == 405:
            content: dict[str, object] = {"error": f"{asked}: only GET and HEAD are answered"}
        else:
            content = {"error": f"{asked}: no such path", "paths": list(self.table)}
        return _json(content, error.status_code, error.headers)

    def _summary(self, overall: Status) -> dict[str, object]:
        uptime = round(self._clock.monotonic() - self._started, 3)
        return {"overall": overall, "status": overall, "version": __version__, "uptime": uptime}


def create_app(
    *,
    registry: CollectorRegistry,
    system: SystemCollector,
    health: Health,
    checks: CheckMetrics,
    clock: Clock,
    environment: Environment,
) -> Starlette:
    """The application. Its lifespan takes the first sample and the first health round, then keeps both going.

    Raises EnvironmentVariableError where PROMETHEUS_PATH is a path that something else has.
    """
    endpoints = Endpoints(Exposition(registry, health, checks), system, health, clock)
    _arrange(endpoints.table, environment)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        system.sample()
        await health.first_round()
        tasks = [asyncio.create_task(_keep_sampling(system)), asyncio.create_task(health.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    app = Starlette(
        routes=[Route(path, handler, methods=["GET"]) for path, (_, handler) in endpoints.table.items()],
        exception_handlers={404: endpoints.refuse, 405: endpoints.refuse},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _arrange(table: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]], environment: Environment) -> None:
    """Add to *table* and take out of it what *environment* says."""
    path = environment.metrics_path
    if path != METRICS_PATH and path in table:
        raise EnvironmentVariableError(f"PROMETHEUS_PATH={path!r}: expected a path that nothing else stands under")
    table[path] = table[METRICS_PATH]
    for closed in () if environment.metrics else (METRICS_PATH, path):
        table.pop(closed, None)
    for closed in () if environment.probes else PROBE_PATHS:
        table.pop(closed, None)


async def _keep_sampling(system: SystemCollector) -> None:
    await asyncio.sleep(min(1.0, system.interval))  # CPU usage needs two samples: the second comes soon
    while True:
        system.sample()
        await asyncio.sleep(system.interval)


def _json(content: object, code: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, code, headers={**(headers or {}), **_NO_STORE})


def _code(overall: Status) -> int:
    return 503 if overall is Status.UNHEALTHY else 200


def _check(component: ComponentHealth) -> dict[str, object]:
    check: dict[str, object] = {
        "name": component.name,
        "status": component.status,
        "responseTime": round(component.response_time * 1000, 3),
        "timestamp": _iso(component.timestamp),
        "critical": component.critical,
    }
    words = {"message": component.message, "error": component.error}
    return check | {key: text for key, text in words.items() if text is not None}


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
