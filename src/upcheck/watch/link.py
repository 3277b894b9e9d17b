"""What the engine tells its supervisor: that it lives, and which checks run, so that one that kills it is known.

The engine writes into two files that it inherits: a pipe for words, and a file with a slot for each check in flight,
which can be read when the engine is gone.
"""

from __future__ import annotations

import os

SLOT = 512  # bytes; longer node IDs are cut, and recognised by what is left
ENV = "UPCHECK_LINK"


class Link:
    """The engine's end. *pipe* and *slots* are file descriptors; without them nothing is told."""

    def __init__(self, pipe: int = -1, slots: int = -1) -> None:
        self._pipe = pipe
        self._slots = slots
        self._free: list[int] = []
        self._used: dict[str, int] = {}

    @classmethod
    def inherited(cls) -> Link:
        """The link that the supervisor passed on in the environment, if there is one."""
        told = os.environ.pop(ENV, "")
        return cls(*map(int, told.split(","))) if told else cls()

    def say(self, word: str) -> bool:
        """Tell *word*: ready, alive, stopping, reloading. False where nobody listens any more."""
        try:
            return self._pipe < 0 or os.write(self._pipe, f"{word}\n".encode()) > 0
        except BrokenPipeError:
            return False

    def began(self, check: str) -> None:
        """*check* runs now."""
        if self._slots >= 0:
            slot = self._free.pop() if self._free else len(self._used)
            self._used[check] = slot
            os.pwrite(self._slots, _encoded(check), slot * SLOT)

    def ended(self, check: str) -> None:
        """*check* runs no more."""
        slot = self._used.pop(check, None)
        if slot is not None:
            self._free.append(slot)
            os.pwrite(self._slots, b"\0", slot * SLOT)


def _encoded(check: str) -> bytes:
    return check.encode(errors="replace")[: SLOT - 1].ljust(SLOT, b"\0")


def cut(check: str) -> str:
    """*check* as it can be read from its slot."""
    return _encoded(check).rstrip(b"\0").decode(errors="replace")


def in_flight(slots: int) -> list[str]:
    """The checks that ran when the engine last wrote to *slots*, a file descriptor."""
    held = os.pread(slots, os.fstat(slots).st_size, 0)
    parts = (held[start : start + SLOT].rstrip(b"\0") for start in range(0, len(held), SLOT) if held[start])
    return [part.decode(errors="replace") for part in parts]
