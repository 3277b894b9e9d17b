"""Real parts for the tests: tools, servers that are good and bad, a monitoring repo to run."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from upcheck import tools
from upcheck.settings import Settings

pytest_plugins = ["pytester", "tests.databases"]

ROOT = Path(__file__).parents[1]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the tools before any test looks for them: which worker is the first to need one is chance."""
    if not hasattr(session.config, "workerinput"):
        with contextlib.suppress(tools.ToolError):  # each test that needs one will say so
            tools.ensure(("promtool", "amtool", "prometheus", "alertmanager"), Settings.load(ROOT))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes half a minute or more, and is begun before what does not")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what is slow begin first, so that no worker is left alone with it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# Plugins that only these tests have take two thirds of the CPU of a short run of pytest, and there are hundreds.
FEW_PLUGINS = "-p no:hypothesispytest -p no:anyio"


@pytest.fixture(scope="session", autouse=True)
def few_plugins() -> Iterator[None]:
    """Have the runs of pytest that tests start do without plugins that they don't need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_ADDOPTS", FEW_PLUGINS)
        yield


@pytest.fixture(scope="session")
def tool_paths() -> dict[str, Path]:
    """The real binaries, provided where this machine has none."""
    names = ("promtool", "amtool", "prometheus", "alertmanager")
    return {name: tool.path for name, tool in tools.ensure(names, Settings.load(ROOT)).items()}


@pytest.fixture(scope="session")
def promtool_path(tool_paths: dict[str, Path]) -> Path:
    return tool_paths["promtool"]


@pytest.fixture(scope="session")
def node_exporter_path() -> Path:
    return tools.ensure(["node_exporter"], Settings.load(ROOT))["node_exporter"].path


Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(talk)` listens on a free port and calls *talk* with each connection in a thread; the base URL."""
    with contextlib.ExitStack() as stack:

        def start(talk: Callable[[socket.socket], None]) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        threading.Thread(target=handle, args=(connection,), daemon=True).start()

            def handle(connection: socket.socket) -> None:
                with connection, contextlib.suppress(OSError):
                    talk(connection)

            threading.Thread(target=accept, daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


def answer(status: str = "200 OK", body: str = "", *headers: str) -> Callable[[socket.socket], None]:
    """A talk that reads a request and answers it once."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close", *headers, "", body]

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall("\r\n".join(lines).encode())

    return talk


class Repo:
    """A monitoring repo in a folder of its own, whose pytest runs in a process of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.write("pyproject.toml", '[tool.upcheck]\n\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
        for folder in ("checks", "rules_tests", "monitoring"):
            (self.path / folder).mkdir()

    def write(self, name: str, text: str) -> Path:
        """Write *text* into the file *name* of the repo."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def pytest(self, *arguments: str) -> pytest.RunResult:
        """Run pytest over the repo's checks, rule tests and configurations."""
        return self.pytester.runpytest_subprocess("checks", "rules_tests", "monitoring", *arguments, timeout=60)


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Repo:
    for name in ("UPCHECK_TARGET", "UPCHECK_HISTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UPCHECK_TOOLS", str(ROOT / ".tools"))
    monkeypatch.setenv("PYTEST_ADDOPTS", FEW_PLUGINS)  # pytester takes it away
    return Repo(pytester)
