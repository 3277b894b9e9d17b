"""The contract between rules and exporters: whatever is asked for is produced by somebody, and could fire.

`check` reads rules, their tests, dashboards, objectives and pages, and holds them against what exporters, the service
catalogue and recording rules produce. What can't be told, because no exporter was given, is no finding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upcheck.documents import DocumentError
from upcheck.rules.contract import (
    allowances,
    conventions,
    histograms,
    matching,
    names,
    reading,
    templates,
    times,
    types,
    unread,
)
from upcheck.rules.contract.finding import CHECKS, Context, Finding
from upcheck.rules.contract.labels import World
from upcheck.rules.contract.produced import (
    ExporterError,
    Produced,
    Series,
    of_collector,
    of_service,
    read_exposition,
)

__all__ = ["CHECKS", "ExporterError", "Finding", "Report", "Series", "check", "read_exposition"]

_MODULES = (names, times, types, histograms, matching, templates, conventions, unread)


@dataclass(slots=True)
class Report:
    """What came of it: *findings* in the order of files and lines, *unknown* what could not be checked and why.

    *allowed* are the findings that a comment allows; *queries* counts expressions, *series* the names that are known.
    """

    findings: list[Finding] = field(default_factory=list)
    allowed: list[Finding] = field(default_factory=list)
    unknown: list[Finding] = field(default_factory=list)
    unreadable: list[DocumentError] = field(default_factory=list)
    rules: int = 0
    queries: int = 0
    series: int = 0


def check(
    paths: Iterable[Path],
    series: Sequence[Series] = (),
    *,
    context_paths: Iterable[Path] = (),
    retention: float | None = None,
    dead_metrics: bool = False,
) -> Report:
    """Hold what is in *paths* against *series*, which exporters have, and the catalogue and configuration there.

    What is in *context_paths* is known and read, but nothing is found in it. *retention* is how long samples are kept,
    in seconds. Raises repository.PathError.
    """
    judged = list(dict.fromkeys(path.resolve() for path in paths))
    found = reading.read([*judged, *(path.resolve() for path in context_paths)])
    produced = Produced(found.configuration)
    if retention is not None:
        produced.configuration.retention = retention
    own = of_collector() if any(one.name.startswith("upcheck_") for one in series) else []
    for one in (*series, *own, *(one for service, _, _ in found.services for one in of_service(service))):
        produced.add(one)
    context = Context(found, World(produced, found.rules), dead_metrics)
    findings = sorted({finding for module in _MODULES for finding in module.check(context)})
    allowing, problems = allowances.read(found.files)
    report = Report(
        unreadable=found.unreadable, rules=len(found.rules), queries=len(found.queries), series=len(produced.series)
    )
    for finding, allowed in allowances.apply([*findings, *problems], allowing, _judged(context)):
        if _below(finding.file, judged):
            (report.unknown if finding.unknown else report.allowed if allowed else report.findings).append(finding)
    report.findings.sort()
    return report


def _judged(context: Context) -> Collection[str]:
    """The checks that were made: what was not has nothing to say of its allowances."""
    left_out = set() if context.dead_metrics else {"dead-metric"}
    if context.world.produced.configuration.retention is None:
        left_out.add("long-window")
    return CHECKS.keys() - left_out


def _below(file: Path, folders: Collection[Path]) -> bool:
    return any(folder in folders for folder in (file, *file.parents))
