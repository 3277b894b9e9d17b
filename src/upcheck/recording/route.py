"""The template of the route that a request came to, from what frameworks leave in an ASGI scope."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
_Places = tuple[tuple[int, str], ...]  # which part of the path is which parameter
_KEPT = 4096  # endpoints whose places are remembered


class Templates:
    """Tells the template of a scope: `/things/{thing}` for `/things/7`; None where no route was met.

    Starlette and FastAPI leave the endpoint and the path's parameters, but no template with the prefixes of routers and
    mounts in it. So the parameters' values are looked for in the path. Where they stand is remembered as soon as it is
    sure: `/users/{id}` has to wait for a user who is not called `users`.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[Any, int], _Places] = {}

    def __call__(self, scope: Scope) -> str | None:
        params = scope.get("path_params")
        if not params:
            return _without(scope)
        path: str = scope["path"]
        parts = path.split("/")
        key = scope.get("endpoint"), len(parts)
        try:
            for index, name in self._places[key]:
                if parts[index] != str(params[name]):
                    break
                parts[index] = f"{{{name}}}"
            else:
                return "/".join(parts)
        except KeyError:
            pass  # not seen yet, or only with other parameters
        return self._find(key, path, params)

    def _find(self, key: tuple[Any, int], path: str, params: Mapping[str, Any]) -> str | None:
        parts = path.split("/")
        places: list[tuple[int, str]] = []
        for name, value in params.items():
            start = places[-1][0] + 1 if places else 0
            index = next((at for at in range(start, len(parts)) if parts[at] == str(value)), None)
            if index is not None:
                places.append((index, name))
            elif path.endswith(f"/{value}"):  # a parameter that may have slashes in it, at the end of the path
                return "/".join([*_named(path[: -len(f"/{value}")].split("/"), places), f"{{{name}}}"])
            else:  # its value is not as it stood in the path: 7 for 007
                return getattr(key[0], "__qualname__", None)
        sure = all(parts.count(str(value)) == 1 for value in params.values())
        if sure and len(self._places) < _KEPT:
            self._places[key] = tuple(places)
        return "/".join(_named(parts, places))


def _named(parts: list[str], places: Sequence[tuple[int, str]]) -> list[str]:
    for index, name in places:
        parts[index] = f"{{{name}}}"
    return parts


def _without(scope: Scope) -> str | None:
    """The template of a scope without parameters: its path, if that has met a route."""
    if "path_template" in scope:  # Litestar
        return str(scope["path_template"])
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    if inspect.isroutine(endpoint) or inspect.isclass(endpoint):
        return str(scope["path"])
    return f"{scope.get('root_path', '')}/*"  # an application that is mounted, such as one for static files
