"""One root cause in place of thirty pages: what a check depends on, and which of many failures is the one to look at.

declarations ── Dependencies (names to node IDs) ── needs ──┐
results, as they come ── Causes.take ── waits for what is needed ──> results, each failed or blocked by its cause
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from urllib.parse import urlsplit

from upcheck.declaration import Declaration
from upcheck.result import Outcome, Result
from upcheck.settings import nearest


class DependencyError(ValueError):
    """A dependency that can't be meant, in a sentence that names the check."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Without what a check can't hold: node IDs of checks, and of those that tell whether we reach the world."""

    checks: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.checks or self.uplinks)


NOTHING = Needs()
BELIEVED = 5.0  # seconds for which what was bad is taken to be so still, or it would be asked at each failure behind it


class Dependencies:
    """What each of a set of checks needs."""

    def __init__(self, declared: Mapping[str, Declaration]) -> None:
        """*declared* has the declarations by node ID; `unknown` a sentence for each name that is not among them.

        Raises DependencyError for a name that is that of several, and for checks that need each other.
        """
        self.unknown: list[str] = []
        self._uplinks = tuple(check for check, one in declared.items() if one.uplink)
        self._needs: dict[str, tuple[str, ...]] = {}
        named = _by_name(declared)
        for check, one in declared.items():
            if one.depends_on:
                found = [self._resolved(check, name, named) for name in one.depends_on]
                self._needs[check] = tuple(dict.fromkeys(one for several in found for one in several))
        try:
            TopologicalSorter(self._needs).prepare()
        except CycleError as error:
            raise DependencyError(f"depends_on: {' needs '.join(error.args[1])}: leave one of them out") from None

    def of(self, check: str) -> Needs:
        """What *check* needs."""
        uplinks = () if check in self._uplinks else self._uplinks
        checks = self._needs.get(check, ())
        return Needs(checks, uplinks) if checks or uplinks else NOTHING

    def _resolved(self, check: str, name: str, named: Mapping[str, list[str]]) -> list[str]:
        """The checks that *check* means by *name*: in its own file first, and all parameters of a function."""
        file = check.partition("::")[0]
        found = named.get(f"{file}::{name}") or named.get(name) or []
        if not found:
            hint = nearest(name, _names(named))
            self.unknown.append(f"{check}: depends_on: there is no check '{name}'{hint}")
        files = sorted({one.partition("::")[0] for one in found})
        if len(files) > 1:
            told = ", ".join(f"{one}::{name}" for one in files)
            raise DependencyError(f"{check}: depends_on: '{name}' is the name of several: say which of {told}")
        return [one for one in found if one != check]


def _by_name(checks: Iterable[str]) -> dict[str, list[str]]:
    """The node IDs by everything that they may be called: the ID, its last part, either without parameters."""
    named: dict[str, list[str]] = {}
    for check in checks:
        file, _, name = check.partition("::")
        plain = name.partition("[")[0]
        for one in dict.fromkeys((check, f"{file}::{plain}", name, plain, name.rpartition("::")[2])):
            named.setdefault(one, []).append(check)
    return named


def _names(named: Mapping[str, list[str]]) -> list[str]:
    return [name for name in named if "::" not in name and "[" not in name]


@dataclass(slots=True)
class _Waiting:
    result: Result
    for_: set[str] = field(default_factory=set)


class Causes:
    """Takes results as they come and gives them back, each with its cause.

    One that did not hold waits until what it needs has been heard of. *anew* is whether that must be after the run
    began (what runs for ever has an older result of everything), or at any time (a run of everything once).
    """

    def __init__(self, needs: Callable[[Result], Needs], *, anew: bool) -> None:
        self._needs = needs
        self._anew = anew
        self._heard: dict[str, Result] = {}
        self._waiting: list[_Waiting] = []

    @property
    def awaited(self) -> set[str]:
        """The checks of which a result is waited for."""
        return {check for one in self._waiting for check in one.for_}

    def take(self, result: Result) -> list[Result]:
        """The results that are told now: *result* and what waited for it, or nothing yet."""
        result = _of_fixture(result)
        needs = self._needs(result) if result.outcome.bad else NOTHING
        if needs and (missing := self._missing(result, needs)):
            self._waiting.append(_Waiting(result, missing))
            return []
        return self._told(self._judged(result, needs))

    def flush(self, gone: Callable[[str], bool] = lambda check: True) -> list[Result]:
        """The results that wait for a check which is *gone*, without it."""
        told: list[Result] = []
        for one in list(self._waiting):
            one.for_ = {check for check in one.for_ if not gone(check)}
            if not one.for_:
                self._waiting.remove(one)
                told += self._told(self._judged(one.result, self._needs(one.result)))
        return told

    def _missing(self, result: Result, needs: Needs) -> set[str]:
        """What has to be heard of before *result* can be judged: nothing where its cause is known already."""
        if self._judged(result, needs) is not result:
            return set()
        needed = {*needs.checks, *(needs.uplinks if not _is_local(result) else ())}
        return {check for check in needed if not self._is_news(check, result)}

    def _is_news(self, check: str, result: Result) -> bool:
        """Whether what was heard of *check* tells something of the time of *result*."""
        heard = self._heard.get(check)
        if heard is None:
            return False
        believed = BELIEVED if _is_down(heard) else 0.0
        return not self._anew or heard.started + believed >= result.started

    def _judged(self, result: Result, needs: Needs) -> Result:
        if not result.outcome.bad or not needs:
            return result
        news = {check: self._heard[check] for check in (*needs.checks, *needs.uplinks) if self._is_news(check, result)}
        uplinks = [check in news and _is_down(news[check]) for check in needs.uplinks]
        if uplinks and all(uplinks) and result.outcome is Outcome.FAILED and not _is_local(result):
            reason = "not told: our own uplink is down"
            facts = {**result.facts, "code": "own_uplink", "got": reason, "blocked_by": needs.uplinks[0]}
            return replace(result, outcome=Outcome.ERROR, reason=reason, facts=facts)
        for check in needs.checks:
            cause = news.get(check)
            if cause is not None and _is_down(cause):
                return _blocked(result, str(cause.facts.get("blocked_by", check)))
        return result

    def _told(self, result: Result) -> list[Result]:
        self._heard[result.check] = result
        told = [result]
        for one in list(self._waiting):
            if result.check not in one.for_:
                continue
            judged = self._judged(one.result, self._needs(one.result))
            if self._is_news(result.check, one.result):
                one.for_.discard(result.check)
            if judged is not one.result or not one.for_:
                self._waiting.remove(one)
                told += self._told(judged)
        return told


def _of_fixture(result: Result) -> Result:
    """A fixture that several share and that can't be set up is one cause, not as many as its users."""
    fixture = result.facts.get("fixture")
    return _blocked(result, f"fixture {fixture}") if fixture and result.outcome is Outcome.ERROR else result


def _blocked(result: Result, cause: str) -> Result:
    facts = {**result.facts, "blocked_by": cause, "code": "blocked"}
    return replace(result, outcome=Outcome.BLOCKED, reason=f"blocked by {cause}: {result.reason}", facts=facts)


def _is_down(result: Result) -> bool:
    return result.outcome.bad or result.outcome is Outcome.BLOCKED


def _is_local(result: Result) -> bool:
    """Whether *result* is of something on this machine, for which no uplink is needed."""
    kind, _, what = str(result.facts.get("asked", "")).partition(" ")
    if kind in _OF_THIS_MACHINE:
        return True
    place = what.partition(" ")[0]
    for host in (place, _host(place)):
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            if host == "localhost" or host.endswith(".localhost"):
                return True
    return False


_OF_THIS_MACHINE = ("process", "port", "push")


def _host(place: str) -> str:
    """The host in a URL, or in `host:port`; empty where there is none."""
    try:
        return urlsplit(place if "://" in place else f"//{place}").hostname or ""
    except ValueError:
        return ""


def behind(results: Collection[Result]) -> dict[str, list[Result]]:
    """The blocked among *results*, by their cause."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.outcome is Outcome.BLOCKED:
            found.setdefault(str(result.facts.get("blocked_by", "")), []).append(result)
    return found
