"""The services below checks/: each is watched, or says what it would take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from upcheck import check

SERVICES = sorted(path.name for path in Path(__file__).parent.iterdir() if list(path.glob("*.yml")))


@check(every="1h", severity="warning")
@pytest.mark.parametrize("service", SERVICES)
def test_service_is_watched_in_full(unset: Callable[[str], list[str]], service: str) -> None:
    missing = unset(service)
    if missing:
        pytest.skip(f"checks/{service} is there in part or not at all: set {', '.join(missing)}")
    assert missing == []
