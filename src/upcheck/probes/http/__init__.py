"""HTTP: one request or thousands, under deadlines and caps that nothing escapes. See docs/http.md.

`Request`, `fetch` and `Multi` are libcurl's; `Client` and `AsyncClient` are httpx's own API over them, and cost the
import of httpx only where they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from upcheck.probes.http.exchange import (
    Answer,
    Certificate,
    HttpFailure,
    Phase,
    Phases,
    Reason,
    Request,
    excerpt,
)
from upcheck.probes.http.url import RequestError, redacted

if TYPE_CHECKING:
    from upcheck.probes.http.client import AsyncClient, Client, Observer, explain, summary
    from upcheck.probes.http.transport import AsyncTransport, Transport, failure_of
    from upcheck.probes.multi import Multi
    from upcheck.probes.single import fetch

_ROOMS = {
    "AsyncClient": "client",
    "AsyncTransport": "transport",
    "Client": "client",
    "Multi": ".multi",
    "Observer": "client",
    "Transport": "transport",
    "explain": "client",
    "failure_of": "transport",
    "fetch": ".single",
    "summary": "client",
}

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncTransport",
    "Certificate",
    "Client",
    "HttpFailure",
    "Multi",
    "Observer",
    "Phase",
    "Phases",
    "Reason",
    "Request",
    "RequestError",
    "Transport",
    "excerpt",
    "explain",
    "failure_of",
    "fetch",
    "redacted",
    "summary",
]


def __getattr__(name: str) -> Any:
    """What needs pycurl or httpx, imported when it is first asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value
