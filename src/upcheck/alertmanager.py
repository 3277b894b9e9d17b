"""Alertmanager: amtool as functions that return verdicts, and the API that takes alerts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upcheck import command
from upcheck.promtool import TIMEOUT, Verdict

PUSH_DEADLINE = 10.0  # seconds


def check_config(amtool: Path, file: Path) -> Verdict:
    """`amtool check-config`: the file and the templates it names."""
    answer = command.run([amtool, "check-config", file], timeout=TIMEOUT)
    said = [line for line in f"{answer.stdout}\n{answer.stderr}".splitlines() if line.strip()]
    return Verdict(answer.code == 0, "\n".join(said))


def push(url: str, alerts: Sequence[dict[str, Any]]) -> str | None:
    """Hand *alerts* (of API v2) to the Alertmanager at *url*; None when it has taken them, else why not."""
    from upcheck.probes.http import HttpFailure, Request, RequestError, fetch  # pycurl, for whoever pushes

    body = json.dumps(alerts).encode()
    headers = (("Content-Type", "application/json"),)
    try:
        answer = fetch(Request(f"{url}/api/v2/alerts", "POST", headers, body, PUSH_DEADLINE, follow_redirects=False))
    except (RequestError, HttpFailure) as error:
        return str(error)
    return None if answer.is_success else f"{answer.status} {answer.text[:200]}"
