"""`upcheck rules contract`: whether what rules read is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.cli.rules.asked import style
from upcheck.declaration import seconds
from upcheck.result import ExitCode

if TYPE_CHECKING:
    from upcheck.rules.contract import Series
    from upcheck.settings import Settings

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_TIMEOUT = 10.0  # seconds for an exporter to answer
MOST_SCRAPED = 64 * 2**20  # bytes of an answer: a hundred times what large exporters have


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[PATH]...")
@click.option("--scrape", "urls", multiple=True, metavar="URL", help="An exporter's /metrics, as it is now.")
@click.option("--exposition", "files", multiple=True, metavar="FILE", type=_FILE, help="What /metrics said, saved.")
@click.option("--retention", metavar="TIME", help="How long Prometheus keeps samples, such as 15d.")
@click.option("--dead-metrics", is_flag=True, help="Find metrics of the catalogue that nobody reads, too.")
@click.option("--strict", is_flag=True, help="Exit with 3 where something could not be checked.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def contract(
    paths: tuple[Path, ...],
    urls: tuple[str, ...],
    files: tuple[Path, ...],
    retention: str | None,
    dead_metrics: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Hold rules, dashboards and objectives against what exporters produce.

    PATH is a file or a folder with rules, rule tests, dashboards, services, or pages (default: the repo's own). What
    there is to read comes from --scrape, --exposition, the recording rules, and the repo's own catalogue and
    configuration in monitoring/.

    \b
    Examples:
      upcheck rules contract monitoring rules_tests --scrape http://127.0.0.1:9909/metrics
      upcheck rules contract ../rules --exposition node.txt --exposition mysqld.txt --strict
    \b
    Exit codes: 0 nothing was found, 1 something was, 2 wrong usage, 3 could not tell.
    """
    from upcheck.report import contract as report
    from upcheck.rules import contract as room
    from upcheck.rules.repository import PathError

    try:
        kept = None if retention is None else seconds(retention)
    except ValueError as error:
        raise click.UsageError(f"--retention: {error}") from None
    series: list[Series] = []
    try:
        for url in urls:
            series += room.read_exposition(_scraped(url), url)
        for file in files:
            series += room.read_exposition(_saved(file), str(file))
    except room.ExporterError as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNKNOWN)
    settings = settings_here()
    paths = paths or _own(settings)
    ours = any(path.resolve().is_relative_to(settings.root.resolve()) for path in paths)
    known = [settings.monitoring] if ours and settings.monitoring.is_dir() else []
    try:
        found = room.check(paths, series, context_paths=known, retention=kept, dead_metrics=dead_metrics)
    except PathError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(report.as_json(found))
    else:
        for line in report.lines(found, style):
            click.echo(line)
    if found.findings:
        sys.exit(ExitCode.FAILED)
    if not found.queries:
        click.echo("nothing was read, so nothing is known", err=True)
        sys.exit(ExitCode.UNKNOWN)
    sys.exit(ExitCode.UNKNOWN if strict and (found.unknown or found.unreadable) else ExitCode.HELD)


def _own(settings: Settings) -> tuple[Path, ...]:
    """The repo's own folders that have rules."""
    found = tuple(path for path in (settings.monitoring, settings.rules_tests) if path.is_dir())
    if not found:
        raise click.UsageError(f"no rules in {settings.root}: name a file or a folder that has some")
    return found


def _scraped(url: str) -> str:
    """What the exporter at *url* says; raises ExporterError."""
    import httpx

    from upcheck.rules.contract import ExporterError

    try:
        headers = {"Accept": "text/plain;version=0.0.4"}
        with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MOST_SCRAPED:
                    told = f"more than {MOST_SCRAPED / 2**20:g} MiB; save what is needed, and name it by --exposition"
                    raise ExporterError(f"--scrape {url}: {told}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ExporterError(f"--scrape {url}: no answer: {error}; is the exporter running there?") from None
    if answer.status_code != httpx.codes.OK:
        raise ExporterError(f"--scrape {url}: it answers {answer.status_code}; expected 200 and metrics")
    return body.decode(answer.encoding or "utf-8", "replace")


def _saved(file: Path) -> str:
    from upcheck.rules.contract import ExporterError

    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExporterError(f"--exposition {file}: can't be read: {error}") from None
