"""`upcheck stack backup` and `restore`: what a lost disk takes comes back, and what is wrong changes nothing."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.stack.conftest import Repo, Started, again
from tests.stack.test_stack import asked, asked_up
from tests.waiting import eventually
from upcheck.history import History
from upcheck.settings import Settings
from upcheck.stack import archive, snapshot
from upcheck.stack.archive import Entry
from upcheck.stack.services import StackError


def silenced(url: str, comment: str) -> None:
    """Make a silence of an hour."""
    now = datetime.now(UTC)
    matcher = {"name": "alertname", "value": "Nothing", "isRegex": False, "isEqual": True}
    body = {
        "matchers": [matcher],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "a test",
        "comment": comment,
    }
    assert httpx.post(f"{url}/api/v2/silences", json=body, trust_env=False).status_code == 200


def silences(url: str) -> set[str]:
    return {one["comment"] for one in asked(f"{url}/api/v2/silences") if one["status"]["state"] == "active"}


@pytest.fixture(scope="module")
def backup(stack: Started) -> Path:
    """A backup of a stack that runs, with a sample, a silence and a history."""
    repo = again(stack).repo
    eventually(lambda: asked_up(repo), lambda: "no sample")
    silenced(repo.url("alertmanager"), "kept")
    with History(repo.path / ".upcheck/history.sqlite", read_only=True) as history:
        eventually(lambda: history.results("checks/a.yml::alive"), lambda: "no result")
    file = repo.path / "backup.tar.gz"
    file.write_text("the one before")
    told = repo.upcheck("backup", str(file))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{file}: prometheus, alertmanager, upcheck in ")
    assert "not in it: monitoring/ and checks/, which Git has; secrets and .env" in told.stdout
    return file


def test_a_backup_is_its_owner_s_alone_and_has_neither_secrets_nor_configuration(backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    names = set(archive.verified(backup).files)
    assert {name.partition("/")[0] for name in names} == {"prometheus", "alertmanager", "upcheck"}
    assert {"alertmanager/silences", "alertmanager/nflog", "upcheck/history.sqlite"} <= names
    assert not any(name.endswith(("lock", "queries.active", ".env", ".yml")) for name in names)
    assert list(backup.parent.glob(".backup*")) == []


def test_where_nothing_can_be_written_nothing_stands_still_for_it(started: Started, tmp_path: Path) -> None:
    before = started.repo.pid("alertmanager")
    told = started.repo.upcheck("backup", str(tmp_path / "none/file"))
    assert told.returncode == 3
    assert f"{tmp_path / 'none/file'} can't be written: No such file or directory; nothing was changed" in told.stderr
    assert started.repo.pid("alertmanager") == before


def test_what_a_lost_disk_takes_comes_back(started: Started, backup: Path) -> None:
    repo = started.repo
    at = archive.verified(backup).at
    settings = Settings.load(repo.path, {})
    running = repo.upcheck("restore", str(backup))
    assert running.returncode == 3
    assert running.stderr.startswith("the stack runs: `upcheck stack stop` first; nothing was changed")

    eventually(lambda: repo.upcheck("status").returncode == 0, lambda: repo.upcheck("status").stdout)
    silenced(repo.url("alertmanager"), "later")
    assert repo.upcheck("stop").returncode == 0
    shutil.rmtree(repo.record.data / "prometheus/wal")
    settings.history.unlink()
    told = repo.upcheck("restore", str(backup))
    assert told.returncode == 0, told.stderr
    assert "restored as it was at 20" in told.stdout
    (aside,) = repo.record.folder.glob("before-*")
    assert str(aside) in told.stdout
    assert (aside / "alertmanager/silences").is_file(), "moved aside, not deleted"

    with History(settings.history, read_only=True) as history:
        assert [one.started for one in history.results("checks/a.yml::alive") if one.started < at]
    assert repo.upcheck("up").returncode == 0
    assert silences(repo.url("alertmanager")) == {"kept"}
    assert asked_up(repo, time=str(at)), "what was scraped before the backup is there"


def test_two_restores_in_a_second_keep_what_each_replaced(tmp_path: Path) -> None:
    first = archive.aside(tmp_path)
    first.mkdir()
    assert archive.aside(tmp_path) != first
    assert archive.aside(tmp_path).parent == tmp_path


# A limit for files stands for a full disk: the system refuses the write in the same place.
LIMITED = (
    "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
)


def test_a_full_disk_leaves_the_backup_before_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("the one before")
    code = (
        f"{LIMITED} import io, os; from pathlib import Path; from upcheck.stack import archive as a; "
        "a.write(Path(sys.argv[1]), (a.Entry('redis/a', 10**6, 0, io.BytesIO(os.urandom(10**6))) for _ in 'a'))"
    )
    told = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, timeout=60)
    assert told.stderr.endswith(f"StackError: {file} can't be written: File too large; nothing was changed\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "the one before"


def test_a_disk_that_fills_while_it_is_restored_leaves_what_was_there(started: Started, backup: Path) -> None:
    repo = started.repo
    assert max(size for size, _ in archive.verified(backup).files.values()) > 40_000
    code = f"{LIMITED} sys.argv[0] = 'upcheck'; runpy.run_module('upcheck.cli', run_name='__main__')"
    assert repo.upcheck("stop").returncode == 0
    before = {path: path.stat().st_mtime for path in repo.record.data.rglob("*")}
    argv = [sys.executable, "-c", code, "stack", "restore", str(backup)]
    told = subprocess.run(argv, cwd=repo.path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 3, told.stderr
    assert f"{backup} can't be restored: File too large" in told.stderr
    assert {path: path.stat().st_mtime for path in repo.record.data.rglob("*")} == before
    assert not (repo.record.folder / "restored").exists()


def made(file: Path, *names: str) -> Path:
    def entries() -> Generator[Entry]:
        for name in names:
            yield Entry(name, 5, time.time(), io.BytesIO(b"hello"))

    archive.write(file, entries())
    return file


def packed(file: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size, header.type, header.linkname = len(content), kind, "/etc/passwd"
            tar.addfile(header, io.BytesIO(content))
    return file


def manifest(**said: Any) -> bytes:
    return json.dumps({"format": 1, "upcheck": "9.9", "at": 0.0, "files": {}, **said}).encode()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"prometheus/../../../etc/cron.d/x": b""},
            "'prometheus/../../../etc/cron.d/x' would not be a file of a store",
        ),
        ({"/etc/passwd": b""}, "'/etc/passwd' would not be a file of a store"),
        ({"bin/sh": b""}, "'bin/sh' would not be a file of a store"),
        ({"prometheus/wal/0": b""}, "it has no manifest.json"),
        ({"manifest.json": b"[]"}, "its manifest.json is another's"),
        ({"manifest.json": manifest(format=2)}, "was made by upcheck 9.9, which is newer: use that one"),
        ({"prometheus/wal/0": b"x", "manifest.json": manifest()}, "is damaged: prometheus/wal/0 is not as it was"),
    ],
    ids=["parent", "absolute", "no store", "no manifest", "foreign manifest", "newer", "not in the manifest"],
)
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, members: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(StackError) as raised:
        archive.verified(packed(tmp_path / "file", members))
    assert sentence in str(raised.value)


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="would not be a file of a store"):
        archive.verified(packed(tmp_path / "file", {"prometheus/wal": b""}, tarfile.SYMTYPE))


def test_damage_anywhere_is_told(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", "prometheus/wal/0", "upcheck/history.sqlite").read_bytes()
    assert archive.verified(tmp_path / "whole").stores == ["prometheus", "upcheck"]
    damaged = tmp_path / "damaged"
    for content in (whole[: len(whole) // 2], whole[:-4], b"", b"hello", whole[:-6] + b"\0\0" + whole[-4:]):
        damaged.write_bytes(content)
        with pytest.raises(StackError, match=r"damaged|no backup"):
            archive.verified(damaged)
    plain = gzip.decompress(whole)
    damaged.write_bytes(gzip.compress(plain.replace(b"hello", b"hallo", 1)))
    with pytest.raises(StackError, match="damaged: prometheus/wal/0 is not as it was written"):
        archive.verified(damaged)


def test_without_room_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Repo(tmp_path, {})
    repo.record.make()
    file = made(tmp_path / "file", "prometheus/wal/0")
    # No test has a disk of 4 bytes.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4))
    with pytest.raises(StackError, match=r"needs 0 MB below .*, where 0 MB are left: free some; nothing was changed"):
        snapshot.restore(Settings.load(tmp_path, {}), repo.record, file)
    assert list((repo.record.data / "prometheus").iterdir()) == []


def test_a_backup_of_nothing_leaves_a_good_one_and_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.upcheck]\n")
    with History(tmp_path / ".upcheck/history.sqlite"):
        pass  # `upcheck run` makes one without a stack
    good = made(tmp_path / "file", "prometheus/wal/0").read_bytes()
    told = Repo(tmp_path, {}).upcheck("backup", "file")
    assert told.returncode == 3
    assert told.stderr == (
        "nothing to save here: the stack was never started: `upcheck stack up`\nno backup was made; file is as it was\n"
    )
    assert (tmp_path / "file").read_bytes() == good

    made(tmp_path / "file")
    told = Repo(tmp_path, {}).upcheck("restore", "file")
    assert (told.returncode, told.stdout) == (3, "")
    assert told.stderr.startswith("file has nothing in it: the stack that it was made of had never been started\n")


def test_what_has_no_files_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the one before")
    with pytest.raises(StackError, match="nothing to save here"):
        archive.write(tmp_path / "file", archive.some(snapshot.entries(tmp_path / "nothing")))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "the one before")]
