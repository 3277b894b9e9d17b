"""Alertmanager configurations, written for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from upcheck.routes import Routes

Made = Callable[[str], Routes]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The routes of a configuration, given as text."""

    def make(text: str) -> Routes:
        file = tmp_path / "alertmanager.yml"
        file.write_text(text)
        return Routes.load(file)

    return make
