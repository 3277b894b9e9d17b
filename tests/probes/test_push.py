from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.collector.test_application import inside
from tests.probes.conftest import Ask, failed, held
from upcheck.collector import Collector
from upcheck.probes import ProbeError, Reason, push
from upcheck.probes.push import Push, Report, Store


def probe(folder: Path, **options: Any) -> Push:
    return Push("backup", **{"store": str(folder), "grace": "1h", **options})


def test_a_report_that_is_recent_holds(ask: Ask, tmp_path: Path) -> None:
    never = failed(ask(probe(tmp_path)), Reason.NO_REPORT)
    assert never.sentence == "the job backup has never reported: have it ask /push/backup"
    store = Store(tmp_path)
    store.write("backup", Report(time.time() - 60, up=True))
    held(ask(probe(tmp_path)))
    old = failed(ask(probe(tmp_path, grace="30s")), Reason.NO_REPORT)
    assert re.fullmatch(r"the last report is 6\d(\.\d)? s old, the grace 30 s", old.sentence)
    store.write("backup", Report(time.time() + 3600, up=True))  # a clock that was put back
    held(ask(probe(tmp_path)))
    store.write("backup", Report(time.time(), up=False, message="disk full"))
    assert "disk full" in failed(ask(probe(tmp_path)), Reason.REPORTED_DOWN).sentence


@pytest.mark.parametrize("text", ["", "{", "[]", '{"moment": "x"}', '{"moment": 1}'])
def test_a_file_that_is_no_report(ask: Ask, tmp_path: Path, text: str) -> None:
    (tmp_path / "backup.json").write_text(text)
    failed(ask(probe(tmp_path)), Reason.MALFORMED)


def test_a_job_reports_to_the_collector(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.upcheck]\npush = "reports"\n')
    collector = Collector()

    async def session(client: httpx.AsyncClient) -> None:
        for method in ("GET", "POST"):
            told = await client.request(method, "/push/backup?status=up&msg=fine&ping=1500")
            assert (told.status_code, told.json()) == (200, {"ok": True})
        for query, words in (
            ("status=maybe", "status: expected up or down"),
            ("ping=soon", "ping"),
            ("ping=-1", "ping"),
        ):
            told = await client.get(f"/push/backup?{query}")
            assert told.status_code == 400, words
        for name in ("..%2f..%2fetc", ".hidden", "a" * 101, "a%00b"):
            assert (await client.get(f"/push/{name}")).status_code in (400, 404)

    inside(collector, session)
    assert [one.name for one in (tmp_path / "reports").iterdir()] == ["backup.json"]
    report = Store(tmp_path / "reports").read("backup")
    assert report is not None
    assert (report.up, report.message, report.took) == (True, "fine", 1.5)
    held(ask(Push("backup")))


def test_a_store_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "MAX_JOBS", 2)
    store = Store(tmp_path)
    for name in ("a", "b", "a"):
        store.write(name, Report(1.0, up=True))
    with pytest.raises(push.StoreFull, match="2 jobs report already"):
        store.write("c", Report(1.0, up=True))


@pytest.mark.parametrize("options", [{"name": "../x"}, {"name": ""}, {"grace": "soon"}, {"grace": 0}])
def test_what_can_t_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ProbeError):
        Push(**{"name": "backup", **options})
