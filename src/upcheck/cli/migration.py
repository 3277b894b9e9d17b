"""`upcheck import`: checks of what another tool is configured with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from upcheck.migration import Carried

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("import", context_settings={"help_option_names": ["-h", "--help"]})
def import_() -> None:
    """Checks of what another tool is configured with.

    They are printed as YAML; what can't be carried over is told beside it, on stderr.

    \b
    Examples:
      upcheck import gatus config.yaml > checks/gatus.yml
      upcheck import blackbox blackbox.yml prometheus.yml > checks/blackbox.yml
      upcheck import uptime-kuma backup.json > checks/kuma.yml
    """


@import_.command()
@click.argument("file", type=FILE)
def gatus(file: Path) -> None:
    """The endpoints of Gatus' configuration FILE."""
    from upcheck.migration import gatus as room

    _print(file, lambda: room.carry(_yaml(file)))


@import_.command()
@click.argument("file", type=FILE)
@click.argument("prometheus", type=FILE)
def blackbox(file: Path, prometheus: Path) -> None:
    """The targets that PROMETHEUS (its prometheus.yml) has the modules of blackbox_exporter's FILE asked for."""
    from upcheck.migration import blackbox as room

    _print(file, lambda: room.carry(_yaml(file), _yaml(prometheus)))


@import_.command("uptime-kuma")
@click.argument("file", type=FILE)
def uptime_kuma(file: Path) -> None:
    """The monitors of FILE, a backup that Uptime Kuma's settings export as JSON."""
    from upcheck.migration import ImportedError
    from upcheck.migration import uptime_kuma as room

    def read() -> Any:
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ImportedError(f"not readable as JSON: {error}") from None

    _print(file, lambda: room.carry(read()))


def _yaml(file: Path) -> Any:
    from upcheck import documents
    from upcheck.migration import ImportedError

    try:
        return documents.load(file)
    except documents.DocumentError as error:
        raise ImportedError(str(error).removeprefix(f"{file}:")) from None


def _print(file: Path, carry: Callable[[], Carried]) -> None:
    from upcheck.migration import ImportedError, page

    try:
        carried = carry()
    except ImportedError as error:
        raise click.ClickException(f"{file}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a list where a mapping belongs, and the like
        raise click.ClickException(f"{file}: not as the tool itself writes it: {error}") from None
    click.echo(page(carried, file.name), nl=False)
    count = len(carried.checks)
    click.echo(
        f"{count} check{'s' if count != 1 else ''}; not carried over: {len(carried.left) or 'nothing'}", err=True
    )
    for sentence in carried.left:
        click.echo(f"  {sentence}", err=True)
