"""`--concurrency`: what a user of it sees."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from tests.conftest import Repo, Serve, answer

SLEEPERS = """
import time
import pytest

@pytest.mark.parametrize("number", range(40))
def test_sleeps(number):
    time.sleep(0.25)
"""


def test_many_at_once(repo: Repo) -> None:
    repo.write("checks/test_a.py", SLEEPERS)
    told = repo.pytest("--concurrency=40", "--junitxml=junit.xml", "--results=lines")
    told.assert_outcomes(passed=40)
    lines = [json.loads(line) for line in (repo.path / "lines").read_text().splitlines()]
    spans = [(one["started"], one["started"] + one["duration"]) for one in lines if "duration" in one]
    assert len(spans) == 40
    assert max(sum(began <= start < ended for began, ended in spans) for start, _ in spans) >= 10, "beside each other"
    cases = ET.parse(repo.path / "junit.xml").findall(".//testcase")
    assert len(cases) == 40
    assert {case.get("classname") for case in cases} == {"checks.test_a"}


def test_coroutines_share_a_loop(repo: Repo) -> None:
    repo.write(
        "checks/test_a.py",
        """
import asyncio
import pytest

loops = set()

@pytest.fixture(scope="session")
async def session():
    await asyncio.sleep(0)
    yield "s"
    loops.clear()

@pytest.fixture
async def value(session):
    await asyncio.sleep(0.01)
    return session + "v"

@pytest.mark.parametrize("number", range(30))
async def test_waits(value, number):
    loops.add(id(asyncio.get_running_loop()))
    await asyncio.sleep(0.1)
    assert value == "sv"
    assert len(loops) == 1

async def test_fails():
    print("told by a coroutine")
    await asyncio.sleep(0)
    assert 1 == 2
""",
    )
    for arguments in ([], ["--concurrency=40"]):
        told = repo.pytest(*arguments)
        told.assert_outcomes(passed=30, failed=1)
        assert "told by a coroutine" in told.stdout.str()


def test_the_client_of_a_coroutine_is_awaited(repo: Repo, serve: Serve) -> None:
    url = serve(answer("200 OK", "hello"))
    repo.write(
        "checks/test_a.py",
        """
async def test_get(http):
    response = await http.get("/")
    assert response.text == "goodbye"
""",
    )
    told = repo.pytest(f"--target={url}", "--concurrency=2", "--results=r").stdout.str()
    assert "assert 'hello' == 'goodbye'" in told
    assert f"GET {url}/" in (repo.path / "r").read_text()


def test_output_goes_to_the_check_it_comes_from(repo: Repo) -> None:
    repo.write(
        "checks/test_a.py",
        """
import logging, time, pytest

@pytest.mark.parametrize("number", range(8))
def test_talks(number):
    for _ in range(3):
        print(f"out-{number}")
        logging.getLogger("x").warning("log-%d", number)
        time.sleep(0.01)
    assert number == -1
""",
    )
    text = repo.pytest("--concurrency=8").stdout.str()
    parts = re.split(r"_+ test_talks\[(\d)\] _+", text)[1:]
    assert len(parts) == 16
    for number, part in zip(parts[::2], parts[1::2], strict=True):
        assert set(re.findall(r"(?:out|log)-(\d)", part.partition("short test summary")[0])) == {number}


def test_what_can_t_run_beside_others_runs_alone(repo: Repo) -> None:
    repo.write(
        "checks/test_a.py",
        """
import os, threading, time, pytest

@pytest.mark.parametrize("number", range(6))
def test_environment(monkeypatch, number):
    monkeypatch.setenv("SHARED", str(number))
    time.sleep(0.02)
    assert os.environ["SHARED"] == str(number)

inside = 0

@pytest.mark.serial
@pytest.mark.parametrize("number", range(4))
def test_serial(number):
    global inside
    inside += 1
    time.sleep(0.02)
    assert inside == 1
    inside -= 1
""",
    )
    repo.pytest("--concurrency=10").assert_outcomes(passed=10)


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_stops_at_the_first_failure(repo: Repo, option: str) -> None:
    repo.write("checks/test_a.py", "def test_fails():\n    assert 0\n" + SLEEPERS)
    told = repo.pytest("--concurrency=4", option)
    assert told.parseoutcomes()["failed"] == 1
    assert told.parseoutcomes().get("passed", 0) < 20
    assert told.ret == 1


def test_last_failed_and_selection(repo: Repo) -> None:
    repo.write("checks/test_a.py", "def test_good(): pass\ndef test_bad(): assert 0\n")
    repo.pytest("--concurrency=4").assert_outcomes(passed=1, failed=1)
    repo.pytest("--concurrency=4", "--lf").assert_outcomes(failed=1)
    repo.pytest("--concurrency=4", "-k", "good").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--concurrency=-1"], "--concurrency=-1: expected how many checks to run at once, from 1"),
        (["--concurrency=2", "--pdb"], "--pdb and --concurrency exclude each other: leave one out"),
        (["--concurrency=2", "-n2"], "-n and --concurrency exclude each other: leave one out"),
    ],
)
def test_options_that_can_t_be_meant(repo: Repo, arguments: list[str], sentence: str) -> None:
    repo.write("checks/test_a.py", "def test_good(): pass\n")
    told = repo.pytest(*arguments)
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in told.stderr.str()
