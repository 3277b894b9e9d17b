"""Checks show the collector's token to the target, and to nobody else."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.conftest import Repo, Serve
from tests.waiting import eventually
from tests.watch.conftest import Watching, watching  # noqa: F401 - a fixture

CHECKS = """
async def test_awaited(http):
    assert (await http.get("/awaited")).status_code == 200

def test_target(http):
    assert http.get("/python").status_code == 200

def test_redirected(http):
    assert http.get("/away", follow_redirects=True).status_code == 200

def test_other(http):
    assert http.get("{other}/python").status_code == 200

def test_own(http):
    assert http.get("/own", headers={{"Authorization": "Bearer own"}}).status_code == 200
    assert http.get("/basic", auth=("me", "you")).status_code == 200
"""
YAML = """
checks:
  - {{name: target, url: /yaml, every: 1s}}
  - {{name: redirected, url: /away}}
  - {{name: other, url: "{other}/yaml"}}
  - {{name: own, url: /yaml-own, headers: {{Authorization: "Bearer own"}}}}
"""


@dataclass
class Hosts:
    """The target and another host: what each was asked, and the Authorization that it was shown."""

    target: str = ""
    other: str = ""
    shown: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {"target": [], "other": []})

    def of(self, name: str) -> dict[str, str]:
        return dict(self.shown[name])


@pytest.fixture
def hosts(serve: Serve, repo: Repo) -> Hosts:
    made = Hosts()

    def talk(name: str) -> Callable[[socket.socket], None]:
        def answer(connection: socket.socket) -> None:
            asked = connection.recv(65536).decode()
            path = asked.split()[1]
            found = re.search(r"^authorization: (.*)\r$", asked, re.IGNORECASE | re.MULTILINE)
            made.shown[name].append((path, found[1] if found else ""))
            leads = f"HTTP/1.1 302 Found\r\nLocation: {made.other}/led\r\n"
            status = leads if (name, path) == ("target", "/away") else "HTTP/1.1 200 OK\r\n"
            connection.sendall(f"{status}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())

        return answer

    made.target, made.other = serve(talk("target")), serve(talk("other"))
    repo.write("checks/test_a.py", CHECKS.format(other=made.other))
    repo.write("checks/a.yml", YAML.format(other=made.other))
    return made


@pytest.mark.parametrize("named", ["METRICS_TOKEN", "METRICS_TOKEN_FILE", "UPCHECK_METRICS_TOKEN_FILE"])
def test_the_target_alone_is_shown_the_token(
    repo: Repo, hosts: Hosts, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    repo.write("token", "secret-of-mine\n")
    monkeypatch.setenv(named, "secret-of-mine" if named == "METRICS_TOKEN" else "token")
    told = repo.pytest("--target", hosts.target)
    assert told.parseoutcomes().get("passed", 0) == 9, told.outlines
    ours = "Bearer secret-of-mine"
    assert hosts.of("target") == {
        "/awaited": ours, "/python": ours, "/yaml": ours, "/away": ours,
        "/own": "Bearer own", "/yaml-own": "Bearer own", "/basic": "Basic bWU6eW91",
    }  # fmt: skip
    assert hosts.of("other") == dict.fromkeys(("/python", "/yaml", "/led"), "")


def test_a_file_without_a_token_is_an_error_of_ours(repo: Repo, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN_FILE", "token")
    told = repo.pytest("--target", hosts.target)
    told.stdout.fnmatch_lines([f"*METRICS_TOKEN_FILE names {repo.path}/token, which is not there*"])
    assert "/python" not in hosts.of("target")
    assert "/yaml" not in hosts.of("target")


def test_the_watch_shows_it_too_and_a_new_one_without_a_restart(
    repo: Repo,
    hosts: Hosts,
    monkeypatch: pytest.MonkeyPatch,
    watching: Watching,  # noqa: F811
) -> None:
    monkeypatch.setenv("METRICS_TOKEN_FILE", "token")
    file = repo.write("token", "first")
    watch = watching("--target", hosts.target)
    watch.started()

    def awaited(token: str) -> None:
        shown = ("/yaml", f"Bearer {token}")
        eventually(lambda: shown in hosts.shown["target"], lambda: (hosts.shown, watch.errors.read_text()))

    awaited("first")
    file.write_text("second")
    awaited("second")
    assert watch.stop() == 0
    assert set(hosts.of("other").values()) <= {""}
