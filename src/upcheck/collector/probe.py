"""GET /probe: blackbox_exporter's contract. The probes run on a thread of their own, so that nothing else waits."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from upcheck.blackbox import modules
from upcheck.collector.reloaded import FileError, Reloaded
from upcheck.documents import DocumentError
from upcheck.probes import ProbeError, ProbeResult, Reach, Reason
from upcheck.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from upcheck.blackbox.modules import Module
    from upcheck.collector.services import Table
    from upcheck.probes import Travelling
    from upcheck.probes.multi import Multi

MAX_IN_FLIGHT = 500
GRACE = 1.0  # seconds past its deadline in which a probe may say by itself that it has passed
_IDLE = 60.0  # seconds; what is asked interrupts it
_HEADERS = {"Cache-Control": "no-store"}
_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_log = logging.getLogger("upcheck.collector")


def reach(networks: str) -> Reach:
    """The networks in the text of a setting, apart by blanks or commas. Raises SettingsError."""
    try:
        return Reach(networks.replace(",", " ").split())
    except ValueError as error:
        raise SettingsError(f"probe_networks: {error}: expected networks such as 10.0.0.0/8") from None


class Prober:
    """The endpoint: the modules in *file*, read again when it changes, and the networks that may be reached."""

    def __init__(self, file: Path, networks: Reach) -> None:
        """Raises FileError where there is a *file* that can't be used; where there is none, nothing is asked."""
        self._file = file
        self._reach = networks
        self._modules = Reloaded(self._read) if file.exists() else None
        self._lock = threading.Lock()
        self._multi: Multi | None = None
        self._in_flight = 0
        self.gets: Table = {"/probe": ("blackbox_exporter's: ?target=&module=, &debug=true explains", self.get)}

    def _read(self) -> tuple[dict[str, Module], Sequence[Path]]:
        try:
            return modules.load(self._file), [self._file]
        except DocumentError as error:
            raise FileError(str(error)) from None

    async def get(self, request: Request) -> Response:
        """Ask, and answer with the exporter's page."""
        asked = request.query_params
        if self._modules is None:
            return _told(f"there are no modules: write {self._file}, or name another as [tool.upcheck] probes", 404)
        name = asked.get("module") or "http_2xx"
        module = self._modules().get(name)
        if module is None:
            return _told(f"Unknown module {name[:80]!r}", 400)
        if not asked.get("target"):
            return _told("Target parameter is missing", 400)
        try:
            timeout = modules.scrape_timeout(request.headers.get("x-prometheus-scrape-timeout-seconds"))
        except ValueError:
            return _told("X-Prometheus-Scrape-Timeout-Seconds: expected a number of seconds", 400)
        deadline = module.deadline(timeout)
        try:
            probe = module.probe(asked["target"], deadline, asked.get("hostname"))
        except (ProbeError, OSError) as error:
            return _told(str(error), 400)
        if self._in_flight >= MAX_IN_FLIGHT:
            return _told(f"{MAX_IN_FLIGHT} probes are under way: ask again later", 503)
        return await self._answer(module, probe, deadline, debug=asked.get("debug") == "true")

    async def _answer(self, module: Module, probe: Travelling, deadline: float, *, debug: bool) -> Response:
        from upcheck.blackbox import page  # with what it needs, for those who ask

        self._in_flight += 1
        try:
            async with asyncio.timeout(deadline + GRACE):
                result = await self._ask(probe, time.monotonic() + deadline, debug)
        except TimeoutError:
            return _told("not asked in time: the thread of the probes is stuck", 503)
        finally:
            self._in_flight -= 1
        if debug:
            return PlainTextResponse(page.explained(module, result), headers=_HEADERS)
        if result.reason is Reason.ADDRESS_REFUSED:
            _log.warning("/probe: %s was refused: %s", probe.asked, result.sentence)
            return _told(f"{result.sentence} ([tool.upcheck] probe_networks)", 403)
        return PlainTextResponse(page.page(module.prober, result), headers=_HEADERS, media_type=_TEXT)

    def _ask(self, probe: Travelling, until: float, log: bool) -> asyncio.Future[ProbeResult]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ProbeResult] = loop.create_future()

        def settle(result: ProbeResult) -> None:
            if not future.done():
                future.set_result(result)

        def told(result: ProbeResult) -> None:
            try:
                loop.call_soon_threadsafe(settle, result)
            except RuntimeError:
                return  # the loop that asked is closed: nobody is left to tell

        multi = self._running()
        multi.call(lambda: multi.probe(probe, told, until, self._reach, log=log))
        return future

    def _running(self) -> Multi:
        with self._lock:
            if self._multi is None:
                from upcheck.probes.multi import Multi  # libcurl, for those who ask

                self._multi = Multi()
                threading.Thread(target=_run, args=(self._multi,), daemon=True, name="upcheck probes").start()
            return self._multi


def _run(multi: Multi) -> None:
    while True:
        try:
            multi.poll(_IDLE)
        except Exception:  # noqa: BLE001 - a fault of ours in one probe must not end the others
            _log.exception("/probe: a probe raised")


def _told(sentence: str, code: int) -> Response:
    return PlainTextResponse(f"{sentence}\n", code, headers=_HEADERS)
