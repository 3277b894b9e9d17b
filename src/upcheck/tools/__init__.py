"""The real binaries (promtool, amtool, ...): found on this machine, or provided without root.

Order: `UPCHECK_<NAME>`, PATH, the tools folder. What none of them has is fetched into the tools
folder by the first way that works: Debian packages, the official release, a container image.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upcheck.settings import Settings
from upcheck.tools.products import (
    FEATURES,
    NAMES,
    PRODUCTS,
    RELEASES,
    Product,
    ToolError,
    Version,
    by_product,
    product_of,
)
from upcheck.tools.ways import WAYS, said

__all__ = [
    "FEATURES",
    "NAMES",
    "PRODUCTS",
    "Product",
    "Tool",
    "ToolError",
    "Version",
    "ensure",
    "find",
    "lacks",
    "provide",
    "table",
    "too_old",
]

VERSION_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Tool:
    """A binary and where it is from: a variable, PATH, a package, a release or an image."""

    name: str
    path: Path
    origin: str
    folder: Path = field(repr=False, compare=False)  # where what `--version` said is remembered

    @property
    def version(self) -> Version:
        """What `--version` says. Run once, then remembered on disk until the file changes."""
        return _version(self.path, _stamp(self.path), self.folder / "versions.json")


def _quietly(_: str) -> None:
    """Progress that nobody asked for."""


def find(name: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Tool | None:
    """The tool *name* as this machine has it, or None. ToolError where its variable names no program."""
    product, variable = product_of(name), _variable(name)
    if given := environ.get(variable):
        path = Path(given).expanduser().absolute()
        if not _runnable(path):
            why = "is no file" if not path.is_file() else "is not executable"
            raise ToolError(f"{variable}={given}: {path} {why}; correct the variable or unset it")
        return Tool(name, path, variable, settings.tools)
    for binary in (name, product.binaries[name]):
        if on_path := shutil.which(binary, path=environ.get("PATH", "")):
            return Tool(name, Path(on_path).absolute(), "PATH", settings.tools)
    return _kept(name, settings.tools)


def ensure(
    names: Iterable[str],
    settings: Settings,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = _quietly,
) -> dict[str, Tool]:
    """Every tool of *names*: found, else provided. ToolError where one can't be had or is too old."""
    found = {name: find(name, settings, environ) for name in names}
    missing = [name for name, tool in found.items() if tool is None]
    provided = {tool.name: tool for tool in provide(missing, settings, environ=environ, say=say)} if missing else {}
    tools = {name: tool or provided[name] for name, tool in found.items()}
    if old := [sentence for tool in tools.values() if (sentence := too_old(tool))]:
        raise ToolError("\n".join(old))
    return tools


def provide(
    names: Iterable[str],
    settings: Settings,
    *,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = _quietly,
    ways: Sequence[str] = ("debian", "release", "image"),
) -> list[Tool]:
    """Put *names* into the tools folder by the first of *ways* that works for all of them.

    What is there already is replaced. Another process may do the same at the same time: one waits,
    and takes what the other brought. ToolError, and no tool changed, where no way works.
    """
    wanted, folder = list(dict.fromkeys(names)), settings.tools
    before = {name for name in wanted if _kept(name, folder)}
    try:
        _make(folder)
        with _alone(folder):
            missing = [name for name in wanted if name in before or not _kept(name, folder)]
            if missing:
                _bring(missing, folder, environ, say, ways)
    except OSError as error:
        raise ToolError(
            f"{folder}: the tools folder can't be written ({error.strerror}); set UPCHECK_TOOLS=/a/writable/folder"
        ) from None
    return [tool for name in wanted if (tool := _kept(name, folder))]


def lacks(tool: Tool, feature: str) -> str | None:
    """A sentence if *tool* is older than *feature* (a key of FEATURES), with what to do about it."""
    if tool.version >= FEATURES[feature]:
        return None
    return f"{_naming(tool)} has no '{feature}': it came with {FEATURES[feature]}; {_newer(tool.name)}"


def too_old(tool: Tool) -> str | None:
    """A sentence if *tool* is older than any upcheck is tried with, with what to do about it."""
    oldest = product_of(tool.name).oldest
    if tool.version >= oldest:
        return None
    return f"{_naming(tool)} is too old: upcheck needs {oldest} or newer; {_newer(tool.name)}"


def table(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """`upcheck tools list`: each tool's version, where it is from and its path, or what is wrong with it."""
    rows, remarks, missing = [("tool", "version", "from", "path")], [], []
    for name in NAMES:
        try:
            tool = find(name, settings, environ)
            if tool is None:
                missing.append(name)
                rows.append((name, "not found", "", ""))
                continue
            rows.append((name, str(tool.version), tool.origin, str(tool.path)))
            if sentence := too_old(tool):
                remarks.append(sentence)
        except ToolError as error:
            rows.append((name, "unusable", "", ""))
            remarks.append(f"{name}: {error}")
    if missing:
        remarks.append(f"not found: {', '.join(missing)}; type: upcheck tools install")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([*lines, *remarks])


# ---- what is here ----


def _variable(name: str) -> str:
    return f"UPCHECK_{name.upper()}"


def _naming(tool: Tool) -> str:
    return f"{tool.name} {tool.version} ({tool.path})"


def _newer(name: str) -> str:
    product, system = product_of(name), os.uname()
    try:
        url = f"{product.url()}/{product.archive(system.sysname, system.machine)}.tar.gz"
    except ToolError:  # no archive for this machine: what there is, is on the release's page
        url = f"{RELEASES}/{product.repo}/releases/tag/v{product.release}"
    return f"take {product.release} from {url} and set {_variable(name)}=/path/to/{name}"


def _runnable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _kept(name: str, folder: Path) -> Tool | None:
    product_of(name)
    path = folder / name
    if not _runnable(path):
        return None
    return Tool(name, path, _recall(folder / "origins.json", path, _stamp(path)) or "put there by hand", folder)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ToolError(f"{path}: was found and is gone ({error.strerror})") from None
    return status.st_mtime_ns, status.st_size


@functools.cache
def _version(path: Path, stamp: tuple[int, int], notes: Path) -> Version:
    if known := _recall(notes, path, stamp):
        return Version.parse(known)
    version = _said_version(path)
    with contextlib.suppress(OSError):  # it is only asked again
        _make(notes.parent)
        _note(notes, path, stamp, str(version))
    return version


def _said_version(path: Path) -> Version:
    text = said([str(path), "--version"], seconds=VERSION_SECONDS)
    try:
        return Version.parse(text)
    except ToolError as error:
        raise ToolError(f"{path} --version: {error}") from None


# Two small files remember, per binary, what must not outlive it: hence the stamp beside each text.


def _notes(file: Path) -> dict[str, object]:
    try:
        notes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _recall(file: Path, path: Path, stamp: tuple[int, int]) -> str | None:
    match _notes(file).get(os.path.relpath(path, file.parent)):
        case [int() as changed, int() as size, str() as text] if (changed, size) == stamp:
            return text
        case _:
            return None


def _note(file: Path, path: Path, stamp: tuple[int, int], text: str) -> None:
    notes = _notes(file) | {os.path.relpath(path, file.parent): [*stamp, text]}
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(json.dumps(notes, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(file)


# ---- bringing ----


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # a repo that isn't ours stays clean


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)  # the folder is the lock: no file of it stays behind
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _bring(
    names: Sequence[str], folder: Path, environ: Mapping[str, str], say: Callable[[str], None], ways: Sequence[str]
) -> None:
    room = folder / ".unpacking"
    failures = {}
    try:
        for way in ways:
            shutil.rmtree(room, ignore_errors=True)  # of the way before, or of a process that was killed
            room.mkdir(mode=0o700)  # apt's configuration may name a proxy's password
            (room / "bin").mkdir()
            title, way_of = WAYS[way]
            say(f"{', '.join(names)}: trying {title}")
            try:
                origins = way_of(names, room, environ)
                versions = {name: _tried(name, room / "bin" / name, origins[name]) for name in names}
            except (ToolError, OSError) as error:
                failures[title] = str(error)
                say(f"{title}: {error}")
                continue
            for share in (room / "bin").glob("share/*"):
                shutil.rmtree(folder / "share" / share.name, ignore_errors=True)
                (folder / "share").mkdir(exist_ok=True)
                share.replace(folder / "share" / share.name)
            for name in names:
                (room / "bin" / name).replace(folder / name)
                _note(folder / "origins.json", folder / name, _stamp(folder / name), origins[name])
                say(f"{name} {versions[name]} is in {folder} ({origins[name]})")
            return
    finally:
        shutil.rmtree(room, ignore_errors=True)
    raise ToolError(_nothing_worked(names, failures))


def _tried(name: str, path: Path, origin: str) -> Version:
    version, oldest = _said_version(path), product_of(name).oldest
    if version < oldest:
        raise ToolError(f"{origin} has {name} {version}: upcheck needs {oldest} or newer")
    return version


def _nothing_worked(names: Sequence[str], failures: Mapping[str, str]) -> str:
    asked = [product for product, _ in by_product(names)]
    packages = " ".join(product.package for product in asked)
    mirrored = f"{asked[0].repo}/releases/download/v{asked[0].release}/"
    return "\n".join(
        [
            f"{', '.join(names)}: not on this machine, and no way to provide worked:",
            *(f"  {title}: {why}" for title, why in failures.items()),
            "Type one of these, then try again:",
            *([f"  sudo apt-get install {packages}"] if os.uname().sysname == "Linux" else []),
            *(f"  export {_variable(name)}=/path/to/{name}" for name in names),
            f"  export UPCHECK_RELEASES=https://mirror.example/prometheus  (a mirror that holds {mirrored})",
        ]
    )
