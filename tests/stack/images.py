"""Stand-ins under the image names of monitoring/compose.yml, out of this machine's programs: none can be pulled.

They are the same programs, as Debian has them, in the same places. Only Grafana is none, as Debian has no package of
it: BusyBox serves a page at /api/health.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
import shutil
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.databases.images import LIBRARIES, libraries
from tests.databases.packages import programs
from tests.drill.test_containers import parts
from upcheck import tools
from upcheck.settings import Settings
from upcheck.stack.services import BINARIES

if TYPE_CHECKING:
    from docker import DockerClient

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "monitoring/compose.yml").read_text())
PYTHON = next(line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("FROM"))
MARK = "upcheck.test"
HOME = "/usr/local"
LIBRARY = f"{HOME}/lib/python{sys.version_info.major}.{sys.version_info.minor}"
DEBIAN = "deb_system" in sysconfig.get_scheme_names()  # whose Python has its packages elsewhere
PACKAGES = f"{HOME}/lib/python3/dist-packages" if DEBIAN else f"{LIBRARY}/site-packages"
WORDS = ("sh", "dirname", "readlink", "wget", "grep", "rm", "mkdir", "chown", "chmod", "httpd", "kill")
KEPT = {
    "prometheus": ("65534:65534", "/prometheus"),
    "alertmanager": ("65534:65534", "/alertmanager"),
    "grafana": ("472:472", "/var/lib/grafana"),
    "redis": ("999:1000", "/data"),
}  # whose folder, and where: a volume begins as a copy of it
BEGUN = {
    "prometheus": ["/bin/prometheus"],
    "alertmanager": ["/bin/alertmanager"],
    "grafana": ["httpd", "-f", "-p", "3000", "-h", "/www"],
    "node-exporter": ["/bin/node_exporter"],
    "blackbox-exporter": ["/bin/blackbox_exporter"],
    "postgres-exporter": ["/bin/prometheus-postgres-exporter"],
    "redis-exporter": ["/bin/prometheus-redis-exporter"],
    "redis": [],
}
SIGNALS = {"grafana": ["STOPSIGNAL SIGKILL"]}  # BusyBox as the first process of a container hears no other


@contextlib.contextmanager
def images(client: DockerClient) -> Iterator[None]:
    """Every image of the compose file but upcheck's own, which the Dockerfile makes; those that are there stay."""
    made: list[str] = []

    def build(tag: str, lines: list[str], paths: Mapping[str, Path | str] = {}) -> None:
        if not any(MARK not in one.labels for one in client.images.list(name=tag)):
            context = _context([*lines, f"LABEL {MARK}=stand-in"], paths)
            client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
            made.append(tag)

    try:
        build("upcheck-test-programs", ["FROM scratch", "COPY root /", *_base()], _programs())
        build(PYTHON, ["FROM upcheck-test-programs", "COPY root /", f"ENV PYTHONHOME={HOME}", *_offline()], _python())
        for name, begun in BEGUN.items():
            said = ", ".join(f'"{word}"' for word in begun)
            build(
                COMPOSE["services"][name]["image"],
                ["FROM upcheck-test-programs", f"ENTRYPOINT [{said}]", *SIGNALS.get(name, [])],
            )
        yield
    finally:
        for tag in reversed(made):
            client.images.remove(tag, force=True)


def _context(lines: list[str], paths: Mapping[str, Path | str]) -> io.BytesIO:
    """What a build reads: a Dockerfile of *lines*, and *paths* below `root`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for place, path in sorted(paths.items()):
            tar.add(path, f"root{place}", filter=_worth)
        text = "\n".join([*lines, ""]).encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    packed.seek(0)
    return packed


def _worth(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """No more of Python's own library than its programs need."""
    left_out = r"/(__pycache__|site-packages|dist-packages|test|tests|idlelib|tkinter|config-3[^/]*)$"
    return None if entry.name.startswith(f"root{LIBRARY}/") and re.search(left_out, entry.name) else entry


def _base() -> list[str]:
    kept = " && ".join(f"mkdir -p {folder} && chown {user} {folder}" for user, folder in KEPT.values())
    page = """mkdir -p /www/api && echo '{"database": "ok"}' > /www/api/health"""
    return [
        f"ENV LD_LIBRARY_PATH={LIBRARIES} PATH={HOME}/bin:/bin",
        f"RUN mkdir -m 1777 /tmp && {page} && {kept}",
    ]


def _programs() -> dict[str, Path | str]:
    """All programs and their libraries, by their places."""
    tools_ = tools.ensure((*BINARIES, "promtool"), Settings.load(ROOT, {}))
    shell = programs("busybox-static")["busybox"]
    found: dict[str, Path | str] = {f"/bin/{word}": shell for word in WORDS}
    linked = [Path(shutil.which("install") or "/usr/bin/install").resolve()]  # which Debian's BusyBox has not
    found["/bin/install"] = linked[0]
    for name, tool in tools_.items():
        run, files = parts(name, tool.path.resolve())
        found |= {f"/bin{place}" if place == f"/{name}" else place: path for place, path in files.items()}
        linked += run
    # Debian's script of Alertmanager looks for its templates beside itself.
    found |= {f"/bin{place}": found.pop(place) for place in ("/share",) if place in found}
    for package, names in {
        "redis-server": ("redis-server", "redis-cli"),
        "prometheus-redis-exporter": ("prometheus-redis-exporter",),
        "prometheus-postgres-exporter": ("prometheus-postgres-exporter",),
    }.items():
        server = programs(package)
        for name in names:
            found[f"/bin/{name}"] = Path(server[name]).resolve()
            found |= _placed(libraries([Path(server[name])], server.environ))
    return found | _placed(libraries(linked))


def _placed(paths: list[Path]) -> dict[str, Path | str]:
    return {str(one) if one.name.startswith("ld-") else f"{LIBRARIES}/{one.name}": one.resolve() for one in paths}


def _python() -> dict[str, Path | str]:
    """This Python, and of its packages those that upcheck, pip and the build of a wheel need."""
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, Path | str] = {f"{HOME}/bin/python": Path(sys.executable).resolve(), LIBRARY: library}
    for name in _closure({"pip", "hatchling", *_required()}):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                found[f"{PACKAGES}/{file}"] = Path(str(file.locate()))
    native = [*library.glob("lib-dynload/*.so"), *(Path(one) for place, one in found.items() if ".so" in place)]
    found |= _placed([one for one in libraries(native) if not one.is_relative_to(sys.prefix)])
    return found | _placed(libraries([Path(sys.executable).resolve()]))


def _required() -> set[str]:
    """What the Dockerfile's pip is to find: upcheck's dependencies, and those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"/source\[([\w,]+)\]", (ROOT / "Dockerfile").read_text())
    assert extras is not None
    listed = [project["optional-dependencies"][name] for name in extras[1].split(",")]
    return {one for group in (project["dependencies"], *listed) for one in group}


def _closure(wanted: set[str]) -> set[str]:
    """The distributions that *wanted* ones require, and themselves."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        asked = Requirement(waiting.pop())
        if (key := f"{asked.name.lower()}[{','.join(sorted(asked.extras))}]") in found:
            continue
        found.add(key)
        for line in importlib.metadata.requires(asked.name) or ():
            needed = Requirement(line)
            extras = asked.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(f"{needed.name}[{','.join(needed.extras)}]" if needed.extras else needed.name)
    return {name.partition("[")[0] for name in found}


def _offline() -> list[str]:
    """The Dockerfile's own pip finds what it needs where it is, and fetches nothing."""
    pip = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
    return [
        "ENV PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1",
        "ENV DEB_PYTHON_INSTALL_LAYOUT=deb",
        f"RUN printf '#!{HOME}/bin/python\\n%s\\n' \"{pip}\" > {HOME}/bin/pip && chmod 755 {HOME}/bin/pip",
    ]
