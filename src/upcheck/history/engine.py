"""What a running engine says of itself, and its claim: no two engines run the same checks into one history."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from upcheck.history.schema import HistoryError
from upcheck.history.tally import BUCKETS

_SHARD = re.compile(r"([1-9]\d{0,4})/([1-9]\d{0,4})")


class ClaimError(HistoryError):
    """Another engine has this history; the message names its process."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine knows of itself, kept in the history so that the collector can expose it.

    *shard* is `i/n`; *started* and *updated* are unix seconds; *checks* are scheduled, *in_flight* run now. *missed*,
    *runs*, *write_errors* and *reloads* count since the start. *lag_count*, *lag_sum* (seconds) and *lag_buckets* (a
    count for each of BUCKETS and one for +Inf, not cumulative) say how late runs began. *stale* are the files whose
    last good version is run, because the present one can't be read.
    """

    shard: str
    pid: int
    started: float
    updated: float
    checks: int = 0
    in_flight: int = 0
    missed: int = 0
    lag_count: int = 0
    lag_sum: float = 0.0
    lag_buckets: Sequence[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    runs: int = 0
    write_errors: int = 0
    reloads: int = 0
    stale: Sequence[str] = ()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Engine:
        """The Engine that `to_json` wrote; fields of a newer upcheck are passed over."""
        values = json.loads(line)
        return cls(**{name: values[name] for name in cls.__slots__ if name in values})


class Claim:
    """A history claimed for one shard, until `close` or the end of the process, however it ends.

    The kernel keeps it, as a lock on a file beside the history that says which process has it.
    """

    def __init__(self, history: Path, shard: str) -> None:
        """Claim *history* for *shard*, `i/n`; the other shards of the same n can be claimed beside it.

        Raises ClaimError where an engine that lives has it, ValueError where *shard* is none, OSError.
        """
        match = _SHARD.fullmatch(shard)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"shard {shard!r}: expected i/n with i from 1 to n, such as 1/4")
        self._history, self._shard = history, shard
        name = f"{history.name}.engine-{match[1]}-of-{match[2]}"
        history.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._lock(history.with_name(name))
        try:
            # After our own: of two that start at once with different n, neither misses the other.
            for other in history.parent.glob(f"{_literal(history.name)}.engine-*-of-*"):
                if other.name.rpartition("-")[2] != match[2]:
                    os.close(self._lock(other))
        except BaseException:
            self.close()
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {shard}\n".encode(), 0)

    def _lock(self, path: Path) -> int:
        """The descriptor of *path*, locked. The file stays for ever: to remove it would open a race for its name."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, shard = os.pread(descriptor, 64, 0).decode(errors="replace").strip().partition(" ")
            os.close(descriptor)
            raise ClaimError(
                f"history {self._history} is in use by another engine, process {pid or '?'} (shard {shard or '?'}), "
                f"so shard {self._shard} can't start: stop that one, or name another file with UPCHECK_HISTORY"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Give the claim back; again is no error."""
        descriptor, self._file = self._file, -1
        with suppress(OSError):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _literal(name: str) -> str:
    """*name* as a glob that matches nothing else."""
    return re.sub(r"([\[*?])", r"[\1]", name)
