"""GET and POST /push/<name>: jobs report that they ran. What a check holds is in `probes.push`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from upcheck.probes.push import Store, StoreFull, report_of
from upcheck.redaction import redacted

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

PATH = "/push/{name}"
_HEADERS = {"Cache-Control": "no-store"}


class Reports:
    """The endpoint, and the folder where reports are kept."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder)

    async def take(self, request: Request) -> Response:
        """Keep what a job says: `?status=up&msg=&ping=`."""
        asked = {key: redacted(value) for key, value in request.query_params.items()}
        try:
            report = report_of(asked, time.time())
            await asyncio.to_thread(self._store.write, request.path_params["name"], report)
        except ValueError as error:
            return _told(str(error), 400)
        except (StoreFull, OSError) as error:
            return _told(f"the report could not be kept: {error}", 507)
        return JSONResponse({"ok": True}, headers=_HEADERS)


def _told(sentence: str, code: int) -> Response:
    return JSONResponse({"ok": False, "error": sentence}, code, headers=_HEADERS)
