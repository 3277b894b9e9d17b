"""Push: jobs that must report, and whether they have. See docs/probes/push.md."""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from upcheck import settings
from upcheck.declaration import seconds
from upcheck.probes import Blocking, Phase, ProbeError, Reason, Run

MAX_JOBS = 1000
MAX_MESSAGE = 200  # characters
GRACE = 3600.0  # seconds
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class StoreFull(Exception):
    """MAX_JOBS report already, and this is another."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a job has said: *moment* in unix seconds, *took* in seconds where it told."""

    moment: float
    up: bool
    message: str = ""
    took: float | None = None


class Store:
    """A folder with a file for each job's last report."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, report: Report) -> None:
        """Keep *report* of the job *name*, in place of its last. Raises ValueError, StoreFull or OSError."""
        file = self._file(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not file.exists() and sum(1 for _ in self._folder.glob("*.json")) >= MAX_JOBS:
            raise StoreFull(f"{MAX_JOBS} jobs report already: delete those of {self._folder} that are no more")
        with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".tmp", delete=False) as made:
            json.dump(asdict(report), made)
        Path(made.name).replace(file)  # whole, or not at all

    def read(self, name: str) -> Report | None:
        """The last report of the job *name*; None where there is none. Raises ValueError or OSError."""
        try:
            told = json.loads(self._file(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Report(float(told["moment"]), bool(told["up"]), str(told["message"]), told["took"])

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:100]!r}: expected up to 100 letters, digits, dots, dashes and underscores")
        return self._folder / f"{name}.json"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Push(Blocking):
    """Whether the job *name* has reported that it is up, no longer ago than *grace* (such as `25h`; an hour).

    *store* is the folder of the reports; by default what the settings of this repo say.
    """

    name: str = field(kw_only=False)
    grace: str | float = GRACE
    store: str | None = None
    deadline: float = 10.0
    patience: float = field(init=False)  # grace in seconds
    kind: ClassVar[str] = "push"
    subject: ClassVar[str] = "name"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ProbeError(f"push: {self.name!r}: expected up to 100 letters, digits, dots, dashes and underscores")
        try:
            object.__setattr__(self, "patience", seconds(self.grace))
        except ValueError as error:
            raise ProbeError(f"grace: {error}") from None

    @property
    def asked(self) -> str:
        """Which job."""
        return f"push {self.name}"

    def ask(self, run: Run) -> None:
        """Read its last report."""
        run.phase = Phase.PROCESSING
        store = Store(Path(self.store) if self.store else settings.here().push)
        try:
            report = store.read(self.name)
        except (ValueError, KeyError, TypeError) as error:
            raise run.fail(Reason.MALFORMED, f"the last report of {self.name} can't be read: {error}") from None
        if report is None:
            raise run.fail(Reason.NO_REPORT, f"the job {self.name} has never reported: have it ask /push/{self.name}")
        age = max(0.0, time.time() - report.moment)
        run.note(f"the last report is {age:.0f} s old")
        if not report.up:
            raise run.fail(Reason.REPORTED_DOWN, f"the job reports that it failed: {report.message or 'no words'}")
        if age > self.patience:
            raise run.fail(Reason.NO_REPORT, f"the last report is {_words(age)} old, the grace {_words(self.patience)}")


def _words(span: float) -> str:
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if span >= 2 * size:
            return f"{span / size:.3g} {name}"
    return f"{span:.3g} s"


def report_of(asked: Any, now: float) -> Report:
    """The report in the parameters *asked* (`status`, `msg`, `ping` in milliseconds). Raises ValueError."""
    status = asked.get("status", "up")
    if status not in ("up", "down"):
        raise ValueError(f"status: expected up or down, not {status[:40]!r}")
    took = None
    if asked.get("ping"):
        took = float(asked["ping"]) / 1000
        if not 0 <= took < math.inf:
            raise ValueError("ping: expected milliseconds")
    message = "".join(one if one.isprintable() else " " for one in asked.get("msg", ""))
    return Report(now, status == "up", message[:MAX_MESSAGE], took)
