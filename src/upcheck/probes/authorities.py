"""Whose certificates are trusted, where a check names no file of its own."""

from __future__ import annotations

import functools

from upcheck.settings import here


@functools.cache
def authorities() -> str:
    """The path of a PEM file: the setting `ca_file`, or else certifi's. Raises SettingsError."""
    settings = here()
    if settings.ca_file:
        return str(settings.root / settings.ca_file)
    import certifi  # what trusts a file of its own need not have it

    return certifi.where()
