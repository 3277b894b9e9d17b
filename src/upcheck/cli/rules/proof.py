"""`upcheck rules coverage` and `mutate`: what the rule tests prove of the rules."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upcheck.cli.repo import settings_here
from upcheck.cli.rules.asked import JSON, PATHS, could_not_tell, found, memory, promtool, style
from upcheck.result import ExitCode
from upcheck.settings import Settings

if TYPE_CHECKING:
    from upcheck.rules.repository import Repository


@click.command()
@PATHS
@JSON
@click.option("--fail-under", metavar="SCORE", type=click.FloatRange(0, 1), help="Exit 1 below this score (0 to 1).")
def mutate(paths: tuple[Path, ...], as_json: bool, fail_under: float | None) -> None:
    """Change each rule, and each route, in one place after the other, and tell which changes no test notices.

    PATH is a rule file, an Alertmanager configuration, a test file of either, or a folder (default: the repo's own).
    The score is the share of changes that a test notices; what is not noticed is shown with the test that would.

    \b
    Exit codes: 0 all well, 1 score below --fail-under, 2 wrong usage, 3 could not tell.
    """
    from upcheck.report import proof
    from upcheck.routes import mutation as routes
    from upcheck.rules import mutation

    settings = settings_here()
    there = _tested(settings, paths)
    began = time.monotonic()
    with could_not_tell(), progress("mutants") as advance:
        rules = mutation.prove(
            promtool(settings),
            there.tests,
            _rule_files(there),
            known=memory(settings) / "mutants.json",
            advance=advance,
        )
        told = rules + routes.prove(there.routes, there.alertmanager, advance=advance)
    if as_json:
        click.echo(json.dumps(proof.mutation_facts(told), indent=2))
    else:
        for line in proof.mutation_lines(told, time.monotonic() - began, style):
            click.echo(line)
    sys.exit(ExitCode.FAILED if fail_under is not None and told.score < fail_under else ExitCode.HELD)


@click.command()
@PATHS
@JSON
@click.option("--fail-under", metavar="SHARE", type=click.FloatRange(0, 1), help="Exit 1 below this share (0 to 1).")
def coverage(paths: tuple[Path, ...], as_json: bool, fail_under: float | None) -> None:
    """Tell what the tests have seen of the rules and of Alertmanager's routes, and what not.

    PATH is a rule file, an Alertmanager configuration, a test file of either, or a folder (default: the repo's own).
    Of an alert a test can see that it fires, keeps silent and is pending, what its templates become, and who is told;
    of an expression, which way each condition goes; of a route, that it is taken.

    \b
    Exit codes: 0 all well, 1 share below --fail-under, 2 wrong usage, 3 could not tell.
    """
    from upcheck.report import proof
    from upcheck.routes import coverage as routes
    from upcheck.rules import coverage as measured

    settings = settings_here()
    there = _tested(settings, paths)
    with could_not_tell():
        told = measured.measure(promtool(settings), there.tests, _rule_files(there))
        routing = routes.measure(there.routes, there.alertmanager, told.rules)
    if as_json:
        click.echo(json.dumps(proof.coverage_facts(told, routing), indent=2))
    else:
        for line in proof.coverage_lines(told, routing, style):
            click.echo(line)
    low = fail_under is not None and proof.share(told, routing) < fail_under
    sys.exit(ExitCode.FAILED if low else ExitCode.HELD)


def _tested(settings: Settings, paths: tuple[Path, ...]) -> Repository:
    """What is found, with tests in it; else a usage error."""
    there = found(settings, paths)
    if not there.tests and not there.routes:
        places = ", ".join(map(str, paths)) or str(settings.root)
        raise click.UsageError(f"no rule-test file in {places}: name a folder that has rules and their tests")
    return there


def _rule_files(there: Repository) -> list[Path]:
    """Those that are rule files, and those that hold PrometheusRule resources; a template of such is left aside."""
    from upcheck.documents import DocumentError
    from upcheck.rules import suite

    found = list(there.rules)
    for path in there.custom:
        try:
            suite.rules_in(path)
        except DocumentError as error:
            click.echo(f"left aside: {error}", err=True)
        else:
            found.append(path)
    return found


@contextlib.contextmanager
def progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; what it yields is told how much is done, of how much."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[Any] = [MofNCompleteColumn(), TextColumn(unit), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
