"""How full each local filesystem is. Asking may hang with a dying disk, so it is done beside the scrapes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from upcheck.exposition import labelled
from upcheck.system import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from upcheck.exposition import Block

STUCK_AFTER = 5.0  # seconds; node_exporter's mount timeout
_FAMILIES = (
    families.FILESYSTEM_ERROR,
    families.FILESYSTEM_SIZE,
    families.FILESYSTEM_AVAIL,
    families.FILESYSTEM_FREE,
    families.FILESYSTEM_FILES,
    families.FILESYSTEM_FILES_FREE,
    families.FILESYSTEM_READONLY,
)


class Mount(NamedTuple):
    """A mounted filesystem."""

    device: str
    fstype: str
    mountpoint: str
    readonly: bool = False


class Sizes(Protocol):
    """The part of os.statvfs_result that is read."""

    @property
    def f_frsize(self) -> int: ...
    @property
    def f_blocks(self) -> int: ...
    @property
    def f_bfree(self) -> int: ...
    @property
    def f_bavail(self) -> int: ...
    @property
    def f_files(self) -> int: ...
    @property
    def f_ffree(self) -> int: ...


class Filesystems:
    """What is known of the filesystems of *mounts*, and when to believe that one hangs."""

    def __init__(
        self,
        mounts: Callable[[], Sequence[Mount]],
        statvfs: Callable[[str], Sizes] = os.statvfs,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._mounts = mounts
        self._statvfs = statvfs
        self._monotonic = monotonic
        self._sizes: dict[Mount, Sizes | None] | None = None
        self._asked: tuple[Mount, float] | None = None
        self._blocks: list[Block] = []

    def measure(self) -> int:
        """Ask each filesystem; how many did not tell. Hangs where one does; raises where mounts can't be read."""
        mounts = self._mounts()
        if self._sizes is None:
            self._sizes = {}
        known = self._sizes
        for mount in mounts:
            self._asked = mount, self._monotonic()
            try:
                known[mount] = self._statvfs(mount.mountpoint)
            except OSError:  # counted, and told as node_filesystem_device_error
                known[mount] = None
        self._asked = None
        self._sizes = {mount: known[mount] for mount in mounts}
        self._blocks = _render(self._sizes)
        return sum(sizes is None for sizes in self._sizes.values())

    def blocks(self) -> list[Block]:
        """The families as last measured; measured now where they never were."""
        if self._sizes is None:
            self.measure()
        asked = self._asked
        if asked and self._monotonic() - asked[1] > STUCK_AFTER:
            return _render({**(self._sizes or {}), asked[0]: None})
        return self._blocks

    def used(self, mountpoint: str = "/") -> float:
        """Share (0 to 1) of *mountpoint* that users can't write any more, asked now. Raises OSError, and may hang."""
        return share(self._statvfs(mountpoint))

    def known_used(self, mountpoint: str = "/") -> float | None:
        """The same as last measured; None where it is not known."""
        found = [sizes for mount, sizes in (self._sizes or {}).items() if mount.mountpoint == mountpoint and sizes]
        return share(found[-1]) if found else None


def share(sizes: Sizes) -> float:
    """As df tells it: what root has in reserve counts neither as used nor as free."""
    used = sizes.f_blocks - sizes.f_bfree
    return used / (used + sizes.f_bavail) if used + sizes.f_bavail else 0.0


def counted(local: Iterable[Mount], every: Iterable[Mount]) -> list[Mount]:
    """Which of the *local* mounts are shown, and the root among them even where it is only in *every*.

    A container's root is an overlay, and a chroot's is no mount at all.
    """
    shown = {
        (mount.device, mount.mountpoint): mount
        for mount in local
        if mount.mountpoint == "/"
        or not (
            families.IGNORED_FILESYSTEMS.fullmatch(mount.fstype)
            or families.IGNORED_MOUNTPOINTS.fullmatch(mount.mountpoint)
        )
    }
    if not any(mountpoint == "/" for _, mountpoint in shown):
        roots = [mount for mount in every if mount.mountpoint == "/"]
        root = roots[-1] if roots else Mount("rootfs", "rootfs", "/")
        shown[root.device, "/"] = root
    return list(shown.values())


def _render(known: dict[Mount, Sizes | None]) -> list[Block]:
    texts: list[list[str]] = [[] for _ in _FAMILIES]
    for mount, sizes in known.items():
        labels = labelled("", zip(families.FILESYSTEM_SIZE.labels, mount[:3], strict=True))
        for (family, text), value in zip(zip(_FAMILIES, texts, strict=True), _values(mount, sizes)):  # noqa: B905 - error alone
            text.append(f"{family.name}{labels} {value}\n")
    return [(family, "".join(text)) for family, text in zip(_FAMILIES, texts, strict=True)]


def _values(mount: Mount, sizes: Sizes | None) -> tuple[int, ...]:
    """In the order of _FAMILIES; the error alone where nothing else is known."""
    if sizes is None:
        return (1,)
    unit = sizes.f_frsize
    return (
        0,
        sizes.f_blocks * unit,
        sizes.f_bavail * unit,
        sizes.f_bfree * unit,
        sizes.f_files,
        sizes.f_ffree,
        int(mount.readonly),
    )
