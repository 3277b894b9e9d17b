"""What is asked of a host, however it is had: from /proc, or through psutil."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from upcheck.exposition import Block
    from upcheck.system.filesystems import Mount


class Clock(Protocol):
    """Wall time for what is shown, monotonic time for every age and duration. The `time` module is one."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...


class Memory(NamedTuple):
    """Bytes."""

    total: int
    available: int
    swap_total: int
    swap_free: int

    @property
    def used(self) -> float:
        """The share (0 to 1) that new work can't have."""
        return 1 - self.available / self.total if self.total else 0.0


class Host(Protocol):
    """Every reading raises what its source raises."""

    @property
    def reads(self) -> Mapping[str, Callable[[], Iterable[Block]]]:
        """The sources of families, by name. All are read anew when called, and none can hang."""

    def cpus(self) -> dict[str, tuple[float, float]]:
        """Seconds idle, and in all, by CPU."""

    def memory(self) -> Memory:
        """As it is now."""

    def load(self) -> tuple[float, float, float]:
        """Over 1, 5 and 15 minutes."""

    def network(self) -> tuple[int, int]:
        """Bytes that all interfaces but the loopback received and sent."""

    def boot_time(self) -> float:
        """In Unix seconds."""

    def pids(self) -> int:
        """How many processes there are."""

    def mounts(self) -> Sequence[Mount]:
        """The filesystems that are shown."""

    def find_limits(self) -> None:
        """Look anew for what limits this process; done at each background sample."""

    def limited(self) -> Memory | None:
        """The memory of the container or cgroup that this process is in; None where none limits it."""
