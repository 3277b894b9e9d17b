"""`upcheck rules contract` as users run it, and what ships, held against the collector."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, Repo, Serve, answer
from tests.rules.contract.conftest import EXPOSITION, PROMETHEUS, alert
from tests.waiting import eventually
from upcheck import run
from upcheck.history import History
from upcheck.result import Outcome, Result
from upcheck.settings import Settings

EXPORTERS = [f"--exposition={page}" for page in sorted((ROOT / "monitoring/exporters").glob("*.prom"))]
BAD = alert("sum by (endpoint) (http_in_flight{route='/x'}) > 5")


def contract(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "upcheck.cli", "rules", "contract", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a collector that has run for a second, and knows of a check."""
    file = tmp_path_factory.mktemp("history") / "history.sqlite"
    with History(file) as history:
        history.append([Result("checks/a.yml::up", Outcome.HELD, time.time(), 0.1)])
    with run.collector(Settings.load(ROOT), UPCHECK_HISTORY=str(file)) as url:
        eventually(lambda: "upcheck_event_loop_lag_seconds" in httpx.get(f"{url}/metrics").text)  # once a second
        yield f"{url}/metrics"


def test_what_ships_holds_against_the_collector(collector: str) -> None:
    told = contract(ROOT, "monitoring", "rules_tests", "docs", "--strict", "--scrape", collector, *EXPORTERS)
    assert told.stdout.startswith("0 findings, 1 allowed: 68 rules, "), told.stdout + told.stderr
    assert told.returncode == 0


def test_what_ships_holds_against_what_the_collector_said(collector: str, tmp_path: Path) -> None:
    for kind, accept in (("text", "text/plain"), ("openmetrics", "application/openmetrics-text")):
        saved = tmp_path / kind
        saved.write_text(httpx.get(collector, headers={"Accept": accept}).text)
        told = contract(ROOT, "monitoring", "--strict", "--exposition", str(saved), *EXPORTERS)
        assert told.returncode == 0, told.stdout + told.stderr


def test_a_slip_in_what_ships_is_found(collector: str, repo: Repo) -> None:
    text = (ROOT / "monitoring/prometheus/rules/system.yml").read_text()
    repo.write("rules/system.yml", text.replace('mode="idle"', 'mode="idel"'))
    told = contract(repo.path, "rules", "--scrape", collector)
    assert "rules/system.yml:14:84  no sample has this mode\n" in told.stdout
    assert told.returncode == 1


def test_a_finding_is_a_sentence_above_a_caret(repo: Repo, serve: Serve) -> None:
    repo.write("a.yml", BAD)
    repo.write("monitoring/prometheus.yml", PROMETHEUS)
    url = serve(answer(body=EXPOSITION))
    told = contract(repo.path, "a.yml", "--scrape", f"{url}/metrics")
    assert told.stdout == (
        "a.yml:5:49  no exporter has this label\n"
        "  expr: sum by (endpoint) (http_in_flight{route='/x'}) > 5\n"
        "                                          ^^^^^ http_in_flight has endpoint\n"
        "  contract/unknown-label · docs/contract.md#unknown-label · "
        "silence with: # upcheck: allow unknown-label because ...\n"
        "\n"
        "1 finding: 1 rule, 1 expression held against 16 known metrics\n"
    )
    assert told.returncode == 1


def test_json_has_all_of_it(repo: Repo) -> None:
    repo.write("a.yml", BAD.replace(" > 5", " > 5 or mysql_up == 0"))
    repo.write("m.txt", EXPOSITION)
    repo.write("monitoring/prometheus.yml", PROMETHEUS)
    told = contract(repo.path, "a.yml", "--exposition", "m.txt", "--json")
    document = json.loads(told.stdout)
    (finding,) = document["findings"]
    assert finding["id"] == "contract/unknown-label"
    assert (finding["line"], finding["column"], finding["length"]) == (5, 49, 5)
    assert finding["docs"] == "docs/contract.md#unknown-label"
    assert document["unknown"][0]["sentence"] == "no exporter was given that has metrics beginning with mysql_"


def test_what_could_not_be_checked_fails_strict_runs_only(repo: Repo) -> None:
    repo.write("a.yml", alert("mysql_up == 0"))
    plain, strict = contract(repo.path, "a.yml"), contract(repo.path, "a.yml", "--strict")
    expected = "could not check  1 place: no exporter was given that has metrics beginning with mysql_\n"
    assert plain.stdout.startswith(expected)
    assert strict.stdout == plain.stdout
    assert (plain.returncode, strict.returncode) == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["--scrape", "http://127.0.0.1:9/metrics"], "no answer", 3),
        (["--scrape", "127.0.0.1"], "no answer", 3),
        (["--exposition", "a.yml"], "a.yml is no exposition", 3),
        (["--retention", "soon"], "--retention: expected a duration", 2),
        (["--exposition", "gone.txt"], "does not exist", 2),
        (["gone"], "does not exist", 2),
    ],
)
def test_what_can_not_be_done_is_said(repo: Repo, arguments: list[str], sentence: str, code: int) -> None:
    repo.write("a.yml", BAD)
    told = contract(repo.path, "a.yml", *arguments)
    assert sentence in told.stderr
    assert told.returncode == code


def test_an_exporter_that_fails_is_no_finding(repo: Repo, serve: Serve) -> None:
    repo.write("a.yml", BAD)
    told = contract(repo.path, "a.yml", "--scrape", serve(answer("503 Service Unavailable", "busy")))
    assert "it answers 503; expected 200 and metrics" in told.stderr
    assert told.returncode == 3


def test_the_repo_s_own_rules_are_known_and_not_judged(repo: Repo) -> None:
    rule = "groups: [{name: g, rules: [{record: 'job:flight:sum', expr: sum by (job) (http_in_flight)}]}]"
    repo.write("monitoring/rules.yml", rule)
    repo.write("board.md", "```promql\njob:flight:summ\n```\n")
    repo.write("m.txt", EXPOSITION)
    told = contract(repo.path, "board.md", "--exposition", "m.txt")
    assert "did you mean 'job:flight:sum'?" in told.stdout
    assert "could not read" not in told.stdout
    assert "dead-recording-rule" not in told.stdout


def test_another_s_rules_know_nothing_of_this_repo(repo: Repo, tmp_path: Path) -> None:
    repo.write("monitoring/prometheus.yml", "scrape_configs: [{job_name: ours}]")
    (tmp_path / "theirs.yml").write_text(alert("up{job='theirs'} == 0"))
    repo.write("ours.yml", alert("up{job='theirs'} == 0"))
    assert contract(repo.path, str(tmp_path / "theirs.yml")).returncode == 0
    assert "job never has this value" in contract(repo.path, "ours.yml").stdout


def test_a_configuration_among_the_paths_counts_for_more_than_the_repo_s(repo: Repo) -> None:
    repo.write("monitoring/prometheus.yml", "scrape_configs: [{job_name: ours}]")
    repo.write("other/prometheus.yml", "scrape_configs: [{job_name: theirs}]")
    repo.write("other/rules.yml", alert("up{job='theirs'} == 0"))
    assert contract(repo.path, "other").returncode == 0


def test_a_long_line_is_cut_around_the_caret(repo: Repo) -> None:
    repo.write("m.txt", EXPOSITION)
    many = " or ".join(["http_in_flight > 1"] * 30)
    repo.write("a.yml", alert(f"{many} or http_in_fligt > 1"))
    told = contract(repo.path, "a.yml", "--exposition", "m.txt").stdout.splitlines()
    assert max(map(len, told[:2])) <= 162
    assert told[1][told[2].index("^") :].startswith("http_in_fligt")


def test_an_empty_folder_is_not_healthy(repo: Repo) -> None:
    (repo.path / "empty").mkdir()
    told = contract(repo.path, "empty")
    assert (told.returncode, told.stderr) == (3, "nothing was read, so nothing is known\n")


def test_without_a_path_the_repo_s_own_are_held(repo: Repo, tmp_path: Path) -> None:
    repo.write("monitoring/a.yml", alert("up == 0"))
    tests = "rule_files: [../monitoring/a.yml]\ntests: [{input_series: [{series: up, values: 0}]}]\n"
    repo.write("rules_tests/b.yml", tests)
    told = contract(repo.path)
    assert (told.returncode, "1 rule, 2 expressions" in told.stdout) == (0, True), told.stdout + told.stderr
    (tmp_path / "empty").mkdir()
    told = contract(tmp_path / "empty")
    assert told.returncode == 2
    assert "name a file or a folder that has some" in told.stderr


def test_an_answer_without_end_is_not_read_to_its_end(repo: Repo, serve: Serve) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(b"a_total 1\n" * 100_000)

    repo.write("a.yml", BAD)
    url = serve(talk)
    told = contract(repo.path, "a.yml", "--scrape", url)
    assert told.returncode == 3
    assert told.stderr == f"--scrape {url}: more than 64 MiB; save what is needed, and name it by --exposition\n"
