"""A made-up host: a folder with the files of /proc that the collector reads, as busy as it is said to be."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Self

TICK = 0.1  # seconds
CPUS = 2
MEMORY = 16 * 1024**2  # kB
# Its disk, which an exporter tells of: the collector would ask ours, which fills up at our pace.
_DISK = 'device="/dev/vda",fstype="ext4",mountpoint="/"'
DISK = {f"node_filesystem_size_bytes{{{_DISK}}}": 100e9, f"node_filesystem_avail_bytes{{{_DISK}}}": 70e9}
_TICKS = os.sysconf("SC_CLK_TCK")
# As they are here.
_OURS = ("diskstats", "net/dev", "vmstat", "sys/fs/file-nr", "sys/kernel/domainname")


class Host:
    """Lives *factor* times as fast as we do, within `with`. *cpu* and *memory* are the shares that are used."""

    def __init__(self, folder: Path, factor: float) -> None:
        self.proc = folder
        self.cpu, self.memory = 0.2, 0.4
        self._factor = factor
        self._last = time.monotonic()
        self._busy = self._idle = 1000.0  # ticks of each CPU
        self._over = threading.Event()
        self._life = threading.Thread(target=self._live)  # of its own: time that stands still looks like a busy CPU
        folder.mkdir(parents=True)
        for name in _OURS:
            if Path("/proc", name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path("/proc", name), folder / name)
        self._pass()

    def __enter__(self) -> Self:
        self._life.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._life.join()

    def _live(self) -> None:
        while not self._over.wait(TICK):
            self._pass()

    def _pass(self) -> None:
        """Let the time since the last call have passed."""
        now = time.monotonic()
        ticks = (now - self._last) * self._factor * _TICKS
        self._last = now
        self._busy += ticks * self.cpu
        self._idle += ticks * (1 - self.cpu)
        row = f"{self._busy:.0f} 0 0 {self._idle:.0f} 0 0 0 0 0 0"
        rows = [f"cpu  {row}", *(f"cpu{number} {row}" for number in range(CPUS))]
        self._write("stat", [*rows, f"btime {time.time() - 86400:.0f}", "processes 4711"])
        free = f"{MEMORY * (1 - self.memory):.0f} kB"
        self._write("meminfo", [f"MemTotal: {MEMORY} kB", f"MemFree: {free}", f"MemAvailable: {free}"])
        load = f"{self.cpu * CPUS:.2f}"
        self._write("loadavg", [f"{load} {load} {load} 1/200 4711"])

    def _write(self, name: str, lines: list[str]) -> None:
        """In one go: the collector reads by a descriptor that stays open, so the file must stay the same one."""
        data = "\n".join(lines).encode()
        descriptor = os.open(self.proc / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size - 1) + b"\n", 0)
        finally:
            os.close(descriptor)
