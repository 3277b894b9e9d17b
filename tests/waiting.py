"""Waiting for what comes in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0  # seconds, which only a fault reaches: CI has slow minutes


def eventually(true: Callable[[], T], told: Callable[[], object] | None = None, seconds: float = PATIENCE) -> T:
    """What *true* gives, once it is; after *seconds* without, fails with what *told* says, or with what it gave."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {told() if told else found}"
        time.sleep(0.05)
    return found
