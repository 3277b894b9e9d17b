"""A Docker engine, by its HTTP API, and how a container is. See docs/probes/docker.md."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from upcheck.exposition import labelled
from upcheck.probes import TIMEOUTS, Journey, Phase, ProbeError, ProbeFailure, Reason, Run, Travelling
from upcheck.probes.addresses import Place
from upcheck.probes.database import timed, versioned
from upcheck.probes.http.exchange import Answer, Request
from upcheck.probes.http.journey import journey

MAX_ANSWER = 1024 * 1024  # bytes
HEALTHS = ("none", "starting", "healthy", "unhealthy")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ENGINE = "engine: expected unix:///var/run/docker.sock or tcp://host:2375"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Docker(Travelling):
    """Whether the engine at *engine* answers; with *container*, a name or an id, whether that runs and is healthy.

    *engine* is `unix:///path` or `tcp://host:port`; *tls* and what follows are as of the other probes, over tcp.
    Raises ProbeError where it can't be meant.
    """

    engine: str = field(kw_only=False)
    container: str | None = None
    deadline: float = 10.0
    tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    socket: str | None = field(init=False)
    requests: Mapping[str, Request] = field(init=False)
    kind: ClassVar[str] = "docker"
    subject: ClassVar[str] = "engine"

    def __post_init__(self) -> None:
        put = object.__setattr__
        parts = urlsplit(self.engine)
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            put(self, "socket", parts.path)
            where = "http://127.0.0.1"  # nobody asks it: the socket is what is connected to
        elif parts.scheme == "tcp" and not parts.path.strip("/"):
            put(self, "socket", None)
            where = f"http{'s' if self.tls else ''}://{Place.of(parts.netloc).shown}"
        else:
            raise ProbeError(f"{_ENGINE}, not {self.engine!r}")
        if self.tls and self.socket is not None:
            raise ProbeError("tls: a unix socket speaks none: leave it out")
        if self.container is not None and not _NAME.fullmatch(self.container):
            raise ProbeError(f"container: {self.container!r} is no name of a container")
        paths = {"ping": "/_ping", "version": "/version"}
        if self.container is not None:
            paths["container"] = f"/containers/{self.container}/json"
        put(self, "requests", {phase: self._request(where + path) for phase, path in paths.items()})

    def _request(self, url: str) -> Request:
        return Request(
            url,
            deadline=self.deadline,
            follow_redirects=False,
            max_body=MAX_ANSWER,
            verify=self.verify,
            ca_file=self.ca_file,
            certificate=self.certificate,
            key=self.key,
            unix_socket=self.socket,
        )

    @property
    def asked(self) -> str:
        """The engine, and the container."""
        return f"docker {self.engine}{f' container {self.container}' if self.container else ''}"

    def journey(self, run: Run) -> Journey:
        """Ask whether it is there, what it is, and how the container is."""
        if self.socket is not None:
            _knock(run, self.socket)
        ping = yield from self._answer(run, "ping")
        if ping.status != 200 or ping.body != b"OK":
            raise run.fail(Reason.MALFORMED, f"/_ping was answered with {_gist(ping)}: no Docker engine speaks so")
        version = _read(run, (yield from self._answer(run, "version")))
        run.metrics[versioned("docker", str(version.get("Version", "")))] = 1
        run.note(f"Docker {version.get('Version', '')}")
        if self.container is None:
            return
        answer = yield from self._answer(run, "container")
        if answer.status == 404:
            sentence = f"the engine has no container {self.container}: docker ps -a shows those that it has"
            raise run.fail(Reason.UNKNOWN_CONTAINER, sentence)
        self._judge(run, _read(run, answer))

    def _answer(self, run: Run, phase: str) -> Generator[Any, Any, Answer]:
        began = time.monotonic()
        run.note(f"asking for the {phase}")
        try:
            answer = yield from journey(self.requests[phase], run.until, run.reach)
        except ProbeFailure as failure:
            if failure.certificate is not None:
                run.metrics["probe_ssl_earliest_cert_expiry"] = failure.certificate.not_after
            if failure.reason in TIMEOUTS.values():  # of all that was asked, not of this request
                raise ProbeFailure(failure.reason, "", failure.phase) from None
            raise
        run.phase = Phase.PROCESSING
        timed(run, "docker", phase, began)
        run.address = answer.remote_address if self.socket is None else ""
        if answer.certificate is not None:
            run.metrics["probe_ssl_earliest_cert_expiry"] = answer.certificate.not_after
        return answer

    def _judge(self, run: Run, told: Mapping[str, Any]) -> None:
        state = told.get("State")
        if not isinstance(state, dict) or "Status" not in state:
            raise run.fail(Reason.MALFORMED, "the engine tells no state of the container")
        status = str(state["Status"])
        health = state.get("Health") or {}
        healthy = health.get("Status") or "none"
        metrics = run.metrics
        metrics["probe_docker_container_running"] = int(status == "running")
        metrics["probe_docker_container_restarts"] = told.get("RestartCount", 0)
        for one in HEALTHS:
            metrics[labelled("probe_docker_container_health", [("status", one)])] = int(one == healthy)
        if status != "running":
            raise run.fail(Reason.NOT_RUNNING, f"the container is {status}{_ended(state)}: {self._advice(status)}")
        if healthy == "unhealthy":
            log = health.get("Log") or [{}]
            said = " ".join(str(log[-1].get("Output", "")).split())[:200]
            failing = f"its health check has failed {health.get('FailingStreak', '?')} times"
            raise run.fail(Reason.UNHEALTHY, f"the container is unhealthy: {failing}, the last said {said!r}")
        if healthy == "starting":
            raise run.fail(Reason.STARTING_UP, "the container runs, and its health check has not told of it yet")

    def _advice(self, status: str) -> str:
        if status == "paused":
            return f"docker unpause {self.container} lets it go on"
        return f"docker logs {self.container} says why, docker start {self.container} starts it"


def _knock(run: Run, path: str) -> None:
    """Raise ProbeFailure where there is no socket at *path*, or it is not for us."""
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        raise run.fail(Reason.NOT_PERMITTED, _not_ours(path)) from None
    except OSError as error:
        sentence = f"no engine listens at {path}: {error.strerror}: does it run, and is its socket mounted here?"
        raise run.fail(Reason.NOT_LISTENING, sentence) from None
    if not stat.S_ISSOCK(mode):
        raise run.fail(Reason.NOT_LISTENING, f"{path} is no socket: is the engine's own mounted here?")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise run.fail(Reason.NOT_PERMITTED, _not_ours(path))


def _not_ours(path: str) -> str:
    return f"not asked: {path} is closed to this user: add it to the socket's group (often docker), then log in again"


def _read(run: Run, answer: Answer) -> Mapping[str, Any]:
    """The JSON of *answer*."""
    if answer.status != 200:
        raise run.fail(Reason.STATUS, f"the engine answered with {_gist(answer)}")
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise run.fail(Reason.MALFORMED, f"the engine answered with {_gist(answer)}, and not with a JSON object")
    return told


def _gist(answer: Answer) -> str:
    return f"{answer.status} {answer.reason_phrase}, {' '.join(answer.text.split())[:100]!r}"


def _ended(state: Mapping[str, Any]) -> str:
    """How a container ended that has."""
    if state["Status"] != "exited":
        return ""
    memory = ", because it was out of memory" if state.get("OOMKilled") else ""
    return f" with code {state.get('ExitCode')}{memory}"
