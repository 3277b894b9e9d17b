"""A Prometheus-compatible HTTP API (Prometheus, Thanos, Mimir, VictoriaMetrics), asked for values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from upcheck.probes import ProbeError, ProbeFailure
from upcheck.probes.http import Request, excerpt, fetch

DEADLINE = 10.0  # seconds
MOST = 256 * 2**20  # bytes of an answer: ten series of 11,000 steps are 3 MiB

T = TypeVar("T")


class PrometheusError(Exception):
    """There is no answer to a query; the sentence says what was asked, and what came back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of an instant vector."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Present:
    """A series of a range query: the *times* at which it has a value, in seconds since 1970."""

    labels: Mapping[str, str]
    times: Sequence[float]


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one series over a time: *points* are pairs of Unix seconds and a value."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Prometheus:
    """The API at *url*, which may have a user and a password, and a path before `/api/v1`."""

    def __init__(self, url: str, *, deadline: float = DEADLINE) -> None:
        self._url = f"{url.rstrip('/')}/api/v1"
        self._deadline = deadline

    def query(self, expression: str) -> list[Sample]:
        """What the instant query *expression* comes to now; a scalar is a sample without labels.

        Raises PrometheusError.
        """
        return self._ask("query", expression, {"query": expression}, _samples)

    def present(self, expression: str, start: float, end: float, step: float) -> list[Present]:
        """At which of the times from *start* to *end*, each *step* seconds, series of *expression* have a value.

        Raises PrometheusError, also for more than the 11,000 steps that Prometheus answers.
        """
        asked = {"query": expression, "start": _number(start), "end": _number(end), "step": _number(step)}
        return self._ask("query_range", expression, asked, _present)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """What *expression* comes to from *start* to *end* (Unix seconds), each *step*. Raises PrometheusError."""
        asked = {"query": expression, "start": _number(start), "end": _number(end), "step": _number(step)}
        return self._ask("query_range", expression, asked, _series)

    def names(self, selector: str, start: float, end: float) -> list[str]:
        """The metrics that have series which *selector* selects, from *start* to *end*. Raises PrometheusError."""
        asked = {"match[]": selector, "start": _number(start), "end": _number(end)}
        return self._ask("label/__name__/values", selector, asked, list[str], method="GET")

    def head(self) -> tuple[float, float]:
        """The times of the oldest and of the newest sample that stand in no block yet. Raises PrometheusError."""
        told = self._ask("status/tsdb", "the head", {}, lambda data: data["headStats"], method="GET")
        return told["minTime"] / 1000, told["maxTime"] / 1000

    def _ask(
        self,
        path: str,
        about: str,
        asked: Mapping[str, str],
        read: Callable[[Any], T],
        *,
        method: str = "POST",
    ) -> T:
        """What *read* makes of the answer's data."""
        url, form = f"{self._url}/{path}", urlencode(asked)
        headers = (("Content-Type", "application/x-www-form-urlencoded"),) if method == "POST" else ()
        try:
            request = Request(
                url if method == "POST" or not form else f"{url}?{form}",
                method,
                headers,
                form.encode() if method == "POST" else b"",
                deadline=self._deadline,
                max_body=MOST,
            )
        except ProbeError as error:
            raise PrometheusError(f"{about}: {error}") from None
        asked_of = request.asked.partition("?")[0]
        try:
            answer = fetch(request)
        except (ProbeFailure, ProbeError) as error:
            raise PrometheusError(f"{about}: {asked_of}: {error}") from None
        try:
            told = json.loads(answer.body)
            if told["status"] != "success":
                raise PrometheusError(f"{about}: {told.get('errorType')}: {told.get('error')}")
            return read(told["data"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PrometheusError(
                f"{about}: {asked_of} is no Prometheus API: {answer.status} {excerpt(answer.text)}"
            ) from None


def _present(data: Mapping[str, Any]) -> list[Present]:
    return [
        Present(
            one["metric"],
            sorted([float(time) for name in ("values", "histograms") for time, _ in one.get(name, ())]),
        )
        for one in data["result"]
    ]


def _series(data: Mapping[str, Any]) -> list[Series]:
    return [Series(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in data["result"]]


def _number(value: float) -> str:
    return f"{value:.3f}"


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
