"""What a session keeps: its settings, the target, and the tools its items share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from upcheck import tools
from upcheck.declaration import Declaration
from upcheck.dependencies import NOTHING, Dependencies, Needs
from upcheck.plugin.authorization import authorized, awaited, hook
from upcheck.result import Unknown
from upcheck.rules import Judge
from upcheck.rules.known import Cache
from upcheck.settings import Settings

if TYPE_CHECKING:
    from upcheck.probes.http import AsyncClient, Client, Observer
    from upcheck.yaml_checks import Asked

SETTINGS = pytest.StashKey[Settings]()
WATCHED = pytest.StashKey[bool]()  # `upcheck watch` takes care of results
RULES_CACHE = ".upcheck/rules.json"
_JUDGE = pytest.StashKey[Judge]()
_CLIENT: pytest.StashKey[Client] = pytest.StashKey()  # the models of those that checks have
_ASYNC_CLIENT: pytest.StashKey[AsyncClient] = pytest.StashKey()


_NEEDS = pytest.StashKey[Dependencies]()


def settings(config: pytest.Config) -> Settings:
    """The settings of the monitoring repo that this session runs in."""
    return config.stash[SETTINGS]


def target(config: pytest.Config) -> str:
    """The base URL under test: `--target`, else UPCHECK_TARGET, else [tool.upcheck] target."""
    return str(config.getoption("target") or settings(config).target).rstrip("/")


def tool(config: pytest.Config, name: str, *features: str) -> Path:
    """The path of promtool or amtool; raises Unknown with what to type where there is none, or none with *features*."""
    try:
        found = tools.find(name, settings(config))
        if found is None:
            raise Unknown(f"{name} is on neither PATH nor {settings(config).tools}: type `upcheck tools install`")
        for feature in features:
            if sentence := tools.lacks(found, feature):
                raise Unknown(sentence)
    except tools.ToolError as error:
        raise Unknown(str(error)) from None
    return found.path


def know(config: pytest.Config, declared: Mapping[str, Declaration]) -> list[str]:
    """Keep what each of the checks *declared* needs; a sentence for each name there is no check of.

    Raises DependencyError.
    """
    config.stash[_NEEDS] = dependencies = Dependencies(declared)
    return dependencies.unknown


def needs(item: pytest.Item) -> Needs:
    """What *item* can't hold without."""
    known = item.config.stash.get(_NEEDS, None)
    return known.of(item.nodeid) if known is not None else NOTHING


def judge(config: pytest.Config) -> Judge:
    """The session's judge of rule tests, made when first asked for; `--cache-clear` forgets what held before."""
    if _JUDGE not in config.stash:
        promtool, file = tool(config, "promtool"), settings(config).root / RULES_CACHE
        if config.getoption("cacheclear", default=False):
            file.unlink(missing_ok=True)
        config.stash[_JUDGE] = made = Judge(promtool, Cache(file, promtool))
        config.add_cleanup(made.close)
    return config.stash[_JUDGE]


def shown(config: pytest.Config, asked: Asked) -> Asked:
    """What is *asked*, with the collector's token where it is the target. Raises Unknown where it can't be read."""
    return authorized(asked, settings(config), target(config))


def client(config: pytest.Config, declaration: Declaration, observer: Observer) -> Client:
    """An HTTP client for the target, with the check's timeout as its deadline, over the session's one transport."""
    model = config.stash.get(_CLIENT, None)
    if model is None:
        from upcheck.probes.http import Client  # httpx: 150 ms that only checks in Python should pay

        show = hook(settings(config), target(config))
        hooks = {"request": [show] if show else []}
        model = Client(base_url=target(config), deadline=declaration.timeout, event_hooks=hooks)
        model = config.stash.setdefault(_CLIENT, model)
    return model.another(deadline=declaration.timeout, observer=observer)


def async_client(config: pytest.Config, declaration: Declaration, observer: Observer) -> AsyncClient:
    """As `client`, for `await`."""
    model = config.stash.get(_ASYNC_CLIENT, None)
    if model is None:
        from upcheck.probes.http import AsyncClient

        show = hook(settings(config), target(config))
        hooks = {"request": [awaited(show)] if show else []}
        model = AsyncClient(base_url=target(config), deadline=declaration.timeout, event_hooks=hooks)
        model = config.stash.setdefault(_ASYNC_CLIENT, model)
    return model.another(deadline=declaration.timeout, observer=observer)
