"""What the checks ask. Yours to edit: add a fixture for each service of yours."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

# @pytest.fixture
# def shop(http):
#     http.base_url = "https://shop.example"
#     return http


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
