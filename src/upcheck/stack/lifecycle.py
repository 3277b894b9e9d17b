"""Starting, stopping and asking a stack: what each `upcheck stack` command does."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from upcheck import targets
from upcheck.documents import DocumentError
from upcheck.settings import Settings
from upcheck.stack import proof
from upcheck.stack.configuration import TARGETS, missing_secrets, programs, propose, prove
from upcheck.stack.credentials import show, token_file
from upcheck.stack.health import Standing, standings
from upcheck.stack.record import Record, process
from upcheck.stack.services import HOST, Service, StackError, addresses, ports, services
from upcheck.stack.supervisor import STOP

START = 60.0  # seconds in which every service is to be well
_LOOK = 0.2  # seconds between two looks


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What was proven: the services that are to run, and their configuration, not yet in its place."""

    planned: list[Service]
    proposed: Path


class Stack:
    """The stack of the repo of *settings*. Only one command at a time may change it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.record = Record(settings.root)

    @property
    def running(self) -> bool:
        """Whether there is a supervisor; services of one that was killed may run on without it."""
        return self.record.running

    def up(self) -> bool:
        """Prove the configuration and start everything; False where it runs already: then only its targets are new.

        Raises StackError (RefusedError where the configuration is not accepted), tools.ToolError, CommandError: then
        nothing was started.
        """
        self.record.make()
        with self.record.alone():
            if self.running:
                self.retarget()
                return False
            prepared = self._prepared()
            self._end_left()
            self._start(prepared)
        return True

    def retarget(self) -> list[Path]:
        """Have what runs scrape what catalogue and checks say now; the files that changed. Raises StackError."""
        if not self.record.configuration.is_dir():
            return []
        try:
            return targets.write(self.settings, os.environ, self.record.configuration / TARGETS)
        except (DocumentError, OSError) as error:
            raise StackError(str(error)) from None

    def restart(self) -> None:
        """Prove the configuration, stop what runs, and start it anew.

        Raises as `up` does: then what runs goes on, with the configuration that it has.
        """
        self.record.make()
        with self.record.alone():
            prepared = self._prepared()
            self._stop()
            self._start(prepared)

    def stop(self) -> bool:
        """End everything; whether anything ran. What it keeps stays in `.upcheck/stack/data`. Raises StackError."""
        if not self.record.folder.is_dir():
            return False
        with self.record.alone():
            return self._stop()

    def standings(self) -> list[Standing]:
        """How each service is, asked now; nothing where none was ever started."""
        return standings(self.settings, self.record)

    def settled(self, told: Callable[[Standing], None]) -> list[Standing]:
        """Wait until each service is well, which *told* hears of; how they are then, or after START seconds."""
        end, well = time.monotonic() + START, set[str]()
        while True:
            now = self.standings()
            for one in now:
                if one.healthy and one.service.name not in well:
                    well.add(one.service.name)
                    told(one)
            if all(one.healthy for one in now) or time.monotonic() > end or not self.running:
                return now
            time.sleep(_LOOK)

    def proven(self) -> str:
        """What was proven of the path of an alert: a sentence. Raises StackError with what was not."""
        urls = {one.name: one.url for one in self.record.plan()}
        configuration = self.record.configuration / "alertmanager/alertmanager.yml"
        return proof.path(urls["prometheus"], urls["alertmanager"], configuration)

    def missing_secrets(self) -> list[Path]:
        """The files of secrets that Alertmanager is configured to read, and that are not there yet."""
        return missing_secrets(self.settings)

    def _prepared(self) -> _Prepared:
        """Everything that can refuse, before anything is changed."""
        numbers = ports(self.settings)
        runs = self._left()
        ours = [one.port for one in self.record.plan() if one.name in runs]  # what runs will give them back
        for name, port in numbers.items():
            if port not in ours:
                _free(name, port)
        token = token_file(os.environ, self.settings.root)
        found = programs(self.settings)
        proposed = self.record.folder / "proposed"
        propose(self.settings, addresses(numbers), proposed)
        if token is not None:
            show(token, f"{HOST}:{numbers['collector']}", proposed)
        prove(self.settings, proposed, found)
        return _Prepared(services(self.settings, numbers, found, self.record.configuration, self.record.data), proposed)

    def _start(self, prepared: _Prepared) -> None:
        shutil.rmtree(self.record.configuration, ignore_errors=True)
        prepared.proposed.replace(self.record.configuration)
        self.record.write_plan(prepared.planned)
        with self.record.log("supervisor").open("ab") as log:
            argv = [sys.executable, "-m", "upcheck.stack.supervisor", str(self.settings.root)]
            supervisor = subprocess.Popen(
                argv,
                cwd=self.settings.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C, and the end of this terminal, are not for it
            )
        end = time.monotonic() + START
        while self.record.state() is None:
            code = supervisor.poll()
            if code is not None or time.monotonic() > end:
                how = "said nothing" if code is None else f"ended with {code}"
                raise StackError(f"the supervisor {how}: {self.record.last_line('supervisor')}")
            time.sleep(0.02)

    def _stop(self) -> bool:
        state = self.record.state()
        if state is None and not self.running:
            return False
        if state is not None and (supervisor := process(state.pid, state.created)) and self.running:
            supervisor.terminate()
            self._wait(supervisor)
        self._end_left()
        return True

    def _wait(self, supervisor: psutil.Process) -> None:
        try:
            supervisor.wait(STOP + 5)
        except psutil.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()

    def _left(self) -> dict[str, psutil.Process]:
        """The processes of services that were started and have not ended, by name."""
        state = self.record.state()
        runs = state.runs if state else {}
        return {name: found for name, run in runs.items() if (found := process(run.pid, run.created))}

    def _end_left(self) -> None:
        """End the services of a supervisor that was killed, by their numbers and when they began."""
        left = list(self._left().values())
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
        for one in psutil.wait_procs(left, STOP)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.record.forget()


def _free(name: str, port: int) -> None:
    """Raises StackError where *port*, which the service *name* needs, is taken."""
    with socket.socket() as knock:
        knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            knock.bind((HOST, port))
            knock.listen()
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"can't be listened on ({error.strerror})"
            raise StackError(
                f"port {port} of {HOST}, which {name} would listen on, {what}: free it, or give {name} another: "
                f'ports = "{name}=PORT" in [tool.upcheck], or UPCHECK_PORTS={name}=PORT'
            ) from None
