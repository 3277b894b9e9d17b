"""The ways to bring binaries that a machine lacks: Debian packages, the official release, a container image.

Each puts them into `bin/` of a room of its own and says where each is from, or raises ToolError.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from upcheck import command
from upcheck.tools.products import RELEASES, Product, ToolError, by_product

if TYPE_CHECKING:
    import docker

MIB = 1024 * 1024
APT_SECONDS = 120
DOWNLOAD_SECONDS = 300
ENGINE_SECONDS = 60  # for one answer of the Docker engine; a pull is many
SUMS_BYTES = MIB
ARCHIVE_BYTES = 256 * MIB  # Prometheus 3.13: 110 MB
UNPACKED_BYTES = 1024 * MIB


def said(
    argv: Sequence[str], *, seconds: float, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What *argv* said on both streams; ToolError where it can't start, fails or outlives *seconds*."""
    shown = " ".join(argv)
    try:
        answer = command.run(argv, timeout=seconds, environ=environ, inherit=environ is None, cwd=cwd)
    except command.TimedOut:
        raise ToolError(f"{shown}: not done after {seconds:g} s") from None
    except command.CommandError as error:
        raise ToolError(f"{shown}: {error}") from None
    text = answer.stdout + answer.stderr
    if answer.code:
        lines = text.strip().splitlines()
        gist = "; ".join([line for line in lines if line.startswith("E:")] or lines[-1:])
        raise ToolError(f"{shown}: ended with {answer.code}: {gist or 'it said nothing'}")
    return text


# ---- way 1: Debian packages ----


def _debian(names: Sequence[str], room: Path, environ: Mapping[str, str]) -> dict[str, str]:
    for program in ("apt-config", "apt-get", "dpkg-deb"):
        if not shutil.which(program, path=environ.get("PATH", "")):
            raise ToolError(f"no {program} here")
    private = dict(environ) | {"APT_CONFIG": str(_private_apt(room, environ)), "LC_ALL": "C"}
    run = functools.partial(said, seconds=APT_SECONDS, environ=private, cwd=room)
    warnings = run(["apt-get", "-qq", "update"]).strip()

    def unpack(package: str) -> tuple[Path, str]:
        """Where *package* is unpacked, and what to call it."""
        try:
            run(["apt-get", "-qq", "download", package])
        except ToolError as error:
            raise ToolError(f"{error}; apt-get update had said: {warnings}" if warnings else str(error)) from None
        archive = next(room.glob(f"{package}_*.deb")).name
        run(["dpkg-deb", "-x", archive, f"{package}.unpacked"])
        return (
            room / f"{package}.unpacked",
            f"Debian package {package} {run(['dpkg-deb', '-f', archive, 'Version']).strip()}",
        )

    origins: dict[str, str] = {}
    for product, mine in by_product(names):
        together = unpack(product.package)
        for name in mine:
            program = f"usr/bin/{product.binaries[name]}"
            # newer Debians have promtool in a package of its own
            unpacked, origin = together if (together[0] / program).is_file() else unpack(name)
            if not (unpacked / program).is_file():
                raise ToolError(f"{origin} holds no {program}")
            (unpacked / program).replace(room / "bin" / name)
            origins[name] = origin
            _bring_home(room / "bin" / name, unpacked)
    return origins


_HOME_FD = b"/proc/self/fd/9"
_WRAPPER = """\
#!/bin/sh
# Debian's build reads its templates below {home}. They are beside it here: in the folder open as descriptor 9.
here=$(dirname "$(readlink -f "$0")")
exec 9<"$here/share/{name}"
exec "$here/share/{name}/{name}" "$@"
"""


def _bring_home(binary: Path, unpacked: Path) -> None:
    """Let *binary* find the data files of its package, which was unpacked and not installed.

    Debian builds Alertmanager to read them below /usr/share/prometheus/alertmanager, and nothing can tell it
    otherwise: without them it does not start. So the path in the binary gives way to one of the same length that
    holds wherever the tools folder is, and a wrapper of its name opens what it leads to.
    """
    home = Path("/usr/share/prometheus") / binary.name
    data = unpacked / home.relative_to("/")
    content = binary.read_bytes()
    if not data.is_dir() or bytes(home) not in content:
        return
    share = binary.parent / "share" / binary.name
    share.parent.mkdir(exist_ok=True)
    data.replace(share)
    content = content.replace(bytes(home), _HOME_FD.ljust(len(bytes(home)), b"/"))
    (share / binary.name).write_bytes(content)
    for program in (share / binary.name, binary):
        program.touch()
        program.chmod(0o755)
    binary.write_text(_WRAPPER.format(home=home, name=binary.name), encoding="utf-8")


def _private_apt(room: Path, environ: Mapping[str, str]) -> Path:
    """The machine's apt configuration (its sources, proxies, keys) with lists and caches of our own.

    Without its hooks: some delete the system's caches after any update, even one made elsewhere.
    Without its extra indexes (AppStream, Contents), which only cost time.
    """
    machine = said(["apt-config", "dump"], seconds=APT_SECONDS, environ=environ)
    kept = [line for line in machine.splitlines() if not re.search("invoke|acquire::indextargets", line, re.IGNORECASE)]
    for folder in ("lists/partial", "cache/archives/partial"):
        (room / folder).mkdir(parents=True)
    ours = {
        "Dir::Etc::main": "/dev/null",  # both name where hooks would be read back from
        "Dir::Etc::parts": "/dev/null",
        "Dir::State::lists": f"{room}/lists/",
        "Dir::Cache": f"{room}/cache/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "",  # the room is closed to its user, and ours has nobody to become
        "Debug::NoLocking": "1",
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
    }
    configuration = room / "apt.conf"
    lines = kept + [f'{key} "{value}";' for key, value in ours.items()]
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return configuration


# ---- way 2: the official release ----


def _release(names: Sequence[str], room: Path, environ: Mapping[str, str]) -> dict[str, str]:
    base, system = environ.get("UPCHECK_RELEASES") or RELEASES, os.uname()
    origins: dict[str, str] = {}
    for product, mine in by_product(names):
        stem = product.archive(system.sysname, system.machine)
        archive, folder = room / f"{stem}.tar.gz", product.url(base)
        _download(f"{folder}/sha256sums.txt", room / "sha256sums.txt", SUMS_BYTES)
        want = _sum_of(archive.name, room / "sha256sums.txt", folder)
        got = _download(f"{folder}/{archive.name}", archive, ARCHIVE_BYTES)
        if got != want:
            raise ToolError(f"{_shown(folder)}/{archive.name}: sha256sums.txt says {want}, what came has {got}")
        with archive.open("rb") as file:
            _unpack(file, {f"{stem}/{name}": room / "bin" / name for name in mine}, archive.name)
        archive.unlink()
        origins |= dict.fromkeys(mine, f"release {product.release}")
    return origins


def _shown(url: str) -> str:
    return re.sub("//[^/@]*@", "//", url)  # a mirror's password belongs in no message


def _sum_of(name: str, sums: Path, folder: str) -> str:
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, named = line.partition(" ")
        if named.strip().removeprefix("*") == name:
            return digest.lower()
    raise ToolError(f"{_shown(folder)}/sha256sums.txt has no line for {name}: nothing to hold the archive against")


def _download(url: str, into: Path, limit: int) -> str:
    """Write *url*'s body to *into*; its sha256 in hexadecimal. ToolError past *limit* bytes or the deadline."""
    import asyncio  # slow to import, and most runs download nothing

    import httpx

    async def body() -> str:
        digest, size = hashlib.sha256(), 0
        # identity: the sum is of the file as published, and nothing is to swell on the way
        client = httpx.AsyncClient(follow_redirects=True, headers={"accept-encoding": "identity"}, timeout=30)
        async with asyncio.timeout(DOWNLOAD_SECONDS), client, client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise ToolError(f"GET {_shown(url)}: {response.status_code} {response.reason_phrase}")
            if url.startswith("https:") and any(hop.url.scheme != "https" for hop in (*response.history, response)):
                raise ToolError(f"GET {_shown(url)}: redirected away from https")
            with into.open("wb") as file:
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > limit:
                        raise ToolError(f"GET {_shown(url)}: more than {limit / MIB:g} MiB: refused")
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    try:
        return asyncio.run(body())
    except TimeoutError:
        raise ToolError(f"GET {_shown(url)}: not complete after {DOWNLOAD_SECONDS:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ToolError(f"GET {_shown(url)}: {str(error) or type(error).__name__}") from None


def _unpack(file: IO[bytes], wanted: Mapping[str, Path], archive: str) -> None:
    """Copy the members *wanted* (name -> target) out of *file*. Nothing else of it is written anywhere."""
    left, size = dict(wanted), 0
    try:
        with tarfile.open(fileobj=file) as tar:
            for member in tar:
                parts = Path(member.name).parts
                size += member.size
                if member.name.startswith("/") or ".." in parts:
                    raise ToolError(f"{archive}: a member is called '{member.name}', outside the archive: refused")
                if size > UNPACKED_BYTES:
                    raise ToolError(f"{archive}: unpacks to more than {UNPACKED_BYTES / MIB:g} MiB: refused")
                target = left.pop("/".join(parts), None) if member.isfile() else None
                content = tar.extractfile(member) if target else None
                if target and content:
                    with target.open("wb") as out:
                        shutil.copyfileobj(content, out, MIB)
                    target.chmod(0o755)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ToolError(f"{archive}: broken off or no archive ({error})") from None
    if left:
        raise ToolError(f"{archive}: holds no {', '.join(left)}")


# ---- way 3: a container image ----


def _image(names: Sequence[str], room: Path, environ: Mapping[str, str]) -> dict[str, str]:
    if (system := os.uname().sysname) != "Linux":
        raise ToolError(f"the images hold programs for Linux, and this is {system}")
    try:
        import docker
        import docker.errors
    except ModuleNotFoundError:
        raise ToolError("the Docker client for Python is missing: pip install 'upcheck[docker]'") from None
    host = environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    _knock(host)
    origins: dict[str, str] = {}
    try:
        with contextlib.closing(docker.from_env(environment=dict(environ), timeout=ENGINE_SECONDS)) as engine:
            for product, mine in by_product(names):
                origins |= dict.fromkeys(mine, f"image {_copy_out(engine, product, mine, room)}")
    except (docker.errors.DockerException, OSError) as error:
        raise ToolError(f"the Docker engine at {host}: {error}") from None
    return origins


def _knock(host: str) -> None:
    """ToolError where nobody listens at a unix socket: the client says so in a page, and leaks its own."""
    import socket

    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(host.removeprefix("unix://"))
            except OSError as error:
                raise ToolError(f"no Docker engine at {host}: {error.strerror} (DOCKER_HOST names another)") from None


def _copy_out(engine: docker.DockerClient, product: Product, names: Sequence[str], room: Path) -> str:
    """Copy *names* out of the image (pulled if it isn't here) through a container that never runs; its tag."""
    import docker.errors

    tag = f"{product.image}:v{product.release}"
    try:
        engine.images.get(tag)
    except docker.errors.ImageNotFound:
        engine.images.pull(product.image, f"v{product.release}")
    container = engine.containers.create(tag, command=["never-started"])
    try:
        for name in names:
            stream, _ = container.get_archive(f"/bin/{name}")
            packed = room / f"{name}.tar"
            with packed.open("wb") as file:
                file.writelines(stream)
            with packed.open("rb") as file:
                _unpack(file, {name: room / "bin" / name}, f"{tag} /bin/{name}")
            packed.unlink()
    finally:
        container.remove()
    return tag


Way = Callable[[Sequence[str], Path, Mapping[str, str]], dict[str, str]]  # names, room, environ -> name: origin
WAYS: Mapping[str, tuple[str, Way]] = {
    "debian": ("Debian packages", _debian),
    "release": ("the official release", _release),
    "image": ("a container image", _image),
}
