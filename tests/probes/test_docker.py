"""Docker: a real engine and its containers; fakes over a socket and over tcp for an engine that is bad."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Serve, answer
from tests.databases.engine import SECOND, container, host
from tests.databases.servers import NOBODY, folder, give_away
from tests.probes.conftest import Ask, Talk, failed, held, place, resets, says
from tests.waiting import eventually
from upcheck.probes import ProbeError, Reason
from upcheck.probes.docker import Docker
from upcheck.servers import free_port

if TYPE_CHECKING:
    from docker import DockerClient

VERSION = answer("200 OK", json.dumps({"Version": "20.10.24"}))


def at(name: str | None, **options: Any) -> Docker:
    return Docker(host(), container=name, **options)


def test_an_engine_that_is_well(docker_engine: DockerClient, ask: Ask) -> None:
    result = held(ask(at(None), log=True))
    version = docker_engine.version()["Version"]
    assert result.metrics[f'probe_docker_version_info{{version="{version}"}}'] == 1
    assert 0 < result.metrics['probe_docker_duration_seconds{phase="ping"}'] < result.duration
    assert result.log[-1][1] == f"Docker {version}"


def test_a_container_that_runs_and_one_that_does_not(docker_engine: DockerClient, busybox: str, ask: Ask) -> None:
    with container(docker_engine, busybox, "sleep", "600") as made:
        name = str(made.name)
        result = held(ask(at(name)))
        assert result.metrics["probe_docker_container_running"] == 1
        assert result.metrics["probe_docker_container_restarts"] == 0
        assert result.metrics['probe_docker_container_health{status="none"}'] == 1
        made.pause()
        paused = failed(ask(at(name)), Reason.NOT_RUNNING)
        assert paused.sentence == f"the container is paused: docker unpause {name} lets it go on"
        made.unpause()
        held(ask(at(name)))
        made.kill()
        made.wait()
        ended = failed(ask(at(name)), Reason.NOT_RUNNING)
        assert ended.sentence == (
            f"the container is exited with code 137: docker logs {name} says why, docker start {name} starts it"
        )
        assert ended.metrics["probe_docker_container_running"] == 0
        made.start()
        held(ask(at(name)))
    gone = failed(ask(at(name)), Reason.UNKNOWN_CONTAINER)
    assert gone.sentence == f"the engine has no container {name}: docker ps -a shows those that it has"


def test_a_container_s_health(docker_engine: DockerClient, busybox: str, ask: Ask) -> None:
    script = "[ -e /ok ] || { echo no /ok; exit 1; }"
    told = {"test": ["CMD", "/bin/busybox", "sh", "-c", script], "interval": SECOND, "retries": 1}
    with container(docker_engine, busybox, "sh", "-c", ": >/ok; exec sleep 600", healthcheck=told) as made:
        name = str(made.name)
        starting = failed(ask(at(name)), Reason.STARTING_UP)
        assert starting.sentence == "the container runs, and its health check has not told of it yet"
        eventually(lambda: ask(at(name)).success)
        made.exec_run(["/bin/busybox", "rm", "/ok"])
        eventually(lambda: not ask(at(name)).success)
        result = failed(ask(at(name)), Reason.UNHEALTHY)
        assert result.sentence.startswith("the container is unhealthy: its health check has failed ")
        assert result.sentence.endswith(" times, the last said 'no /ok'")
        assert result.metrics['probe_docker_container_health{status="unhealthy"}'] == 1
        assert result.metrics['probe_docker_container_health{status="healthy"}'] == 0
        made.exec_run(["/bin/busybox", "touch", "/ok"])
        eventually(lambda: ask(at(name)).success)


# ---- the socket ----


@contextlib.contextmanager
def listening(path: Path, talk: Talk) -> Iterator[None]:
    """A fake engine at *path*: a real one can't be had on every machine, and must not be broken where it can."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        talk(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            path.unlink()


def replies(**answers: Talk) -> Talk:
    """Answers `/_ping`, `/version` and `/containers/...` each with one of *answers*."""

    def talk(connection: socket.socket) -> None:
        path = connection.recv(65536, socket.MSG_PEEK).split(b" ")[1].decode()
        answers.get(path.strip("/_").partition("/")[0], answer("200 OK", "OK"))(connection)

    return talk


@pytest.fixture
def home() -> Iterator[Path]:
    with folder("docker") as path:
        yield path


def test_an_engine_at_a_socket(home: Path, ask: Ask) -> None:
    state = {"State": {"Status": "running", "Health": {"Status": "healthy"}}, "RestartCount": 2}
    path = home / "docker.sock"
    with listening(path, replies(version=VERSION, containers=answer("200 OK", json.dumps(state)))):
        result = held(ask(Docker(f"unix://{path}", container="web")))
    assert result.metrics["probe_docker_container_restarts"] == 2
    assert result.metrics['probe_docker_version_info{version="20.10.24"}'] == 1
    gone = failed(ask(Docker(f"unix://{path}")), Reason.NOT_LISTENING)
    assert gone.sentence == (
        f"no engine listens at {path}: No such file or directory: does it run, and is its socket mounted here?"
    )


def test_a_socket_that_nobody_listens_at(home: Path, ask: Ask) -> None:
    path = home / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert failed(ask(Docker(f"unix://{path}")), Reason.CONNECTION_REFUSED).sentence == "Connection refused"
    plain = home / "file"
    plain.write_text("")
    result = failed(ask(Docker(f"unix://{plain}")), Reason.NOT_LISTENING)
    assert result.sentence == f"{plain} is no socket: is the engine's own mounted here?"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be somebody to whom a socket can be closed."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_that_is_closed_to_us(home: Path, ask: Ask) -> None:
    path = home / "docker.sock"
    with listening(path, replies(version=VERSION)):
        path.chmod(0)
        with as_nobody():
            result = failed(ask(Docker(f"unix://{path}")), Reason.NOT_PERMITTED)
        path.chmod(0o600)
        give_away(path)
        with as_nobody():
            held(ask(Docker(f"unix://{path}")))
        home.chmod(0)
        with as_nobody():
            hidden = failed(ask(Docker(f"unix://{path}")), Reason.NOT_PERMITTED)
        home.chmod(0o700)
    assert result.reason is not None
    assert result.reason.ours
    assert (
        result.sentence
        == hidden.sentence
        == (f"not asked: {path} is closed to this user: add it to the socket's group (often docker), then log in again")
    )


# ---- an engine that is bad ----


def state(**of: Any) -> Talk:
    return answer("200 OK", json.dumps({"State": of}))


def drips(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
    for _ in range(60):
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answers", "reason", "words"),
    [
        ({"ping": says(then=1)}, Reason.TIMEOUT, "no complete answer within 0.4 s (waiting for the answer"),
        ({"version": drips}, Reason.TIMEOUT, "no complete answer within 0.4 s (reading the body"),
        ({"ping": resets()}, Reason.RESET, "Connection reset by peer"),
        (
            {"ping": answer("200 OK", "<html>")},
            Reason.MALFORMED,
            "/_ping was answered with 200 OK, '<html>': no",
        ),
        ({"ping": answer("403 Forbidden", "no")}, Reason.MALFORMED, "/_ping was answered with 403 Forbidden, 'no'"),
        ({"version": answer("200 OK", "[1]")}, Reason.MALFORMED, "200 OK, '[1]', and not with a JSON object"),
        ({"version": answer("200 OK", "{")}, Reason.MALFORMED, "200 OK, '{', and not with a JSON object"),
        (
            {"containers": answer("500 Internal Server Error", '{"message":"disk"}')},
            Reason.STATUS,
            'the engine answered with 500 Internal Server Error, \'{"message":"disk"}\'',
        ),
        ({"containers": answer("200 OK", "{}")}, Reason.MALFORMED, "the engine tells no state of the container"),
        ({"containers": answer("200 OK", "x" * 1100000)}, Reason.BODY_TOO_LARGE, "a body of more than 1,048,576 bytes"),
        (
            {"containers": state(Status="exited", ExitCode=137, OOMKilled=True)},
            Reason.NOT_RUNNING,
            "the container is exited with code 137, because it was out of memory: docker logs web says why",
        ),
        (
            {"containers": state(Status="restarting")},
            Reason.NOT_RUNNING,
            "the container is restarting: docker logs",
        ),
    ],
)
def test_an_engine_that_is_bad(
    serve: Serve, ask: Ask, answers: dict[str, Callable[[socket.socket], None]], reason: Reason, words: str
) -> None:
    where = place(serve(replies(**{"version": VERSION, **answers})))
    began = time.monotonic()
    result = failed(ask(Docker(f"tcp://{where}", container="web", deadline=0.4)), reason)
    assert words in result.sentence
    assert time.monotonic() - began < 1.5


def test_over_tcp(serve: Serve, serve_tls: Callable[..., str], ask: Ask, trusted: str) -> None:
    result = held(ask(Docker(f"tcp://{place(serve(replies(version=VERSION)))}")))
    assert result.address == "127.0.0.1"
    secured = serve_tls(replies_secured)
    result = held(ask(Docker(f"tcp://{secured}", tls=True, ca_file=trusted)))
    assert result.certificate_expiry is not None
    expired = serve_tls(replies_secured, "expired")
    result = failed(ask(Docker(f"tcp://{expired}", tls=True, ca_file=trusted)), Reason.CERTIFICATE_EXPIRED)
    assert result.certificate_expiry is not None
    failed(ask(Docker(f"tcp://127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)


def replies_secured(connection: socket.socket) -> None:
    """As `replies`, over TLS, where nothing can be peeked at."""
    path = connection.recv(65536).partition(b" ")[2].partition(b" ")[0]
    body = b"OK" if path == b"/_ping" else b'{"Version": "20.10.24"}'
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("/var/run/docker.sock", {}, "engine: expected unix:///var/run/docker.sock or tcp://host:2375, not '/var/run"),
        ("unix://docker.sock", {}, "engine: expected unix:///var/run/docker.sock"),
        ("http://build:2375", {}, "engine: expected unix:///var/run/docker.sock or tcp://host:2375, not 'http"),
        ("tcp://build", {}, "'build': expected a host and a port"),
        ("unix:///docker.sock", {"container": "../images"}, "container: '../images' is no name of a container"),
        ("unix:///docker.sock", {"tls": True}, "tls: a unix socket speaks none: leave it out"),
    ],
)
def test_what_can_t_be_meant(engine: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Docker(engine, **options)
    assert words in str(caught.value)


def test_it_says_what_is_asked() -> None:
    assert Docker("unix:///docker.sock", container="web").asked == "docker unix:///docker.sock container web"
