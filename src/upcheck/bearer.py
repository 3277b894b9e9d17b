"""The token that the collector asks for, as who asks it has to know it: checks, and what scrapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from upcheck.settings import Settings

FILE = "METRICS_TOKEN_FILE"
_TOKEN = re.compile(r"[!-~]{1,4096}")  # what can stand in a header: printable ASCII without blanks


class TokenError(ValueError):
    """A token that can't be shown, in a sentence that names where it is to be; never its value."""


def token_of(text: str) -> str | None:
    """The token that *text* is, without the blanks around it; None where it can't be sent in a header."""
    token = text.strip()
    return token if _TOKEN.fullmatch(token) else None


def file(settings: Settings, environ: Mapping[str, str]) -> tuple[str, Path] | None:
    """Who names the file of the token, METRICS_TOKEN_FILE before the setting metrics_token_file, and the file."""
    for who, named in ((FILE, environ.get(FILE)), ("metrics_token_file", settings.metrics_token_file)):
        if named:
            return who, settings.root / named
    return None


def token(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The token of METRICS_TOKEN, or of the file, read now; None where nobody names one. Raises TokenError."""
    if said := environ.get("METRICS_TOKEN"):
        who, text = "METRICS_TOKEN", said
    elif (named := file(settings, environ)) is None:
        return None
    else:
        who = f"{named[0]} names {named[1]}, which"
        try:
            text = named[1].read_text(encoding="utf-8")
        except FileNotFoundError:
            raise TokenError(f"{who} is not there") from None
        except OSError as error:
            raise TokenError(f"{who} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{who} can't be read: it is not UTF-8 text") from None
    if (found := token_of(text)) is None:
        raise TokenError(f"{who} has no token of printable characters without blanks")
    return found
