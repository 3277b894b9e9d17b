"""One root cause: what depends on what is down is blocked by it, in one process or several, and told in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Repo
from tests.test_run import upcheck
from upcheck.history import History
from upcheck.state import State

CHAIN = """
from upcheck import check

@check(depends_on="test_api")
def test_page(): assert 1 == 2

@check(depends_on="database")
def test_api(): assert not "api"

def test_apart(): pass
"""
DATABASE = """
checks:
  - name: database
    url: http://127.0.0.1:1/
  - name: orders
    url: http://127.0.0.1:1/orders
    depends_on: [database]
"""
FIXTURE = """
import pytest

@pytest.fixture(scope="session")
def database():
    raise ConnectionError("no route to the database")

@pytest.fixture(scope="session")
def orders(database): return database
"""
USERS = """
def test_a(orders): pass
def test_b(orders): pass
def test_c(database): pass
def test_d(): pass
"""


def outcomes(repo: Repo, *arguments: str) -> dict[str, dict[str, Any]]:
    """The results of a run, by the last part of their names."""
    repo.pytest("--results=lines.jsonl", *arguments)
    lines = [json.loads(line) for line in (repo.path / "lines.jsonl").read_text().splitlines()]
    return {one["check"].rpartition("::")[2]: one for one in lines if "outcome" in one}


@pytest.mark.parametrize("mode", [[], ["-n2"], ["--concurrency=4"]], ids=["one", "xdist", "concurrent"])
def test_the_root_fails_and_what_depends_on_it_is_blocked(repo: Repo, mode: list[str]) -> None:
    repo.write("checks/test_chain.py", CHAIN)
    repo.write("checks/db.yml", DATABASE)
    found = outcomes(repo, *mode)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "database": "failed", "orders": "blocked", "test_api": "blocked", "test_page": "blocked", "test_apart": "held",
    }  # fmt: skip
    blocked_by = {one["facts"].get("blocked_by") for one in found.values() if one["outcome"] == "blocked"}
    assert blocked_by == {"checks/db.yml::database"}
    assert all("needs" not in one["facts"] for one in found.values())
    with History(repo.path / ".upcheck/history.sqlite") as history:
        assert history.condition("checks/test_chain.py::test_page").state is State.BLOCKED


def test_a_dependency_that_holds_blocks_nothing(repo: Repo) -> None:
    repo.write("checks/test_chain.py", CHAIN.replace("database", "test_apart"))
    found = outcomes(repo)
    assert (found["test_api"]["outcome"], found["test_page"]["outcome"]) == ("failed", "blocked")


def test_a_dependency_that_is_not_in_this_run_blocks_nothing(repo: Repo) -> None:
    repo.write("checks/test_chain.py", CHAIN)
    repo.write("checks/db.yml", DATABASE)
    assert outcomes(repo, "-k", "test_page")["test_page"]["outcome"] == "failed"


@pytest.mark.parametrize("mode", [[], ["-n2"], ["--concurrency=4"]], ids=["one", "xdist", "concurrent"])
def test_a_fixture_that_many_share_is_one_cause(repo: Repo, mode: list[str]) -> None:
    repo.write("checks/conftest.py", FIXTURE)
    repo.write("checks/test_users.py", USERS)
    found = outcomes(repo, *mode)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "test_a": "blocked", "test_b": "blocked", "test_c": "blocked", "test_d": "held",
    }  # fmt: skip
    assert {one["facts"].get("blocked_by") for one in found.values()} == {"fixture database (checks)", None}


def test_the_verdict_tells_the_cause_once_and_counts_the_rest(repo: Repo) -> None:
    repo.write("checks/conftest.py", FIXTURE)
    repo.write("checks/test_users.py", USERS)
    repo.write("checks/test_chain.py", CHAIN.replace("database", "test_none", 1).replace("test_none", "test_root"))
    repo.write("checks/test_root.py", "def test_root(): assert 'up' == 'down'\n")
    run = upcheck(repo, "run")
    assert run.returncode == 1
    blocks = [part.splitlines() for part in run.stdout.split("\n\n")]
    failed = next(lines for lines in blocks if lines[0].startswith("FAILED"))
    assert failed[0].startswith("FAILED   test_root")
    assert failed[-1] in ("BLOCKED  2 checks behind it (test_page, test_api)",
                          "BLOCKED  2 checks behind it (test_api, test_page)")  # fmt: skip
    fixture = next(lines for lines in blocks if lines[0].startswith("BLOCKED"))
    start, _, behind = fixture[0].rpartition(" (")
    assert start == "BLOCKED  3 checks by fixture database (checks)"
    assert sorted(behind.rstrip(")").split(", ")) == ["test_a", "test_b", "test_c"]  # as they ended
    assert "ConnectionError: no route to the database" in fixture[1]
    assert sum(line.startswith("FAILED") for lines in blocks for line in lines) == 1


def test_what_only_a_fixture_blocks_is_unknown(repo: Repo) -> None:
    repo.write("checks/conftest.py", FIXTURE)
    repo.write("checks/test_users.py", USERS)
    assert upcheck(repo, "run").returncode == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("test_appi", "test_page: depends_on: there is no check 'test_appi'; did you mean 'test_api'?"),
        ("test_apart", ""),
    ],
)
def test_a_name_that_is_no_check_s(repo: Repo, name: str, sentence: str) -> None:
    repo.write("checks/test_chain.py", CHAIN.replace('"test_api"', repr(name)).replace("database", "test_apart"))
    run = repo.pytest()
    assert sentence in run.stderr.str()
    assert (run.ret == 4) is bool(sentence)


def test_a_circle_is_told_before_anything_runs(repo: Repo) -> None:
    repo.write("checks/test_chain.py", CHAIN.replace("database", "test_page"))
    run = repo.pytest()
    assert run.ret == 4
    assert "depends_on: checks/test_chain.py::test_" in run.stderr.str()
    assert "leave one of them out" in run.stderr.str()


def test_without_the_uplink_nothing_far_is_down(repo: Repo) -> None:
    repo.write(
        "checks/test_up.py",
        """
from upcheck import check

@check(uplink=True)
def test_uplink(): assert not "there"

def test_far(): assert not "far"
""",
    )
    repo.write("checks/near.yml", "checks: [{name: near, url: 'http://127.0.0.1:1/'}]\n")
    found = outcomes(repo)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "test_uplink": "failed", "test_far": "error", "near": "failed",
    }  # fmt: skip
    assert found["test_far"]["facts"]["code"] == "own_uplink"
    with History(repo.path / ".upcheck/history.sqlite") as history:
        assert history.one("checks/test_up.py::test_far").availability is None, "no budget is spent"


MAINTENANCE = """
[tool.upcheck]
[[tool.upcheck.maintenance]]
name = "the move"
checks = ["test_moved", "orders"]
start = 2020-01-01T00:00:00Z
end = 2090-01-01T00:00:00Z
"""


@pytest.mark.parametrize("mode", [[], ["-n2"], ["--concurrency=4"]], ids=["one", "xdist", "concurrent"])
def test_in_maintenance_nothing_is_red_and_all_is_watched(repo: Repo, mode: list[str]) -> None:
    repo.write("pyproject.toml", MAINTENANCE)
    repo.write("checks/test_it.py", "def test_moved(): assert not 'here'\ndef test_other(): pass\n")
    repo.write("checks/db.yml", "checks: [{name: orders, url: 'http://127.0.0.1:1/orders'}]\n")
    run = repo.pytest("--results=lines.jsonl", *mode)
    run.assert_outcomes(passed=1, xfailed=2)
    assert run.ret == 0
    found = outcomes(repo, *mode)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "test_moved": "maintenance", "test_other": "held", "orders": "maintenance",
    }  # fmt: skip
    assert found["test_moved"]["facts"]["maintenance"] == "the move"
    told = upcheck(repo, "run")
    assert told.returncode == 0
    assert "2 maintenance" in told.stdout


def test_what_holds_in_maintenance_holds(repo: Repo) -> None:
    repo.write("pyproject.toml", MAINTENANCE)
    repo.write("checks/test_it.py", "def test_moved(): pass\n")
    assert outcomes(repo)["test_moved"]["outcome"] == "held"
