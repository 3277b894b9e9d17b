"""docs/production.md: its commands are run, over real TLS, through a real nginx, and on a machine that was lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.databases import packages
from tests.databases.servers import Server, folder, give_away, listens
from tests.stack.test_more_than_one import AGAIN, until
from tests.test_docs import BLOCK, blocks
from upcheck import tools
from upcheck.servers import free_port
from upcheck.settings import Settings

PAGE = ROOT / "docs/production.md"
NOT_RUN = re.compile(r"^\(not run by a test: [^)]+\)\n\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(beginning: str, language: str = "sh") -> str:
    """The block of the page that begins so."""
    (found,) = [text for text in blocks(PAGE, language) if text.startswith(beginning)]
    return found


def test_each_command_is_run_by_a_test_or_says_that_it_is_not() -> None:
    commands = [text for _, kind, text in BLOCK.findall(PAGE.read_text()) if kind == "sh"]
    run = re.findall(r'block\("([^"]+)"\)', Path(__file__).read_text())
    marked = NOT_RUN.findall(PAGE.read_text())
    assert commands
    for text in commands:
        assert (text in marked) != any(text.startswith(beginning) for beginning in run), text


@dataclass(frozen=True, slots=True)
class Machine:
    """A folder in which the commands of the page run, on ports of the loopback in the place of its addresses."""

    path: Path
    places: Mapping[str, str]
    environ: Mapping[str, str]

    def typed(self, text: str) -> str:
        """*text* with our places."""
        for documented, ours in self.places.items():
            text = text.replace(documented, ours)
        return text

    def run(self, commands: str) -> str:
        """What *commands* print. They have to end well."""
        argv = ["bash", "-euo", "pipefail", "-c", self.typed(commands)]
        done = subprocess.run(argv, cwd=self.path, env=self.environ, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def serving(self, lines: Sequence[str], ports: Sequence[int]) -> Iterator[None]:
        """Run each of *lines* until the end of the block; all *ports* are listened on."""
        with contextlib.ExitStack() as running, (self.path / "log").open("ab") as log:
            for line in lines:
                argv = shlex.split(self.typed(line))
                argv[0] = shutil.which(argv[0], path=self.environ["PATH"]) or argv[0]
                process = subprocess.Popen(argv, cwd=self.path, env=self.environ, stdout=log, stderr=log)
                running.callback(process.wait, 10)
                running.callback(process.terminate)
            until(lambda: all(map(listens, ports)), (self.path / "log").read_text)
            yield


ALONE = "{route: {receiver: nobody}, receivers: [{name: nobody}]}"
PROGRAMS = ("prometheus", "alertmanager", "promtool")


def environ(path: Path) -> dict[str, str]:
    """An environment in which `upcheck`, `python` and the tools are ours."""
    (path / "bin").mkdir(parents=True)
    found = tools.ensure(PROGRAMS, Settings.load(ROOT, {}))
    for name, tool in found.items():
        (path / "bin" / name).symlink_to(tool.path)
    for name, argument in (("python", ""), ("upcheck", "-m upcheck.cli ")):
        (path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {argument}"$@"\n')
        (path / "bin" / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UPCHECK_", "METRICS_"))}
    return {**kept, "PATH": f"{path / 'bin'}:{kept['PATH']}", "UPCHECK_TOOLS": str(ROOT / ".tools")}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which the commands for TLS and passwords were typed."""
    path = tmp_path_factory.mktemp("secured")
    ports = {port: free_port() for port in (9090, 9093, 9909, 3001, 443)}
    places = {f"{host}:{one}": f"127.0.0.1:{ours}" for one, ours in ports.items() for host in ("10.0.0.1", "127.0.0.1")}
    places |= {"10.0.0.1": "127.0.0.1", "listen 443": f"listen 127.0.0.1:{ports[443]}"}
    made = Machine(path / "home", places, environ(path))
    made.path.mkdir()
    assert "SUCCESS" in made.run(block("umask 077"))
    return made


def port(machine: Machine, documented: int) -> int:
    """Ours for the *documented* port."""
    return int(machine.places[f"127.0.0.1:{documented}"].rpartition(":")[2])


def client(machine: Machine, user: str = "") -> httpx.Client:
    """Who trusts the authority of the page, and has the password where it has a *user*."""
    context = ssl.create_default_context(cafile=machine.path / "ca.crt")
    password = (machine.path / "password").read_text()
    return httpx.Client(verify=context, auth=(user, password) if user else None, trust_env=False)


def test_over_tls_each_asks_for_the_password_and_prometheus_has_it(secured: Machine) -> None:
    home = secured.path
    assert {one.stat().st_mode & 0o077 for one in home.iterdir()} == {0}
    shutil.copyfile(ROOT / "collector.py", home / "collector.py")
    (home / "alertmanager.yml").write_text(ALONE)
    made = yaml.safe_load(secured.typed(block("scrape_configs:", "")))
    wrong = {**made["scrape_configs"][0], "job_name": "without a password"}
    del wrong["basic_auth"]
    made["scrape_configs"].append(wrong)
    (home / "rules.yml").write_text("groups: [{name: g, interval: 1s, rules: [{alert: Told, expr: vector(1)}]}]")
    made |= {"rule_files": ["rules.yml"], "global": {"scrape_interval": "1s"}}
    (home / "prometheus.yml").write_text(yaml.safe_dump(made))
    lines = block("python collector.py").splitlines()
    lines = [line if not line.startswith("python") else f"{line} --port {port(secured, 9909)}" for line in lines]
    lines = [line if not line.startswith("prometheus") else f"{line} {AGAIN}" for line in lines]
    ports = {name: port(secured, one) for name, one in (("p", 9090), ("a", 9093), ("c", 9909))}
    with secured.serving(lines, list(ports.values())), client(secured) as stranger, client(secured, "prometheus") as us:
        for one, path in zip(ports.values(), ("/-/ready", "/-/ready", "/metrics"), strict=True):
            assert stranger.get(f"https://127.0.0.1:{one}{path}").status_code == 401
        until(lambda: us.get(f"https://127.0.0.1:{ports['p']}/-/ready").status_code == 200, (home / "log").read_text)

        def health() -> dict[str, tuple[str, str]]:
            answer = us.get(f"https://127.0.0.1:{ports['p']}/api/v1/targets").json()
            return {one["labels"]["job"]: (one["health"], one["lastError"]) for one in answer["data"]["activeTargets"]}

        expected = {
            "collector": ("up", ""),
            "without a password": ("down", "server returned HTTP status 401 Unauthorized"),
        }
        until(lambda: health() == expected, health)
        until(lambda: us.get(f"https://127.0.0.1:{ports['a']}/api/v2/alerts").json(), lambda: "no alert")


@pytest.fixture(scope="module")
def proxy(secured: Machine) -> Iterator[Server]:
    """Debian's nginx with the page's configuration, for both ways to name what is behind."""
    programs = packages.programs("nginx")
    secured.run(block("printf 'me:"))
    site = secured.typed(block("map ", "nginx"))
    paths = secured.typed(block("location /prometheus/", "nginx"))
    site = site.replace("    location / {", f"{paths}    location / {{").replace(
        "server_name ", "server_name monitoring.example.com "
    )
    with folder("nginx") as home:
        for name in ("htpasswd", "server.crt", "server.key"):
            shutil.copyfile(secured.path / name, home / name)
        scratch = "".join(
            f"{one}_temp_path {home}/{one};" for one in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        )
        text = f"daemon off; pid {home}/pid; events {{}} http {{ access_log off; {scratch}\n{site} }}\n"
        (home / "nginx.conf").write_text(text.replace("/etc/nginx/", f"{home}/"))
        give_away(home)
        server = Server(
            programs, [programs["nginx"], "-e", "stderr", "-c", f"{home}/nginx.conf"], port(secured, 443), home
        )
        try:
            server.start(lambda: listens(server.port))
            yield server
        finally:
            server.stop()


class Echo(BaseHTTPRequestHandler):
    """Stands for Grafana, which Debian does not have, and for the collector: says what it was asked."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path} | {name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def echo(at: int) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", at), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def through(proxy: Server, who: httpx.Client, host: str, path: str = "/") -> httpx.Response:
    """What *who* gets from *host* by the proxy."""
    url = f"https://127.0.0.1:{proxy.port}{path}"
    return who.get(url, headers={"Host": host}, extensions={"sni_hostname": host})


def test_who_has_the_password_gets_through_the_proxy_and_it_goes_no_further(secured: Machine, proxy: Server) -> None:
    with (
        echo(port(secured, 3001)), echo(port(secured, 9909)),
        client(secured) as stranger, client(secured, "me") as us, client(secured, "you") as other,
    ):  # fmt: skip
        for who in (stranger, other):
            assert through(proxy, who, "grafana.example.com").status_code == 401
        heard = through(proxy, us, "grafana.example.com", "/d/1?a=b").json()
        assert (heard["path"], heard["host"]) == ("/d/1?a=b", "grafana.example.com")
        assert "authorization" not in heard
        assert through(proxy, stranger, "grafana.example.com", "/alive").json()["path"] == "/live"
    with client(secured, "me") as us, pytest.raises(httpx.ConnectError, match=r"(?i)unrecognized.name"):
        through(proxy, us, "other.example.com")


def test_by_paths_of_one_name_links_lead_through_the_proxy(secured: Machine, proxy: Server) -> None:
    (secured.path / "alertmanager.yml").write_text(ALONE)
    (secured.path / "prometheus.yml").write_text("{}")
    lines = block("prometheus --config").replace("\\\n", "").splitlines()
    ports = [port(secured, one) for one in (9090, 9093)]
    with secured.serving(lines, ports), client(secured) as stranger, client(secured, "me") as us:
        for name in ("prometheus", "alertmanager"):
            for path in ("-/ready", "metrics"):
                assert through(proxy, stranger, "monitoring.example.com", f"/{name}/{path}").status_code == 401
                until(
                    lambda: through(proxy, us, "monitoring.example.com", f"/{name}/{path}").status_code == 200,  # noqa: B023
                    (secured.path / "log").read_text,
                )
        flags = through(proxy, us, "monitoring.example.com", "/prometheus/api/v1/status/flags").json()["data"]
        assert flags["web.external-url"] == "https://monitoring.example.com/prometheus/"
