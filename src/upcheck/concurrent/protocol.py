"""pytest's protocol for one run: in full, or, where nobody would notice, without the hooks around each phase.

Most of what pytest spends on a passing item goes into hooks of its own that have nothing to do: capture and logging
(see `quiet`), skip marks, temporary folders. An item that has none of these, under plugins that don't listen, is set
up, called and torn down directly; a phase that fails is reported through the hooks, as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from _pytest.runner import check_interactive_exception, runtestprotocol
from _pytest.tmpdir import tmppath_result_key
from _pytest.warnings import catch_warnings_for_item

from upcheck.concurrent.quiet import running

_PHASES = ("setup", "call", "teardown")
_HOOKS = ("pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown", "pytest_runtest_makereport")
_HARMLESS = ("_pytest.", "upcheck.", "_hypothesis_pytestplugin", "xdist.", "anyio.")  # modules: see `plain`
_MARKS = frozenset(("skip", "skipif", "xfail", "usefixtures"))

MakeReport = Callable[[pytest.Item, "pytest.CallInfo[None]"], pytest.TestReport]


class NotAsked(Exception):
    """A KeyboardInterrupt that no signal has caused: the check raised it itself."""


def only_harmless(hooks: Any) -> bool:
    """Whether every plugin that hears of the phases of a run is one that has nothing to say to a plain item."""
    impls = [impl for name in _HOOKS for impl in getattr(hooks, name).get_hookimpls()]
    return all(impl.function.__module__.startswith(_HARMLESS) for impl in impls)


def plain(item: pytest.Item, kinds: tuple[type[pytest.Item], ...]) -> bool:
    """Whether *item* has nothing that the hooks of pytest's own plugins act on."""
    if type(item) is not pytest.Function and not isinstance(item, kinds):
        return False
    if any(mark.name in _MARKS for mark in item.iter_markers()):
        return False
    return not getattr(getattr(item, "obj", None), "is_hypothesis_test", False)


def in_full(item: pytest.Item, *, alone: bool) -> list[pytest.TestReport]:
    """The reports of a run of *item* under pytest's own protocol; *alone*, also under its marks of warnings."""
    if not alone:
        return runtestprotocol(item, log=False)
    with catch_warnings_for_item(item.config, item.ihook, "runtest", item):
        return runtestprotocol(item, log=False)


def in_short(item: pytest.Item, make: MakeReport) -> list[pytest.TestReport]:
    """The same of a plain item; *make* makes the report of a phase that passed."""
    state = item.session._setupstate
    item.stash[tmppath_result_key] = {}  # where a hook of the fixture tmp_path would note each phase that passed
    acts: tuple[Callable[[], None], ...] = (
        lambda: state.setup(item),
        lambda: _call(item),
        lambda: state.teardown_exact(None),
    )
    reports: list[pytest.TestReport] = []
    for when, act in zip(_PHASES, acts, strict=True):
        if when == "call" and not reports[0].passed:
            continue
        call = pytest.CallInfo.from_call(act, when, reraise=pytest.exit.Exception)  # type: ignore[arg-type]
        if (output := running.get()) is not None:
            output.tell(when)
        if call.excinfo is None:
            reports.append(make(item, call))
            continue
        report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
        reports.append(report)
        if check_interactive_exception(call, report):
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)
    if hasattr(item, "_request"):
        item._request, item.funcargs = False, None  # type: ignore[attr-defined]  # as pytest does, for the garbage
    return reports


def _call(item: pytest.Item) -> None:
    try:
        item.runtest()
    except KeyboardInterrupt:
        raise NotAsked("KeyboardInterrupt was raised by the check itself") from None
