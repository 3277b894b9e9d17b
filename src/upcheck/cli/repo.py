"""The monitoring repo that a command is given in."""

from __future__ import annotations

from pathlib import Path

import click

from upcheck.settings import Settings, SettingsError, declared


def settings_here(*, needed: bool = False) -> Settings:
    """The settings of the repo that this folder is in; where there is none and one is *needed*, a usage error."""
    here = Path.cwd()
    try:
        root = next((folder for folder in (here, *here.parents) if declared(folder)), None)
        if root is None and needed:
            raise click.UsageError(
                f"no monitoring repo at {here} or above (a pyproject.toml with [tool.upcheck]): "
                f"cd into one, or make one with `upcheck init FOLDER`"
            )
        return Settings.load(root or here)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
