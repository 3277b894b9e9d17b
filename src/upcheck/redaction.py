"""Secrets never show: what is known to be one is `***` in whatever is told.

Known are the values of environment variables whose names say so, passwords in their URLs, and what `secret` was given.
They are found as they stand, as they are written in URLs, JSON, reprs and base64, and in the pieces that an assertion's
diff leaves of a long one.
"""

from __future__ import annotations

import json
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
SHORTEST = 6  # characters: to hide a shorter value everywhere would hide too much
_REMEMBERED = 256  # of what `secret` was given, and of what variables held before
_CHUNK = 5  # characters: any piece of 9 has one of a secret's chunks in it
_PIECE = 10  # characters at least: what a diff leaves before the first difference; a shorter piece may be anything
_NEAR_DOTS = 3  # characters at least, where a long text was cut

_NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|WEBHOOK|CONNECTION_?STRING|"
    r"(API|ACCESS|PRIVATE|SIGNING|ENCRYPTION)_?KEY|(^|_)(PASS|DSN|JWT|BEARER)(_|$)|_(PWD|PAT|AUTH)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"_(FILE|PATH|DIR|DIRECTORY|NAME|USER|USERNAME|SOCK|TTL|TIMEOUT|INTERVAL)$|(TOKEN|AUTH)_URL$", re.IGNORECASE
)
_USERINFO = re.compile(r"://[^\s/?#@'\"<>\\]{1,1024}@")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def secret(value: str) -> str:
    """*value*, which from now on is hidden: `token = secret(login())`.

    Of such values the last 256 are known. One of fewer than 6 characters is not hidden.
    """
    _KNOWN.add(value)
    return value


def redacted(text: str) -> str:
    """*text* with every known secret replaced by `***`."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """`redacted` for many texts at once: the environment is looked at now, once."""
    return _hide_all(_KNOWN.now())


def redacted_values(value: Any, hide: Callable[[str], str]) -> Any:
    """*value*, plain as from JSON, with *hide* applied to each text in it; keys stay."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(one, hide) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([redacted_values(one, hide) for one in value])
    return value


class _Known:
    """What is hidden in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[bytes, bytes] = {}  # the environment, when last looked at
        self._variables: list[str] = []
        self._given: dict[str, None] = {}  # and what variables held before, which may be told of still

    def add(self, value: str) -> None:
        """Hide *value*, if it is long enough, until 256 others were added."""
        with self._lock:
            self._keep([value])

    def now(self) -> tuple[str, ...]:
        """All that is to be hidden now."""
        with self._lock:
            seen = dict(os.environb)  # as bytes: to decode all of it costs ten times as much
            if seen != self._seen:
                self._seen = seen
                self._keep(self._variables)
                self._variables = [found for name, value in os.environ.items() for found in _secrets_of(name, value)]
            return (*self._variables, *self._given)

    def _keep(self, values: list[str]) -> None:
        self._given |= dict.fromkeys(value for value in values if len(value) >= SHORTEST)
        for oldest in list(self._given)[:-_REMEMBERED]:
            del self._given[oldest]


_KNOWN = _Known()


def _secrets_of(name: str, value: str) -> list[str]:
    """What is to be hidden of the variable *name*."""
    found = []
    if _NAMES.search(name) and not _HARMLESS.search(name):
        found = [value, value.strip()]
    if "://" in value and "@" in value:
        try:
            password = urlsplit(value).password or ""
        except ValueError:  # no URL after all
            password = ""
        found += [password, unquote(password)]
    return [one for one in found if len(one) >= SHORTEST]


@lru_cache(maxsize=4)
def _hide_all(secrets: tuple[str, ...]) -> Callable[[str], str]:
    """A function that hides *secrets*, made anew only when they change."""
    wholes = sorted({form for value in secrets for form in _forms(value)}, key=len, reverse=True)
    chunks = [
        (value[start : start + _CHUNK], value, start)
        for value in secrets
        if len(value) > _PIECE
        for start in range(0, len(value) - _CHUNK + 1, _CHUNK)
    ]

    def hide(text: str) -> str:
        for whole in wholes:
            if whole in text:
                text = text.replace(whole, MASK)
        for chunk, value, at in chunks:
            if chunk in text:
                text = _without_pieces(text, chunk, value, at)
        if "..." in text:
            text = _without_ends(text, wholes)
        return _USERINFO.sub(f"://{MASK}@", text) if "://" in text else text

    def hide_colored(text: str) -> str:
        hidden = hide(text)
        if "\x1b" not in text:
            return hidden
        plain = hide(_ANSI.sub("", text))  # a colour may begin within a secret: then the text goes without
        return hidden if _ANSI.sub("", hidden) == plain else plain

    return hide_colored


def _forms(value: str) -> Iterator[str]:
    """How *value* may be written."""
    yield value
    raw = value.encode(errors="surrogateescape")  # a variable may hold any bytes
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    for written in (json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), repr(raw)[1:]):
        yield written[1:-1]
        yield written[1:-1].replace("'", "\\'")
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= _PIECE)
    for before in range(3):  # bytes before it, as those of a user's name: what is written of it shifts with them
        written = b64encode(bytes(before) + raw).decode().rstrip("=")
        start = (0, 2, 3)[before]
        end = len(written) - ((before + len(raw)) % 3 != 0)  # the last sign has bits of what follows
        if end - start >= SHORTEST:
            yield written[start:end]
            yield written[start:end].replace("+", "-").replace("/", "_")


def _without_pieces(text: str, chunk: str, value: str, at: int) -> str:
    """*text* without the pieces of *value* around each of its *chunk*, which stands *at* there in *value*."""
    position = 0
    while (found := text.find(chunk, position)) >= 0:
        start, left = found, at
        while start > 0 and left > 0 and text[start - 1] == value[left - 1]:
            start, left = start - 1, left - 1
        end, right = found + len(chunk), at + len(chunk)
        while end < len(text) and right < len(value) and text[end] == value[right]:
            end, right = end + 1, right + 1
        position = found + 1
        if end - start >= _PIECE:
            text, position = text[:start] + MASK + text[end:], start + len(MASK)
    return text


def _without_ends(text: str, wholes: list[str]) -> str:
    """*text* without what stands of a secret before each `...` and after it."""
    parts = text.split("...")
    for number in range(len(parts) - 1):
        for whole in wholes:
            if cut := _common(parts[number], whole):
                parts[number] = parts[number][:-cut] + MASK
            if cut := _common(parts[number + 1][::-1], whole[::-1]):
                parts[number + 1] = MASK + parts[number + 1][cut:]
    return "...".join(parts)


def _common(text: str, whole: str) -> int:
    """How many characters at the end of *text* stand somewhere in *whole*; 0 for fewer than 3."""
    near = text[-_NEAR_DOTS:]
    longest = 0
    found = whole.find(near) if len(near) == _NEAR_DOTS else -1
    while found >= 0:
        size = _NEAR_DOTS
        while (
            size < len(text) and found + _NEAR_DOTS > size and text[-size - 1] == whole[found + _NEAR_DOTS - size - 1]
        ):
            size += 1
        longest = max(longest, size)
        found = whole.find(near, found + 1)
    return longest
