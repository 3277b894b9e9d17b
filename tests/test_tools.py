"""Finding and providing the real binaries: real apt, a real Docker engine, a release on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pwd
import select
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from upcheck import tools
from upcheck.settings import Settings
from upcheck.tools import FEATURES, NAMES, PRODUCTS, Tool, ToolError, Version, products, ways

if TYPE_CHECKING:
    from docker import DockerClient

PROMETHEUS = PRODUCTS[0]
HERE = os.uname()
STEM = PROMETHEUS.archive(HERE.sysname, HERE.machine)
FOLDER = f"/prometheus/releases/download/v{PROMETHEUS.release}"
SUMS, ARCHIVE = f"{FOLDER}/sha256sums.txt", f"{FOLDER}/{STEM}.tar.gz"
REALLY_SAID = """\
{name}, version {version} (branch: debian/sid, revision: 2.42.0+ds-5+deb12u1)
  build user:       someone@example.org
  go version:       go1.19.8
"""


def program(path: Path, version: str = "3.13.3", *, name: str | None = None, then: str = "") -> Path:
    """An executable that answers `--version` as Prometheus's do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = REALLY_SAID.format(name=name or path.name, version=version)
    path.write_text(f"#!/bin/sh\n{then}\ncat <<'END'\n{said}END\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(tmp_path, {})


# ---- finding ----


def test_a_variable_wins_over_path_and_path_over_the_tools_folder(settings: Settings, tmp_path: Path) -> None:
    chosen, on_path = program(tmp_path / "mine"), program(tmp_path / "bin/promtool")
    everywhere = {"UPCHECK_PROMTOOL": str(chosen), "PATH": str(on_path.parent)}
    kept = program(settings.tools / "promtool")

    assert tools.find("promtool", settings, everywhere) == Tool("promtool", chosen, "UPCHECK_PROMTOOL", settings.tools)
    del everywhere["UPCHECK_PROMTOOL"]
    assert tools.find("promtool", settings, everywhere) == Tool("promtool", on_path, "PATH", settings.tools)
    on_path.unlink()
    assert tools.find("promtool", settings, everywhere) == Tool("promtool", kept, "put there by hand", settings.tools)
    kept.unlink()
    assert tools.find("promtool", settings, everywhere) is None


@pytest.mark.parametrize(
    ("name", "debian"),
    [("alertmanager", "prometheus-alertmanager"), ("blackbox_exporter", "prometheus-blackbox-exporter")],
)
def test_debian_s_names_are_known_on_path(settings: Settings, tmp_path: Path, name: str, debian: str) -> None:
    path = program(tmp_path / "bin" / debian)
    assert tools.find(name, settings, {"PATH": str(path.parent)}) == Tool(name, path, "PATH", settings.tools)


def test_a_variable_that_names_no_program_is_an_error_even_if_path_has_one(settings: Settings, tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin/amtool")
    gone, plain = tmp_path / "gone", tmp_path / "plain"
    plain.write_text("no program")
    for path, why in ((gone, "is no file"), (tmp_path, "is no file"), (plain, "is not executable")):
        with pytest.raises(ToolError) as caught:
            tools.find("amtool", settings, {"UPCHECK_AMTOOL": str(path), "PATH": str(on_path.parent)})
        assert str(caught.value) == f"UPCHECK_AMTOOL={path}: {path} {why}; correct the variable or unset it"


def test_an_empty_variable_counts_as_unset(settings: Settings) -> None:
    assert tools.find("amtool", settings, {"UPCHECK_AMTOOL": "", "PATH": ""}) is None


@pytest.mark.parametrize("ask", [tools.find, lambda name, settings: tools.provide([name], settings)])
def test_a_mistyped_name_is_answered_with_the_nearest(settings: Settings, ask: Callable[..., object]) -> None:
    with pytest.raises(ToolError) as caught:
        ask("promtol", settings)
    assert str(caught.value) == "no tool is called 'promtol'; did you mean 'promtool'?"


# ---- versions ----


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (REALLY_SAID.format(name="promtool", version="2.42.0+ds"), "2.42.0"),
        ("prometheus, version 3.0.0-rc.1 (branch: HEAD, revision: abc)", "3.0.0"),
        ("a warning first\nblackbox_exporter, version 0.23.0 (branch: , revision: )", "0.23.0"),
        ("promtool, version v3.5.0", "3.5.0"),
        ("2.55.1", "2.55.1"),
    ],
)
def test_a_version_is_read_from_what_the_binaries_print(said: str, version: str) -> None:
    assert str(Version.parse(said)) == version


def test_versions_are_ordered_as_numbers() -> None:
    assert Version.parse("2.9.0") < Version.parse("2.42.0") < Version.parse("3.0.0")


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("echo Python 3.11.7; exit 0", "expected a version such as 'promtool, version 2.42.0', got 'Python 3.11.7'"),
        (
            r"printf '\377\n'; exit 0",
            "expected a version such as 'promtool, version 2.42.0', got '\N{REPLACEMENT CHARACTER}'",
        ),
        ("echo broken >&2; exit 3", "ended with 3: broken"),
        ("exit 4", "ended with 4: it said nothing"),
        ("sleep 600", "not done after 0.5 s"),
    ],
)
def test_a_binary_without_a_version_is_an_error_that_names_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, error: str
) -> None:
    monkeypatch.setattr(tools, "VERSION_SECONDS", 0.5)
    path = program(tmp_path / "promtool", then=then)
    with pytest.raises(ToolError) as caught:
        _ = Tool("promtool", path, "PATH", settings.tools).version
    assert str(caught.value) == f"{path} --version: {error}"


def test_a_hung_binary_is_ended_with_its_children(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "VERSION_SECONDS", 0.5)
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    child = f"(echo started; exec sleep 600) > {tmp_path}/alive & exec 2>&1; wait"
    hung = Tool("promtool", program(tmp_path / "promtool", then=child), "PATH", settings.tools)
    with pytest.raises(ToolError, match=r"not done after 0\.5 s"):
        _ = hung.version
    for said in (b"started\n", b""):  # the second is the end of the pipe: the child holds it no more
        assert select.select([alive], [], [], 20)[0]
        assert os.read(alive, 100) == said
    os.close(alive)


def test_a_binary_is_asked_once_until_it_changes(settings: Settings, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    path = program(tmp_path / "bin/promtool", "2.42.0", then=f"echo >> {runs}")
    tool = Tool("promtool", path, "PATH", settings.tools)

    def asked_in_a_new_process() -> str:
        tools._version.cache_clear()
        return f"{tool.version} after {len(runs.read_text())}"

    assert [str(tool.version), str(tool.version)] == ["2.42.0", "2.42.0"]
    assert asked_in_a_new_process() == "2.42.0 after 1"
    program(path, "2.53.12", then=f"echo >> {runs}")
    assert asked_in_a_new_process() == "2.53.12 after 2"
    (settings.tools / "versions.json").write_text('["not what we wrote"')
    assert asked_in_a_new_process() == "2.53.12 after 3"


def test_a_version_is_told_where_nothing_can_be_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tool = Tool("promtool", program(tmp_path / "promtool", "2.42.0"), "PATH", tmp_path / "file/.tools")
    assert tool.version == (2, 42, 0)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_there_from_its_release_on(settings: Settings, tmp_path: Path, feature: str) -> None:
    came = FEATURES[feature]
    before = Version(came.major, came.minor - 1, 7)
    new = Tool("promtool", program(tmp_path / "new/promtool", str(came)), "PATH", settings.tools)
    old = Tool("promtool", program(tmp_path / "old/promtool", str(before)), "PATH", settings.tools)
    assert tools.lacks(new, feature) is None
    assert tools.lacks(old, feature) == (
        f"promtool {before} ({old.path}) has no '{feature}': it came with {came}; take {PROMETHEUS.release} from "
        f"https://github.com/prometheus/prometheus/releases/download/v{PROMETHEUS.release}/{STEM}.tar.gz "
        f"and set UPCHECK_PROMTOOL=/path/to/promtool"
    )


def test_the_pinned_release_has_every_feature() -> None:
    assert max(FEATURES.values()) <= PROMETHEUS.release


@pytest.mark.parametrize("name", NAMES)
def test_older_than_debian_12_s_is_too_old(settings: Settings, tmp_path: Path, name: str) -> None:
    [oldest] = [product.oldest for product in PRODUCTS if name in product.binaries]
    path = program(tmp_path / "bin" / name, str(oldest))
    assert tools.ensure([name], settings, {"PATH": str(path.parent)})[name].version == oldest
    before = Version(oldest.major, oldest.minor - 1, 9)
    program(path, str(before))
    with pytest.raises(ToolError) as caught:
        tools.ensure([name], settings, {"PATH": str(path.parent)})
    assert str(caught.value).startswith(f"{name} {before} ({path}) is too old: upcheck needs {oldest} or newer; take ")
    assert str(caught.value).endswith(f" and set UPCHECK_{name.upper()}=/path/to/{name}")


def test_the_table_says_what_is_where_and_what_is_wrong(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    program(folder / "promtool", "3.5.0")
    program(settings.tools / "prometheus", "2.42.0")
    table = tools.table(settings, {"PATH": str(folder), "UPCHECK_AMTOOL": "/nowhere"})
    assert table == textwrap.dedent(f"""\
        tool               version    from               path
        promtool           3.5.0      PATH               {folder}/promtool
        amtool             unusable
        prometheus         2.42.0     put there by hand  {settings.tools}/prometheus
        alertmanager       not found
        blackbox_exporter  not found
        node_exporter      not found
        amtool: UPCHECK_AMTOOL=/nowhere: /nowhere is no file; correct the variable or unset it
        not found: alertmanager, blackbox_exporter, node_exporter; type: upcheck tools install""")
    program(folder / "promtool", "2.37.0")
    assert f"promtool 2.37.0 ({folder}/promtool) is too old" in tools.table(settings, {"PATH": str(folder)})


# ---- way 2: a release on loopback ----

Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """What a loopback server answers, by path, and what it was asked."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, archive: bytes, *, sums: str | None = None) -> None:
        self.answers[ARCHIVE] = archive
        listed = (
            f"{'0' * 64}  prometheus-of-another-kind.tar.gz\n{hashlib.sha256(archive).hexdigest()}  {STEM}.tar.gz\n"
        )
        self.answers[SUMS] = (listed if sums is None else sums).encode()

    def environ(self) -> dict[str, str]:
        return {"PATH": "", "UPCHECK_RELEASES": self.url}


@contextlib.contextmanager
def serving(certificate: trustme.LeafCert | None = None) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            answer = site.answers.get(self.path)
            if callable(answer):
                with contextlib.suppress(OSError):  # the client went away: that is what some tests want
                    answer(self)
                return
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_request(self, *_: object) -> None:
            """Into the void: the tests look at what was asked."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        site.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def packed(members: Mapping[str, str], *, links: Mapping[str, str] | None = None) -> bytes:
    """A tar.gz of executable text files, and of symbolic links."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return made.getvalue()


PROMTOOL = f"#!/bin/sh\necho 'promtool, version {PROMETHEUS.release} (branch: HEAD)'\n"
GOOD = packed({f"{STEM}/LICENSE": "text", f"{STEM}/promtool": PROMTOOL, f"{STEM}/prometheus": "not asked for"})


def released(settings: Settings, site: Site) -> str:
    """The error of an attempt to provide promtool from *site* alone."""
    with pytest.raises(ToolError) as caught:
        tools.provide(["promtool"], settings, environ=site.environ(), ways=["release"])
    assert sorted(path.name for path in settings.tools.iterdir()) == [".gitignore"], "nothing is installed"
    [said] = [line for line in str(caught.value).splitlines() if line.startswith("  the official release: ")]
    return said.removeprefix("  the official release: ")


def test_a_release_is_held_against_its_sum_unpacked_and_remembered(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    said: list[str] = []
    [tool] = tools.provide(["promtool"], settings, environ=site.environ(), say=said.append)
    assert tool == Tool("promtool", settings.tools / "promtool", f"release {PROMETHEUS.release}", settings.tools)
    assert tool.version == PROMETHEUS.release
    assert site.asked == [SUMS, ARCHIVE]
    assert said == [
        "promtool: trying Debian packages",
        "Debian packages: no apt-config here",
        "promtool: trying the official release",
        f"promtool {PROMETHEUS.release} is in {settings.tools} (release {PROMETHEUS.release})",
    ]
    assert sorted(path.name for path in settings.tools.iterdir()) == [
        ".gitignore", "origins.json", "promtool", "versions.json",
    ]  # fmt: skip


def test_a_folder_of_the_user_s_own_gets_no_gitignore(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    settings.tools.mkdir()
    tools.provide(["promtool"], settings, environ=site.environ())
    assert sorted(path.name for path in settings.tools.iterdir()) == ["origins.json", "promtool"]


def test_providing_replaces_and_ensuring_does_not(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    kept = program(settings.tools / "promtool", "2.42.0")
    assert tools.ensure(["promtool"], settings, site.environ())["promtool"].version == (2, 42, 0)
    assert site.asked == []
    tools.provide(["promtool"], settings, environ=site.environ())
    assert kept.read_text() == PROMTOOL
    program(kept, "2.42.0")
    found = tools.find("promtool", settings, site.environ())
    assert found, "a binary changed by hand is found"
    assert found.origin == "put there by hand"


def test_what_a_killed_process_left_is_cleared_away(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    program(settings.tools / ".unpacking/bin/promtool")
    tools.provide(["promtool"], settings, environ=site.environ())
    assert not (settings.tools / ".unpacking").exists()


def test_a_release_may_be_redirected_to_another_host(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    with serving() as elsewhere:
        elsewhere.answers["/blob"] = GOOD
        site.answers[ARCHIVE] = redirect(f"{elsewhere.url}/blob")
        [tool] = tools.provide(["promtool"], settings, environ=site.environ())
        assert (tool.version, elsewhere.asked) == (PROMETHEUS.release, ["/blob"])


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def test_a_release_may_not_be_redirected_out_of_tls(
    settings: Settings, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    site.publish(GOOD)
    with serving(authority.issue_cert("127.0.0.1")) as secure:
        secure.publish(GOOD)
        [tool] = tools.provide(["promtool"], settings, environ=secure.environ())
        assert tool.version == PROMETHEUS.release
        shutil.rmtree(settings.tools)
        secure.answers[ARCHIVE] = redirect(f"{site.url}{ARCHIVE}")
        assert released(settings, secure) == f"GET {secure.url}{ARCHIVE}: redirected away from https"


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("body", [drip, drip_headers])
@pytest.mark.parametrize("path", [SUMS, ARCHIVE])
def test_a_dripping_answer_ends_at_the_deadline(
    settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch, body: Answer, path: str
) -> None:
    monkeypatch.setattr(ways, "DOWNLOAD_SECONDS", 0.5)
    site.publish(GOOD)
    site.answers[path] = body
    assert released(settings, site) == f"GET {site.url}{path}: not complete after 0.5 s"


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:50])


def test_an_answer_that_is_broken_off_is_refused(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    site.answers[ARCHIVE] = broken_off
    assert released(settings, site).startswith(f"GET {site.url}{ARCHIVE}: peer closed connection")


@pytest.mark.parametrize("path", [SUMS, ARCHIVE])
def test_what_is_not_there_is_named(settings: Settings, site: Site, path: str) -> None:
    site.publish(GOOD)
    del site.answers[path]
    assert released(settings, site) == f"GET {site.url}{path}: 404 Not Found"


def test_a_server_that_is_not_there_is_named(settings: Settings) -> None:
    gone = Site("http://user:secret@127.0.0.1:1")
    assert released(settings, gone) == f"GET http://127.0.0.1:1{SUMS}: All connection attempts failed"


def test_a_wrong_sum_is_refused(settings: Settings, site: Site) -> None:
    site.publish(GOOD, sums=f"{'5' * 64}  {STEM}.tar.gz\n")
    assert released(settings, site) == (
        f"{site.url}{ARCHIVE}: sha256sums.txt says {'5' * 64}, what came has {hashlib.sha256(GOOD).hexdigest()}"
    )


@pytest.mark.parametrize("sums", ["", "not a list of sums", f"{'5' * 64}  {STEM}.tar.gz.sig\n"])
def test_without_a_sum_nothing_is_even_downloaded(settings: Settings, site: Site, sums: str) -> None:
    site.publish(GOOD, sums=sums)
    assert released(settings, site) == (
        f"{site.url}{SUMS} has no line for {STEM}.tar.gz: nothing to hold the archive against"
    )
    assert site.asked == [SUMS]


BAD: dict[str, tuple[bytes | dict[str, str], str]] = {
    "hostile": ({"../evil": "x", f"{STEM}/promtool": PROMTOOL}, "a member is called '../evil', outside the archive"),
    "hidden": ({f"{STEM}/../../evil": "x"}, f"a member is called '{STEM}/../../evil', outside the archive"),
    "absolute": ({"/tmp/evil": "x"}, "a member is called '/tmp/evil', outside the archive"),
    "without": ({f"{STEM}/prometheus": "x", "elsewhere/promtool": PROMTOOL}, f"holds no {STEM}/promtool"),
    "a link": (packed({}, links={f"{STEM}/promtool": "/bin/sh"}), f"holds no {STEM}/promtool"),
    "truncated": (GOOD[:-40], "broken off or no archive (Compressed file ended before the end-of-stream marker"),
    "a page": (b"<html>sign in first</html>", "broken off or no archive (file could not be opened successfully"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_archive_that_is_not_one_of_ours_is_refused(settings: Settings, site: Site, kind: str) -> None:
    archive, error = BAD[kind]
    site.publish(archive if isinstance(archive, bytes) else packed(archive))  # its sum is right: only so is it opened
    assert released(settings, site).startswith(f"{STEM}.tar.gz: {error}")
    assert not list(settings.root.parent.rglob("evil"))


def test_a_binary_that_does_not_run_here_is_refused(settings: Settings, site: Site) -> None:
    site.publish(packed({f"{STEM}/promtool": "\x7fELF of another machine"}))
    assert released(settings, site).startswith(f"{settings.tools}/.unpacking/bin/promtool --version: ")


def test_what_is_too_old_is_not_even_installed(settings: Settings, site: Site) -> None:
    site.publish(packed({f"{STEM}/promtool": PROMTOOL.replace(str(PROMETHEUS.release), "2.15.2")}))
    assert released(settings, site) == (
        f"release {PROMETHEUS.release} has promtool 2.15.2: upcheck needs {PROMETHEUS.oldest} or newer"
    )


@pytest.mark.parametrize("limit", ["ARCHIVE_BYTES", "UNPACKED_BYTES"])
def test_too_much_is_refused(settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(ways, limit, 64)
    site.publish(GOOD)
    assert released(settings, site).endswith("MiB: refused")


@pytest.mark.parametrize(
    ("system", "machine", "archive"),
    [
        ("Linux", "x86_64", "prometheus-3.13.3.linux-amd64"),
        ("Linux", "aarch64", "prometheus-3.13.3.linux-arm64"),
        ("Darwin", "x86_64", "prometheus-3.13.3.darwin-amd64"),
        ("Darwin", "arm64", "prometheus-3.13.3.darwin-arm64"),
    ],
)
def test_archives_are_named_as_the_releases_name_them(system: str, machine: str, archive: str) -> None:
    assert PROMETHEUS.archive(system, machine) == archive


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("Windows", "AMD64"), ("Windows", "x86_64")])
def test_other_machines_are_refused_in_a_sentence(system: str, machine: str) -> None:
    with pytest.raises(ToolError) as caught:
        PROMETHEUS.archive(system, machine)
    assert str(caught.value) == (
        f"no archive is known for {system} on {machine}, only Linux and Darwin on x86_64 and arm64"
    )


def test_releases_come_from_their_own_repositories() -> None:
    assert [product.url() for product in PRODUCTS] == [
        "https://github.com/prometheus/prometheus/releases/download/v3.13.3",
        "https://github.com/prometheus/alertmanager/releases/download/v0.34.1",
        "https://github.com/prometheus/blackbox_exporter/releases/download/v0.28.0",
        "https://github.com/prometheus/node_exporter/releases/download/v1.12.1",
    ]


def test_two_processes_at_once_download_once(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    both_ask = threading.Event()

    def when_both_ask(handler: BaseHTTPRequestHandler) -> None:
        both_ask.wait(30)
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(GOOD)

    site.answers[ARCHIVE] = when_both_ask
    code = textwrap.dedent("""
        import sys; from pathlib import Path; from upcheck import settings, tools
        print("asking", flush=True)
        print(tools.ensure(["promtool"], settings.Settings.load(Path(sys.argv[1]), {}))["promtool"].version)
    """)
    command = [sys.executable, "-c", code, str(settings.root)]
    environ = site.environ() | {"PYTHONPATH": os.pathsep.join([str(Path(tools.__file__).parents[2]), *sys.path])}
    processes = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "asking\n"
    time.sleep(0.3)  # from its word to the lock
    both_ask.set()
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{PROMETHEUS.release}\n"] * 2
    assert site.asked == [SUMS, ARCHIVE]
    assert not list(settings.tools.glob(".unpacking"))


# ---- way 1: Debian packages, as users that own nothing ----


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = Path(tools.__file__).parents[1]
        (folder / "src/upcheck").mkdir(parents=True)
        (folder / "src/upcheck/__init__.py").touch()
        for module in ("settings.py", "command.py"):
            shutil.copy(source / module, folder / "src/upcheck")
        shutil.copytree(source / "tools", folder / "src/upcheck/tools", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "home").mkdir()
        yield folder


@dataclass(frozen=True)
class User:
    """Who runs a command: the tests' own user, or nobody where the tests run as root."""

    name: str

    def run(self, folder: Path, *command: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        if self.name == ME:
            return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
        group = pwd.getpwnam(self.name).pw_gid
        return subprocess.run(
            command, env=environ, cwd=folder, capture_output=True, text=True, check=False,
            user=self.name, group=group, extra_groups=[],
        )  # fmt: skip

    def python(self, folder: Path, code: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environ = {**environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        for python in (sys.executable, "/usr/bin/python3"):
            with contextlib.suppress(OSError):  # an interpreter in a home that is closed to others
                if self.run(folder, python, "-c", "import tomllib", environ=environ).returncode == 0:
                    return self.run(folder, python, "-c", textwrap.dedent(code), environ=environ)
        pytest.skip(f"{self.name} may run no Python 3.11 here")


ME = "the user of the tests"
USERS = [ME, "nobody"] if os.getuid() == 0 else [ME]
needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get here")


def system_state() -> dict[str, tuple[int, int]]:
    """Every file of apt's and dpkg's: when it changed, and its size."""
    files = [path for root in ("/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg") for path in Path(root).rglob("*")]
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in files}


@needs_apt
@pytest.mark.parametrize("user", USERS)
def test_debian_packages_need_no_root_and_touch_nothing_of_the_system(folder: Path, user: str) -> None:
    home = folder / "home"
    home.chmod(0o777)
    parts, hooked, hook = folder / "apt.conf.d", folder / "hooked", 'APT::Update::Post-Invoke { "touch %s"; };\n'
    parts.mkdir()
    (parts / "cleans").write_text(hook % hooked)
    (folder / "apt.conf").write_text(f'Dir::Etc::parts "{parts}";\n' + hook % hooked)
    environ = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "UPCHECK_PROMTOOL": ""}
    dumped = User(user).run(home, "apt-config", "dump", environ=environ).stdout
    assert dumped.count(str(hooked)) == 2, "both hooks are in force on this machine"

    before = system_state()
    done = User(user).python(
        folder,
        f"""
        from pathlib import Path; from upcheck import settings, tools
        here = settings.Settings.load(Path({str(home)!r}), {{}})
        [tool] = tools.provide(["promtool"], here, ways=["debian"])
        print(tool.version, tool.origin, tool.path)
        """,
        environ,
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, origin = done.stdout.split(" ", 1)
    assert Version.parse(version) >= PROMETHEUS.oldest
    assert origin.startswith(f"Debian package prometheus {version}")
    assert origin.endswith(f" {home}/.tools/promtool\n")
    assert system_state() == before
    assert not hooked.exists(), "no hook of the machine's ran"
    assert sorted(path.name for path in (home / ".tools").iterdir()) == [
        ".gitignore", "origins.json", "promtool", "versions.json",
    ]  # fmt: skip
    assert [path.name for path in home.iterdir()] == [".tools"]
    said = subprocess.run([home / ".tools/promtool", "--version"], capture_output=True, text=True, check=True)
    assert "promtool, version " in said.stdout + said.stderr


@needs_apt
def test_a_package_this_machine_s_sources_lack_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PRODUCTS", (replace(PROMETHEUS, package="upcheck-is-no-package"),))
    with pytest.raises(
        ToolError, match=r"\n  Debian packages: apt-get .* E: Unable to locate package upcheck-is-no-package"
    ):
        tools.provide(["promtool"], settings, ways=["debian"])
    assert [path.name for path in settings.tools.iterdir()] == [".gitignore"]


@pytest.mark.parametrize("user", USERS[-1:])
def test_a_read_only_tools_folder_is_named(folder: Path, user: str) -> None:
    (folder / "home").chmod(0o555)
    done = User(user).python(
        folder,
        f"""
        from pathlib import Path; from upcheck import settings, tools
        try:
            tools.provide(["promtool"], settings.Settings.load(Path({str(folder / "home")!r}), {{}}))
        except tools.ToolError as error:
            print(error)
        """,
        os.environ,
    )
    assert done.stdout == (
        f"{folder}/home/.tools: the tools folder can't be written (Permission denied); "
        "set UPCHECK_TOOLS=/a/writable/folder\n"
    )


def test_a_tools_folder_under_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings.load(tmp_path, {"UPCHECK_TOOLS": "file/tools"})
    with pytest.raises(ToolError) as caught:
        tools.provide(["promtool"], settings)
    assert str(caught.value) == (
        f"{tmp_path}/file/tools: the tools folder can't be written (Not a directory); "
        "set UPCHECK_TOOLS=/a/writable/folder"
    )


# ---- way 3: a container image ----

needs_linux = pytest.mark.skipif(HERE.sysname != "Linux", reason="the images hold programs for Linux")


@contextlib.contextmanager
def engine_with(tag: str) -> Iterator[DockerClient]:
    """A real engine that has *tag*: a stand-in that holds /bin/promtool."""
    docker = pytest.importorskip("docker")
    try:
        ways._knock(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
        engine: DockerClient = docker.from_env()
    except (ToolError, docker.errors.DockerException) as error:
        pytest.skip(str(error))
    with contextlib.closing(engine):
        context = packed({"Dockerfile": "FROM scratch\nCOPY promtool /bin/promtool\n", "promtool": PROMTOOL})
        engine.images.build(fileobj=io.BytesIO(context), custom_context=True, encoding="gzip", tag=tag)
        try:
            yield engine
        finally:
            engine.images.remove(tag)


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch) -> str:
    """That of Prometheus' image, under a name of this process' own: others use the same engine."""
    stand_in = replace(PROMETHEUS, image=f"upcheck-stand-in-{os.getpid()}")
    monkeypatch.setattr(products, "PRODUCTS", (stand_in,))
    return f"{stand_in.image}:v{stand_in.release}"


@needs_linux
def test_an_image_gives_its_binary_through_a_container_that_never_runs(settings: Settings, tag: str) -> None:
    with engine_with(tag) as engine:
        [tool] = tools.provide(["promtool"], settings, ways=["image"])
        assert (tool.version, tool.origin) == (PROMETHEUS.release, f"image {tag}")
        assert engine.containers.list(all=True, filters={"ancestor": tag}) == []


@needs_linux
def test_an_image_without_the_binary_is_refused_and_no_container_stays(settings: Settings, tag: str) -> None:
    with engine_with(tag) as engine:
        with pytest.raises(ToolError, match=r"\n  a container image: the Docker engine at .*/bin/prometheus"):
            tools.provide(["promtool", "prometheus"], settings, ways=["image"])
        assert engine.containers.list(all=True, filters={"ancestor": tag}) == []
    assert [path.name for path in settings.tools.iterdir()] == [".gitignore"]


@needs_linux
@pytest.mark.parametrize(
    ("host", "error"),
    [
        (
            "unix:///no/engine.sock",
            "no Docker engine at unix:///no/engine.sock: No such file or directory (DOCKER_HOST names another)",
        ),
        ("tcp://127.0.0.1:1", "the Docker engine at tcp://127.0.0.1:1: "),
    ],
)
def test_an_engine_that_does_not_answer_is_named(settings: Settings, host: str, error: str) -> None:
    pytest.importorskip("docker")
    with pytest.raises(ToolError) as caught:
        tools.provide(["promtool"], settings, environ={"PATH": "", "DOCKER_HOST": host}, ways=["image"])
    assert f"\n  a container image: {error}" in str(caught.value)


# ---- all of them ----


@needs_linux
def test_where_every_way_fails_one_error_says_why_each_did_and_what_to_type(
    settings: Settings, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)  # as where the extra is not installed
    with pytest.raises(ToolError) as caught:
        tools.ensure(["promtool", "amtool"], settings, site.environ())
    assert str(caught.value) == textwrap.dedent(f"""\
        promtool, amtool: not on this machine, and no way to provide worked:
          Debian packages: no apt-config here
          the official release: GET {site.url}{SUMS}: 404 Not Found
          a container image: the Docker client for Python is missing: pip install 'upcheck[docker]'
        Type one of these, then try again:
          sudo apt-get install prometheus prometheus-alertmanager
          export UPCHECK_PROMTOOL=/path/to/promtool
          export UPCHECK_AMTOOL=/path/to/amtool
          export UPCHECK_RELEASES=https://mirror.example/prometheus  (a mirror that holds {FOLDER[1:]}/)""")


def test_every_tool_has_one_product_and_all_names_are_listed() -> None:
    assert sorted(name for product in PRODUCTS for name in product.binaries) == sorted(NAMES)


def test_what_is_remembered_is_plain_json(settings: Settings, site: Site) -> None:
    site.publish(GOOD)
    [tool] = tools.provide(["promtool"], settings, environ=site.environ())
    status = tool.path.stat()
    assert json.loads((settings.tools / "origins.json").read_text()) == {
        "promtool": [status.st_mtime_ns, status.st_size, tool.origin]
    }


def package(folder: Path, name: str, files: Mapping[str, Path]) -> str:
    """Build *name*.deb of *files* in *folder*; its paragraph in an index."""
    root = folder / f"{name}.root"
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 3.5.3-1\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: {name}\n"
    (root / "DEBIAN/control").write_text(control)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(content, root / path)
    archive = folder / f"{name}_3.5.3-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(root), str(archive)], check=True, capture_output=True)
    built = archive.read_bytes()
    return f"{control}Filename: ./{archive.name}\nSize: {len(built)}\nSHA256: {hashlib.sha256(built).hexdigest()}\n"


@needs_apt
def test_promtool_may_be_a_package_of_its_own_and_alertmanager_finds_its_templates(
    settings: Settings, tmp_path: Path
) -> None:
    home = "usr/share/prometheus/alertmanager"
    reads = f'case "$1" in --version) echo "alertmanager, version 0.33.1 (";; *) cat /{home}/default.tmpl;; esac'
    served, promtool = program(tmp_path / "in/prometheus", "3.5.3"), program(tmp_path / "in/promtool", "3.5.3")
    manager, template = tmp_path / "in/alertmanager", tmp_path / "in/default.tmpl"
    manager.write_text(f"#!/bin/sh\n{reads}\n")
    manager.chmod(0o755)
    template.write_text("a template")
    repo = tmp_path / "repo"
    repo.mkdir()
    paragraphs = [
        package(repo, "prometheus", {"usr/bin/prometheus": served}),
        package(repo, "promtool", {"usr/bin/promtool": promtool}),
        package(
            repo,
            "prometheus-alertmanager",
            {"usr/bin/prometheus-alertmanager": manager, f"{home}/default.tmpl": template},
        ),
    ]
    (repo / "Packages").write_text("\n".join(paragraphs))
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{repo} ./\n")
    sources = f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
    (tmp_path / "apt.conf").write_text(sources)
    environ = {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf")}

    names = ["promtool", "prometheus", "alertmanager"]
    origins = {tool.name: tool.origin for tool in tools.provide(names, settings, environ=environ, ways=["debian"])}
    assert origins["promtool"] == "Debian package promtool 3.5.3-1"
    assert origins["prometheus"] == "Debian package prometheus 3.5.3-1"
    moved = settings.tools.rename(tmp_path / "moved")
    assert subprocess.run([moved / "alertmanager", "read"], capture_output=True, text=True).stdout == "a template"
    (moved / "link").symlink_to(moved / "alertmanager")
    assert subprocess.run([moved / "link", "read"], capture_output=True, text=True).stdout == "a template"
