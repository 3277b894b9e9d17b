"""`upcheck rules`: whether alerting rules are any good, for any directory of Prometheus rules."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.result import ExitCode, exit_code

if TYPE_CHECKING:
    from upcheck.rules.repository import Repository
    from upcheck.rules.verdicts import Judged

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rules() -> None:
    """Alerting rules, proven: of this repo, or of any directory of Prometheus rules and promtool tests.

    \b
    Examples:
      upcheck rules test monitoring rules_tests
      upcheck rules test ../their-prometheus-repo
    """


@rules.command()
@PATHS
@click.option("--no-cache", is_flag=True, help="Run every file, also what held before and has not changed.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="A kind of false green that is none here, such as no-tests."
)
def test(paths: tuple[Path, ...], no_cache: bool, allow: tuple[str, ...]) -> None:
    """Run all of promtool's rule tests below PATHS.

    Files are found by their content: rule files, rule tests, PrometheusRule resources. Templates and other YAML are
    left aside. A test that promtool calls a success and that tests nothing is a failure.

    \b
    Exit codes: 0 all held, 1 something failed, 2 wrong usage, 3 could not tell.
    """
    from upcheck.report import verdict
    from upcheck.rules import alerts_of, repository, verdicts
    from upcheck.rules.known import Cache

    began = time.monotonic()
    try:
        found = repository.find(paths)
    except repository.PathError as error:
        raise click.UsageError(str(error)) from None
    tool = promtool()
    cache = None if no_cache else Cache(_cache_file(), tool)
    judged = verdicts.judge(tool, found, cache, allow)
    if judged.results:
        names = sorted({name for file in (*found.rules, *found.custom) for name in alerts_of(file)})
        judged.results[0].facts["alerts"] = names  # type: ignore[index]
    for line in _found(found, judged):
        click.echo(line)
    for line in verdict.counts(judged.results, _style):
        click.echo(line)
    if bad := verdict.failures(judged.results, lambda _: None, _style):
        click.echo("\n" + "\n".join(bad))
    click.echo(verdict.total(judged.results, time.monotonic() - began, _style))
    sys.exit(exit_code(judged.results))


def promtool() -> Path:
    """The path of promtool, fetched if need be; ends with exit code 3 where it can't be had."""
    from upcheck import tools

    try:
        return tools.ensure(("promtool",), settings_here(), say=lambda text: click.echo(text, err=True))[
            "promtool"
        ].path
    except tools.ToolError as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNKNOWN)


def _found(found: Repository, judged: Judged) -> list[str]:
    count = len(found.rules) + len(found.custom)
    resources = f"  {len(found.custom)} of them PrometheusRule resources" if found.custom else ""
    lines = [f"{'files':<11} {count} with rules, {len(found.tests)} with tests{resources}"]
    if judged.cached:
        lines[0] += f"  ({judged.cached} of {len(found.tests)} from cache)"
    if found.aside:
        kinds = Counter(found.aside.values())
        lines.append(f"{'aside':<11} " + ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()))
    return lines


def _cache_file() -> Path:
    """In the monitoring repo that this folder is in; elsewhere, because another's repo is theirs, the user's cache."""
    settings = settings_here()
    if (settings.root / ".upcheck").is_dir():
        return settings.root / ".upcheck/rules.json"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upcheck/rules.json"


def _style(text: str, colour: str) -> str:
    return click.style(text, fg=colour)
