"""What all probes have in common: the register, YAML, the fixtures, both drivers, the metrics."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import ClassVar

import pytest

from tests.conftest import ROOT, Repo, Serve
from tests.faults.test_network import days
from tests.probes.conftest import Ask, by_multi, failed, held, place, says
from upcheck import yaml_checks
from upcheck.documents import DocumentError
from upcheck.history import History
from upcheck.metrics import FAMILIES as PAGE
from upcheck.metrics import CheckMetrics
from upcheck.probes import (
    Blocking,
    Journey,
    Lookup,
    Phase,
    ProbeFailure,
    ProbeResult,
    Reason,
    Run,
    Travelling,
    families,
)
from upcheck.probes.http import Reason as HttpReason
from upcheck.probes.kinds import KINDS, probe_class
from upcheck.probes.multi import Multi
from upcheck.probes.reach import Reach
from upcheck.probes.tcp import Tcp
from upcheck.result import Kind, Outcome, Result
from upcheck.servers import free_port
from upcheck.yaml_checks import judge

SCHEMA = json.loads(resources.files("upcheck").joinpath("schemas/checks.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_has_all_that_belongs_to_it(kind: str) -> None:
    probe = probe_class(kind)
    assert issubclass(probe, Travelling | Blocking)
    assert probe.kind == kind
    assert (ROOT / f"tests/probes/test_{kind}.py").exists()
    assert (ROOT / f"docs/probes/{kind}.md").exists()
    assert f"({kind}.md)" in (ROOT / "docs/probes/README.md").read_text()
    fields = {one.name for one in dataclasses.fields(probe) if one.init} - {"deadline"}
    definitions = SCHEMA["$defs"]
    assert {"$ref": f"#/$defs/{kind}"} == definitions["check"]["properties"][kind]
    asked = set(definitions[kind]["properties"])
    expected = set(definitions[f"{kind}_expect"]["properties"])
    assert asked | expected == fields | (expected & {"latency", "certificate_days"})
    assert not asked & expected
    assert definitions[kind]["required"] == [probe.subject]


def test_every_module_is_registered() -> None:
    shared = {
        "database",
        "families",
        "kinds",
        "multi",
        "reach",
        "resolver",
        "single",
        "addresses",
        "authorities",
        "sockets",
        "threads",
        "http",
        "__init__",
    }
    modules = {path.stem for path in (ROOT / "src/upcheck/probes").iterdir() if not path.stem.startswith("__py")}
    assert modules - shared == set(KINDS)


def test_the_pages_name_every_reason() -> None:
    pages = (ROOT / "docs/http.md").read_text() + (ROOT / "docs/probes/README.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", pages, re.MULTILINE)) - {str(one) for one in Phase}
    assert named == {str(one) for one in Reason}
    assert HttpReason is Reason


def test_the_page_of_metrics_names_every_family() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert {family.name for family in families.FAMILIES if family.name not in text} == set()
    assert {family.name for family in families.FAMILIES} <= {family.name for family in PAGE}


# ---- the drivers ----


@dataclasses.dataclass(frozen=True, slots=True)
class Sleeper(Blocking):
    seconds: float = 0.0
    deadline: float = 0.3
    kind: ClassVar[str] = "sleeper"

    @property
    def asked(self) -> str:
        return "sleeper"

    def ask(self, run: Run) -> None:
        time.sleep(self.seconds)
        run.note("slept")
        run.metrics["probe_ip_protocol"] = 4
        if self.seconds:
            raise ProbeFailure(Reason.UNEXPECTED_ANSWER, "slept too long", Phase.PROCESSING)


def test_a_probe_that_blocks_has_a_thread(ask: Ask) -> None:
    result = held(ask(Sleeper(), log=True))
    assert result.metrics == {"probe_ip_protocol": 4}
    assert [sentence for _, sentence in result.log] == ["slept"]
    failed(ask(Sleeper(0.01)), Reason.UNEXPECTED_ANSWER)


@dataclasses.dataclass(frozen=True, slots=True)
class Broken(Travelling):
    deadline: float = 1.0
    kind: ClassVar[str] = "broken"

    @property
    def asked(self) -> str:
        return "broken"

    def journey(self, run: Run) -> Journey:
        yield Lookup("localhost", run.until)
        raise ZeroDivisionError("by whoever wrote it")


def test_a_fault_of_a_probe_ends_nothing_else(serve: Serve, ask: Ask) -> None:
    result = failed(ask(Broken()), Reason.CRASHED)
    assert result.sentence == "not asked: upcheck itself failed: ZeroDivisionError: by whoever wrote it"
    assert Reason.CRASHED.ours
    held(ask(Tcp(place(serve(says())))))


def test_one_that_is_stuck_is_given_up() -> None:
    began = time.monotonic()
    failed(by_multi(Sleeper(1.5)), Reason.TIMEOUT)
    assert time.monotonic() - began < 1.2


def test_two_hundred_at_once_on_one_thread(serve: Serve) -> None:
    def talk(connection: socket.socket) -> None:
        time.sleep(0.2)
        connection.sendall(b"hello\n")

    probe = Tcp(place(serve(talk)), banner="hello", deadline=20)
    told: list[ProbeResult] = []
    threads = threading.active_count()
    multi = Multi()
    for _ in range(200):
        multi.probe(probe, told.append)
    ours = threading.active_count() - threads
    while multi.in_flight:
        multi.poll(1.0)
    multi.close()
    assert [result.success for result in told] == [True] * 200
    assert ours <= 200  # the server's alone


def test_descriptors_are_given_back(serve: Serve, ask: Ask) -> None:
    where, shut = place(serve(says(b"no\n", then=0.3))), free_port()
    held(ask(Tcp(where)))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        ask(Tcp(where))
        ask(Tcp(where, banner="yes", deadline=0.02))
        ask(Tcp(f"127.0.0.1:{shut}"))
    time.sleep(0.5)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2  # the server's own threads may hold one


def test_what_is_closed_is_not_told_and_leaves_nothing_open(serve: Serve) -> None:
    probe = Tcp(place(serve(says(then=0.5))), banner="never")
    told: list[ProbeResult] = []
    multi = Multi()
    multi.probe(probe, told.append)
    multi.poll(0.1)
    multi.close()
    assert told == []


def test_out_of_reach_is_refused_before_it_is_connected_to(ask: Ask) -> None:
    result = failed(ask(Tcp("127.0.0.1:1"), reach=Reach(["10.0.0.0/8"])), Reason.ADDRESS_REFUSED)
    assert result.sentence.startswith("127.0.0.1 is in none of the networks that may be probed")


# ---- YAML ----


def write(folder: Path, text: str) -> Path:
    path = folder / "checks.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{name: a, tpc: 'db:1'}", "unknown key 'tpc'; did you mean 'tcp'?"),
        (
            "{name: a, tcp: db}",
            "tcp: expected a host and a port such as db:5432, or a mapping with an address, not 'db'",
        ),
        ("{name: a, tcp: {adress: 'db:1'}}", "unknown key 'adress'; did you mean 'address'?"),
        ("{name: a, tcp: {tls: true}}", "lacks 'address': "),
        ("{name: a, tcp: 'db:1', url: /}", "'url' beside 'tcp': a check asks one of them; make it two checks"),
        ("{name: a, tcp: 'db:1', method: GET}", "'method' is for a check of a url, and this is one of tcp"),
        ("{name: a, tcp: 'db:1', expect: {status: 200}}", "unknown key 'status'"),
        ("{name: a, tcp: 'db:1', expect: {baner: x}}", "unknown key 'baner'; did you mean 'banner'?"),
        ("{name: a, tcp: 'db:1', expect: {banner: '('}}", "banner: '(' is no regular expression"),
        ("{name: a, tcp: 'db:70000'}", "'db:70000': expected a host and a port"),
        ("{name: a, tls: {address: 'db:1', min_version: '1.2'}}", "min_version: expected TLSv1.0, TLSv1.1"),
        ("{name: a, tcp: 'db:1', timeout: 1s, expect: {latency: 2s}}", "latency: 2s is no less than the timeout"),
        ("{name: a, url: /, expect: {banner: x}}", "unknown key 'banner'"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        yaml_checks.load(write(tmp_path, f"checks: [{text}]"))
    assert sentence in str(caught.value)


def test_variables_are_read_when_it_is_asked(tmp_path: Path) -> None:
    text = "checks: [{name: a, tcp: {address: '${DB}:5432', query_response: [{send: 'AUTH ${PW} $${1}'}]}}]"
    (check,) = yaml_checks.load(write(tmp_path, text))
    probe = check.asked("http://unused", {"DB": "db1", "PW": "sesame"})
    assert isinstance(probe, Tcp)
    assert (probe.asked, probe.turns[0].send) == ("tcp db1:5432", "AUTH sesame ${1}")
    with pytest.raises(ValueError, match="the variable PW is not set"):
        check.asked("http://unused", {"DB": "db1"})


def test_a_file_of_certificates_is_beside_the_file(tmp_path: Path) -> None:
    (check,) = yaml_checks.load(write(tmp_path, "checks: [{name: a, tls: {address: 'db:1', ca_file: ca.pem}}]"))
    assert check.asked("http://unused").ca_file == str(tmp_path / "ca.pem")  # type: ignore[union-attr]


def test_what_is_judged(serve: Serve, ask: Ask, tmp_path: Path) -> None:
    where = place(serve(says(b"hello\n")))
    text = f"checks: [{{name: a, tcp: '{where}', expect: {{latency: 1us, certificate_days: 3}}}}]"
    (check,) = yaml_checks.load(write(tmp_path, text.replace("1us", "0.001ms")))
    probe = check.asked("http://unused")
    told = judge(check, probe, ask(probe))
    assert told.outcome is Outcome.FAILED
    assert told.facts["want"] == "latency within 0.001ms, a certificate valid for 3 days (got none)"
    assert told.facts["code"] == "latency"
    assert told.facts["asked"] == f"tcp {where}"


REPO = """
checks:
  - {{name: good, tcp: '{good}', every: 1s}}
  - {{name: wrong, tcp: '{good}', expect: {{banner: '^SSH'}}}}
  - {{name: down, tcp: '127.0.0.1:{shut}'}}
  - {{name: ours, tls: {{address: '{good}', ca_file: none.pem}}}}
"""
PYTHON = """
def test_good(tcp):
    assert tcp("{good}", banner="hello").metrics["probe_ip_protocol"] == 4

async def test_awaited(tcp):
    assert (await tcp("{good}")).duration < 5

def test_wrong(tcp):
    tcp("{good}", banner="^SSH")

def test_tls(tls):
    tls("{good}")
"""


def test_checks_in_a_repo(repo: Repo, serve: Serve) -> None:
    where = {"good": place(serve(says(b"hello\n"))), "shut": free_port()}
    repo.write("checks/all.yml", REPO.format(**where))
    repo.write("checks/test_all.py", PYTHON.format(**where))
    repo.pytest("--results=results", "--metrics-textfile=m.prom")
    lines = [json.loads(line) for line in (repo.path / "results").read_text().splitlines()]
    results = {one["check"].rpartition("::")[2]: one for one in lines if "outcome" in one}
    outcomes = {name: (one["outcome"], one["facts"].get("code")) for name, one in results.items()}
    assert outcomes == {
        "good": ("held", None),
        "wrong": ("failed", "unexpected_answer"),
        "down": ("failed", "connection_refused"),
        "ours": ("error", "certificate_file"),
        "test_good": ("held", None),
        "test_awaited": ("held", None),
        "test_wrong": ("failed", "unexpected_answer"),
        "test_tls": ("failed", "tls_not_spoken"),
    }
    assert results["good"]["facts"]["metrics"]["probe_ip_protocol"] == 4
    assert results["down"]["reason"] == "Connection refused"
    facts = results["test_wrong"]["facts"]
    assert facts["asked"] == f"tcp {where['good']}"
    assert facts["got"] == "no line matches '^SSH'; the last was 'hello'"
    assert facts["want"].startswith('tcp("')


def test_what_can_not_be_meant_is_no_failure_of_the_target(repo: Repo) -> None:
    repo.write(
        "checks/test_a.py",
        """
def test_typo(tcp): tcp("a:1", banne="x")
def test_timeout(tcp): tcp("a:1", timeout=3)
def test_no_port(tcp): tcp("127.0.0.1")
def test_window(sla): sla("test_typo", window="1 hour")
""",
    )
    repo.pytest("--results=results")
    lines = [json.loads(line) for line in (repo.path / "results").read_text().splitlines()]
    told = {one["check"].rpartition("::")[2]: (one["outcome"], one["reason"]) for one in lines if "outcome" in one}
    assert told == {
        "test_typo": ("error", "tcp() has no option 'banne'; did you mean 'banner'?"),
        "test_timeout": ("error", "tcp() has no option 'timeout'; the check's timeout is its deadline"),
        "test_no_port": ("error", "tcp(): '127.0.0.1': expected a host and a port, such as db:5432 or [::1]:5432"),
        "test_window": ("error", "sla(): window: expected a duration such as '30s', '800ms' or '1m30s', not '1 hour'"),
    }


def test_when_a_bad_certificate_expires_is_a_fact(repo: Repo, serve_tls: Callable[..., str], trusted: str) -> None:
    where = serve_tls(case="expired")
    repo.write("checks/test_tls.py", f'def test_tls(tls):\n    tls("{where}", ca_file="{trusted}")\n')
    repo.write("checks/tls.yml", f"checks: [{{name: a, tls: {{address: '{where}', ca_file: '{trusted}'}}}}]")
    repo.pytest("--results=results")
    lines = [json.loads(line) for line in (repo.path / "results").read_text().splitlines()]
    results = [one for one in lines if "outcome" in one]
    assert [one["facts"]["code"] for one in results] == ["certificate_expired"] * 2
    assert all(abs(one["facts"]["certificate_expiry"] - days(-2).timestamp()) < 3600 for one in results)


def test_the_metrics_of_a_probe_are_on_the_collector_s_page(tmp_path: Path) -> None:
    metrics = {
        "probe_ip_protocol": 4,
        'probe_tls_version_info{version="TLS 1.3"}': 1,
        "made_up_by_nobody": 1,
        'probe_tls_cipher_info{cipher="a"} 1\nup': 1,
        'probe_failed_due_to_regex{check="another"': 1,
    }
    facts = {"severity": "info", "metrics": metrics, "certificate_expiry": 2e9}
    with History(tmp_path / "h.sqlite") as history:
        history.append([Result("a", Outcome.HELD, time.time(), 0.1, Kind.CHECK, "", facts)])
    page = CheckMetrics(tmp_path / "h.sqlite").page().decode()
    assert 'probe_ip_protocol{check="a"} 4\n' in page
    assert 'probe_tls_version_info{check="a",version="TLS 1.3"} 1\n' in page
    assert 'probe_ssl_earliest_cert_expiry{check="a"} 2000000000.0\n' in page
    assert "made_up" not in page
    assert "probe_tls_cipher_info" not in page
    assert "another" not in page
