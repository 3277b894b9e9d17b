"""Alertmanager's matchers: `name=value` in its notation, and whether labels meet them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]  # it has no types

_MATCHER = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*\Z", re.DOTALL | re.ASCII)
_QUIET = re2.Options()
_QUIET.log_errors = False


class MatcherError(ValueError):
    """Why a text is no matcher, in a sentence."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; *op* is `=`, `!=`, `=~` or `!~`. A label that is missing is empty."""

    label: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.op}{json.dumps(self.value, ensure_ascii=False)}"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* meet it."""
        got = labels.get(self.label, "")
        if self.op in ("=", "!="):
            return (got == self.value) is (self.op == "=")
        return (compiled(self.value).fullmatch(got) is not None) is (self.op == "=~")


def every(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether *labels* meet all of *matchers*."""
    return all(one.matches(labels) for one in matchers)


def described(matchers: Iterable[Matcher]) -> str:
    """All of *matchers* as Alertmanager writes them."""
    return "{" + ", ".join(map(str, matchers)) + "}"


@functools.lru_cache(4096)
def compiled(pattern: str) -> Any:
    """*pattern* as RE2; raises MatcherError."""
    try:
        return re2.compile(pattern, _QUIET)
    except re2.error as error:
        told = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise MatcherError(f"{pattern!r} is no regular expression of RE2: {told}") from None


def made(label: str, op: str, value: str) -> Matcher:
    """A matcher; raises MatcherError where *value* is no regular expression and has to be one."""
    if op in ("=~", "!~"):
        compiled(value)
    return Matcher(label, op, value)


def parse(text: str) -> list[Matcher]:
    """The matchers in *text*: one, or several with commas, with or without braces. Raises MatcherError."""
    return [_matcher(token) for token in _tokens(text.removeprefix("{").removesuffix("}"))]


def _tokens(text: str) -> Iterator[str]:
    """The parts of *text* between commas that stand in no quotes. As Alertmanager, only the last may be blank."""
    quoted = escaped = False
    token = ""
    for character in text:
        if character == "," and not quoted:
            yield token
            token = ""
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        token += character
    if token.strip():
        yield token


def _matcher(token: str) -> Matcher:
    found = _MATCHER.match(token)
    if found is None:
        raise MatcherError(f'{token.strip()!r} is no matcher: write it as severity="critical", with =, !=, =~ or !~')
    label, op, raw = found.groups()
    quoted = raw.startswith('"')
    value, left = _unescaped(raw.removeprefix('"'))
    if left != ('"' if quoted else ""):
        raise MatcherError(f'{token.strip()!r}: the quotes do not fit: write {label}{op}"...", with \\" for a quote')
    return made(label, op, value)


def _unescaped(raw: str) -> tuple[str, str]:
    """The value up to a quote that is not escaped, and what is left from there."""
    value, index = "", 0
    while index < len(raw) and raw[index] != '"':
        if raw[index] == "\\" and index + 1 < len(raw):
            index += 1
            value += {"n": "\n", '"': '"', "\\": "\\"}.get(raw[index], "\\" + raw[index])
        else:
            value += raw[index]
        index += 1
    return value, raw[index:]
