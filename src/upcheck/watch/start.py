"""The pytest plugin that the supervisor starts the engine's process with: `python -m pytest -p upcheck.watch.start`.

A plugin, and no program that calls pytest: what is imported before pytest can't have its asserts rewritten, and pytest
warns of it.
"""

from __future__ import annotations

import os

import pytest

from upcheck.watch import ENV, Options
from upcheck.watch.engine import Engine
from upcheck.watch.link import Link


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Have the engine run the session."""
    pluginmanager.register(Engine(Options.from_json(os.environ.pop(ENV)), Link.inherited()), "upcheck-engine")
