"""The collector: a small HTTP process that says how this host and its components are."""

from __future__ import annotations

import os
import sys
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector

from upcheck.collector.access import Access, Rules, token_file
from upcheck.collector.app import create_app
from upcheck.collector.environment import Environment, EnvironmentVariableError
from upcheck.collector.reloaded import Reloaded
from upcheck.health import Health, metrics_component, system_component
from upcheck.metrics import CheckMetrics
from upcheck.settings import Settings, declared
from upcheck.system import Clock, SystemCollector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

__all__ = ["Collector"]


class Collector:
    """The metrics of the host, of the checks and of the process, and two health components, ready to be added to.

    `registry`: where your own prometheus_client metrics go (`Gauge("queue_jobs", "...", registry=collector.registry)`).
    `health`: `@collector.health("queue", interval=30)` makes a function a health component.
    `app`: the ASGI application, for a server of your own; `serve()` runs it with ours.
    """

    def __init__(
        self, *, history: Path | None = None, clock: Clock = time, environment: Environment | None = None
    ) -> None:
        """*history* is where runs of checks keep their results; default: what the settings of this repo say.

        *environment*: default, what the environment variables say; `app` and `serve` refuse what they say wrong.
        Raises SettingsError where the settings can't be read.
        """
        self._clock = clock
        self._refused: EnvironmentVariableError | None = None
        try:
            self.environment = environment or Environment.read(os.environ)
        except EnvironmentVariableError as error:  # raised by `app`: here it would be a traceback in the user's file
            self.environment, self._refused = Environment(), error
        self.registry = CollectorRegistry()
        self.system = SystemCollector(clock=clock)
        self.registry.register(self.system)
        self.checks = CheckMetrics(history or _settings().history, time=clock.time)
        self.registry.register(_Reserved(self.checks))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.health = Health(clock, interval=self.environment.health_interval, timeout=self.environment.health_timeout)
        self.health.register("system", system_component(self.system))
        self.health.register("metrics", metrics_component(self.system))

    @cached_property
    def app(self) -> Starlette:
        """The ASGI application, which asks for the token that the environment names; its lifespan runs the rest.

        Raises EnvironmentVariableError for a variable that can't be used, FileError for a file of a token that can't.
        """
        app = create_app(
            registry=self.registry,
            system=self.system,
            health=self.health,
            checks=self.checks,
            clock=self._clock,
            environment=self.environment,
        )
        app.add_middleware(Access, rules=self.rules)
        return app

    @cached_property
    def rules(self) -> Rules:
        """Who may ask. Raises as `app` does."""
        if self._refused is not None:
            raise self._refused
        file, token = self.environment.token_file, self.environment.token
        return Rules(Reloaded(partial(token_file, file)) if file else lambda: token)

    def serve(self, argv: Sequence[str] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, with the flags in *argv* (`sys.argv[1:]`); `--help` lists them.

        Raises SystemExit: 2 for a wrong flag, file or variable, 3 where the address can't be listened on.
        """
        # Here, not above: uvicorn brings click along, and the app is of use without either.
        from upcheck.collector.serve import serve

        serve(self, argv)


class _Reserved:
    """Holds the names of the metrics of checks in the registry; their page is written beside it, because it is long."""

    def __init__(self, checks: CheckMetrics) -> None:
        self.describe = checks.describe

    def collect(self) -> Sequence[Metric]:
        return ()


def _settings() -> Settings:
    """Those of the repo that this folder is in, or else that the program is in."""
    here = Path.cwd()
    places = (here, *here.parents, Path(sys.argv[0]).resolve().parent)
    return Settings.load(next((folder for folder in places if declared(folder)), here))
