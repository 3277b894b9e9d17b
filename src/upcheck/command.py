"""Running a program with limits: time, output, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_NO_MEMORY = (b"out of memory", b"cannot allocate memory", b"pthread_create failed")  # as Go's runtime says it
MAX_OUTPUT = 4 * 1024 * 1024  # bytes, stdout and stderr together


class CommandError(Exception):
    """The program gave no answer that could be judged; the message says why."""


class TimedOut(CommandError):
    """It had not ended when its time was over."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program that ended by itself said. Bytes that are not UTF-8 are replaced."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    inherit: bool = True,
    cwd: Path | None = None,
    memory: int | None = None,
) -> Answer:
    """Run *argv* for at most *timeout* seconds in its own process group, which is gone afterwards.

    *environ* is added to this process's environment, or is all of it where not *inherit*. *memory* is a limit in bytes
    where the system knows one for another process (Linux).
    Raises CommandError where it can't be started, takes too long, prints more than MAX_OUTPUT, or is killed.
    """
    name = Path(argv[0]).name
    env = {**(os.environ if inherit else {}), **(environ or {})}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{name} can't be started: {error.strerror} ({argv[0]})") from None
    try:
        if memory is not None and hasattr(resource, "prlimit"):
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
        stdout, stderr = _talk(process, name, stdin.encode(), time.monotonic() + timeout, timeout)
    finally:
        _end(process)
    if process.returncode < 0:
        raise CommandError(f"{name} was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode and memory is not None and any(words in stderr for words in _NO_MEMORY):
        raise CommandError(f"{name} needed more than {memory // 2**20} MiB of memory")
    return Answer(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _talk(
    process: subprocess.Popen[bytes], name: str, stdin: bytes, deadline: float, timeout: float
) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, stdout)
        selector.register(process.stderr, selectors.EVENT_READ, stderr)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, bytearray(stdin))
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimedOut(f"{name} gave no answer within {timeout:g} s")
            for key, event in ready:
                if not (_write if event == selectors.EVENT_WRITE else _read)(key):
                    selector.unregister(key.fileobj)
                    if key.fileobj is process.stdin:
                        process.stdin.close()
            if len(stdout) + len(stderr) > MAX_OUTPUT:
                raise CommandError(f"{name} printed more than {MAX_OUTPUT // 2**20} MiB")
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimedOut(f"{name} closed its output but did not end within {timeout:g} s") from None
    return bytes(stdout), bytes(stderr)


def _read(key: selectors.SelectorKey) -> bool:
    """Add what the program said to what it said before; whether there may be more."""
    chunk = os.read(key.fd, 65536)
    key.data.extend(chunk)
    return bool(chunk)


def _write(key: selectors.SelectorKey) -> bool:
    """Hand the program what fits of what is left; whether there is more, and it still listens."""
    try:
        del key.data[: os.write(key.fd, key.data[:65536])]
    except BrokenPipeError:
        return False
    return bool(key.data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process group, so that no child outlives the answer."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
