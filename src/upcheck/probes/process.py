"""Processes of this machine: whether those of a name, or of a pidfile, are running. See docs/probes/process.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil

from upcheck.probes import Blocking, Phase, ProbeError, Reason, Run

_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Process(Blocking):
    """Whether at least *count* processes called *name* run; with *pidfile*, whether the one whose number it holds does.

    A zombie is not running.
    """

    name: str = field(kw_only=False)
    pidfile: str | None = None
    count: int = 1
    deadline: float = 10.0
    kind: ClassVar[str] = "process"
    subject: ClassVar[str] = "name"

    def __post_init__(self) -> None:
        if not self.name or self.count < 1:
            raise ProbeError("process: expected the name of a process, and a count of at least 1")

    @property
    def asked(self) -> str:
        """The name, and the file."""
        return f"process {self.name}{f' of {self.pidfile}' if self.pidfile else ''}"

    def ask(self, run: Run) -> None:
        """Look through /proc."""
        run.phase = Phase.PROCESSING
        if self.pidfile is not None:
            self._ask_file(run, Path(self.pidfile))
            return
        found = [one.pid for one in psutil.process_iter() if _is_running(one, self.name)]
        run.note(f"{len(found)} processes are called {self.name}")
        if len(found) < self.count:
            wanted = f", wanted {self.count}" if self.count > 1 else ""
            raise run.fail(Reason.NOT_RUNNING, f"{len(found)} processes are called {self.name!r}{wanted}")

    def _ask_file(self, run: Run, file: Path) -> None:
        try:
            number = int(file.read_text(encoding="ascii", errors="replace").split()[0])
            process = psutil.Process(number)
            name = process.name()
        except OSError as error:
            raise run.fail(Reason.NOT_RUNNING, f"the pidfile can't be read: {error}") from None
        except (ValueError, IndexError, OverflowError):
            raise run.fail(Reason.NOT_RUNNING, f"the pidfile {file} has no number of a process in it") from None
        except psutil.Error:
            raise run.fail(Reason.NOT_RUNNING, f"no process has the number {number} of the pidfile {file}") from None
        if not _is_running(process, self.name):
            raise run.fail(Reason.NOT_RUNNING, f"process {number} of the pidfile {file} is {name!r}, not {self.name!r}")


def _is_running(process: psutil.Process, name: str) -> bool:
    try:
        return process.name() == name and process.status() not in _DEAD
    except psutil.Error:  # it ended meanwhile, or is none of ours to look at
        return False
