"""A Prometheus-compatible HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics), asked for values of now."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from upcheck.probes import ProbeError, ProbeFailure
from upcheck.probes.http import Request, excerpt, fetch

DEADLINE = 10.0  # seconds


class PrometheusError(Exception):
    """There is no answer to a query; the sentence says what was asked, and what came back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """The API at *url*, which may have a user and a password, and a path before `/api/v1`."""

    def __init__(self, url: str, *, deadline: float = DEADLINE) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._deadline = deadline

    def query(self, expression: str) -> list[Sample]:
        """What the instant query *expression* comes to now; a scalar is a sample without labels.

        Raises PrometheusError.
        """
        headers = (("Content-Type", "application/x-www-form-urlencoded"),)
        body = f"query={quote_plus(expression)}".encode()
        try:
            request = Request(self._url, "POST", headers, body, deadline=self._deadline)
            answer = fetch(request)
        except (ProbeFailure, ProbeError) as error:
            raise PrometheusError(f"{expression}: POST {self._url}: {error}") from None
        try:
            told = json.loads(answer.body)
            if told.get("status") != "success":
                raise PrometheusError(f"{expression}: {told.get('errorType')}: {told.get('error')}")
            return _samples(told["data"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PrometheusError(
                f"{expression}: {request.asked} is no Prometheus API: {answer.status} {excerpt(answer.text)}"
            ) from None


def _samples(data: Mapping[str, object]) -> list[Sample]:
    kind, result = data["resultType"], data["result"]
    if kind == "scalar" and isinstance(result, list):
        return [Sample({}, float(result[1]))]
    if kind != "vector" or not isinstance(result, list):
        raise PrometheusError(f"a query that comes to a {kind} has no value: ask for an instant vector")
    return [Sample(one["metric"], float(one["value"][1])) for one in result]


def one(samples: list[Sample]) -> float:
    """The value of the only sample; NaN where there is none. Raises PrometheusError where there are several."""
    if len(samples) > 1:
        raise PrometheusError(f"{len(samples)} series where one was wanted: aggregate them, as with sum(...)")
    return samples[0].value if samples else math.nan
