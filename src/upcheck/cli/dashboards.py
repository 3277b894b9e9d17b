"""`upcheck dashboards`: Grafana's JSON of the dashboards of this repo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.result import ExitCode

if TYPE_CHECKING:
    from upcheck.settings import Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Write nothing; say which files are not what would be written.")
@click.option("--pictures", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False), help="Draw them, too.")
def dashboards(check: bool, pictures: Path | None) -> None:
    """Make Grafana's JSON of monitoring/grafana/*.yml, in monitoring/grafana/dashboards.

    \b
    Examples:
      upcheck dashboards                     write what has changed
      upcheck dashboards --check             for CI: has all been written?
      upcheck dashboards --pictures docs/dashboards
                                             an SVG of each, from a demonstration: it takes half a minute
    \b
    Exit codes: 0 all is as it should be, 1 with --check something is not, 2 wrong usage.
    """
    from upcheck.dashboards import DashboardError, files
    from upcheck.documents import DocumentError

    if check and pictures is not None:
        raise click.UsageError("--check writes nothing, so it draws nothing: leave one of the two out")
    settings = settings_here(needed=True)
    try:
        told = files.drifted(settings.monitoring) if check else files.write(settings.monitoring)
    except (DashboardError, DocumentError, OSError) as error:
        raise click.UsageError(str(error)) from None
    for path, how in told.items():
        done = "removed" if how == "of no dashboard" else "written"
        click.echo(f"{how if check else done:<16} {_shown(path, settings.root)}")
    if not told:
        click.echo("nothing to write")
    elif check:
        click.echo(f"{len(told)} to write: type `upcheck dashboards`", err=True)
        sys.exit(ExitCode.FAILED)
    if pictures is not None:
        _draw(settings, pictures)


def _draw(settings: Settings, folder: Path) -> None:
    from upcheck import run
    from upcheck.cli.rules.proof import progress
    from upcheck.dashboards import rehearsal
    from upcheck.demo import DemoError
    from upcheck.prometheus import PrometheusError
    from upcheck.servers import ServerError

    try:
        with progress("seconds are played") as advance:
            drawn = rehearsal.write(settings, folder, advance)
    except (DemoError, PrometheusError, ServerError, run.RunError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{'drawn':<16} {len(drawn)} in {folder}")


def _shown(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
