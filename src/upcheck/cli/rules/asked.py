"""What the commands of `upcheck rules` have in common: the files that are meant, and the tool."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upcheck.result import ExitCode
from upcheck.settings import Settings, declared

if TYPE_CHECKING:
    from upcheck.rules.repository import Repository

PATHS = click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def found(settings: Settings, paths: tuple[Path, ...]) -> Repository:
    """What is in *paths*, or else in the repo's own folders; a usage error where a path is not there."""
    from upcheck.rules import repository

    asked = paths or tuple(path for path in (settings.monitoring, settings.rules_tests) if path.exists())
    try:
        return repository.find(asked)
    except repository.PathError as error:
        raise click.UsageError(str(error)) from None


def memory(settings: Settings) -> Path:
    """Where things are remembered: in a monitoring repo; of another's folder, in the user's cache."""
    if declared(settings.root):
        return settings.root / ".upcheck"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upcheck"


def with_tools(settings: Settings) -> Settings:
    """*settings*, with a folder for tools that is not another's."""
    if declared(settings.root) or "UPCHECK_TOOLS" in os.environ:
        return settings
    return replace(settings, tools=memory(settings) / "tools")


def promtool(settings: Settings) -> Path:
    """The path of promtool, fetched if need be; ends with exit code 3 where it can't be had."""
    from upcheck import tools

    try:
        return tools.ensure(("promtool",), with_tools(settings), say=lambda text: click.echo(text, err=True))[
            "promtool"
        ].path
    except tools.ToolError as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNKNOWN)


@contextlib.contextmanager
def could_not_tell() -> Iterator[None]:
    """Exit 3 with a sentence where nothing can be told."""
    from upcheck import tools
    from upcheck.command import CommandError
    from upcheck.documents import DocumentError
    from upcheck.rules.evaluate import EvaluationError
    from upcheck.rules.mutation import MutationError

    try:
        yield
    except (CommandError, DocumentError, tools.ToolError, EvaluationError, MutationError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(ExitCode.UNKNOWN)


def style(text: str, colour: str) -> str:
    """*text* in that colour, where this is a terminal."""
    return click.style(text, fg=colour)
