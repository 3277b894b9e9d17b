"""OpenTelemetry's OTLP/HTTP: spans become events of the catalogue, and metrics become its metrics.

from_protobuf ─┐                        ┌─ Spans ──── events, and the alerts that a span raises
from_json ─────┴─ Span, Point, by ──────┴─ Points ─── metrics, stream by stream
                  service
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")  # by their number in the protocol
MAX_MESSAGES = 10  # of an answer: what is wrong with a batch is nearly always the same thing


class OtlpError(ValueError):
    """A body that is no OTLP, in a sentence."""


class Span(NamedTuple):
    """What is needed of a span: *seconds* it took, its *kind* as in KINDS, whether its status is an *error*."""

    name: str
    kind: str
    seconds: float
    error: bool
    attributes: Mapping[str, Any]


class Buckets(NamedTuple):
    """A histogram's value: *counts* up to each of *bounds*, and one more beyond; *total* is the sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Point(NamedTuple):
    """One data point. *kind*: sum, gauge or histogram; *stream* tells the sender: its resource, as one hashable."""

    name: str
    unit: str
    kind: str
    monotonic: bool
    cumulative: bool
    value: float | Buckets
    attributes: Mapping[str, Any]
    stream: Any


@dataclass(slots=True)
class Taken:
    """What became of a batch: how many were *taken* for each service, how many *refused*, and why."""

    taken: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    messages: list[str] = field(default_factory=list)

    def take(self, service: str, count: int = 1) -> None:
        """Note *count* as taken."""
        self.taken[service] = self.taken.get(service, 0) + count

    def refuse(self, message: str, count: int = 1) -> None:
        """Note *count* as refused; equal messages are told once."""
        self.refused += count
        if message not in self.messages and len(self.messages) < MAX_MESSAGES:
            self.messages.append(message)
