"""What services tell the collector: one recorder, the endpoints that take in, and the alerts that come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from upcheck import alertmanager
from upcheck.collector import ingest, webhook
from upcheck.collector.ingest import Ingest
from upcheck.collector.signature import Signatures
from upcheck.collector.span_alerts import SpanAlerts
from upcheck.collector.webhook import Webhook
from upcheck.recording.host import Host

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from upcheck.collector.environment import Environment
    from upcheck.exposition import Source
    from upcheck.recording import Recorder
    from upcheck.system import SystemCollector

Table = dict[str, tuple[str, Callable[["Request"], Awaitable["Response"]]]]
"""Paths, each with what it is for and what answers."""


class Services:
    """The services of *recorder*, as sources of /metrics, as endpoints and as work in the background."""

    def __init__(self, recorder: Recorder, system: SystemCollector, environment: Environment) -> None:
        url = environment.alertmanager_url if environment.alertmanager else None
        self._alerts = SpanAlerts(url, most=environment.buffer_size, push=alertmanager.push)
        self._host, self._system = Host(recorder), system
        secret = environment.webhook_secret
        taking = Ingest(recorder, self._alerts.raise_)
        told = Webhook(Signatures(secret) if secret else None)
        self.sources: tuple[Source, ...] = (recorder, taking, self._alerts, told)
        self.posts: Table = {path: (ingest.PATHS[path], handler) for path, handler in taking.routes.items()}
        self.posts[webhook.PATH] = ("POST: Alertmanager's webhook", told.take)
        self.gets: Table = {webhook.PATH: ("the alerts that fire, as Alertmanager's webhook told", told.show)}
        self.run = self._alerts.run

    def sample(self) -> None:
        """Take over what the host says: a background sample of the system layer."""
        self._host.set(self._system.snapshot())
