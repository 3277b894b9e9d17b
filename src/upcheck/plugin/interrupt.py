"""Telling the user's Ctrl-C from a check that raises KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_seen = threading.Event()
_watching = False


def watch() -> None:
    """Take note of SIGINT from now on; what it does stays as it is. Someone else's handler is left alone."""
    global _watching
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _handle)
        _watching = signal.getsignal(signal.SIGINT) is _handle


def _handle(number: int, frame: FrameType | None) -> None:
    _seen.set()
    signal.default_int_handler(number, frame)


def asked() -> bool:
    """Whether a KeyboardInterrupt in this thread may be the user's."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and (_seen.is_set() or not _watching)
