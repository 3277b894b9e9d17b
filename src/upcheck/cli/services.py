"""`upcheck services`: the catalogue, and the Python that records what is in it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.result import ExitCode
from upcheck.settings import nearest

if TYPE_CHECKING:
    from upcheck.catalog import Service


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def services(context: click.Context) -> None:
    """The services of monitoring/services: their metrics, and Python that records them.

    \b
    Examples:
      upcheck services                               what each service has
      upcheck services show coderunner               its metrics and events
      upcheck services python coderunner > coderunner.py
      upcheck services targets                       what Prometheus scrapes of them
      upcheck init --service shop                    a further one
    """
    if context.invoked_subcommand is None:
        for line in _table(_catalogue()):
            click.echo(line)


@services.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the metrics and events of the service NAME."""
    service = _one(name)
    width = max(map(len, service.metrics))
    for layer in ("system", "application", "business"):
        metrics = [metric for metric in service.metrics.values() if metric.layer == layer]
        if metrics:
            click.echo(layer)
        for metric in metrics:
            labels = ", ".join(label.name for label in metric.labels)
            click.echo(f"  {metric.name:<{width}}  {metric.type:<9}  {labels}".rstrip())
            if metric.instead:
                click.echo(f"  {'':<{width}}  better {metric.instead}: {metric.why}")
    click.echo("events")
    for event in service.events.values():
        fields = ", ".join(f"{field.name}{'?' if field.optional else ''}" for field in event.fields)
        click.echo(f"  {event.name}({fields})")


@services.command()
@click.argument("name")
def python(name: str) -> None:
    """Print a typed Python module that records the events of the service NAME."""
    from upcheck.recording.typed import module

    click.echo(module(_one(name)), nl=False)


@services.command()
@click.option("--check", is_flag=True, help="Write nothing; say which files are not as they should be, and exit 1.")
def targets(check: bool) -> None:
    """Write what Prometheus scrapes and probes: monitoring/prometheus/targets, and those of a stack that runs here.

    Of `scrape` in monitoring/services, and of the URLs of checks in YAML where `probe_networks` lets the collector ask.
    Prometheus reads them as they change: nothing is restarted.

    \b
    Examples:
      upcheck services targets
      upcheck services targets --check       in CI
    """
    import os

    from upcheck import targets as made
    from upcheck.documents import DocumentError
    from upcheck.stack.lifecycle import Local
    from upcheck.stack.services import StackError

    settings = settings_here(needed=True)
    folder = settings.monitoring / "prometheus/targets"
    try:
        if check:
            wanted = made.texts(settings, os.environ)
            stale = [folder / name for name, text in wanted.items() if _text(folder / name) != text]
            for path in stale:
                click.echo(f"{os.path.relpath(path)} is not what it would be made: type upcheck services targets")
            sys.exit(ExitCode.FAILED if stale else ExitCode.HELD)
        written = [*made.write(settings, os.environ, folder), *Local(settings).retarget()]
        for path in written:
            click.echo(f"{os.path.relpath(path)} written")
        if not written:
            click.echo("nothing to write: all is as it would be made")
    except (DocumentError, StackError, OSError) as error:
        raise click.UsageError(str(error)) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _catalogue() -> list[Service]:
    from upcheck import catalog
    from upcheck.documents import DocumentError

    folder = settings_here(needed=True).monitoring / "services"
    try:
        found = catalog.load_all(folder)
    except DocumentError as error:
        raise click.UsageError(str(error)) from None
    if not found:
        raise click.UsageError(f"there is no service in {folder}: write one with `upcheck init --service NAME`")
    return found


def _one(name: str) -> Service:
    found = {service.name: service for service in _catalogue()}
    if name not in found:
        raise click.UsageError(f"no service is called '{name}'{nearest(name, found)}")
    return found[name]


def _table(found: list[Service]) -> list[str]:
    rows = [["service", "system", "application", "business", "events", "health", "slos"]]
    for service in found:
        layers = Counter(metric.layer for metric in service.metrics.values())
        counts = [layers["system"], layers["application"], layers["business"]]
        counts += [len(service.events), len(service.health), len(service.slos)]
        rows.append([service.name, *map(str, counts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))])  # numbers stand to the right
        for row in rows
    ]
