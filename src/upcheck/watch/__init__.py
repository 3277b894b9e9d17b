"""`upcheck watch`: the checks, for ever. A supervisor (`supervisor`) keeps one engine (`engine`) alive.

The supervisor knows nothing of pytest and can't be hurt by a check; the engine is pytest's session in a process of its
own, replaced when a check has ended it, when it hangs, or when what it is made of has changed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

ENV = "UPCHECK_WATCH"  # the Options, for the engine's process
RELOAD = 75  # exit code of an engine that asks to be replaced by one that reads everything anew


@dataclass(frozen=True, slots=True)
class Options:
    """What `upcheck watch` was asked for: *shard* i of n, threads for checks in Python, *lifetime* of fixtures (s).

    *log* is view, lines, json, or auto. *suspects* were in flight when the engine before this one died, *banned* twice.
    """

    shard: tuple[int, int] = (1, 1)
    concurrency: int = 50
    lifetime: float | None = None
    log: str = "auto"
    suspects: list[str] = field(default_factory=list)
    banned: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Options:
        """The Options that `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "shard": tuple(values["shard"])})
