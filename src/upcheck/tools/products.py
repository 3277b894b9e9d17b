"""The words of the tools: what is released together, its pinned versions, and what came with which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from upcheck.settings import nearest

RELEASES = "https://github.com/prometheus"


class ToolError(Exception):
    """A tool that can't be had or used, in sentences that say what was tried and what to type."""


class Version(NamedTuple):
    """A release's three numbers. A pre-release or a distribution's suffix counts as its release."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version in what `--version` printed, or in `2.42.0`; ToolError where there is none."""
        if match := re.search(r"(?:^|, version )v?(\d+)\.(\d+)\.(\d+)", text, re.MULTILINE):
            return cls(*map(int, match.groups()))
        said = text.strip().partition("\n")[0][:100]
        raise ToolError(f"expected a version such as 'promtool, version 2.42.0', got '{said}'")

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Product:
    """What is released together: its pinned release, its Debian package, its image, its binaries."""

    repo: str
    release: Version
    package: str
    image: str
    oldest: Version
    binaries: Mapping[str, str]  # our name -> the name inside the Debian package

    def archive(self, system: str, machine: str) -> str:
        """The release archive's name without `.tar.gz`, for `uname`'s *system* and *machine*."""
        architecture = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(machine)
        if system not in ("Linux", "Darwin") or architecture is None:
            raise ToolError(f"no archive is known for {system} on {machine}, only Linux and Darwin on x86_64 and arm64")
        return f"{self.repo}-{self.release}.{system.lower()}-{architecture}"

    def url(self, base: str = RELEASES) -> str:
        """The folder that holds the release's archives and their `sha256sums.txt`."""
        return f"{base.rstrip('/')}/{self.repo}/releases/download/v{self.release}"


# Releases: Prometheus 3.13 is the long-term release (fixes until July 2027) and has every feature
# below; the other two have no long-term line, so theirs are the newest seen published.
# Oldest: what Debian 12 ships, because the test suite runs on it.
PRODUCTS = (
    Product(
        "prometheus",
        Version(3, 13, 3),
        package="prometheus",
        image="prom/prometheus",
        oldest=Version(2, 42, 0),
        binaries={"promtool": "promtool", "prometheus": "prometheus"},
    ),
    Product(
        "alertmanager",
        Version(0, 34, 1),
        package="prometheus-alertmanager",
        image="prom/alertmanager",
        oldest=Version(0, 25, 0),
        binaries={"amtool": "amtool", "alertmanager": "prometheus-alertmanager"},
    ),
    Product(
        "blackbox_exporter",
        Version(0, 28, 0),
        package="prometheus-blackbox-exporter",
        image="prom/blackbox-exporter",
        oldest=Version(0, 23, 0),
        binaries={"blackbox_exporter": "prometheus-blackbox-exporter"},
    ),
    Product(
        "node_exporter",
        Version(1, 12, 1),
        package="prometheus-node-exporter",
        image="prom/node-exporter",
        oldest=Version(1, 5, 0),
        binaries={"node_exporter": "prometheus-node-exporter"},
    ),
)
NAMES: tuple[str, ...] = ("promtool", "amtool", "prometheus", "alertmanager", "blackbox_exporter", "node_exporter")
FEATURES: Mapping[str, Version] = {  # of promtool, and the release that brought each
    "test --run": Version(2, 49, 0),
    "test --junit": Version(2, 55, 0),
    "fuzzy_compare": Version(3, 5, 0),
    "start_timestamp": Version(3, 9, 0),
}


def product_of(name: str) -> Product:
    """The product that the tool *name* is of; ToolError where no tool is called so."""
    for product in PRODUCTS:
        if name in product.binaries:
            return product
    raise ToolError(f"no tool is called '{name}'{nearest(name, NAMES)}")


def by_product(names: Iterable[str]) -> Iterator[tuple[Product, list[str]]]:
    """The products that *names* are of, each with those of its own."""
    for product in PRODUCTS:
        if mine := [name for name in names if name in product.binaries]:
            yield product, mine
