"""`upcheck watch` tells what checks come to: down after some failures, blocked by a cause, excused in a window."""

from __future__ import annotations

import time

from tests.conftest import Repo
from tests.watch.conftest import Watching
from upcheck.history import History
from upcheck.state import State

CHECKS = """
from pathlib import Path
import pytest
from upcheck import check

ROOT = Path(__file__).parent

@check(every="10m", failure_threshold=1)
def test_database(): assert not (ROOT / "down").exists()

@check(every="300ms", depends_on="test_database")
def test_api(): assert not (ROOT / "down").exists()

@check(every="300ms", depends_on="test_database")
def test_page(): assert not (ROOT / "broken").exists()
"""


def test_a_dependency_is_asked_again_before_anybody_is_blamed(repo: Repo, watching: Watching) -> None:
    repo.write("checks/test_it.py", CHECKS)
    watch = watching()
    watch.wait(lambda event: event["event"] == "started")
    time.sleep(4)  # all have run, the database for the only time in ten minutes
    (repo.path / "checks/down").touch()
    blocked = watch.wait(lambda event: event.get("state") == "blocked")
    assert blocked["check"].endswith("test_api")
    assert "blocked by checks/test_it.py::test_database" in blocked["reason"]
    seen = {(event["check"].rpartition("::")[2], event["state"]) for event in watch.events if "state" in event}
    assert ("test_database", "down") in seen
    assert ("test_api", "down") not in seen
    (repo.path / "checks/down").unlink()
    watch.wait(lambda event: event.get("state") == "up" and event["check"].endswith("test_api"))
    (repo.path / "checks/broken").touch()
    down = watch.wait(lambda event: event.get("state") == "down" and event["check"].endswith("test_page"))
    assert down["alert"] == "raised"
    assert watch.stop() == 0


def test_a_restart_in_mid_incident_loses_no_alert_and_raises_no_second(repo: Repo, watching: Watching) -> None:
    repo.write("checks/test_it.py", CHECKS)
    (repo.path / "checks/broken").touch()
    first = watching()
    first.wait(lambda event: event.get("alert") == "raised")
    time.sleep(1.5)  # the history is written every second
    assert first.stop() == 0
    second = watching()
    again = second.changed("test_page", "failed")
    assert (again["state"], again["alert"]) == ("down", None)
    (repo.path / "checks/broken").unlink()
    up = second.wait(lambda event: event.get("state") == "up")
    assert up["alert"] == "resolved"
    assert second.stop() == 0
    with History(repo.path / ".upcheck/history.sqlite") as history:
        assert history.condition("checks/test_it.py::test_page").state is State.UP


def test_maintenance_ends_while_a_check_still_fails(repo: Repo, watching: Watching) -> None:
    end = time.time() + 6
    repo.write(
        "pyproject.toml",
        f"""[tool.upcheck]
[[tool.upcheck.maintenance]]
name = "the move"
start = 2020-01-01T00:00:00Z
end = "{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))}"
""",
    )
    repo.write("checks/a.yml", "checks: [{name: orders, url: 'http://127.0.0.1:1/', every: 500ms, timeout: 400ms}]\n")
    watch = watching()
    planned = watch.wait(lambda event: event["event"] == "changed")
    assert (planned["state"], planned["alert"]) == ("maintenance", None)
    down = watch.wait(lambda event: event.get("alert") == "raised")
    assert down["time"] > int(end)
    assert watch.stop() == 0


def test_a_shared_fixture_that_fails_is_set_up_anew(repo: Repo, watching: Watching) -> None:
    repo.write(
        "checks/test_it.py",
        """
from pathlib import Path
import pytest
from upcheck import check

@pytest.fixture(scope="module")
def database():
    if (Path(__file__).parent / "down").exists():
        raise ConnectionError("no route")

@check(every="500ms")
def test_a(database): pass

@check(every="500ms")
def test_b(database): pass
""",
    )
    (repo.path / "checks/down").touch()
    watch = watching()
    for _ in range(2):
        blocked = watch.wait(lambda event: event.get("state") == "blocked")
        assert "blocked by fixture database" in blocked["reason"]
    (repo.path / "checks/down").unlink()
    watch.wait(lambda event: event.get("state") == "up")
    assert watch.stop() == 0
