"""What each run prints, logs and warns of, kept apart while many run at once.

pytest captures by exchanging sys.stdout, the root logger's handlers and the warning filters around each phase of an
item: right for one at a time. Here they are exchanged once, for objects that ask whose thread, or task, it is.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

import _pytest.assertion
import _pytest.runner
import pytest
from _pytest.logging import LoggingPlugin, caplog_handler_key, caplog_records_key
from _pytest.warnings import catch_warnings_for_item

MAX_KEPT = 1 << 20  # characters of each run's output
Warned = Callable[[str, warnings.WarningMessage], None]


class Output:
    """What the run of *item* has written since its last report: to stdout, to stderr, to the log.

    Without an item it is kept for nobody.
    """

    __slots__ = ("_left", "_parts", "alone", "item")

    def __init__(self, item: pytest.Item | None = None, *, alone: bool = False) -> None:
        self.item = item
        self.alone = alone
        self._parts: dict[str, list[str]] = {}
        self._left = MAX_KEPT

    def write(self, key: str, text: str) -> None:
        """Keep *text*, up to the limit."""
        if self._left > 0:
            self._left -= len(text)
            self._parts.setdefault(key, []).append(text)

    def tell(self, when: str) -> None:
        """Put what was written into the item's report sections, as written in phase *when*."""
        if self._parts and self.item is not None:
            for key in ("stdout", "stderr", "log"):
                self.item.add_report_section(when, key, "".join(self._parts.pop(key, ())))


running: ContextVar[Output | None] = ContextVar("running", default=None)  # tasks inherit it from their thread


class _Stream(io.TextIOBase):
    """sys.stdout or sys.stderr, for all runs."""

    def __init__(self, real: TextIO, key: str) -> None:
        self._real = real
        self._key = key

    def write(self, text: str) -> int:
        output = running.get()
        if output is None:
            return self._real.write(text)
        output.write(self._key, text)
        return len(text)

    def flush(self) -> None:
        self._real.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._real.fileno()

    def isatty(self) -> bool:
        return self._real.isatty()

    @property
    def buffer(self) -> Any:
        return self._real.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real.encoding


class _Records(logging.Handler):
    """A handler of the root logger, for all runs."""

    def emit(self, record: logging.LogRecord) -> None:
        output = running.get()
        if output is not None:
            output.write("log", self.format(record) + "\n")


class _Current:
    """Stands for an item where pytest wants one, and is whichever runs in this thread."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @property
    def ihook(self) -> Any:
        output = running.get()
        return output.item.ihook if output is not None and output.item is not None else self.config.hook


@contextlib.contextmanager
def quiet(config: pytest.Config, warned: Warned) -> Iterator[None]:
    """While it lasts, output, logs and warnings go to the run they come from; *warned* hears node ID and warning."""
    with contextlib.ExitStack() as stack:
        _part_output(config, stack)
        _part_logs(config, stack)
        _part_warnings(config, stack, warned)
        explained: Any = _pytest.assertion.pytest_runtest_protocol(_Current(config))  # type: ignore[arg-type]
        next(explained)
        stack.callback(explained.close)
        # PYTEST_CURRENT_TEST is one variable for the process: with many at once it would say nothing.
        runner: Any = _pytest.runner
        stack.callback(setattr, runner, "_update_current_test_var", runner._update_current_test_var)
        runner._update_current_test_var = lambda item, when: None
        yield


@contextlib.contextmanager
def _telling(when: str) -> Iterator[None]:
    try:
        yield
    finally:
        if (output := running.get()) is not None:
            output.tell(when)


def _part_output(config: pytest.Config, stack: contextlib.ExitStack) -> None:
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return
    capture.item_capture = lambda when, item: _telling(when)
    stack.callback(delattr, capture, "item_capture")
    if capture.is_globally_capturing():
        for name in ("stdout", "stderr"):
            real = getattr(sys, name)
            stack.callback(setattr, sys, name, real)
            setattr(sys, name, _Stream(real, name))


def _part_logs(config: pytest.Config, stack: contextlib.ExitStack) -> None:
    plugin: LoggingPlugin | None = config.pluginmanager.getplugin("logging-plugin")
    if plugin is None:
        return

    caplog = plugin._runtest_for  # the fixture's own, for who runs alone

    @contextlib.contextmanager
    def runtest_for(item: pytest.Item, when: str) -> Iterator[None]:
        if (output := running.get()) is not None and output.alone:
            with caplog(item, when):
                yield
            return
        item.stash[caplog_records_key][when] = []
        item.stash[caplog_handler_key] = plugin.caplog_handler
        with _telling(when):
            yield

    plugin._runtest_for = runtest_for  # type: ignore[method-assign]
    stack.callback(delattr, plugin, "_runtest_for")
    handler, root = _Records(), logging.getLogger()
    handler.setFormatter(plugin.formatter)
    if plugin.log_level is not None:
        handler.setLevel(plugin.log_level)
        stack.callback(root.setLevel, root.level)
        root.setLevel(min(root.level, plugin.log_level))
    root.addHandler(handler)
    stack.callback(root.removeHandler, handler)


def _part_warnings(config: pytest.Config, stack: contextlib.ExitStack, warned: Warned) -> None:
    if not config.pluginmanager.has_plugin("warnings"):
        return

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        output = running.get()
        told = warnings.WarningMessage(message, category, filename, lineno, file, line)
        warned(output.item.nodeid if output is not None and output.item is not None else "", told)

    stack.enter_context(catch_warnings_for_item(config, config.hook, "runtest", None))
    stack.callback(setattr, warnings, "showwarning", warnings.showwarning)
    warnings.showwarning = show
