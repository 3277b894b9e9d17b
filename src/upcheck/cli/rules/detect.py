"""`upcheck rules detect`: how long each alert takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.cli.rules.asked import could_not_tell, promtool
from upcheck.result import ExitCode

if TYPE_CHECKING:
    from upcheck.rules.detection import Cell, Detection

NAME = "detection.yml"


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--write", is_flag=True, help="Write the CSV file, and the table into the page.")
@click.option("--check", is_flag=True, help="Tell what is not as it is written, and exit 1.")
def detect(file: Path | None, write: bool, check: bool) -> None:
    """Play faults of several shapes, and tell how long each alert takes to fire and to resolve.

    FILE says what each alert looks at (default: detection.yml beside the rule tests). The table is printed; a CSV file
    beside FILE has the same.

    \b
    Examples:
      upcheck rules detect
      upcheck rules detect --check           which cells a changed threshold has moved
      upcheck rules detect --write           take them over
    \b
    Exit codes: 0 all well, 1 not as it is written, 2 wrong usage, 3 could not tell.
    """
    from upcheck.documents import DocumentError
    from upcheck.report import detection as report
    from upcheck.rules import detection

    if write and check:
        raise click.UsageError("--write and --check: what is written is as it is; give one of them")
    settings = settings_here()
    file = file or settings.rules_tests / NAME
    if not file.is_file():
        raise click.UsageError(f"no {file}: write what each alert looks at, or name a file that says so")
    try:
        asked = detection.load(file)
    except DocumentError as error:
        raise click.UsageError(str(error)) from None
    with could_not_tell():
        cells = detection.measure(promtool(settings), asked)
    if check:
        told = list(_stale(asked, cells))
        click.echo("\n".join(told) or f"{len(cells)} cells, all as they are written")
        sys.exit(ExitCode.FAILED if told else ExitCode.HELD)
    if write:
        try:
            _write(asked, cells)
        except (report.PageError, OSError) as error:
            raise click.UsageError(f"{asked.page}: {error}") from None
    for line in report.lines(cells):
        click.echo(line)


def _stale(asked: Detection, cells: Sequence[Cell]) -> Iterator[str]:
    """What is not as the rules give it."""
    from upcheck.report import detection as report

    table = asked.path.with_suffix(".csv")
    try:
        yield from report.changes(report.read(table.read_text(encoding="utf-8")), cells)
        if asked.page is not None:
            page = asked.page.read_text(encoding="utf-8")
            if report.in_page(page, cells) != page:
                yield f"{asked.page}: its table is not what the rules give: upcheck rules detect --write"
    except FileNotFoundError as error:
        yield f"{error.filename}: there is none: upcheck rules detect --write"
    except (report.PageError, UnicodeDecodeError) as error:
        yield f"{table}, {asked.page}: {error}"


def _write(asked: Detection, cells: Sequence[Cell]) -> None:
    from upcheck.report import detection as report

    if asked.page is not None:
        asked.page.write_text(report.in_page(asked.page.read_text(encoding="utf-8"), cells), encoding="utf-8")
    asked.path.with_suffix(".csv").write_text(report.as_csv(cells), encoding="utf-8")
