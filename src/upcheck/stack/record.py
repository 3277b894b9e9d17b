"""What is known of a stack on disk: its plan, what runs, and whose process a number is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import psutil

from upcheck.stack.services import Service, StackError

_TAIL = 1 << 15  # bytes of a log: below what was wrong, the usage that Prometheus prints is a third of it
_ERROR = re.compile(r"(error|fatal|panic)(?![\w\],])|\berr=", re.IGNORECASE)  # not of "One of: [warn, error]"
_SAME = 1.0  # seconds that two readings of a process's start may differ: the system's clock may have been set


@dataclass(slots=True)
class Run:
    """How a service runs: *pid* is None where it does not, *created* when its process began, all in Unix time.

    *since* is when this process was started, *died* counts those before it, *ended* says how the last of them ended.
    """

    pid: int | None = None
    created: float = 0.0
    since: float = 0.0
    died: int = 0
    ended: str = ""
    ended_at: float = 0.0


@dataclass(slots=True)
class State:
    """What the supervisor last wrote: its own process, and how each service runs."""

    pid: int
    created: float
    runs: dict[str, Run] = field(default_factory=dict)


class Record:
    """The folder of a stack, `.upcheck/stack` of the repo at *root*."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".upcheck/stack"
        self.configuration = self.folder / "configuration"
        self.data = self.folder / "data"
        self.logs = self.folder / "logs"

    def make(self) -> None:
        """Make the folders. Raises StackError."""
        try:
            for folder in (self.data / "prometheus", self.data / "alertmanager", self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"{self.folder} can't be made: {error.strerror}; free space or its rights") from None

    @property
    def kept(self) -> bool:
        """Whether Prometheus or Alertmanager keeps anything here."""
        return any(path.is_file() for path in self.data.rglob("*"))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep another `upcheck stack` command of this repo out for as long as the block lasts. Raises StackError."""
        with self._lock("command.lock") as lock:
            if not _locked(lock.fileno()):
                raise StackError("another `upcheck stack` command is at work here: try again when it has ended")
            yield

    @contextlib.contextmanager
    def supervised(self) -> Iterator[bool]:
        """Take the supervisor's place; False where another has it."""
        with self._lock("supervisor.lock") as lock:
            yield _locked(lock.fileno())

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[IO[str]]:
        path = self.folder / name
        try:
            lock = path.open("w")
        except PermissionError as error:
            cure = "run this as its owner, or have `chown -R` give you the folder"
            raise StackError(f"{path} can't be written: {error.strerror}; {cure}") from None
        with lock:
            yield lock

    @property
    def running(self) -> bool:
        """Whether a supervisor has its place: the lock ends with its process, however that ends."""
        try:
            with self.supervised() as free:
                return not free
        except FileNotFoundError:
            return False

    def log(self, name: str) -> Path:
        """What the service *name* prints."""
        return self.logs / f"{name}.log"

    def last_line(self, name: str) -> str:
        """What *name* said last that tells why it ended, or nothing."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return reason(lines)

    def ask(self, pid: int) -> None:
        """Say that the process *pid* is about to be asked to end, which is no death."""
        with contextlib.suppress(OSError):  # a disk that is full: then it counts as one
            (self.folder / "asked").write_text(str(pid), encoding="utf-8")

    def asked(self, pid: int) -> bool:
        """Whether *pid* is the process that was last asked to end."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "asked").read_text(encoding="utf-8") == str(pid)
        return False

    def write_plan(self, services: list[Service]) -> None:
        """Say what is to run."""
        _write(self.folder / "plan.json", [asdict(service) for service in services])

    def plan(self) -> list[Service]:
        """What is to run, or nothing where nobody has said so yet."""
        try:
            said = json.loads((self.folder / "plan.json").read_bytes())
        except FileNotFoundError:
            return []
        return [Service(one["name"], tuple(one["argv"]), one["port"]) for one in said]

    def write_state(self, state: State) -> None:
        """Say what runs."""
        _write(self.folder / "state.json", asdict(state))

    def state(self) -> State | None:
        """What ran when the supervisor last wrote; None where it ended in order, or never began."""
        try:
            said = json.loads((self.folder / "state.json").read_bytes())
        except FileNotFoundError:
            return None
        return State(said["pid"], said["created"], {name: Run(**run) for name, run in said["runs"].items()})

    def forget(self) -> None:
        """Nothing runs any more."""
        (self.folder / "state.json").unlink(missing_ok=True)


def reason(lines: Sequence[str]) -> str:
    """The last of *lines* that tells of an error, or else the last that says anything, or nothing."""
    said = [line.strip() for line in lines if line.strip()]
    return next((line for line in reversed(said) if _ERROR.search(line)), said[-1] if said else "")


def process(pid: int | None, created: float) -> psutil.Process | None:
    """The process *pid* if it is the one that began at *created*: numbers are given again to others."""
    if pid is None:
        return None
    with contextlib.suppress(psutil.Error):  # it has ended
        found = psutil.Process(pid)
        if abs(found.create_time() - created) <= _SAME and found.status() != psutil.STATUS_ZOMBIE:
            return found
    return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, value: object) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
