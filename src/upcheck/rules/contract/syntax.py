"""Where an expression stops being PromQL, and what would mend it."""

from __future__ import annotations

import re
from typing import NamedTuple

from upcheck.rules.contract.expression import Span

_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_FUNCTION = re.compile(r"unknown function with name '(\w+)'")
_MEND = "correct it: `promtool check rules` says more"


class Fault(NamedTuple):
    """Where it is, and what would mend it."""

    span: Span
    fix: str


def fault(text: str, problem: str) -> Fault:
    """The place in *text* that the parser complains of with *problem*; its beginning where that can't be told."""
    if named := _FUNCTION.search(problem):
        at = re.search(rf"\b{named[1]}\b", text)
        fix = "correct its name, or take a release of upcheck that knows it"
        return Fault(Span(at.start() if at else 0, len(named[1])), fix)
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    if quote := re.search(r"[\"'`]", bare):
        return Fault(Span(quote.start(), 1), "close the quotes that begin here")
    return _brackets(bare) or Fault(Span(0, 1), _MEND)


def _brackets(bare: str) -> Fault | None:
    """The bracket that has no other, in a text without quotes."""
    opened: list[int] = []
    for at, character in enumerate(bare):
        if character in "([{":
            opened.append(at)
        elif character in _PAIRS and (not opened or bare[opened.pop()] != _PAIRS[character]):
            return Fault(Span(at, 1), f"remove this {character}, or open it before")
    return Fault(Span(opened[-1], 1), f"close this {bare[opened[-1]]}") if opened else None
