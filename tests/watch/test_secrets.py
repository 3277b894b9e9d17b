"""`upcheck watch` shows no secret: not in what it tells, not in what it writes."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Repo
from tests.faults.test_secrets import assert_hidden, leaky  # noqa: F401 - a fixture
from tests.watch.conftest import Watching


@pytest.mark.usefixtures("leaky")
def test_no_secret_shows(repo: Repo, leaky: str, watching: Watching) -> None:  # noqa: F811
    watch = watching("--target", leaky)
    watch.started()
    awaited = {"page", "test_chained", "test_asked", "test_raised", "test_fixture"}
    while awaited:
        told = watch.wait(lambda event: event["event"] == "changed")
        if (name := told["check"].rpartition("::")[2]) in awaited:
            awaited.discard(name)
            assert "***" in json.dumps(told)
    assert watch.stop() == 0
    assert_hidden(json.dumps(watch.events), "events")
    assert_hidden(watch.errors.read_text(), "stderr")
    for file in (repo.path / ".upcheck").iterdir():
        assert_hidden(file.read_bytes(), file)
