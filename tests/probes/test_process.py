from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.probes.conftest import Ask, failed, held
from tests.waiting import eventually
from upcheck.probes import ProbeError, Reason
from upcheck.probes.process import Process


@contextlib.contextmanager
def sleeping(folder: Path, name: str) -> Iterator[int]:
    """A process called *name*: its number."""
    program = folder / name
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        try:
            eventually(lambda: psutil.Process(process.pid).name() == name)
            yield process.pid
        finally:
            process.kill()


def test_a_process_by_its_name(ask: Ask, tmp_path: Path) -> None:
    with sleeping(tmp_path, "upcheck-sleep"):
        held(ask(Process("upcheck-sleep")))
        result = failed(ask(Process("upcheck-sleep", count=2)), Reason.NOT_RUNNING)
        assert result.sentence == "1 processes are called 'upcheck-sleep', wanted 2"
    failed(ask(Process("upcheck-sleep")), Reason.NOT_RUNNING)


def test_a_process_by_its_pidfile(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "it.pid"
    probe = Process("upcheck-pid", pidfile=str(file))
    assert "can't be read" in failed(ask(probe), Reason.NOT_RUNNING).sentence
    with sleeping(tmp_path, "upcheck-pid") as number:
        file.write_text(f"{number}\n")
        held(ask(probe))
        other = failed(ask(Process("nginx", pidfile=str(file))), Reason.NOT_RUNNING)
        assert f"process {number} of the pidfile {file} is 'upcheck-pid', not 'nginx'" in other.sentence
    assert "no process has the number" in failed(ask(probe), Reason.NOT_RUNNING).sentence
    for text in ("", "x", "-5", "9" * 40):
        file.write_text(text)
        failed(ask(probe), Reason.NOT_RUNNING)


def test_a_zombie_is_not_running(ask: Ask, tmp_path: Path) -> None:
    program = tmp_path / "upcheck-zombie"
    program.symlink_to("/bin/true")
    process = subprocess.Popen([str(program)])
    eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    failed(ask(Process(psutil.Process(process.pid).name())), Reason.NOT_RUNNING)
    process.wait()


def test_what_can_t_be_meant() -> None:
    for options in ({"name": ""}, {"name": "a", "count": 0}):
        with pytest.raises(ProbeError):
            Process(**options)
