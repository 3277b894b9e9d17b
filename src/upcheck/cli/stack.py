"""`upcheck stack`: the whole of monitoring on this machine, started, asked and stopped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from upcheck.cli.repo import settings_here
from upcheck.result import ExitCode
from upcheck.settings import nearest

if TYPE_CHECKING:
    from upcheck.stack.archive import Manifest
    from upcheck.stack.health import Standing
    from upcheck.stack.provider import Provider

_WIDE = 18  # the longest name of a service, and a blank
_LINES = 20  # of each log
_LOOK = 0.2  # seconds between two looks at what came


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def stack() -> None:
    """Everything on this machine: collector, watch, Prometheus, Alertmanager, node_exporter, blackbox_exporter.

    Real programs, no Docker, no root; on the loopback only. They run on when the command and the terminal have ended,
    and are brought back when they die.

    \b
    Examples:
      upcheck stack up                     prove the configuration, start, prove that an alert finds its way
      upcheck stack status                 addresses, health, since when, memory
      upcheck stack logs prometheus -f     what it prints
      upcheck stack restart                take over what has changed, if it is accepted
      upcheck stack stop                   end it; its data stay
      upcheck stack backup FILE            save what it keeps; `restore FILE` brings it back
    """


_provider = click.option(
    "--provider", type=click.Choice(["local", "docker"]), default="local", show_default=True,
    help="Programs of this machine, or containers of monitoring/compose.yml.",
)  # fmt: skip


@stack.command()
@_provider
def up(provider: str) -> None:
    """Prove the configuration, start everything, and prove that an alert finds its way.

    What promtool, amtool or the contract refuse starts nothing. Of the alerts that prove it, only who is told of the
    watchdog hears.

    \b
    Exit codes: 0 everything is well, 1 something is not, 2 wrong usage, 3 nothing was started.
    """
    with _refusals("nothing was started"):
        made = _stack(provider)
        started = made.up()
    if not started:
        click.echo("the stack runs already; `upcheck stack restart` takes over what has changed")
        _tell(made.standings())
    _settle(made) if started else None


@stack.command()
@_provider
def restart(provider: str) -> None:
    """Prove the configuration, then stop everything and start it anew; what is refused leaves all as it is.

    \b
    Exit codes: 0 everything is well, 1 something is not, 2 wrong usage, 3 nothing was restarted.
    """
    with _refusals("what runs goes on as it is"):
        made = _stack(provider)
        made.restart()
    _settle(made)


@stack.command()
@_provider
def stop(provider: str) -> None:
    """End everything; metrics and alerts stay, in .upcheck/stack or in volumes."""
    with _refusals("it may still run: `upcheck stack status` tells"):
        made = _stack(provider)
        ran = made.stop()
    click.echo(f"stopped; {made.KEPT}" if ran else "the stack does not run")


@stack.command()
@_provider
def status(provider: str) -> None:
    """Say how each service is: address, health, since when, memory.

    \b
    Exit codes: 0 everything is well, 1 something is not, or nothing runs, 2 wrong usage, 3 nothing answers.
    """
    with _refusals("so it is not known how the stack is"):
        made = _stack(provider)
        standings, running = made.standings(), made.running
    if not standings:
        click.echo("the stack was never started: `upcheck stack up`")
        sys.exit(ExitCode.FAILED)
    if not running:
        if not any(one.run.pid for one in standings):
            click.echo("the stack does not run: `upcheck stack up`")
            sys.exit(ExitCode.FAILED)
        click.echo("the supervisor is gone, so nothing that dies comes back: `upcheck stack up` starts all anew")
    _tell(standings)
    sys.exit(ExitCode.HELD if running else ExitCode.FAILED)


@stack.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_provider
def backup(file: Path, provider: str) -> None:
    """Write what the stack keeps into FILE, whether it runs or not: samples, silences, the history, Grafana's, Redis'.

    \b
    Not in it: monitoring/ and checks/, which Git has; secrets and .env, which are yours to keep elsewhere.
    A program of this machine goes on, but for Alertmanager's second; a container stands while its files are read.
    \b
    Examples:
      upcheck stack backup /mnt/backup/monitoring.tar.gz
      upcheck stack restore /mnt/backup/monitoring.tar.gz
    \b
    Exit codes: 0 all is in FILE, 2 wrong usage, 3 nothing was written, and a FILE of before is as it was.
    """
    with _refusals(f"no backup was made{f'; {file} is as it was' if file.exists() else ''}"):
        manifest = _stack(provider).backup(file)
    click.echo(f"{file}: {_listed(manifest)}, {file.stat().st_size / 2**20:.1f} MB")
    click.echo("not in it: monitoring/ and checks/, which Git has; secrets and .env, which are yours to keep elsewhere")


@stack.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_provider
def restore(file: Path, provider: str) -> None:
    """Put what is in the backup FILE in the place of what the stack keeps, which is moved aside, never deleted.

    FILE may be of the other provider: what has no place here is left out. The stack has to be stopped.

    \b
    Exit codes: 0 it is restored, 2 wrong usage, 3 nothing was restored.
    """
    with _refusals("nothing was restored"):
        manifest, aside = _stack(provider).restore(file)
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.at))
    click.echo(f"restored as it was at {made}, by upcheck {manifest.made}: {_listed(manifest)}")
    click.echo(f"what was there before is in {aside}; start with `upcheck stack up`")


def _listed(manifest: Manifest) -> str:
    return f"{', '.join(manifest.stores) or 'nothing'} in {len(manifest.files)} files"


@stack.command()
@click.argument("service", default="")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes, until Ctrl-C.")
@_provider
def logs(service: str, follow: bool, provider: str) -> None:
    """Print the last lines that SERVICE, or each, has printed; `supervisor` tells what died.

    \b
    Exit codes: 0 printed, 1 there are none: it was never started, 2 no such service, 3 nothing answers.
    """
    from upcheck.stack.containers import Containers

    with _refusals("so there are no logs to print"):
        made = _stack(provider)
        names = made.logged()
    if not names:
        raise click.ClickException("there are no logs: the stack was never started: `upcheck stack up`")
    if service and service not in names:
        raise click.UsageError(f"no service '{service}'{nearest(service, names)}")
    chosen = [service] if service else names
    if isinstance(made, Containers):
        sys.exit(made.logs(service, _LINES, follow=follow))
    with ExitStack() as opened:
        files = {name: opened.enter_context(made.record.log(name).open(errors="replace")) for name in chosen}
        with suppress(KeyboardInterrupt):
            _print(files, follow)


def _print(files: Mapping[str, TextIO], follow: bool) -> None:
    """Print the last lines of *files*, by the names of their services, and what comes."""
    for name, file in files.items():
        for line in file.readlines()[-_LINES:]:
            _line(name, line, len(files) > 1)
    while follow:
        for name, file in files.items():
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # it has grown and begun anew
            for line in file:
                _line(name, line, len(files) > 1)
        time.sleep(_LOOK)


def _line(name: str, line: str, named: bool) -> None:
    click.echo(f"{click.style(f'{name:<{_WIDE}}', dim=True) if named else ''}{line}", nl=not line.endswith("\n"))


def _stack(provider: str) -> Provider:
    """Raises StackError."""
    from upcheck.stack.containers import Containers
    from upcheck.stack.lifecycle import Local

    settings = settings_here(needed=True)
    if provider == "local":
        return Local(settings)
    return Containers(settings, lambda line: click.secho(line, dim=True))


@contextmanager
def _refusals(otherwise: str) -> Iterator[None]:
    """Print what is refused, and what that means; exit with 3."""
    from upcheck.command import CommandError
    from upcheck.stack.services import StackError
    from upcheck.tools import ToolError

    try:
        yield
    except (CommandError, StackError, ToolError) as error:
        click.echo(f"{error}\n{otherwise}", err=True)
        sys.exit(ExitCode.UNKNOWN)


def _settle(made: Provider) -> None:
    """Wait until all is well, print addresses and the proof; exit with 1 where something is not."""
    from upcheck.stack.services import StackError

    began = time.monotonic()
    with _progress(began) as told:
        standings = made.settled(told)
    if not all(one.healthy for one in standings):
        _tell(standings)
    try:
        said = made.proven()
    except StackError as error:
        click.echo(f"{click.style('not proven', 'red')}  {error}", err=True)
        sys.exit(ExitCode.FAILED)
    click.echo(f"{click.style('proven', 'green')}  {said}")
    if missing := made.missing_secrets():
        names = ", ".join(map(str, missing))
        click.echo(
            f"{click.style('missing', 'yellow')}  {names}: alerts reach those receivers when each is a file with its "
            f"secret in monitoring/alertmanager (mode 600), no restart needed"
        )


@contextmanager
def _progress(began: float) -> Iterator[Callable[[Standing], None]]:
    """What hears of each service that is well: a line each, above a spinner where a person watches."""
    if not sys.stdout.isatty():
        yield lambda one: click.echo(_well(one, began))
        return
    from rich.console import Console
    from rich.status import Status

    console = Console(highlight=False, markup=False, soft_wrap=True)
    with Status("waiting until every service is well", console=console):
        yield lambda one: console.print(_well(one, began))


def _well(one: Standing, began: float) -> str:
    where = one.service.url or ("the live checks, for ever" if one.service.name == "watch" else "for the others alone")
    return f"{one.service.name:<{_WIDE}} {where:<26} well after {time.monotonic() - began:.1f} s"


def _tell(standings: list[Standing]) -> None:
    """A line for each service; exit with 1 where one is not well."""
    for one in standings:
        state = click.style("well", "green") if one.healthy else click.style("DOWN", "red")
        since = time.strftime("since %Y-%m-%d %H:%M:%S", time.localtime(one.run.since)) if one.run.since else ""
        memory = f"{one.memory / 2**20:.0f} MB" if one.memory else ""
        told = [one.why, since, memory, _came_back(one)]
        click.echo(f"{one.service.name:<{_WIDE}} {state}  {one.service.url:<26} {'  '.join(filter(None, told))}")
    if ill := [one for one in standings if not one.healthy]:
        worst = max(ill, key=lambda one: one.run.died)  # others may only not have been well yet when it was given up
        provider = click.get_current_context().params["provider"]
        given = "" if provider == "local" else f" --provider {provider}"
        click.echo(f"more of it: `upcheck stack logs {worst.service.name}{given}`", err=True)
        sys.exit(ExitCode.FAILED)


def _came_back(one: Standing) -> str:
    if not one.run.died or not one.healthy:
        return ""
    times = "once" if one.run.died == 1 else f"{one.run.died} times"
    at = time.strftime("%H:%M:%S", time.localtime(one.run.ended_at))
    return f"came back {times}: the one before {one.run.ended} at {at}"
