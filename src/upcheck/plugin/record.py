"""From pytest's reports to Results, and from Results to the sinks."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upcheck.concurrent import Run
from upcheck.declaration import Declaration
from upcheck.dependencies import NOTHING, Causes, Needs
from upcheck.maintenance import covering
from upcheck.plugin import session
from upcheck.plugin.confidential import hide
from upcheck.plugin.items import Item, Unmet
from upcheck.plugin.mark import declaration_of
from upcheck.probes import ProbeFailure
from upcheck.report import verdict
from upcheck.report.sinks import LinesSink, Sink
from upcheck.result import FACT, PLANNED, UNKNOWN, Kind, Outcome, Result, Unknown, fold
from upcheck.settings import Settings

if TYPE_CHECKING:
    from upcheck.rules.play import Rules, Timeline

TIMELINES = ".upcheck/timelines"
_ERROR_CLASS = re.compile(r"^upcheck\.[\w.]+: ")  # of ours: the sentence says it
_PLACED = re.compile(r".*?:(\d+):\d+: (.*)", re.DOTALL)
_KIND = f"{FACT}kind"
_STANDING: pytest.StashKey[Standing | None] = pytest.StashKey()
PLAYED = pytest.StashKey[list["Rules"]]()  # what the `rules` fixture has given
FIXTURE = "upcheck_fixture"  # the attribute of what a fixture raised that says which one
EXCHANGE = pytest.StashKey[dict[str, Any]]()  # what a fixture of ours last asked, and got


@dataclass(frozen=True, slots=True)
class Standing:
    """What is the same in each run of an item: what it checks, what it says of itself, the facts of each result."""

    kind: Kind
    declaration: Declaration
    facts: Mapping[str, object]


def standing(item: pytest.Item) -> Standing | None:
    """What is the same in each run of *item*, found out once; None where it is no check but an ordinary test."""
    if _STANDING not in item.stash:
        item.stash[_STANDING] = _standing(item, session.settings(item.config))
    return item.stash[_STANDING]


def _standing(item: pytest.Item, settings: Settings) -> Standing | None:
    if isinstance(item, Item):
        kind, declaration = item.kind, item.declaration
    elif item.get_closest_marker("check") or item.path.is_relative_to(settings.checks):
        kind, declaration = Kind.CHECK, declaration_of(item)
    elif item.path.is_relative_to(settings.rules_tests):
        kind, declaration = Kind.RULE, declaration_of(item)
    else:
        return None
    path, line, _ = item.location  # which pytest keeps, where reportinfo would look again
    file = item.config.rootpath / path
    return Standing(
        kind,
        declaration,
        {
            "name": item.name,
            "file": path if file.is_relative_to(item.config.rootpath) and ".." not in path else str(file.resolve()),
            "line": (line or 0) + 1,
            "every": declaration.every,
            "timeout": declaration.timeout,
            "severity": declaration.severity,
            "failure_threshold": declaration.failure_threshold,
            "success_threshold": declaration.success_threshold,
        },
    )


def declarations(items: Iterable[pytest.Item]) -> dict[str, Declaration]:
    """What the live checks among *items* say of themselves, by node ID."""
    known = {item.nodeid: standing(item) for item in items}
    return {check: one.declaration for check, one in known.items() if one is not None and one.kind is Kind.CHECK}


def with_facts(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> pytest.TestReport:
    """*report* with the facts of *item*, and no secrets: plain values, because xdist sends it to another process."""
    _add_facts(item, call, report)
    if report.failed and (window := planned(item, report.start)):
        report.outcome, report.wasxfail = "skipped", f"maintenance: {window}"
        report.user_properties.append((FACT + PLANNED, window))
    hide(report)
    return report


def planned(item: pytest.Item, at: float) -> str:
    """The window of maintenance that the check *item* is in *at* (unix seconds); empty where it is in none."""
    windows = session.settings(item.config).maintenance
    known = standing(item) if windows else None
    if known is None or known.kind is not Kind.CHECK:
        return ""
    return covering(windows, item.nodeid, item.name, at)


def _add_facts(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    known = standing(item)
    if known is None:
        return
    if call.excinfo is None and call.when == "setup" and not hasattr(item.config, "workerinput"):
        report.user_properties.append((FACT + "kind", known.kind.value))  # the others say the rest, unless it dies
        return
    facts = {"kind": known.kind.value, **known.facts}
    if isinstance(item, Item):
        facts.update(item.extra_facts())
    facts.update(_proven(item.stash.get(PLAYED, [])))
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        facts.update(_failure(item, call.excinfo, report.longreprtext))
        facts.update(_needed(item, call.excinfo.value))
        facts.setdefault("code", "assertion" if call.excinfo.errisinstance(AssertionError) else "exception")
        if timelines := [one for rules in item.stash.get(PLAYED, []) for one in rules.timelines]:
            facts["diff"] = f"F fires, p is pending, . is silent\n{timelines[-1].picture()}"
            facts["see"] = _drawn(item, timelines)
    report.user_properties.extend((FACT + name, value) for name, value in facts.items())


def _needed(item: pytest.Item, error: BaseException) -> dict[str, object]:
    """Which fixture is to blame for *error*, where several share it, and what else *item* needs: see `Causes`."""
    facts: dict[str, object] = {}
    if (fixture := getattr(error, FIXTURE, None)) is not None:
        facts["fixture"] = fixture
    if needs := session.needs(item):
        facts["needs"] = {"checks": needs.checks, "uplinks": needs.uplinks}
    return facts


def _proven(played: list[Rules]) -> dict[str, object]:
    """The alerts of the rules that a test has played, and what it has seen of them."""
    if not played:
        return {}
    proofs = [rules.proven() for rules in played]
    told = {"alerts": {name for rules in played for name in rules.alerts}}
    told |= {"fires": {name for fires, _ in proofs for name in fires}}
    told |= {"silent": {name for _, silent in proofs for name in silent}}
    return {name: sorted(names) for name, names in told.items()}


def _drawn(item: pytest.Item, timelines: list[Timeline]) -> str:
    """Where the *timelines* that a failed test has played are drawn, as SVG."""
    folder = session.settings(item.config).root / TIMELINES
    paths = []
    for number, timeline in enumerate(timelines, 1):
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', item.name)[:100]}-{number}.svg"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(timeline.svg(), encoding="utf-8")
        except OSError:  # a read-only place: the text shows the same
            return ""
        paths.append(str(path.relative_to(item.config.rootpath)))
    return "  ".join(paths)


def make_report(item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
    """The report of a phase that passed, as the hooks would make it."""
    return with_facts(item, call, pytest.TestReport.from_item_and_call(item, call))


def reports_of_lost(run: Run, told: str, code: str) -> list[pytest.TestReport]:
    """The reports of a run that ended otherwise than by itself: the phase that it was in has failed, for *told*."""
    item = run.item
    known = standing(item)
    exchange = run.own.stash.get(EXCHANGE, {}) if run.own is not None else {}
    facts = {
        "kind": Kind.CHECK.value,
        **(known.facts if known else {}),
        **exchange,
        "reason": told,
        "got": told,
        "code": code,
    }
    order = ("setup", "call", "teardown")
    reports = []
    for when in order:
        late = when == run.phase
        if order.index(when) > order.index(run.phase) and when != "teardown":
            continue
        reports.append(
            pytest.TestReport(
                nodeid=item.nodeid,
                location=item.location,
                keywords={},
                outcome="failed" if late else "passed",
                longrepr=told if late else None,
                when=when,  # type: ignore[arg-type]
                duration=time.monotonic() - run.since if late else 0.0,
                start=run.started,
                user_properties=[(FACT + name, value) for name, value in facts.items()],
            )
        )
    return reports


def _failure(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException], told: str) -> dict[str, object]:
    if isinstance(excinfo.value, Unmet):
        return excinfo.value.facts
    if isinstance(excinfo.value, Unknown):
        return {"reason": str(excinfo.value), "got": str(excinfo.value), UNKNOWN: True}
    reason = _first_error(told) or excinfo.exconly(tryshort=True).strip().partition("\n")[0]
    own = [entry for entry in excinfo.traceback if Path(entry.path) == item.path]
    if not own:
        return {"reason": reason, "got": reason}
    try:
        statement = " ".join(str(own[-1].statement).split())
    except SyntaxError:  # the file has changed since it was read
        return {"reason": reason, "got": reason}
    exchange = item.stash.get(EXCHANGE, {}) | _named(excinfo.value)
    line = own[-1].lineno + 1
    if not exchange:
        return {"reason": reason, "line": line, "got": reason, "want": statement}
    want = statement if reason in statement else f"{statement}   ({reason})"
    return {"reason": reason, "line": line, **exchange, "want": want}


def _named(error: BaseException) -> dict[str, object]:
    """The reason's short name where *error* comes from a fixture of ours, and whether the fault is ours."""
    failure = error if isinstance(error, ProbeFailure) else getattr(error, "failure", None)
    if not isinstance(failure, ProbeFailure):
        return {}
    return {"code": failure.reason.value, **({UNKNOWN: True} if failure.reason.ours else {})}


def _first_error(told: str) -> str:
    """What pytest says after its E, in the first such line of a report."""
    line = next((line for line in told.splitlines() if line.startswith("E  ")), "")
    return _ERROR_CLASS.sub("", line.removeprefix("E").strip()).removeprefix("AssertionError: ")


def _collect_error(told: str) -> tuple[str, int]:
    """Why a file can't be collected, and at which line: our sentences, else the last that pytest says after its E."""
    lines = [line for line in told.splitlines() if line.strip()] or ["can't be collected"]
    said = "\n".join(lines) if _PLACED.fullmatch(lines[0]) else lines[-1]
    last = next((line for line in reversed(lines) if line.startswith("E  ")), said)
    got = _ERROR_CLASS.sub("", last.removeprefix("E").strip())
    if placed := _PLACED.fullmatch(got):
        return placed[2], int(placed[1])
    return got, 1


def _needs_of(result: Result) -> Needs:
    """What *result* says that it needs: it may come from another process."""
    needs = result.facts.get("needs")
    return Needs(tuple(needs["checks"]), tuple(needs["uplinks"])) if needs else NOTHING


class Recorder:
    """Folds each item's reports into a Result, hands it to the sinks, and says at the end what came of it."""

    def __init__(self, config: pytest.Config, settings: Settings, sinks: Sequence[Sink]) -> None:
        self._config = config
        self._folders = {
            settings.checks: Kind.CHECK,
            settings.rules_tests: Kind.RULE,
            settings.monitoring: Kind.CONFIG,
        }
        self._sinks = sinks
        self._phases: dict[str, list[pytest.TestReport]] = defaultdict(list)
        self._collect_errors: set[str] = set()
        self._causes = Causes(_needs_of, anew=False)
        self.results: list[Result] = []
        self.warnings: list[str] = []
        for sink in sinks:
            config.pluginmanager.register(sink)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say which results are to come."""
        ours = [item.nodeid for item in session.items if self._kind(item.nodeid)]
        for sink in self._sinks:
            if isinstance(sink, LinesSink):
                sink.expect(ours)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the phase; at the last one, fold."""
        known = any(name == _KIND for name, _ in report.user_properties)
        died = report.when not in ("setup", "call", "teardown")
        if not known and not (died and self._kind(report.nodeid)):
            return
        self._phases[report.nodeid].append(report)
        if died or report.when == "teardown":
            self._take(fold(self._phases.pop(report.nodeid)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of checks that can't be collected is one error."""
        kind = self._kind(report.nodeid)
        if not report.failed or kind is None or report.nodeid in self._collect_errors:
            return
        self._collect_errors.add(report.nodeid)  # under xdist each worker reports it
        got, line = _collect_error(report.longreprtext)
        facts = {"name": report.nodeid, "file": report.nodeid, "line": line, "got": got}
        self._emit(Result(report.nodeid, Outcome.ERROR, time.time(), 0.0, kind, "can't be collected", facts))

    def _kind(self, nodeid: str) -> Kind | None:
        path = self._config.rootpath / nodeid.partition("::")[0]
        return next((kind for folder, kind in self._folders.items() if path.is_relative_to(folder)), None)

    def _take(self, result: Result) -> None:
        """Tell of *result*, once it is known what its cause is."""
        for one in self._causes.take(result):
            self._emit(one)

    def _emit(self, result: Result) -> None:
        if "needs" in result.facts:
            result = replace(result, facts={name: value for name, value in result.facts.items() if name != "needs"})
        self.results.append(result)
        for hook in self._config.hook.pytest_upcheck_result.get_hookimpls():
            # Each by itself: one that raises must not keep the result from the others, nor turn a check red.
            given = {"result": result, "config": self._config}
            try:
                hook.function(*[given[name] for name in hook.argnames])
            except Exception as error:  # noqa: BLE001 - a sink may raise anything
                self._warn(str(error) or repr(error))

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Have every sink write what it still holds; the lines last, because they tell what the others say."""
        for result in self._causes.flush():
            self._emit(result)
        for sink in sorted(self._sinks, key=lambda sink: isinstance(sink, LinesSink)):
            if isinstance(sink, LinesSink):
                sink.warn(self.warnings)
            try:
                notice = sink.finish()
            except Exception as error:  # noqa: BLE001 - see _emit
                notice = str(error) or repr(error)
            if notice:
                self._warn(notice)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line for each kind of check, and what the sinks had to say."""
        if not self.results and not self.warnings:
            return
        terminalreporter.write_sep("=", "upcheck")
        for line in verdict.counts(self.results):
            terminalreporter.write_line(line)
        if hint := verdict.hint(self.results, session.target(self._config)):
            terminalreporter.write_line(hint, yellow=True)
        for warning in self.warnings:
            terminalreporter.write_line(f"warning     {warning}", yellow=True)
