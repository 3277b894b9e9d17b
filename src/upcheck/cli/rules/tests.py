"""`upcheck rules test`: promtool's rule tests, wherever they are."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.cli.rules.asked import PATHS, found, memory, promtool, style
from upcheck.result import exit_code

if TYPE_CHECKING:
    from upcheck.rules.repository import Repository
    from upcheck.rules.verdicts import Judged


@click.command()
@PATHS
@click.option("--no-cache", is_flag=True, help="Run every file, also what held before and has not changed.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="A kind of false green that is none here, such as no-tests."
)
def test(paths: tuple[Path, ...], no_cache: bool, allow: tuple[str, ...]) -> None:
    """Run all of promtool's rule tests below PATHS, and all route tests.

    Files are found by their content: rule files, rule tests, PrometheusRule resources, route tests. Templates and other
    YAML are left aside. A test that promtool calls a success and that tests nothing is a failure.

    \b
    Exit codes: 0 all held, 1 something failed, 2 wrong usage, 3 could not tell.
    """
    from upcheck.report import verdict
    from upcheck.routes import cases
    from upcheck.rules import alerts_of, verdicts
    from upcheck.rules.known import Cache

    began = time.monotonic()
    settings = settings_here()
    there = found(settings, paths)
    tool = promtool(settings)
    cache = None if no_cache else Cache(memory(settings) / "rules.json", tool)
    judged = verdicts.judge(tool, there, cache, allow)
    judged.results.extend(cases.judge(there.routes))
    if judged.results:
        names = sorted({name for file in (*there.rules, *there.custom) for name in alerts_of(file)})
        judged.results[0].facts["alerts"] = names  # type: ignore[index]
    for line in _files(there, judged):
        click.echo(line)
    for line in verdict.counts(judged.results, style):
        click.echo(line)
    if bad := verdict.failures(judged.results, lambda _: None, style):
        click.echo("\n" + "\n".join(bad))
    click.echo(verdict.total(judged.results, time.monotonic() - began, style))
    sys.exit(exit_code(judged.results))


def _files(found: Repository, judged: Judged) -> list[str]:
    count = len(found.rules) + len(found.custom)
    resources = f"  {len(found.custom)} of them PrometheusRule resources" if found.custom else ""
    lines = [f"{'files':<11} {count} with rules, {len(found.tests)} with tests{resources}"]
    if found.routes:
        lines[0] += f", {len(found.routes)} with route tests"
    if judged.cached:
        lines[0] += f"  ({judged.cached} of {len(found.tests)} from cache)"
    if found.aside:
        kinds = Counter(found.aside.values())
        lines.append(f"{'aside':<11} " + ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()))
    if found.python:
        lines.append(
            f"{'python':<11} {len(found.python)} with rule tests, which are not run here: `upcheck check` runs them"
        )
    return lines
