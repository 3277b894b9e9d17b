"""Whatever a suite tells when it is run plainly, it tells when its items run at once."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from pip._internal.models.index import PyPI

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SDISTS = {"h11": "h11", "iniconfig": "testing", "pluggy": "testing", "attrs": "tests"}  # and where their tests are
# What looks at all objects of the process can't run beside others, and has no fixture or mark that would say so.
PROCESS_WIDE = {"attrs": "not test_no_references_to_original_when_using_cached_property"}
PROPERTIES = {"attrs"}  # with a hundred examples each, they take a minute
SUITE_TIMEOUT = 240


def outcomes(folder: Path, tests: str, *arguments: str) -> dict[str, Any]:
    """What pytest tells of *tests* in *folder*, by node ID."""
    told = folder / "outcomes.json"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "outcomes", "-p", "no:cacheprovider", tests, *arguments]
    environ = os.environ | {"OUTCOMES": str(told), "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"}
    ran = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=SUITE_TIMEOUT)
    assert told.exists(), ran.stdout[-3000:] + ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(told.read_text())
    told.unlink()
    return found


def differences(plain: Mapping[str, Any], concurrent: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = plain.keys() | concurrent.keys()
    return {name: (plain.get(name), concurrent.get(name)) for name in names if plain.get(name) != concurrent.get(name)}


@pytest.mark.parametrize("concurrency", [1, 32])
def test_a_suite_that_is_hard_on_fixtures(tmp_path: Path, concurrency: int) -> None:
    shutil.copy(HERE / "corpus.py", tmp_path / "test_corpus.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plain = outcomes(tmp_path, "test_corpus.py")
    at_once = outcomes(tmp_path, "test_corpus.py", f"--concurrency={concurrency}")
    assert differences(plain["told"], at_once["told"]) == {}
    assert plain["exit"] == at_once["exit"] == 1
    assert len(plain["told"]) > 110


def fetch_sdist(name: str, release: str, folder: Path) -> Path:
    """Download the sdist of *name*, from the index that pip is set up with; pip itself would build it first."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    index = os.environ.get("PIP_INDEX_URL") or told.stdout.strip() or PyPI.simple_url
    page = urljoin(f"{index.rstrip('/')}/", f"{name}/")
    asked = urllib.request.Request(page, headers={"Accept": "text/html"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        links = re.findall(r'href="([^"#]+)', answer.read().decode())
    (link,) = {link for link in links if link.endswith(f"/{name}-{release}.tar.gz")}
    with urllib.request.urlopen(urljoin(page, html.unescape(link)), timeout=60) as answer:
        (archive := folder / f"{name}-{release}.tar.gz").write_bytes(answer.read())
    return archive


@pytest.mark.parametrize("name", SDISTS)
def test_a_suite_that_a_package_ships(tmp_path: Path, name: str) -> None:
    archive = fetch_sdist(name, version(name), tmp_path)
    subprocess.run(["tar", "xzf", str(archive), "-C", str(tmp_path)], check=True)
    (folder,) = tmp_path.glob(f"{name}-*/")
    arguments = ["-k", PROCESS_WIDE[name]] if name in PROCESS_WIDE else []
    arguments += ["-p", "few_examples"] if name in PROPERTIES else []
    plain = outcomes(folder, SDISTS[name], *arguments)
    at_once = outcomes(folder, SDISTS[name], "--concurrency=32", *arguments)
    assert differences(plain["told"], at_once["told"]) == {}
    assert len(plain["told"]) > 50
