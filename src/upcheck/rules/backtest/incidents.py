"""What was wrong while history was recorded, and which pages were about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from upcheck import documents, schema
from upcheck.documents import DocumentError
from upcheck.rules.backtest import Episode, History, Played
from upcheck.settings import nearest


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that was wrong from *start* to *end*, seconds since 1970.

    Pages about it are those of *alerts* with *labels*; without any, all pages of its time.
    """

    name: str
    start: float
    end: float
    alerts: tuple[str, ...]
    labels: Mapping[str, str]

    def pages(self, played: Played, page: Episode) -> bool:
        """Whether that *page* is about it: it fired before the end, and was not over before the start."""
        if page.fired is None or page.fired > self.end or (page.over is not None and page.over <= self.start):
            return False
        return (not self.alerts or played.rule.name.text in self.alerts) and self.labels.items() <= page.labels.items()


@dataclass(frozen=True, slots=True)
class Page:
    """An alert that fired, and the incidents it is about: none of a false page."""

    played: Played
    episode: Episode
    incidents: tuple[Incident, ...]


@dataclass(frozen=True)
class Judgement:
    """The *pages* of a version of the rules, in their order, held against the *incidents* within the history."""

    pages: tuple[Page, ...]
    incidents: tuple[Incident, ...]

    @property
    def precision(self) -> float | None:
        """The share of pages that are about an incident, 0 to 1; None without pages."""
        return sum(bool(one.incidents) for one in self.pages) / len(self.pages) if self.pages else None

    @property
    def recall(self) -> float | None:
        """The share of incidents that were paged, 0 to 1; None without incidents."""
        found = sum(self.first(one) is not None for one in self.incidents)
        return found / len(self.incidents) if self.incidents else None

    @property
    def false(self) -> list[Page]:
        """The pages that are about no incident."""
        return [one for one in self.pages if not one.incidents]

    def first(self, incident: Incident) -> Page | None:
        """The first page about *incident*; None where it was missed."""
        return next((one for one in self.pages if incident in one.incidents), None)


def load(path: Path, alerts: Collection[str]) -> list[Incident]:
    """The incidents in *path* as they started; raises DocumentError, also for an alert that is not of *alerts*."""
    document = documents.load(path)
    schema.validate(path, document, "incidents")
    found = []
    for index, said in enumerate(document["incidents"]):
        place: list[str | int] = ["incidents", index]
        for name in said.get("alerts") or ():
            if name not in alerts:
                text = f"alerts: no rule has the alert {name}{nearest(name, alerts)}"
                raise DocumentError(path, text, *documents.where(document, [*place, "alerts"]))
        start, end = (_moment(path, document, [*place, key], said[key]) for key in ("start", "end"))
        if end < start:
            text = f"{said['name']} ends before it starts"
            raise DocumentError(path, text, *documents.where(document, [*place, "end"]))
        found.append(Incident(said["name"], start, end, tuple(said.get("alerts") or ()), said.get("labels") or {}))
    return sorted(found, key=lambda one: one.start)


def _moment(path: Path, document: documents.Map, place: Sequence[str | int], text: str) -> float:
    try:
        return moment(text)
    except ValueError as error:
        raise DocumentError(path, f"{place[-1]}: {error}", *documents.where(document, place)) from None


def moment(text: str) -> float:
    """The moment *text*, in seconds since 1970; UTC unless it says otherwise. Raises ValueError, with a sentence."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a moment such as 2026-11-21T03:00:00Z, not {text!r}") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def judge(played: Sequence[Played], incidents: Sequence[Incident], history: History) -> Judgement:
    """Which pages are about which incidents; an incident that is not in the history is left out."""
    within = tuple(one for one in incidents if one.end >= history.start and one.start <= history.end)
    pages = [
        Page(alert, page, tuple(one for one in within if one.pages(alert, page)))
        for alert in played
        for page in alert.pages
    ]
    return Judgement(tuple(sorted(pages, key=lambda one: one.episode.fired or 0.0)), within)
