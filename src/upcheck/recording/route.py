"""The template of the route that a request came to, from what frameworks leave in an ASGI scope."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
_Places = tuple[tuple[int, str], ...]  # which part of the path is which parameter
_KEPT = 4096  # routes that are remembered


class Templates:
    """Tells the template of a scope: `/things/{thing}` for `/things/7`; None where no route was met.

    Starlette and FastAPI leave the endpoint and the path's parameters, but no template with the prefixes of routers and
    mounts in it. So the parameters' values are looked for in the path. Where they stand is remembered as soon as it is
    sure: `/users/{id}` has to wait for a user who is not called `users`.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[Any, int], _Places] = {}
        self._of_one: dict[tuple[Any, str], str] = {}  # by the path without the value of its only parameter

    def __call__(self, scope: Scope) -> str | None:
        params = scope.get("path_params")
        if not params:
            return _without(scope)
        path: str = scope["path"]
        endpoint = scope.get("endpoint")
        if len(params) > 1:
            return self._look_up(endpoint, path, params)[0]
        (value,) = params.values()
        rest = endpoint, path.replace(str(value), "\0", 1)
        template: str | None = self._of_one.get(rest)
        if template is None:
            template, sure = self._look_up(endpoint, path, params)
            if template and sure and len(self._of_one) < _KEPT:
                self._of_one[rest] = template
        return template

    def _look_up(self, endpoint: Any, path: str, params: Mapping[str, Any]) -> tuple[str | None, bool]:
        """The template, and whether that is sure."""
        parts = path.split("/")
        key = endpoint, len(parts)
        places = self._places.get(key, ())
        if places and all(parts[index] == str(params.get(name)) for index, name in places):
            return "/".join(_named(parts, places)), True
        found = _find(parts, params)
        if found is None:
            name, value = list(params.items())[-1]
            if not path.endswith(f"/{value}"):  # a value is not as it stood in the path: 7 for 007
                return getattr(endpoint, "__qualname__", None), True
            rest = {one: other for one, other in params.items() if one != name}
            before = path[: -len(f"/{value}")].split("/")  # it may have slashes in it
            return "/".join([*_named(before, _find(before, rest) or ()), f"{{{name}}}"]), True
        sure = all(parts.count(str(value)) == 1 for value in params.values())
        if sure and len(self._places) < _KEPT:
            self._places[key] = found
        return "/".join(_named(parts, found)), sure


def _find(parts: Sequence[str], params: Mapping[str, Any]) -> _Places | None:
    """Where each value stands first after the one before; None where one stands nowhere."""
    places: list[tuple[int, str]] = []
    for name, value in params.items():
        start = places[-1][0] + 1 if places else 0
        index = next((at for at in range(start, len(parts)) if parts[at] == str(value)), None)
        if index is None:
            return None
        places.append((index, name))
    return tuple(places)


def _named(parts: list[str], places: _Places) -> list[str]:
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
