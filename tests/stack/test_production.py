"""docs/production.md: its commands are run, over real TLS, through a real nginx, and on a machine that was lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.databases import packages
from tests.databases.servers import Server, folder, give_away, listens
from tests.stack.conftest import Repo, made
from tests.stack.test_backup import silenced, silences
from tests.stack.test_more_than_one import AGAIN
from tests.stack.test_stack import asked_up
from tests.test_docs import BLOCK, blocks
from tests.waiting import eventually
from upcheck import tools
from upcheck.history.schema import VERSION
from upcheck.servers import free_port
from upcheck.settings import Settings
from upcheck.stack.services import BINARIES, PORTS

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/production.md"
NOT_RUN = re.compile(r"^\(not run by a test: [^)]+\)\n\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(beginning: str, language: str = "sh") -> str:
    """The block of the page that begins so."""
    (found,) = [text for text in blocks(PAGE, language) if text.startswith(beginning)]
    return found


UNITS = Path("/etc/systemd/system")


def started_by(name: str) -> str:
    """The command of the unit upcheck-*name*, in a line."""
    unit = block(f"# {UNITS}/upcheck-{name}.service", "ini").replace("\\\n", "")
    (line,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    return str(line)


def test_each_command_is_run_by_a_test_or_says_that_it_is_not() -> None:
    commands = [text for _, kind, text in BLOCK.findall(PAGE.read_text()) if kind == "sh"]
    run = re.findall(r'block\("([^"]+)"\)', Path(__file__).read_text())
    marked = NOT_RUN.findall(PAGE.read_text())
    assert commands
    for text in commands:
        assert (text in marked) != any(text.startswith(beginning) for beginning in run), text


def test_room_on_the_disk_is_what_the_formula_comes_to() -> None:
    text = PAGE.read_text()
    bytes_of_a_sample = float(text.partition("A sample is ")[2].split()[0])
    heading, _, *rows = text.partition("| series | ")[2].partition("\n\n")[0].splitlines()
    days = [int(cell.split()[0]) for cell in heading.strip(" |").split("|")]
    for row in rows:
        series, *told = (cell.strip() for cell in row.strip("|").split("|"))
        for many, cell in zip(days, told, strict=True):
            gigabytes = int(series.replace(",", "")) * many * 86400 / 15 * bytes_of_a_sample / 1e9
            assert cell == f"{gigabytes:.2g} GB", row


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
    def serving(self, lines: Sequence[str], ports: Sequence[int]) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Run each of *lines* until the end of the block; all *ports* are listened on."""
        processes = []
        with contextlib.ExitStack() as running, (self.path / "log").open("ab") as log:
            for line in lines:
                argv = shlex.split(self.typed(line))
                argv[0] = shutil.which(argv[0], path=self.environ["PATH"]) or argv[0]
                process = subprocess.Popen(argv, cwd=self.path, env=self.environ, stdout=log, stderr=log)
                running.callback(process.wait, 10)
                running.callback(process.terminate)
                processes.append(process)
            eventually(lambda: all(map(listens, ports)), (self.path / "log").read_text)
            yield processes


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
    """A machine with all that ships for monitoring, on which the commands for TLS and passwords were typed."""
    path = tmp_path_factory.mktemp("secured")
    numbers = {name: free_port() for name in PORTS}
    ports = {PORTS[name]: ours for name, ours in numbers.items()} | {port: free_port() for port in (3001, 443)}
    places = {f"{host}:{one}": f"127.0.0.1:{ours}" for one, ours in ports.items() for host in ("10.0.0.1", "127.0.0.1")}
    places |= {"10.0.0.1": "127.0.0.1", "listen 443": f"listen 127.0.0.1:{ports[443]}", "/etc/upcheck": f"{path}/etc"}
    places |= dict.fromkeys(("/srv/monitoring/.venv/bin", "/srv/monitoring/.tools"), f"{path}/bin")
    places |= {"/srv/monitoring": f"{path}/home", "/tmp/by-hand": f"{path}/by-hand"}
    given = environ(path)
    (path / "etc").mkdir()
    (path / "home").mkdir()
    machine = Machine(made(path / "home", numbers).path, places, given)
    assert "SUCCESS" in machine.run(block("cd /etc/upcheck"))
    return machine


def port(machine: Machine, documented: int) -> int:
    """Ours for the *documented* port."""
    return int(machine.places[f"127.0.0.1:{documented}"].rpartition(":")[2])


def keys(machine: Machine) -> Path:
    """Ours for /etc/upcheck."""
    return Path(machine.places["/etc/upcheck"])


def client(machine: Machine, user: str = "") -> httpx.Client:
    """Who trusts the authority of the page, and has the password where it has a *user*."""
    context = ssl.create_default_context(cafile=keys(machine) / "ca.crt")
    password = (keys(machine) / "password").read_text().strip()
    return httpx.Client(verify=context, auth=(user, password) if user else None, trust_env=False)


def configured(machine: Machine) -> Path:
    """What ships, with the page's lines in the place of its own; the path of prometheus.yml."""
    prometheus = machine.path / "monitoring/prometheus/prometheus.yml"
    wanted = yaml.safe_load(prometheus.read_text()) | yaml.safe_load(machine.typed(block("scrape_configs:", "")))
    prometheus.write_text(yaml.safe_dump(wanted))
    alertmanager = machine.path / "monitoring/alertmanager/alertmanager.yml"
    wanted = yaml.safe_load(alertmanager.read_text())
    (told,) = yaml.safe_load(machine.typed(block("receivers:", "")))["receivers"]
    wanted["receivers"] = [one for one in wanted["receivers"] if one["name"] != told["name"]] + [told]
    alertmanager.write_text(yaml.safe_dump(wanted))
    return prometheus


WRONG = {  # of the page's jobs the number, the line that is left out, and what comes of it
    "without a password": (0, "basic_auth", "server returned HTTP status 401 Unauthorized"),
    "without https": (1, "scheme", "server returned HTTP status 400 Bad Request"),
    "of the collector, without https": (0, "scheme", "EOF"),
}


def add_wrong_jobs(prometheus: Path) -> None:
    wanted = yaml.safe_load(prometheus.read_text())
    for name, (number, left_out, _) in WRONG.items():
        job = {key: value for key, value in wanted["scrape_configs"][number].items() if key != left_out}
        wanted["scrape_configs"].append({**job, "job_name": name})
    prometheus.write_text(yaml.safe_dump(wanted))


def test_over_tls_each_asks_for_the_password_and_prometheus_has_it(secured: Machine) -> None:
    home = secured.path
    others = {one.name: one.stat().st_mode & 0o077 for one in keys(secured).iterdir()}
    assert others.pop("ca.key") == 0
    assert set(others.values()) == {0o040}
    prometheus = configured(secured)
    lines = [
        f"{started_by('prometheus')} {AGAIN}", started_by("alertmanager"),
        f"{started_by('collector')} --port {port(secured, 9909)}",
    ]  # fmt: skip
    ports = {name: port(secured, one) for name, one in (("p", 9090), ("a", 9093), ("c", 9909))}
    with (
        secured.serving(lines, list(ports.values())) as (server, *_),
        client(secured) as stranger, client(secured, "prometheus") as us,
    ):  # fmt: skip
        for one, path in zip(ports.values(), ("/-/ready", "/-/ready", "/metrics"), strict=True):
            assert stranger.get(f"https://127.0.0.1:{one}{path}").status_code == 401
        eventually(
            lambda: us.get(f"https://127.0.0.1:{ports['p']}/-/ready").status_code == 200, (home / "log").read_text
        )

        def asked(path: str) -> Any:
            return us.get(f"https://127.0.0.1:{ports['p']}/api/v1/{path}").json()["data"]

        def health() -> dict[str, tuple[str, str]]:
            return {
                one["labels"]["job"]: (one["health"], one["lastError"].rpartition(": ")[2])
                for one in asked("targets")["activeTargets"]
            }

        well = dict.fromkeys(("collector", "prometheus", "alertmanager"), ("up", ""))
        eventually(lambda: health() == well, health)
        eventually((home / ".upcheck/push/watchdog.json").exists, (home / "log").read_text)
        eventually(
            lambda: asked("query?query=instance:node_memory_utilisation:ratio")["result"], lambda: asked("rules")
        )
        assert "17 held" in secured.run(block("cd /srv/monitoring"))
        reported = [line for line in block("curl -fsS -H", "").splitlines() if "--cacert" in line]
        secured.run("\n".join(reported))
        assert (home / ".upcheck/push/backup.json").exists()
        page = us.get(f"https://127.0.0.1:{ports['p']}/metrics").text
        assert set(re.findall(r"prometheus_\w+", block("prometheus_tsdb_head_series", ""))) <= set(
            re.findall(r"\w+", page)
        )

        add_wrong_jobs(prometheus)
        server.send_signal(signal.SIGHUP)
        refused = {name: ("down", sentence) for name, (_, _, sentence) in WRONG.items()}
        eventually(lambda: health() == well | refused, health)


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
            shutil.copyfile(keys(secured) / name, home / name)
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
        eventually(lambda: through(proxy, us, "grafana.example.com").status_code == 200, proxy.log.read_text)
        heard = through(proxy, us, "grafana.example.com", "/d/1?a=b").json()
        assert (heard["path"], heard["host"]) == ("/d/1?a=b", "grafana.example.com")
        assert "authorization" not in heard
        assert through(proxy, stranger, "grafana.example.com", "/alive").json()["path"] == "/live"
    with client(secured, "me") as us, pytest.raises(httpx.ConnectError, match=r"(?i)unrecognized.name"):
        through(proxy, us, "other.example.com")


def test_by_paths_of_one_name_links_lead_through_the_proxy(secured: Machine, proxy: Server) -> None:
    (secured.path / "monitoring/alertmanager/alertmanager.yml").write_text(ALONE)
    (secured.path / "monitoring/prometheus/prometheus.yml").write_text("{}")
    flags = block("--web.listen-address", "").splitlines()
    lines = [
        re.sub(r"--web\.(listen-address|config\.file)=\S+", "", started_by(name)) + flag
        for name, flag in zip(("prometheus", "alertmanager"), flags, strict=True)
    ]
    ports = [port(secured, one) for one in (9090, 9093)]
    with secured.serving(lines, ports), client(secured) as stranger, client(secured, "me") as us:
        for name in ("prometheus", "alertmanager"):
            for path in ("-/ready", "metrics"):
                assert through(proxy, stranger, "monitoring.example.com", f"/{name}/{path}").status_code == 401
                eventually(
                    lambda: through(proxy, us, "monitoring.example.com", f"/{name}/{path}").status_code == 200,  # noqa: B023
                    (secured.path / "log").read_text,
                )
        told = through(proxy, us, "monitoring.example.com", "/prometheus/api/v1/status/flags").json()["data"]
        assert told["web.external-url"] == "https://monitoring.example.com/prometheus/"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Repo]]:
    """A machine whose stack does not run yet, and the repo that Git has of it."""
    tools.ensure((*BINARIES, "amtool"), Settings.load(ROOT, {}))
    path = tmp_path_factory.mktemp("machine")
    (path / "home/monitoring").mkdir(parents=True)
    (path / "mnt/secrets").mkdir(parents=True)
    (path / "mnt/secrets/slack-url").write_text("https://hooks.example.com/a")
    repo = made(path / "home/monitoring", {name: free_port() for name in PORTS})
    shutil.copyfile(ROOT / ".gitignore", repo.path / ".gitignore")
    # It stands for ours, which takes packages from a registry: from then on, `upcheck` is in .venv alone.
    (repo.path / "Makefile").write_text(f"tools:\n\t@mkdir -p .venv/bin && mv {path}/bin/upcheck .venv/bin/\n")
    places = {"/mnt": str(path / "mnt"), "https://git.example.com/monitoring.git": str(path / "git")}
    there = Machine(repo.path, places, environ(path))
    git = f"git -c user.name=a -c user.email=a@example.com -c init.defaultBranch=main -C {shlex.quote(str(repo.path))}"
    there.run(f"{git} init -q && {git} add . && {git} commit -qm all && git clone -q --bare . {path / 'git'}")
    try:
        yield there, repo
    finally:
        if repo.path.is_dir():
            repo.upcheck("stop")


def test_the_way_back_from_an_upgrade_and_from_a_lost_machine(machine: tuple[Machine, Repo]) -> None:
    there, repo = machine
    assert "proven" in there.run(block("upcheck check"))
    silenced(repo.url("alertmanager"), "kept")
    eventually(lambda: asked_up(repo), lambda: "no sample")
    eventually(lambda: "alive" in there.run("upcheck history"), lambda: there.run("upcheck history"))
    there.run(block("upcheck stack backup"))
    at = time.time()
    stop, restore = block("upcheck stack stop").splitlines()
    there.run(stop)

    history = Settings.load(repo.path, {}).history
    with contextlib.closing(sqlite3.connect(history)) as newer:
        newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    left = history.read_bytes()
    assert "written by a newer upcheck" in there.run("upcheck history 2>&1 || true")
    assert history.read_bytes() == left
    told = there.run(restore)
    (aside,) = repo.record.folder.glob("before-*")
    assert str(aside) in told
    assert "alive" in there.run("upcheck history")

    kept = Path(there.typed("/mnt/backup/monitoring.tar.gz"))
    kept.parent.mkdir()
    assert not there.run("git status --porcelain"), "neither the backup nor what is kept is for Git"
    (repo.path / "before-upgrade.tar.gz").rename(kept)
    shutil.rmtree(repo.path)
    new = dataclasses.replace(there, path=repo.path.parent)
    told = new.run(block("git clone"))
    assert "slack-url" not in told.partition("missing")[2], "its secret is there"
    assert silences(repo.url("alertmanager")) == {"kept"}
    assert asked_up(repo, time=str(at)), "what was scraped before the machine was lost"
    assert "alive" in there.run(".venv/bin/upcheck history")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for text in blocks(PAGE, "ini"):
        unit = tmp_path / Path(text.partition("\n")[0].removeprefix("# ")).relative_to(UNITS)
        unit.parent.mkdir(exist_ok=True)
        unit.write_text(re.sub(r"/srv/monitoring/\.(venv/bin|tools)/\w+", str(program), text))
    units = sorted(tmp_path.glob("*.service"))
    names = ("alertmanager", "collector", "prometheus", "stack", "watch")
    assert [unit.name for unit in units] == [f"upcheck-{name}.service" for name in names]
    assert [one.name for one in tmp_path.glob("*.service.d/*")] == ["all.conf"]
    for unit in units:
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
