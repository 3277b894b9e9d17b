"""`upcheck rules backtest`: what alerts would have done."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.cli.rules.asked import JSON, could_not_tell, found, style, with_tools
from upcheck.cli.rules.proof import progress
from upcheck.declaration import seconds
from upcheck.result import ExitCode

if TYPE_CHECKING:
    from upcheck.report.backtest import Backtest
    from upcheck.rules.backtest.history import Part
    from upcheck.rules.backtest.incidents import Incident
    from upcheck.rules.suite import Rule
    from upcheck.settings import Settings

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("history")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=_PATH)
@click.option("--against", type=_PATH, metavar="PATH", help="Other rules, to be held against: a file or a folder.")
@click.option("--incidents", type=_PATH, metavar="FILE", help="What was wrong, and when.")
@click.option("--start", metavar="TIME", help="Play from then on: 2026-11-21T03:00:00Z, or 30d before the end.")
@click.option("--end", metavar="TIME", help="Play up to then: a moment.")
@click.option("--interval", default="15s", show_default=True, help="Of evaluation, where a group has none.")
@JSON
def backtest(
    history: str,
    paths: tuple[Path, ...],
    against: Path | None,
    incidents: Path | None,
    start: str | None,
    end: str | None,
    interval: str,
    as_json: bool,
) -> None:
    """Play recorded HISTORY through alerting rules: what would have fired, when, and how often.

    HISTORY is the URL of a Prometheus HTTP API (of which the last week is played), an OpenMetrics file, or a TSDB
    directory. PATH is a rule file or a folder (default: the repo's own).

    \b
    Examples:
      upcheck rules backtest http://prometheus:9090 --start 30d
      upcheck rules backtest /var/lib/prometheus/data rules/ --incidents incidents.yml
      upcheck rules backtest week.om new.yml --against old.yml
    \b
    Exit codes: 0 played, 2 wrong usage, 3 could not tell: of an alert, or of all.
    """
    from upcheck.report import backtest as report

    settings = settings_here()
    with _usage():
        versions = [_rules(settings, paths), *([_rules(settings, (against,))] if against else [])]
        labelled = _labelled(incidents, versions)
        told = _play(history, versions, labelled, settings, start, end, _step(interval))
    if as_json:
        click.echo(json.dumps(report.facts(told)))
    else:
        for line in report.lines(told, style):
            click.echo(line)
    everything = [one for version in told.versions for one in version.alerts]
    if all(one.lacks for one in everything):
        click.echo("rules and history share no metric, so nothing is known: is it the right history?", err=True)
        sys.exit(ExitCode.UNKNOWN)
    sys.exit(ExitCode.UNKNOWN if any(one.problem for one in everything) else ExitCode.HELD)


def _step(interval: str) -> float:
    try:
        return seconds(interval)
    except ValueError as error:
        raise click.UsageError(f"--interval: {error}") from None


def _rules(settings: Settings, paths: tuple[Path, ...]) -> list[Rule]:
    """The rules in *paths*; a usage error where no alert is among them."""
    from upcheck.rules.backtest import rules_of

    there = found(settings, paths)
    rules = rules_of([path.resolve() for path in (*there.rules, *there.custom)])
    if not any(rule.name.kind == "alert" for rule in rules):
        places = ", ".join(map(str, paths)) or str(settings.root)
        raise click.UsageError(f"no alert in {places}: name a rule file, or a folder that has some")
    return rules


def _labelled(file: Path | None, versions: Sequence[Sequence[Rule]]) -> list[Incident] | None:
    from upcheck.rules.backtest.incidents import load

    names = {rule.name.text for rules in versions for rule in rules if rule.name.kind == "alert"}
    return None if file is None else load(file, names)


def _play(
    source: str,
    versions: Sequence[Sequence[Rule]],
    labelled: Sequence[Incident] | None,
    settings: Settings,
    start: str | None,
    end: str | None,
    interval: float,
) -> Backtest:
    from upcheck.report.backtest import Backtest, Version
    from upcheck.rules import backtest as room
    from upcheck.rules.backtest.history import opened
    from upcheck.rules.backtest.incidents import judge

    part = _part(start, end)
    with (
        _untold(),
        could_not_tell(),
        opened(source, with_tools(settings), part, interval=interval) as history,
        progress("queries") as advance,
    ):
        told = room.run(history, versions, interval=interval, advance=advance)
    judged = [Version(one, None if labelled is None else judge(one, labelled, history)) for one in told]
    within = judged[0].judgement.incidents if judged[0].judgement else ()
    return Backtest(history, judged, [one for one in labelled or () if one not in within])


def _part(start: str | None, end: str | None) -> Part:
    """The part of a history that is asked for; raises ValueError."""
    from upcheck.rules.backtest.history import Part
    from upcheck.rules.backtest.incidents import moment

    try:
        until = None if end is None else moment(end)
    except ValueError as error:
        raise ValueError(f"--end: {error}") from None
    if start is None:
        return Part(until=until)
    with contextlib.suppress(ValueError):
        return Part(back=seconds(start), until=until)
    try:
        return Part(since=moment(start), until=until)
    except ValueError as error:
        raise ValueError(f"--start: {error}, or a time before the end such as 30d") from None


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """What is not readable is wrong usage."""
    from upcheck.documents import DocumentError

    try:
        yield
    except (DocumentError, ValueError) as error:
        raise click.UsageError(str(error)) from None


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """Exit 3 with a sentence where there is no history to play."""
    from upcheck.prometheus import PrometheusError
    from upcheck.rules.backtest.history import HistoryError
    from upcheck.servers import ServerError

    try:
        yield
    except (PrometheusError, HistoryError, ServerError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(ExitCode.UNKNOWN)
