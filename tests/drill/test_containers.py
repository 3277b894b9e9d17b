"""The same drill with Prometheus and Alertmanager in containers, by testcontainers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.databases.images import image
from tests.databases.packages import programs
from tests.waiting import eventually
from upcheck import drill
from upcheck.probes import ProbeFailure
from upcheck.probes.http import Request, fetch
from upcheck.servers import free_port
from upcheck.settings import Settings

if TYPE_CHECKING:
    from docker import DockerClient

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image can't be pulled; what is started here is ended here
STORAGE = {"prometheus": "--storage.tsdb.path", "alertmanager": "--storage.path"}
ALONE = {"prometheus": [], "alertmanager": ["--cluster.listen-address="]}
Server = Callable[..., contextlib.AbstractContextManager[str]]


def contained(name: str, tag: str) -> Server:
    """What stands for `servers.prometheus` or `servers.alertmanager`: the same program in a container."""
    from testcontainers.core.container import DockerContainer

    @contextlib.contextmanager
    def server(_settings: Settings, configuration: Path, data: Path, *flags: str) -> Iterator[str]:
        data.mkdir(exist_ok=True)
        url = f"http://127.0.0.1:{free_port()}"
        said = [f"--config.file={configuration}", f"{STORAGE[name]}={data}", *ALONE[name], *flags]
        command = [*said, f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn"]
        made = DockerContainer(tag).with_kwargs(network_mode="host").with_command(command)
        for folder, mode in ((data.parent, "rw"), (ROOT / "monitoring", "ro")):
            made = made.with_volume_mapping(str(folder), str(folder), mode)
        with made:
            eventually(lambda: ready(url))
            data.with_name(f"{data.name}.log").write_bytes(made.get_logs()[1])
            yield url

    return server


def ready(url: str) -> bool:
    try:
        return fetch(Request(f"{url}/-/ready", deadline=1.0)).is_success
    except ProbeFailure:
        return False


def parts(name: str, program: Path) -> tuple[list[Path], dict[str, Path | str]]:
    """The programs of an image that runs *program*, and its other files: Debian's Alertmanager is begun by a script."""
    if not program.read_bytes().startswith(b"#!"):
        return [program], {f"/{name}": program}
    shell = programs("busybox-static")["busybox"]
    words = {f"/bin/{word}": shell for word in ("sh", "dirname", "readlink")}
    share = program.parent / "share"
    return [share / name / name], {f"/{name}": program, "/share": share, **words}


def test_the_drill_agrees_there_too(
    docker_engine: DockerClient, tool_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for name in STORAGE:
            run, files = parts(name, tool_paths[name].resolve())
            built = image(docker_engine, name, [f'ENTRYPOINT ["/{name}"]'], programs=run, files=files)
            tag = stack.enter_context(built)
            monkeypatch.setattr(drill, name, contained(name, tag))
        (found,) = drill.drill(Settings.load(ROOT, {}), ["CheckDown"])
    assert found.problems == ()
    told = {(str(one.integration), one.status) for one in found.told}
    assert told == {
        (f"critical/{kind}", status) for kind in ("pagerduty", "slack", "email") for status in ("firing", "resolved")
    }
