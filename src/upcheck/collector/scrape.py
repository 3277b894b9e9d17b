"""/metrics: what all sources say now, as one page."""

from __future__ import annotations

import asyncio
import gzip
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted

from upcheck import __version__
from upcheck.exposition import Block, Family, Source, labelled, page
from upcheck.health import Health, Status, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.registry import Collector as CustomCollector

    from upcheck.metrics import CheckMetrics

SCRAPE_DEADLINE = 30.0  # seconds; Prometheus itself gives up after 10 unless told otherwise
PARALLEL_SCRAPES = 8  # threads at most, whatever a metric of the user's own does in them
_EOF = b"# EOF\n"
_LEVEL = {Status.HEALTHY: 1.0, Status.DEGRADED: 0.5, Status.UNHEALTHY: 0.0}

_BUILD = Family("upcheck_build_info", "gauge", ("version",), "The upcheck that serves this page.")
_SCRAPES = Family(
    "upcheck_collector_scrape_duration_seconds",
    "summary",
    (),
    "Seconds it took to collect and render /metrics, up to the scrape before this one.",
)
_STATUS = Family(
    "upcheck_health_status",
    "gauge",
    ("component",),
    "How a health component is: 1 healthy, 0.5 degraded, 0 unhealthy.",
)


class ScrapeTimeoutError(Exception):
    """The registry's collectors did not answer in time."""


class Registry(CollectorRegistry):
    """The user's own metrics. The names that the page has without them are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._users: set[int] = set()

    def reserve(self, describe: Callable[[], Iterator[Metric]]) -> None:
        """Take the names in *describe*. Raises ValueError where one is taken."""
        super().register(_Reserved(describe))

    def register(self, collector: CustomCollector) -> None:
        """Raises ValueError for a name that is taken."""
        super().register(collector)
        self._users.add(id(collector))

    def unregister(self, collector: CustomCollector) -> None:
        """Raises KeyError for one that is not registered."""
        super().unregister(collector)
        self._users.discard(id(collector))

    @property
    def empty(self) -> bool:
        """Whether the user has registered nothing."""
        return not self._users


class _Reserved:
    """Holds names in the registry; what goes by them is written beside it, because that is faster."""

    def __init__(self, describe: Callable[[], Iterator[Metric]]) -> None:
        self.describe = describe

    def collect(self) -> Sequence[Metric]:
        return ()


def described(*sources: Source) -> Iterator[Metric]:
    """The families of *sources*, each once, for a registry."""
    for family in {family.name: family for source in sources for family, _ in source.blocks()}.values():
        kind = "unknown" if family.type == "untyped" else family.type
        yield Metric(family.name.removesuffix("_total"), family.help, kind)


class Exposition:
    """All sources as text, and the metrics about that very act."""

    def __init__(self, sources: Sequence[Source], registry: Registry, health: Health, checks: CheckMetrics) -> None:
        """The blocks of *sources* are written on the event loop: none may wait for anything."""
        self._sources = (*sources, self)
        self._registry = registry
        self._health = health
        self._checks = checks
        self.scrapes = (0, 0.0)  # count, seconds
        self._free = asyncio.Semaphore(PARALLEL_SCRAPES)
        registry.reserve(lambda: described(self))

    def blocks(self) -> Iterator[Block]:
        """The collector's own families."""
        yield _BUILD, f"{labelled(_BUILD.name, (('version', __version__),))} 1.0\n"
        count, seconds = self.scrapes
        yield _SCRAPES, f"{_SCRAPES.name}_count {count}\n{_SCRAPES.name}_sum {seconds}\n"
        lines = [
            f"{labelled(_STATUS.name, (('component', one.name),))} {_LEVEL[one.status]}\n"
            for one in self._health.components()
        ]
        yield _STATUS, "".join(lines)

    async def render(self, accept: str, encoding: str) -> tuple[bytes, dict[str, str]]:
        """The page in the format and the encoding that these headers ask for, and the headers that say so.

        Raises ScrapeTimeoutError after SCRAPE_DEADLINE, and whatever a collector of the registry raises.
        """
        encode, content_type, compressed = _negotiated(accept, encoding)
        started = time.perf_counter()
        if self._registry.empty and self._checks.instant:  # a thread costs as much as the page
            body = self._page(encode, content_type, compressed)
        else:
            body = await self._apart(lambda: self._page(encode, content_type, compressed))
        count, seconds = self.scrapes
        self.scrapes = (count + 1, seconds + time.perf_counter() - started)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        return body, headers | {"Content-Encoding": "gzip"} if compressed else headers

    async def _apart(self, write: Callable[[], bytes]) -> bytes:
        """The page, written in a thread: the user's collectors and the history may take their time."""
        try:
            async with asyncio.timeout(SCRAPE_DEADLINE) as deadline:
                await self._free.acquire()
                written = in_thread(write)
                written.add_done_callback(lambda _: self._free.release())
                return await asyncio.shield(written)  # a thread can't be cancelled, and keeps its place until it ends
        except TimeoutError:
            if not deadline.expired():  # a collector's own
                raise
            raise ScrapeTimeoutError from None

    def _page(self, encode: Callable[[CollectorRegistry], bytes], content_type: str, compressed: bool) -> bytes:
        openmetrics = content_type.startswith("application/openmetrics-text")
        text = page((block for source in self._sources for block in source.blocks()), openmetrics=openmetrics)
        if not self._registry.empty:
            text += encode(self._registry).removesuffix(_EOF)
        text += self._checks.page(openmetrics=openmetrics)
        if openmetrics:
            text += _EOF
        return gzip.compress(text, compresslevel=1) if compressed else text  # 30 MB of text take a third of a second


@lru_cache(maxsize=64)
def _negotiated(accept: str, encoding: str) -> tuple[Callable[[CollectorRegistry], bytes], str, bool]:
    encode, content_type = choose_encoder(accept)
    return encode, content_type, gzip_accepted(encoding)
