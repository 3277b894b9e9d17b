"""The collector: a small HTTP process that says how this host and its components are."""

from __future__ import annotations

import os
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING

from upcheck import catalog
from upcheck.collector.access import Access, Rules, token_file
from upcheck.collector.app import Parts, create_app
from upcheck.collector.environment import Environment, EnvironmentVariableError
from upcheck.collector.probe import Prober, reach
from upcheck.collector.push import Reports
from upcheck.collector.reloaded import Reloaded
from upcheck.collector.sampling import Sampling
from upcheck.collector.scrape import Exposition, Registry, described
from upcheck.collector.services import Services
from upcheck.components import register
from upcheck.documents import DocumentError
from upcheck.health import Health, metrics_component, system_component
from upcheck.metrics import FRESH, CheckMetrics
from upcheck.recording import Recorder
from upcheck.settings import SettingsError, here
from upcheck.system import Clock, SystemCollector
from upcheck.system.own import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from upcheck.exposition import Source

__all__ = ["Collector"]


class Collector:
    """The metrics of the host, of the checks and of the process, and two health components, ready to be added to.

    `registry`: where your own prometheus_client metrics go (`Gauge("queue_jobs", "...", registry=collector.registry)`).
    `health`: `@collector.health("queue", interval=30)` makes a function a health component.
    `recorder`: the services of the catalogue (`collector.recorder.event("shop", "order")("paid", 1.5)`).
    `sample`: `@collector.sample("business")` runs a function that sets metrics of yours in the background.
    `app`: the ASGI application, for a server of your own; `serve()` runs it with ours.
    """

    def __init__(
        self,
        *,
        services: Path | None = None,
        history: Path | None = None,
        probes: Path | None = None,
        probe_networks: str | None = None,
        components: Path | None = None,
        clock: Clock = time,
        environment: Environment | None = None,
    ) -> None:
        """*services* is the folder of the catalogue, *history* where runs of checks keep their results.

        *components* is a file of checks in YAML, each a health component. *probes* is the modules file of /probe,
        *probe_networks* what it may ask, such as `10.0.0.0/8 192.168.0.0/16`.
        Default of all: what the settings of this repo say. *environment*: default, what the environment variables
        say. What they or the catalogue say wrong, `app` and `serve` refuse. Raises SettingsError where the settings
        can't be read.
        """
        self._clock = clock
        self._refused: EnvironmentVariableError | DocumentError | SettingsError | None = None
        settings = here()
        self._probes = probes or settings.probes
        named = settings.metrics_token_file
        self._token_file = settings.root / named if named else None
        self._reports = Reports(settings.push)
        try:
            self._reach = reach(settings.probe_networks if probe_networks is None else probe_networks)
        except SettingsError as error:
            self._reach, self._refused = reach(""), error
        self.environment, self.recorder = environment or Environment(), Recorder([])
        try:
            self.environment = environment or Environment.read(os.environ)
            self.recorder = Recorder(catalog.load_all(services or settings.monitoring / "services"))
        except (EnvironmentVariableError, DocumentError) as error:  # here it would be a traceback in the user's file
            self._refused = error
        components = components or (settings.root / settings.health if settings.health else None)
        said = self.environment
        self.registry = Registry()
        self.system = SystemCollector(proc=settings.procfs, clock=clock)
        self.process = OwnProcess()
        self.sampling = self.sample = Sampling(
            self.system,
            system=said.system_interval,
            application=said.app_interval,
            business=said.business_interval,
            buffer=said.buffer_size,
            budget=said.cpu_budget / 100,
        )
        self._services = Services(self.recorder, self.system, said)
        self.sample("system")(self._services.sample)
        self._sources: tuple[Source, ...] = (self.system, self.process, self.sampling, *self._services.sources)
        fresh = min(FRESH, said.system_interval)  # who samples more often than usual wants no older checks
        self.checks = CheckMetrics(history or settings.history, fresh=fresh, time=clock.time)
        self.registry.reserve(lambda: described(*self._sources))
        self.registry.reserve(self.checks.describe)
        self.health = Health(clock, interval=said.health_interval, timeout=said.health_timeout)
        self.health.register("system", system_component(self.system))
        self.health.register("metrics", metrics_component(self.system))
        try:
            if components is not None:
                register(self.health, components, settings.target)
        except DocumentError as error:
            self._refused = self._refused or error

    @cached_property
    def app(self) -> Starlette:
        """The ASGI application, which asks for the token that the environment names; its lifespan runs the rest.

        Raises EnvironmentVariableError for a variable that can't be used, FileError for a file of a token that can't,
        DocumentError for a file of the catalogue that can't.
        """
        rules = self.rules
        exposition = Exposition(self._sources, self.registry, self.health, self.checks)
        app = create_app(
            Parts(
                exposition, self.system, self.process, self.sampling, self.health, self._services,
                Prober(self._probes, self._reach), self._reports, self._clock, self.environment,
            )
        )  # fmt: skip
        app.add_middleware(Access, rules=rules)
        return app

    @cached_property
    def rules(self) -> Rules:
        """Who may ask. Raises as `app` does."""
        if self._refused is not None:
            raise self._refused
        file, token = self.environment.token_file, self.environment.token
        file = file or (self._token_file if token is None else None)
        return Rules(Reloaded(partial(token_file, file)) if file else lambda: token)

    def serve(self, argv: Sequence[str] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, with the flags in *argv* (`sys.argv[1:]`); `--help` lists them.

        Raises SystemExit: 2 for a wrong flag, file or variable, 3 where the address can't be listened on.
        """
        # Here, not above: uvicorn brings click along, and the app is of use without either.
        from upcheck.collector.serve import serve

        serve(self, argv)
