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
    from pathlib import Path

    from jsonschema.exceptions import ValidationError


def validate(path: Path, document: Any, schema: str) -> None:
    """Hold *document*, read from *path* by `documents.load`, against `schemas/<schema>.json`.

    Raises DocumentError at the first thing that does not fit, in the words of the schema's descriptions.
    """
    if errors := list(_validator(schema).iter_errors(document)):
        # A mistyped key comes before what is lacking, because it may be the same key.
        first = min(
            errors, key=lambda one: (one.validator != "additionalProperties", documents.where(document, one.path))
        )
        raise _sentence(path, document, first)


@functools.cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # 100 ms that only who has such files should pay

    text = resources.files("upcheck").joinpath(f"schemas/{schema}.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


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
