"""A stack of this machine's own programs: started, asked and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from upcheck import bearer, targets
from upcheck.documents import DocumentError
from upcheck.stack import archive, snapshot
from upcheck.stack.archive import Manifest
from upcheck.stack.configuration import TARGETS, programs, propose, prove, prove_lookback
from upcheck.stack.credentials import prove_closed, show, token_file, token_in_force
from upcheck.stack.health import Standing, standings
from upcheck.stack.provider import Provider, free
from upcheck.stack.record import process
from upcheck.stack.services import HOST, Service, StackError, addresses, ports, prove_kept, services
from upcheck.stack.supervisor import STOP


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What was proven: the services that are to run, and their configuration, not yet in its place."""

    planned: list[Service]
    proposed: Path


class Local(Provider):
    """A stack of this machine's own programs, under a supervisor."""

    @property
    def running(self) -> bool:
        """Whether there is a supervisor; services of one that was killed may run on without it."""
        return self.record.running

    def up(self) -> bool:
        self.record.make()
        with self.record.alone():
            if self.running:
                self._same_token()
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
        self.record.make()
        with self.record.alone():
            prepared = self._prepared()
            self._stop()
            self._start(prepared)

    def stop(self) -> bool:
        if not self.record.folder.is_dir():
            return False
        with self.record.alone():
            return self._stop()

    def standings(self) -> list[Standing]:
        return standings(self.settings, self.record)

    def proven(self) -> str:
        return self._proven(self.record.configuration / "alertmanager/alertmanager.yml")

    def backup(self, file: Path) -> Manifest:
        if not self.record.kept:  # a history alone is of checks that ran without a stack
            raise StackError(archive.NOTHING)
        archive.prove(file)
        self.record.make()
        with self.record.alone():
            taken = self.record.folder / "snapshot"
            shutil.rmtree(taken, ignore_errors=True)
            taken.mkdir()
            alertmanager = self._left().get("alertmanager") if self.running else None
            try:
                if alertmanager is not None:
                    self.record.ask(alertmanager.pid)
                    alertmanager.terminate()  # it writes its silences now, and the supervisor brings it back
                    alertmanager.wait(STOP)
                snapshot.taken(self.settings, self.record, taken)
                return archive.write(file, archive.some(snapshot.entries(taken)))
            except psutil.TimeoutExpired:
                raise StackError(
                    f"alertmanager did not end within {STOP:g} s to write its silences: try again"
                ) from None
            finally:
                shutil.rmtree(taken, ignore_errors=True)
                end = time.monotonic() + STOP
                while alertmanager is not None and "alertmanager" not in self._left() and time.monotonic() < end:
                    time.sleep(0.05)  # or `status`, typed now, would miss it

    def restore(self, file: Path) -> tuple[Manifest, Path]:
        self.record.make()
        with self.record.alone():
            if self.running or self._left():
                raise StackError("the stack runs: `upcheck stack stop` first; nothing was changed")
            return snapshot.restore(self.settings, self.record, file)

    def logged(self) -> list[str]:
        return sorted(path.stem for path in self.record.logs.glob("*.log"))

    def _prepared(self) -> _Prepared:
        """Everything that can refuse, before anything is changed."""
        prove_kept(self.settings)
        numbers = ports(self.settings)
        runs = self._left()
        ours = [one.port for one in self.record.plan() if one.name in runs]  # what runs will give them back
        for name, port in numbers.items():
            if port not in ours:
                free(name, port)
        token = token_file(os.environ, self.settings)
        prove_closed(token_in_force(self.record.plan()), token, os.environ)
        found = programs(self.settings)
        proposed = self.record.folder / "proposed"
        propose(self.settings, addresses(numbers), proposed)
        if token is not None:
            show(token, f"{HOST}:{numbers['collector']}", proposed)
        prove(self.settings, proposed, found)
        prove_lookback(self.settings)
        places = self.record.configuration, self.record.data
        return _Prepared(services(self.settings, numbers, found, *places, token), proposed)

    def _same_token(self) -> None:
        """Raises StackError where another token is named than what runs asks for."""
        named, in_force = token_file(os.environ, self.settings), token_in_force(self.record.plan())
        if named is not None and named != in_force:
            asks = f"asks for the token in {in_force}" if in_force else "asks for no token"
            raise StackError(f"the collector that runs {asks}: `upcheck stack restart` has it ask for that in {named}")

    def _start(self, prepared: _Prepared) -> None:
        shutil.rmtree(self.record.configuration, ignore_errors=True)
        prepared.proposed.replace(self.record.configuration)
        self.record.write_plan(prepared.planned)
        with self.record.log("supervisor").open("ab") as log:
            argv = [sys.executable, "-m", "upcheck.stack.supervisor", str(self.settings.root)]
            supervisor = subprocess.Popen(
                argv,
                cwd=self.settings.root,
                # The plan names the file of the token, and an empty name is refused by the collector.
                env={name: value for name, value in os.environ.items() if name != bearer.FILE},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C, and the end of this terminal, are not for it
            )
        end = time.monotonic() + self.START
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
