"""Metric families as text: what each source of /metrics gives, and how they become one page."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Family(NamedTuple):
    """A metric family: its name (a counter's with `_total`), its type in the text format's words, labels and HELP."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


Block = tuple[Family, str]
"""A family and some of its samples, each a line with its end. The text may be empty; families may come in parts."""


class Source(Protocol):
    """What has families."""

    def blocks(self) -> Iterable[Block]:
        """All of them as they are now, those without samples with an empty text."""


def page(blocks: Iterable[Block], *, openmetrics: bool = False) -> bytes:
    """The text of *blocks*, in Prometheus' format 0.0.4 or as OpenMetrics 1.0 without its `# EOF`.

    Parts of one family are put together, as the formats demand; HELP and TYPE are the first part's.
    """
    parts: dict[str, list[str]] = {}
    heads = _HEADS[openmetrics]
    for family, samples in blocks:
        if not samples:
            continue
        name = family.name
        if name in parts:
            parts[name].append(samples)
            continue
        known, text = heads.get(name, (None, ""))
        if known is not family:
            text = head(family, openmetrics)
            heads[name] = family, text
        parts[name] = [text, samples]
    return "".join([text for texts in parts.values() for text in texts]).encode()


# By name, and true of one object only: to hash a family takes longer than all else in a scrape that is done for it.
_HEADS: dict[bool, dict[str, tuple[Family, str]]] = {False: {}, True: {}}


@lru_cache(maxsize=4096)
def head(family: Family, openmetrics: bool) -> str:
    """The lines that introduce *family*: HELP and TYPE."""
    name, kind = family.name, family.type
    sentence = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        sentence = sentence.replace('"', '\\"')
        if kind == "counter":
            name = name.removesuffix("_total")
        kind = "unknown" if kind == "untyped" else kind
    return f"# HELP {name} {sentence}\n# TYPE {name} {kind}\n"


def escaped(value: str) -> str:
    """*value* as it stands between the quotes of a label; always valid UTF-8."""
    if not value.isascii():
        value = value.encode(errors="backslashreplace").decode()
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labelled(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """The part of a sample's line before its value: `name{a="1",b="2"}`, without braces where there are no labels."""
    inside = ",".join([f'{label}="{escaped(value)}"' for label, value in labels])
    return f"{name}{{{inside}}}" if inside else name


def number(value: float) -> str:
    """*value* in the formats' spelling, in which infinities and not-a-number have names of their own."""
    if value != value:
        return "NaN"
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf"}.get(text, text)
