"""Checks and fixtures that are coroutines: all of them on one event loop, in a thread of its own.

A check that blocks the loop holds up no more than the other coroutines: when it is given up, the loop is too, and those
that come later get a new one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

LOOK = 0.5  # seconds between two chances to be told that the run was given up
_BLOCKED = 1.0  # seconds in which a loop answers unless something blocks it


class Loop:
    """An event loop in a thread, started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What *coroutine* returns; it is cancelled where the calling thread is told to give up."""
        loop = self._running()
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            while True:
                try:
                    return future.result(LOOK)
                except concurrent.futures.TimeoutError:
                    if future.done():  # the coroutine's own
                        raise
        except BaseException:
            if not future.done():
                future.cancel()
                self._leave_if_blocked(loop)
            raise

    def close(self) -> None:
        """Stop the loop, if there is one."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="upcheck loop", daemon=True).start()
            return self._loop

    def _leave_if_blocked(self, loop: asyncio.AbstractEventLoop) -> None:
        answered = threading.Event()
        loop.call_soon_threadsafe(answered.set)
        if not answered.wait(_BLOCKED):
            with self._lock:
                if self._loop is loop:
                    self._loop = None


_LOOP = pytest.StashKey[Loop]()


def loop(config: pytest.Config) -> Loop:
    """The session's loop."""
    if _LOOP not in config.stash:
        config.stash[_LOOP] = made = Loop()
        config.add_cleanup(made.close)
    return config.stash[_LOOP]


def call(item: pytest.Function) -> bool:
    """Run *item* on the loop if its function is a coroutine function; whether it was."""
    if not inspect.iscoroutinefunction(item.obj):
        return False
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    loop(item.config).run(item.obj(**arguments))
    return True


def on_loop(function: Callable[..., Any], config: pytest.Config) -> Callable[..., Any] | None:
    """The fixture function *function* as a synchronous one, or None where it is that already."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def made(**arguments: Any) -> Any:
            return loop(config).run(function(**arguments))

        return made
    if inspect.isasyncgenfunction(function):
        # wraps() would pass on what makes pytest, too, take it for an asynchronous generator.
        def generated(**arguments: Any) -> Any:
            generator = function(**arguments)
            yield loop(config).run(anext(generator))
            loop(config).run(_finish(generator))

        return generated
    return None


async def _finish(generator: AsyncGenerator[Any, None]) -> None:
    async for _ in generator:
        raise RuntimeError("an asynchronous fixture yields once")
