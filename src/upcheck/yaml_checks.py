"""Checks in YAML: a file's checks, validated against the schema that ships, and their judgement on an answer."""

from __future__ import annotations

import functools
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upcheck import documents
from upcheck.declaration import Declaration, seconds
from upcheck.documents import DocumentError
from upcheck.settings import nearest

if TYPE_CHECKING:
    import httpx
    from jsonschema.exceptions import ValidationError


@dataclass(frozen=True, slots=True)
class YamlCheck:
    """One entry of a file: *expect* as it stands there, with a status of 2xx where none is given."""

    name: str
    url: str
    declaration: Declaration
    expect: Mapping[str, Any]
    line: int

    def unmet(self, response: httpx.Response, latency: float) -> Iterator[str]:
        """What of *expect* does not hold of *response*, which came after *latency* seconds: a sentence each."""
        for key, wanted in self.expect.items():
            sentence = _JUDGES[key](wanted, response, latency)
            if sentence:
                yield sentence


def load(path: Path) -> list[YamlCheck]:
    """The checks in *path*, in their order; raises DocumentError at the line and column of what is wrong."""
    document = documents.load(path)
    if errors := list(_validator().iter_errors(document)):
        # A mistyped key comes before what is lacking, because it may be the same key.
        first = min(
            errors, key=lambda one: (one.validator != "additionalProperties", documents.where(document, one.path))
        )
        raise _sentence(path, document, first)
    checks: list[YamlCheck] = []
    for index, entry in enumerate(document["checks"]):
        check = _check(path, document, index)
        if any(check.name == other.name for other in checks):
            mark = documents.where(document, ["checks", index])
            raise DocumentError(path, f"a second check is named '{entry['name']}'", *mark)
        checks.append(check)
    return checks


def _check(path: Path, document: Any, index: int) -> YamlCheck:
    place: list[str | int] = ["checks", index]
    entry = document["checks"][index]
    expect = {"status": "2xx", **entry.get("expect", {})}
    durations: dict[tuple[str, ...], Any] = {(key,): entry[key] for key in ("every", "timeout") if key in entry}
    durations |= {("expect", "latency"): expect["latency"]} if "latency" in expect else {}
    for key, value in durations.items():
        try:
            seconds(value)
        except ValueError as error:
            raise DocumentError(path, f"{key[-1]}: {error}", *documents.where(document, [*place, *key])) from None
    declaration = Declaration.of({key: entry[key] for key in ("every", "timeout", "severity") if key in entry})
    if "latency" in expect and seconds(expect["latency"]) >= declaration.timeout:
        mark = documents.where(document, [*place, "expect", "latency"])
        raise DocumentError(
            path, f"latency: {expect['latency']} is no less than the timeout, {declaration.timeout:g} s", *mark
        )
    return YamlCheck(entry["name"], entry["url"], declaration, expect, documents.where(document, place)[0])


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # 100 ms that only files of checks should pay

    schema = resources.files("upcheck").joinpath("schemas/checks.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(schema))


def _sentence(path: Path, document: Any, error: ValidationError) -> DocumentError:
    place = list(error.path)
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    valid = schema.get("properties", {})
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        key = next(key for key in instance if key not in valid)
        mark = documents.where(document, [*place, key], key=True)
        return DocumentError(path, f"unknown key '{key}'{nearest(str(key), valid)}", *mark)
    mark = documents.where(document, place)
    if error.validator == "required":
        lacking = next(key for key in schema["required"] if key not in instance)
        return DocumentError(path, f"lacks '{lacking}': {valid[lacking]['description']}", *mark)
    wanted = schema.get("description", error.message)
    name = f"{place[-1]}: " if place and isinstance(place[-1], str) else ""
    got = "nothing" if instance is None else "a mapping" if isinstance(instance, dict) else repr(instance)
    return DocumentError(path, f"{name}expected {wanted}, not {got[:80]}", *mark)


def _status(wanted: Any, response: httpx.Response, _: float) -> str | None:
    accepted = wanted if isinstance(wanted, list) else [wanted]
    if response.status_code in accepted or f"{response.status_code // 100}xx" in accepted:
        return None
    return f"status {' or '.join(map(str, accepted))}"


def _latency(wanted: Any, _: httpx.Response, latency: float) -> str | None:
    return None if latency <= seconds(wanted) else f"latency within {wanted}"


def _body(wanted: str, response: httpx.Response, _: float) -> str | None:
    return None if wanted in response.text else f"a body that contains {wanted!r}"


def _header(wanted: Mapping[str, str], response: httpx.Response, _: float) -> str | None:
    unmet = {name: text for name, text in wanted.items() if text not in response.headers.get(name, "")}
    if not unmet:
        return None
    return "header " + ", ".join(
        f"{name} with {text!r} (got {response.headers.get(name, 'none')!r})" for name, text in unmet.items()
    )


def _certificate_days(wanted: float, response: httpx.Response, _: float) -> str | None:
    tls = response.extensions["network_stream"].get_extra_info("ssl_object")
    if tls is None:
        return f"a certificate valid for {wanted:g} days (got plain HTTP)"
    expiry = ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"])
    left = (expiry - time.time()) / 86400
    return None if left >= wanted else f"a certificate valid for {wanted:g} days (got {left:.1f})"


_JUDGES: Mapping[str, Callable[[Any, httpx.Response, float], str | None]] = {
    "status": _status,
    "latency": _latency,
    "body": _body,
    "header": _header,
    "certificate_days": _certificate_days,
}
