"""The command line: each command is a door to one room."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import click

import upcheck
from upcheck import run as once
from upcheck.cli.dashboards import dashboards
from upcheck.cli.demo import demo
from upcheck.cli.export import export
from upcheck.cli.migration import import_
from upcheck.cli.repo import settings_here
from upcheck.cli.rules import rules
from upcheck.cli.services import services
from upcheck.cli.stack import stack
from upcheck.declaration import seconds
from upcheck.history import History, HistoryError, Streak
from upcheck.report import nagios as plugin
from upcheck.report import verdict
from upcheck.result import ExitCode, exit_code
from upcheck.settings import Settings, nearest

AT_ONCE = 8
_ONCE = ("--nagios", "-x", "--maxfail", "-n", "--numprocesses", "--pdb", "--trace", "--metrics-textfile", "--results",
         "--junit", "--lf", "--last-failed", "--ff", "--sw", "--setup-", "--collect-only", "--concurrency")  # fmt: skip
NEEDED = ("promtool", "amtool", "prometheus", "alertmanager")
EXAMPLES = """\b
Examples:
  upcheck check                          prove everything against a collector of our own
  upcheck check --target https://api...  the same against a service that runs
  upcheck run                            the live checks once, for cron and CI
  upcheck watch                          the live checks for ever
  upcheck check -k disk                  only some of it: what follows goes to pytest
  upcheck history                        availability and latency of each check, last 24 hours
  upcheck tools list                     which promtool, amtool, ... are used
  upcheck rules test ../their-rules      promtool's tests of any directory, without false greens
  upcheck services                       the catalogue: what each service measures
  upcheck demo coderunner                a service's traffic, made up, in a real Prometheus
  upcheck dashboards                     Grafana's JSON of monitoring/grafana
  upcheck stack up                       everything on this machine, without Docker
  upcheck export kubernetes              the same in a cluster with prometheus-operator
  upcheck rules mutate                   which changes of the alerting rules no test would notice
  upcheck rules contract monitoring      rules and dashboards, held against what exporters produce
  upcheck init my-monitoring             a monitoring repo of your own
  upcheck import gatus config.yaml       checks of what another tool is configured with
"""


class _Doors(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands:
            groups = [
                door for door, one in self.commands.items() if isinstance(one, click.Group) and name in one.commands
            ]
            hint = f"; did you mean `upcheck {groups[0]} {name}`?" if groups else nearest(name, self.commands)
            ctx.fail(f"there is no command '{name}'{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Doors, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(upcheck.__version__, prog_name="upcheck", message="%(prog)s %(version)s")
def main() -> None:
    """Monitoring as code, in pytest."""


main.add_command(dashboards)
main.add_command(demo)
main.add_command(export)
main.add_command(import_)
main.add_command(rules)
main.add_command(services)
main.add_command(stack)


def _style(text: str, colour: str) -> str:
    return click.style(text, fg=colour)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option("--target", metavar="URL", envvar="UPCHECK_TARGET", help="Ask URL; no collector is started.")
@click.option("--nagios", is_flag=True, help="Answer as a monitoring plugin: one line, exit code 0, 1, 2 or 3.")
@click.option("-v", "--verbose", is_flag=True, help="Print what pytest printed, too.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def check(target: str | None, nagios: bool, verbose: bool, pytest_arguments: tuple[str, ...]) -> None:
    """Prove it all, and print a verdict.

    Runs the live checks, the rule tests and the configuration checks against the repo's collector.py, started on a
    free port, or against the service that --target names. Further arguments are pytest's.

    \b
    Exit codes: 0 everything held, 1 something failed, 2 wrong usage, 3 could not tell.
    """
    settings = settings_here(needed=True)
    for number in (signal.SIGTERM, signal.SIGINT):  # so that the collector we started is stopped, too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if not nagios:  # whose caller waits some seconds, and asks for live checks
        _fetch_tools(settings)
    say = (lambda text: None) if nagios else click.echo
    began = time.monotonic()  # what is fetched once is not how long a check takes
    report = _run(settings, target, pytest_arguments, verbose, say)
    if nagios:
        _answer(report)
    _tell(report, settings, target or settings.target, verbose, began)


def _answer(report: once.Report) -> NoReturn:
    """Answer as a monitoring plugin."""
    click.echo(plugin.line(report.results, report.warnings))
    sys.exit(plugin.status(report.results))


def _tell(report: once.Report, settings: Settings, target: str, verbose: bool, began: float) -> NoReturn:
    """Print what *report* comes to, and exit with its code."""
    if verbose or report.usage or not report.results:
        click.echo(report.output, err=report.usage)
    if report.usage:
        click.echo(_misspelt(report.output), err=True, nl=False)
        sys.exit(ExitCode.USAGE)
    for line in verdict.counts(report.results, _style):
        click.echo(line)
    if bad := verdict.failures(report.results, _streaks(settings), _style):
        click.echo("\n" + "\n".join(bad))
    if hint := verdict.hint(report.results, target.rstrip("/")):
        click.echo(_style(hint, "yellow"))
    for warning in report.warnings:
        click.echo(f"{'warning':<11} {_style(warning, 'yellow')}")
    click.echo(verdict.total(report.results, time.monotonic() - began, _style))
    sys.exit(exit_code(report.results))


def _misspelt(said: str) -> str:
    """What was meant by the options that pytest does not know, where they are like ours; *said* is its complaint."""
    ours = [name for one in click.get_current_context().command.params for name in one.opts if name.startswith("--")]
    unknown = " ".join(re.findall(r"unrecognized arguments: (.*)", said))
    typed = re.findall(r"(?:^|\s)(--[^\s=]+)", unknown)
    close = [(word, name) for word in typed for name in get_close_matches(word, ours, n=1)]
    return "".join(f"{word}: did you mean {name}?\n" for word, name in close)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option("--target", metavar="URL", envvar="UPCHECK_TARGET", help="Ask URL instead of [tool.upcheck] target.")
@click.option("--concurrency", default=50, type=click.IntRange(1, 1000), show_default=True, help="Checks at once.")
@click.option("--nagios", is_flag=True, help="Answer as a monitoring plugin: one line, exit code 0, 1, 2 or 3.")
@click.option("-v", "--verbose", is_flag=True, help="Print what pytest printed, too.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def run(target: str | None, concurrency: int, nagios: bool, verbose: bool, pytest_arguments: tuple[str, ...]) -> None:
    """Run the live checks once, many at a time, and print a verdict.

    For cron and CI. Rule tests and configurations are `upcheck check`'s. Further arguments are pytest's, or the
    plugin's: --metrics-textfile=PATH, --results=PATH, --junitxml=PATH.

    \b
    Examples:
      upcheck run
      upcheck run --target https://api.example -m critical
    \b
    Exit codes: 0 everything held, 1 something failed, 2 wrong usage, 3 could not tell.
    """
    settings = settings_here(needed=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    asked = [] if target is None else [f"--target={target}"]
    report = once.pytest(
        settings,
        ["--live", *asked, f"--concurrency={concurrency}", *pytest_arguments],
        terminal=verbose or bool(pytest_arguments),
        progress=_bar() if sys.stderr.isatty() else None,
    )
    if nagios:
        _answer(report)
    _tell(report, settings, target or settings.target, verbose, began)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option("--target", metavar="URL", envvar="UPCHECK_TARGET", help="Ask URL instead of [tool.upcheck] target.")
@click.option("--shard", default="1/1", metavar="I/N", show_default=True, help="Watch this part of the checks only.")
@click.option("--concurrency", default=50, type=click.IntRange(1, 1000), show_default=True, help="Threads for Python.")
@click.option("--fixture-lifetime", metavar="TIME", help="Set wider fixtures up anew after TIME, such as 1h.")
@click.option("--log", type=click.Choice(["auto", "view", "lines", "json"]), default="auto", show_default=True)
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def watch(
    target: str | None,
    shard: str,
    concurrency: int,
    fixture_lifetime: str | None,
    log: str,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Run the live checks for ever, each as often as its `every` says.

    Results go into the history, from which the collector's /metrics shows them. A change of a file is taken over as
    it is saved. Ctrl-C or SIGTERM lets what runs end; a second one does not wait. SIGHUP reads everything anew.

    \b
    Examples:
      upcheck watch                          a live view on a terminal, lines elsewhere
      upcheck watch --log json -m critical   what changes, as JSON; only some checks
      upcheck watch --shard 2/3              the second of three that share the work
    """
    from upcheck.watch import Options
    from upcheck.watch.supervisor import Supervisor

    settings = settings_here(needed=True)
    if senseless := [one for one in pytest_arguments if one.startswith(_ONCE)]:
        raise click.UsageError(f"{senseless[0]} makes no sense for checks that run for ever: leave it out")
    lifetime = None
    if fixture_lifetime is not None:
        try:
            lifetime = seconds(float(fixture_lifetime) if fixture_lifetime.isdecimal() else fixture_lifetime)
        except ValueError as error:
            raise click.UsageError(f"--fixture-lifetime: {error}") from None
    options = Options(_shard(shard), concurrency, lifetime, log)
    asked = [] if target is None else [f"--target={target}"]

    def say(text: str) -> None:
        if log == "json":
            click.echo(json.dumps({"time": round(time.time(), 3), "event": "engine", "text": text}))
        else:
            click.echo(f"{time.strftime('%H:%M:%S')}  {text}", err=True)

    sys.exit(Supervisor(settings, options, [*asked, *pytest_arguments], say).run())


def _shard(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise click.UsageError(f"--shard {text}: expected I/N with I from 1 to N, such as 2/3")
    return int(number), int(of)


def _fetch_tools(settings: Settings) -> None:
    from upcheck import tools

    try:
        tools.ensure(NEEDED, settings, say=lambda text: click.echo(text, err=True))
    except tools.ToolError as error:
        click.echo(f"{error}\n", err=True)  # the live checks can go on; what needs the tools is an error of its own


def _run(
    settings: Settings, target: str | None, arguments: Sequence[str], verbose: bool, say: Callable[[str], None]
) -> once.Report:
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if target is None:
            try:
                target = stack.enter_context(once.collector(settings))
            except once.RunError as error:
                click.echo(str(error), err=True)
                sys.exit(ExitCode.UNKNOWN)
            say(f"{'collector':<11} {target:<24} up in {time.monotonic() - began:.1f} s")
        else:
            say(f"{'target':<11} {target}")
        return once.pytest(
            settings,
            [f"--target={target}", *_at_once(arguments), *arguments],
            terminal=verbose or bool(arguments),  # options of it may be among them; else it costs half a second
            progress=_progress if sys.stderr.isatty() else None,
        )


def _at_once(arguments: Sequence[str]) -> list[str]:
    """Some at a time, because only then a check that sleeps for ever is given up; unless the user wants otherwise."""
    otherwise = ("-n", "--numprocesses", "--pdb", "--trace", "--setup-", "--concurrency", "-s")
    return [] if any(one.startswith(otherwise) for one in arguments) else [f"--concurrency={AT_ONCE}"]


def _progress(done: int, of: int) -> None:
    if of:
        click.echo(f"\r{done}/{of}\r", nl=False, err=True)


def _bar() -> Callable[[int, int], None]:
    """A progress bar on stderr, gone when everything is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    bar = Progress(
        "checks     ",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("checks", total=None)

    def show(done: int, of: int) -> None:
        if of and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=of or None)
        if of and done == of:
            bar.stop()

    return show


def _streaks(settings: Settings) -> Callable[[str], Streak | None]:
    try:
        return History(settings.history).streak
    except HistoryError:
        return lambda check: None  # the run has warned of it already


@main.command()
@click.argument("pattern", default="")
@click.option("--window", default="24h", show_default=True, help="How far back: 90m, 24h, 30d.")
@click.option(
    "--format", "kind", type=click.Choice(["table", "json", "csv", "openmetrics"]), default="table", show_default=True,
    help="json is a line per check; openmetrics is for promtool, all results.",
)  # fmt: skip
@click.option("--raw", is_flag=True, help="List results, newest last.")
@click.option("--limit", type=click.IntRange(1), help="How many lines at most; 100 with --raw.")
def history(pattern: str, window: str, kind: str, raw: bool, limit: int | None) -> None:
    """Availability and latency of each check.

    PATTERN is a part of a check's name, or the whole with * for any text.

    \b
    Examples:
      upcheck history                        all checks, the last 24 hours
      upcheck history shop --window 30d      what has shop in its name, 30 days
      upcheck history shop --raw             each run of it, and why it failed
      upcheck history --format csv > a.csv   for a spreadsheet
      upcheck history --format openmetrics --window 30d > a.om
      promtool tsdb create-blocks-from openmetrics a.om data/

    \b
    Exit codes: 0 printed, 2 wrong usage, 3 there is nothing to print.
    """
    from upcheck.declaration import seconds
    from upcheck.report import history as room

    try:
        span = seconds(window)
    except ValueError as error:
        raise click.UsageError(f"--window: {error}") from None
    try:
        with History(settings_here().history, read_only=True) as kept:
            for line in room.lines(kept, pattern, span, kind, raw=raw, limit=limit, style=_style):
                click.echo(line)
    except (HistoryError, room.NothingError) as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNKNOWN)


@main.group()
def tools() -> None:
    """The real promtool, amtool, prometheus, ..."""


@tools.command("list")
def tools_list() -> None:
    """Print which are found, their versions, and where they are from."""
    from upcheck import tools as room

    click.echo(room.table(settings_here()))


@tools.command("install")
@click.argument("names", nargs=-1)
def tools_install(names: tuple[str, ...]) -> None:
    """Fetch NAMES (default: all that are missing) into the tools folder, without root.

    \b
    Examples:
      upcheck tools install
      upcheck tools install blackbox_exporter
    """
    from upcheck import tools as room

    if unknown := [name for name in names if name not in room.NAMES]:
        raise click.UsageError(f"no tool is called '{unknown[0]}'{nearest(unknown[0], room.NAMES)}")
    settings = settings_here()
    try:
        room.ensure(names or room.NAMES, settings, say=lambda text: click.echo(text, err=True))
    except room.ToolError as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNKNOWN)
    click.echo(room.table(settings))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--service", metavar="NAME", help="Write only monitoring/services/NAME.yml, into the repo that is there.")
def init(folder: Path, service: str | None) -> None:
    """Write a new monitoring repo.

    Into FOLDER (default: this one): checks, rules, their tests, a Makefile.

    \b
    Examples:
      upcheck init my-monitoring && cd my-monitoring && make check
      upcheck init --service shop            one more service for the catalogue
    """
    from upcheck import scaffold

    try:
        written = scaffold.write(folder) if service is None else scaffold.write_service(folder, service)
    except scaffold.ScaffoldError as error:
        raise click.UsageError(str(error)) from None
    there = "" if folder == Path() else f"cd {folder} && "
    if service is None:
        click.echo(f"{len(written)} files written. Next: {there}make check")
    else:
        click.echo(f"{written[0]} written: edit it. Next: {there}upcheck services show {service}")
