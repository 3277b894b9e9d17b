"""What the checks ask. Yours to edit: add a fixture for each service of yours."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# @pytest.fixture
# def shop(http):
#     http.base_url = "https://shop.example"
#     return http

CHECKS = Path(__file__).parent / "checks"


def variables(path: Path) -> list[str]:
    """What a service's file of checks, `checks/<service>/...`, takes from the environment: its address, and more."""
    address = f"{path.parent.name.upper().replace('-', '_')}_URL"
    return [address, *re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8"))]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A service's checks are there where their variables are set; whoever asks for them is told which are not."""
    if collection_path.suffix not in (".py", ".yml") or collection_path.parent.parent != CHECKS:
        return None
    address, *more = variables(collection_path)
    missing = [name for name in (address, *more) if not os.environ.get(name)]
    if address in missing and collection_path.parent in {config.invocation_params.dir / arg for arg in config.args}:
        raise pytest.UsageError(f"checks/{collection_path.parent.name} asks {address}, which is not set")
    return True if missing else None


@pytest.fixture
def unset() -> Callable[[str], list[str]]:
    """`unset("shop")`: the variables that checks/shop needs, and nobody has set."""

    def missing(service: str) -> list[str]:
        files = sorted(path for path in (CHECKS / service).iterdir() if path.suffix in (".py", ".yml"))
        named = dict.fromkeys(name for path in files for name in variables(path))
        return [name for name in named if not os.environ.get(name)]

    return missing


@pytest.fixture
def exposition(http: httpx.Client) -> str:
    """What the target's /metrics says, as text."""
    response = http.get("/metrics", headers={"Accept": "text/plain"})
    assert response.status_code == 200
    return response.text


@pytest.fixture
def metrics(exposition: str) -> Mapping[str, Metric]:
    """The target's metric families by name (a counter's without its _total)."""
    return {family.name: family for family in text_string_to_metric_families(exposition)}
