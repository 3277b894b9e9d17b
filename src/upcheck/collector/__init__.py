"""The collector: a small HTTP process that says how this host and its components are."""

from __future__ import annotations

import sys
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from upcheck.collector.app import create_app
from upcheck.collector.sampling import Sampling
from upcheck.collector.scrape import Exposition, Registry, described
from upcheck.health import Health, metrics_component, system_component
from upcheck.metrics import CheckMetrics
from upcheck.settings import Settings, declared
from upcheck.system import Clock, SystemCollector
from upcheck.system.own import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

__all__ = ["Collector"]


class Collector:
    """The metrics of the host, of the checks and of the process, and two health components, ready to be added to.

    `registry`: where your own prometheus_client metrics go (`Gauge("queue_jobs", "...", registry=collector.registry)`).
    `health`: `@collector.health("queue", interval=30)` makes a function a health component.
    `sample`: `@collector.sample("business")` runs a function that sets metrics of yours in the background.
    `app`: the ASGI application, for a server of your own; `serve()` runs it with ours.
    """

    def __init__(self, *, history: Path | None = None, clock: Clock = time) -> None:
        """*history* is where runs of checks keep their results; default: what the settings of this repo say.

        Raises SettingsError where they can't be read.
        """
        self._clock = clock
        self.registry = Registry()
        self.system = SystemCollector(clock=clock)
        self.process = OwnProcess()
        self.sampling = self.sample = Sampling(self.system)
        self._sources = (self.system, self.process, self.sampling)
        self.checks = CheckMetrics(history or _settings().history, time=clock.time)
        for source in self._sources:
            self.registry.reserve(partial(described, source))
        self.registry.reserve(self.checks.describe)
        self.health = Health(clock)
        self.health.register("system", system_component(self.system))
        self.health.register("metrics", metrics_component(self.system))

    @cached_property
    def app(self) -> Starlette:
        """The ASGI application; its lifespan runs the background work."""
        return create_app(
            exposition=Exposition(self._sources, self.registry, self.health, self.checks),
            system=self.system,
            process=self.process,
            sampling=self.sampling,
            health=self.health,
            clock=self._clock,
        )

    def serve(self, argv: Sequence[str] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, with the flags in *argv* (`sys.argv[1:]`); `--help` lists them.

        Raises SystemExit: 2 for a wrong flag, 3 where the address can't be listened on.
        """
        # Here, not above: uvicorn brings click along, and the app is of use without either.
        from upcheck.collector.serve import serve

        serve(self, argv)


def _settings() -> Settings:
    """Those of the repo that this folder is in, or else that the program is in."""
    here = Path.cwd()
    places = (here, *here.parents, Path(sys.argv[0]).resolve().parent)
    return Settings.load(next((folder for folder in places if declared(folder)), here))
