"""Files of the kernel, kept open: opening one costs more than reading it."""

from __future__ import annotations

import os
import threading
import weakref

_CHUNK = 65536


class Files:
    """Reads whole files of /proc, /sys and cgroups by descriptors that stay open until this object is gone."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()  # a number that is closed here may be another file's a moment later
        weakref.finalize(self, _close, self._open)

    def read(self, path: str) -> bytes:
        """What *path* holds now. Raises OSError."""
        with self._lock:
            if (known := self._open.get(path)) is not None:
                try:
                    return _whole(known)
                except OSError:  # stale: the cgroup behind it is gone, and its path may lead to another one
                    os.close(self._open.pop(path))
            new = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[path] = new
            return _whole(new)


def _whole(descriptor: int) -> bytes:
    """The kernel gives a page at a time of some files, so the end is where nothing comes."""
    whole = part = os.pread(descriptor, _CHUNK, 0)
    while part:
        part = os.pread(descriptor, _CHUNK, len(whole))
        whole += part
    return whole


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
