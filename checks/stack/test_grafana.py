"""What the Grafana at ${STACK_GRAFANA_URL}, an address with its user and password, has of the repo's dashboards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from upcheck import check, settings

URL = os.environ["STACK_GRAFANA_URL"].rstrip("/")
FILES = sorted((settings.here().monitoring / "grafana/dashboards").rglob("*.json"))


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title of each panel, also of those in rows, with each of its expressions."""
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
        yield from queries(panel) if panel.get("panels") else ()


@check(every="5m", timeout="10s", severity="warning")
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_dashboard_is_as_the_repo_has_it(http: httpx.Client, file: Path) -> None:
    wanted = json.loads(file.read_text(encoding="utf-8"))
    answer = http.get(f"{URL}/api/dashboards/uid/{wanted['uid']}")
    assert answer.status_code == 200, "Grafana has none of this uid: its log says why it did not take the file"
    told = answer.json()
    assert told["meta"]["folderTitle"] == file.parent.name
    assert told["dashboard"]["title"] == wanted["title"]
    assert list(queries(told["dashboard"])) == list(queries(wanted))
