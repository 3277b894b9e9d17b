"""The collector's token, shown by checks to the target and to nobody else."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from upcheck import bearer
from upcheck.probes.http import Request
from upcheck.result import Unknown
from upcheck.settings import Settings
from upcheck.yaml_checks import Asked

if TYPE_CHECKING:
    import httpx

_HEADER = "Authorization"


def authorized(asked: Asked, settings: Settings, target: str) -> Asked:
    """What is *asked*, with the token where it is a request to the *target*, a URL, and shows nothing of its own.

    Raises Unknown where a token is named and can't be read.
    """
    if not isinstance(asked, Request) or not _named(settings) or asked.target.origin != Request(target).target.origin:
        return asked
    if asked.target.authorization or any(name.lower() == _HEADER.lower() for name, _ in asked.headers):
        return asked
    return replace(asked, headers=(*asked.headers, (_HEADER, _shown(settings))))


def hook(settings: Settings, target: str) -> Callable[[httpx.Request], None] | None:
    """What has an httpx client show the token to the *target*, a URL, hop by hop; None where none is named."""
    if not _named(settings):
        return None
    import httpx

    own = _origin(httpx.URL(target))

    def show(request: httpx.Request) -> None:
        if _origin(request.url) == own and _HEADER not in request.headers:
            request.headers[_HEADER] = _shown(settings)

    return show


def awaited(show: Callable[[httpx.Request], None]) -> Callable[[httpx.Request], Awaitable[None]]:
    """*show* as an asynchronous client calls it."""

    async def shown(request: httpx.Request) -> None:
        show(request)

    return shown


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _named(settings: Settings) -> bool:
    return bool(os.environ.get("METRICS_TOKEN")) or bearer.file(settings, os.environ) is not None


def _shown(settings: Settings) -> str:
    """The header, of the token as it is now: a new one in its file needs no restart."""
    try:
        return f"Bearer {bearer.token(settings, os.environ)}"
    except bearer.TokenError as error:
        raise Unknown(str(error)) from None
