"""JSON Schemas that ship, and what does not fit them as one sentence at its line and column."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from upcheck import documents
from upcheck.documents import DocumentError
from upcheck.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jsonschema.exceptions import ValidationError


MOST_TOLD = 10  # mistakes of one file


def validate(path: Path, document: Any, schema: str) -> None:
    """Hold *document*, read from *path* by `documents.load`, against `schemas/<schema>.json`.

    Raises DocumentError with all that does not fit, a sentence each, in the words of the schema's descriptions.
    """
    errors = list(_validator(schema).iter_errors(document))
    mistyped = [list(one.path) for one in errors if one.validator == "additionalProperties"]
    found: dict[str, DocumentError] = {}
    for error in errors:
        if error.validator == "required" and list(error.path) in mistyped:
            continue  # the mistyped key may be the one that is lacking
        found |= {str(one): one for one in _sentences(path, document, error)}
    if found:
        first, *rest = sorted(found.values(), key=lambda one: (one.line, one.column))
        more = [f"and {len(rest) - MOST_TOLD + 1} more"] if len(rest) >= MOST_TOLD else []
        lines = [first.message, *map(str, rest[: MOST_TOLD - 1]), *more]
        raise DocumentError(path, "\n".join(lines), first.line, first.column)


@functools.cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # 100 ms that only who has such files should pay

    text = resources.files("upcheck").joinpath(f"schemas/{schema}.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _sentences(path: Path, document: Any, error: ValidationError) -> Iterator[DocumentError]:
    place = list(error.path)
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    valid = schema.get("properties", {})
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        for key in instance:
            if key not in valid:
                mark = documents.where(document, [*place, key], key=True)
                yield DocumentError(path, f"unknown key '{key}'{nearest(str(key), valid)}", *mark)
        return
    mark = documents.where(document, place)
    if error.validator == "required":
        for key in schema["required"]:
            if key not in instance:
                yield DocumentError(path, f"lacks '{key}': {valid[key].get('description', 'text')}", *mark)
        return
    wanted = schema.get("description", error.message)
    name = f"{place[-1]}: " if place and isinstance(place[-1], str) else ""
    got = "nothing" if instance is None else "a mapping" if isinstance(instance, dict) else repr(instance)
    yield DocumentError(path, f"{name}expected {wanted}, not {got[:80]}", *mark)
