"""Metrics of the catalogue that the collector's own host fills: those with a `source`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upcheck.recording import Recorder
    from upcheck.system import Snapshot

_Values = Iterator[tuple[Mapping[str, str], float | None]]


class Host:
    """Sets those metrics of *recorder* to what a snapshot of the host says; what it does not know stays as it was."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._metrics = [
            (metric.name, _SOURCES[metric.source])
            for service in recorder.services.values()
            for metric in service.metrics.values()
            if metric.source
        ]

    def set(self, snapshot: Snapshot) -> None:
        """Take over *snapshot*."""
        for name, source in self._metrics:
            for labels, value in source(snapshot):
                if value is not None:
                    self._recorder.child(name, labels).action("set")(value)


def _cpu_ratio(snapshot: Snapshot) -> _Values:
    yield {"core": "total"}, snapshot.cpu
    for core, ratio in snapshot.cpus.items():
        yield {"core": core}, ratio


def _cpu(snapshot: Snapshot) -> _Values:
    for labels, ratio in _cpu_ratio(snapshot):
        yield labels, None if ratio is None else 100 * ratio


def _memory(snapshot: Snapshot) -> _Values:
    yield {"type": "used"}, snapshot.memory_used
    yield {"type": "available"}, snapshot.memory_available
    yield {"type": "total"}, snapshot.memory_total
    yield {"type": "usage_percent"}, None if snapshot.memory_ratio is None else 100 * snapshot.memory_ratio


def _memory_ratio(snapshot: Snapshot) -> _Values:
    yield {}, snapshot.memory_ratio


def _load(snapshot: Snapshot) -> _Values:
    yield {"period": "1m"}, snapshot.load1
    yield {"period": "5m"}, snapshot.load5
    yield {"period": "15m"}, snapshot.load15


def _uptime(snapshot: Snapshot) -> _Values:
    yield {}, snapshot.uptime


_SOURCES: dict[str, Callable[[Snapshot], _Values]] = {
    "host.cpu": _cpu,
    "host.cpu_ratio": _cpu_ratio,
    "host.memory": _memory,
    "host.memory_ratio": _memory_ratio,
    "host.load": _load,
    "host.uptime": _uptime,
}
