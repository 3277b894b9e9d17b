"""A stack in the containers of monitoring/compose.yml: started, asked and stopped."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from upcheck import command
from upcheck.settings import Settings
from upcheck.stack import archive, compose, volumes
from upcheck.stack.archive import Manifest
from upcheck.stack.compose import Compose, docker
from upcheck.stack.health import Standing, memory
from upcheck.stack.provider import Provider, free
from upcheck.stack.record import Run, process, reason
from upcheck.stack.services import Service, StackError

_PROFILES = ("--profile", "postgres", "--profile", "redis")  # to end what is no longer asked for, too
_SHOWN = 200  # characters of what a container said


class Containers(Provider):
    """A stack of containers; *said* hears the lines of Compose, which may be fetching images."""

    START = 120.0
    KEPT = "data are kept in volumes"

    def __init__(self, settings: Settings, said: Callable[[str], None]) -> None:
        super().__init__(settings)
        self._said = said
        self._place = self.record.folder / "containers"

    @property
    def running(self) -> bool:
        return any(one["State"]["Running"] or one["State"]["Restarting"] for one in self._found().values())

    def up(self) -> bool:
        self.record.make()
        with self.record.alone():
            found = self._found() if self._started else {}
            if found and all(_runs(found.get(name)) for name in self._names):
                return False
            self._begin("--detach")
        return True

    def restart(self) -> None:
        self.record.make()
        with self.record.alone():
            self._begin("--detach")

    def stop(self) -> bool:
        if not self._started:
            return False
        with self.record.alone():
            ran = self.running
            self._compose.do(*_PROFILES, "down", said=self._said)
            return ran

    def standings(self) -> list[Standing]:
        if not self._started:
            return []
        found = self._found()
        return [_standing(name, found.get(name)) for name in self._names]

    def proven(self) -> str:
        return self._proven(self._place / "alertmanager/alertmanager.yml", "http://alertmanager:9093")

    def backup(self, file: Path) -> Manifest:
        if not self._started:
            raise StackError(archive.NOTHING)
        archive.prove(file)
        with self.record.alone(), self._made():
            return archive.write(file, archive.some(volumes.entries(self._found())))

    def restore(self, file: Path) -> tuple[Manifest, Path]:
        self.record.make()
        with self.record.alone():
            if self._started and self.running:
                raise StackError("the stack runs: `upcheck stack stop --provider docker` first; nothing was changed")
            manifest = archive.verified(file)
            aside = archive.aside(self.record.folder, ".tar.gz")
            self._begin("--no-start")
            try:
                archive.write(aside, volumes.entries(found := self._found()))
                self._refill(file, manifest.stores, volumes.names(found, manifest.stores), aside)
            finally:
                self._compose.do(*_PROFILES, "down", said=self._said)
            return manifest, aside

    def _refill(self, file: Path, stores: Sequence[str], replaced: Sequence[str], aside: Path) -> None:
        """Put *stores* of *file* in the place of the volumes that are *replaced*."""
        self._compose.do(*_PROFILES, "down", said=self._said)
        try:
            if replaced:
                docker("volume", "rm", *replaced)
            self._compose.do("up", "--no-start", said=self._said)
            volumes.fill(self._found(), file, stores)
        except StackError as error:
            raise StackError(f"{error}; what was there is in {aside}: `upcheck stack restore` takes it") from None

    def logged(self) -> list[str]:
        return self._names if self._started else []

    def logs(self, service: str, lines: int, *, follow: bool) -> int:
        """Print the last *lines* of *service*, or of each, on this terminal; Compose's exit code."""
        more = ["--follow"] if follow else []
        return self._compose.call("logs", f"--tail={lines}", *more, *([service] if service else []))

    @property
    def _started(self) -> bool:
        """Whether there ever was an `up`; without its .env Compose refuses everything."""
        return bool(compose.environment(self.settings.monitoring / ".env"))

    @contextlib.contextmanager
    def _made(self) -> Iterator[None]:
        """Containers for as long as the block lasts, where the stack was stopped: volumes are reached through them."""
        if self._found():
            yield
            return
        try:
            self._compose.do("up", "--no-start", said=self._said)
            yield
        finally:
            self._compose.do(*_PROFILES, "down", said=self._said)

    @functools.cached_property
    def _compose(self) -> Compose:
        return Compose(self.settings)

    @functools.cached_property
    def _names(self) -> list[str]:
        """The services of the profiles that are asked for."""
        return sorted(self._compose.ask("config", "--services").split())

    def _found(self) -> dict[str, dict[str, Any]]:
        """What Docker knows of each container of this stack, by its service."""
        label = "com.docker.compose"
        ids = docker("ps", "-aq", "--filter", f"label={label}.project={self._compose.project}").split()
        try:
            told = json.loads(docker("inspect", *ids)) if ids else []
        except StackError:  # one of them was removed meanwhile
            return self._found()
        labelled = [(one["Config"]["Labels"], one) for one in told]
        return {labels[f"{label}.service"]: one for labels, one in labelled if labels[f"{label}.oneoff"] == "False"}

    def _begin(self, how: str) -> None:
        """Prove everything that can be proven, then make all containers anew: `--detach` starts them, too."""
        published = self._compose.ports
        docker("version")  # whether an engine answers, before anything is written
        running = [one for one in (self._found() if self._started else {}).values() if _runs(one)]
        ours = {port for one in running for port in _published(one)}
        for name, port in published.items():
            if port not in ours:
                free(name, port)
        proposed = self.record.folder / "proposed"
        self._said(f"passwords are in {compose.prepare(self.settings, proposed, self._place)}")
        self._compose.ask("config", "--quiet")
        self._compose.do("build", said=self._said)
        with _placed(proposed, self._place):
            self._compose.do("up", how, "--force-recreate", said=self._said)


@contextlib.contextmanager
def _placed(proposed: Path, place: Path) -> Iterator[None]:
    """Put *proposed* into its *place*; where the block raises, the folder before it, which containers have mounted."""
    before = place.with_name(f"{place.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        place.rename(before)
    proposed.rename(place)
    try:
        yield
    except BaseException:
        if before.exists():
            shutil.rmtree(place)
            before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _runs(container: dict[str, Any] | None) -> bool:
    return container is not None and container["State"]["Status"] == "running"


def _published(container: dict[str, Any]) -> list[int]:
    bindings = container["HostConfig"]["PortBindings"] or {}
    return [int(one["HostPort"]) for each in bindings.values() for one in each or ()]


def _standing(name: str, container: dict[str, Any] | None) -> Standing:
    if container is None:
        return Standing(Service(name, ()), "has no container: `upcheck stack up --provider docker`", Run())
    state = container["State"]
    port = next(iter(_published(container)), None)
    died = container["RestartCount"]
    run = Run(since=_seconds(state["StartedAt"]), died=died, ended="ended", ended_at=_seconds(state["FinishedAt"]))
    service = Service(name, (), port)
    if state["Running"] or state["Restarting"]:
        run.pid = state["Pid"]
    if not _runs(container) or (state["Health"]["Status"] != "healthy" and died):
        return Standing(service, f"{_ending(state)}{_last_line(container)}", run)
    # Where the engine is on another machine, that number is nobody's here, or of a process that began at another time.
    own = process(run.pid, run.since)
    return Standing(service, _illness(state["Health"]), run, memory(own) if own else 0)


def _ending(state: dict[str, Any]) -> str:
    """Why a container does not run as it should."""
    if state["Status"] == "paused":
        return "is paused: `docker unpause` lets it go on"
    if state["OOMKilled"]:
        return "was ended for want of memory: mem_limit in compose.yml"
    if state["Status"] == "created":
        return f"could not be started: {state['Error']}" if state["Error"] else "was not started yet"
    if state["Status"] == "running":
        return f"came back, {state['Health']['Status']}"
    return f"ended with exit code {state['ExitCode']}"


def _illness(health: dict[str, Any]) -> str:
    """Why a container that runs is not well, or nothing."""
    if health["Status"] == "healthy":
        return ""
    said = health["Log"][-1]["Output"].strip().splitlines() if health["Log"] else []
    return str(health["Status"]) + (f": {said[-1][:_SHOWN]}" if said else "")


def _last_line(container: dict[str, Any]) -> str:
    """What a container said last that tells why it ended."""
    told = command.run(["docker", "logs", "--tail=300", container["Id"]], timeout=compose.TIMEOUT)
    said = reason((told.stderr or told.stdout).splitlines())  # the container's own two
    return f": {said[:_SHOWN]}" if said else ""


def _seconds(moment: str) -> float:
    """Docker's time, in nanoseconds and UTC, as Unix time; 0 for the year 1."""
    return 0.0 if moment.startswith("0001-") else datetime.fromisoformat(moment).timestamp()
