"""A secret that a failing check touches shows nowhere: terminal, JUnit's XML, history, lines, textfile, live view."""

from __future__ import annotations

import base64
import json
import socket
import xml.etree.ElementTree as ET
from urllib.parse import quote, quote_plus

import pytest

from tests.conftest import Repo, Serve
from upcheck.history import History

TOKEN = "sk/live_Val+ue 0123'456&789\\xyz=="
URL_TOKEN = "in-a.url_0a1b2c3d4e5f"  # six digits in a row are in a time now and then
PASSWORD = "hunter2%of-the/vau1ts"
FORMS = (
    TOKEN,
    URL_TOKEN,
    PASSWORD,
    quote(TOKEN),
    quote(TOKEN, safe=""),
    quote_plus(TOKEN),
    quote(PASSWORD, safe=""),
    json.dumps(TOKEN)[1:-1],
    repr(TOKEN)[1:-1],
    base64.b64encode(f"me:{TOKEN}".encode()).decode()[5:-3],
    "made-at-run-time",
)
# Pieces of the same: what is left of a secret that was cut or compared. Shorter ones may be anything.
PIECES = tuple(
    {form[at : at + 6] for form in (TOKEN, URL_TOKEN, PASSWORD, "made-at-run-time") for at in range(len(form) - 6)}
)

LEAKS = """
import base64, json, logging, os, sys, warnings
from urllib.parse import quote, quote_plus
import pytest
from upcheck import check, secret

TOKEN = os.environ["API_TOKEN"]
pytestmark = pytest.mark.check(every="300ms")

@pytest.fixture
def broken():
    raise RuntimeError(f"login with {TOKEN} refused")

@pytest.fixture
def untidy():
    yield
    raise RuntimeError(f"logout with {TOKEN} refused")

def test_local():
    token = TOKEN
    assert not token

def test_diff():
    assert TOKEN == "another"

def test_diff_of_headers():
    assert {"Authorization": "Bearer " + TOKEN, "Accept": "*"} == {"Authorization": "none", "Accept": "*"}

def test_diff_of_long_texts():
    assert "x" * 300 + TOKEN + "y" * 300 == "x" * 300 + TOKEN[:20] + "z" * 300

def test_printed():
    print("token", TOKEN)
    print("token", TOKEN, file=sys.stderr)
    assert False

def test_logged():
    logging.getLogger("api").error("sent %s", TOKEN)
    assert False

def test_raised():
    raise ConnectionError(f"https://me:{quote(TOKEN, safe='')}@api/?key={quote_plus(TOKEN)}&{quote(TOKEN)}")

def test_encoded():
    raise ValueError(base64.b64encode(f"me:{TOKEN}".encode()).decode() + json.dumps({"t": TOKEN}) + repr([TOKEN]))

def test_chained():
    try:
        raise KeyError(TOKEN)
    except KeyError as error:
        raise ValueError("no " + TOKEN) from error

def test_fixture(broken): pass

def test_teardown(untidy): pass

def test_password():
    from urllib.parse import urlsplit, unquote
    assert unquote(urlsplit(os.environ["DATABASE_URL"]).password) == os.environ["DATABASE_URL"]

def test_given():
    value = secret("-".join(["made", "at", "run", "time"]))
    assert value == "another"

def test_warned():
    warnings.warn("the token is " + TOKEN)

@pytest.mark.filterwarnings("default")
def test_warned_only():
    warnings.warn("the token is " + TOKEN)

@pytest.mark.xfail(reason="refused " + TOKEN)
def test_expected():
    assert False

def test_skipped():
    pytest.skip("no use for " + TOKEN)

def test_held(record_property):
    print(TOKEN)
    record_property("token", TOKEN)
    record_property("tokens", {TOKEN})

def test_asked(http):
    answer = http.get("/?key=" + quote_plus(TOKEN), headers={"Authorization": "Bearer " + quote(TOKEN)})
    assert answer.text == "fine"
"""
YAML = """
checks:
  - name: page
    url: /${URL_TOKEN}?shop=${URL_TOKEN}
    every: 300ms
    headers: {X-Token: "${URL_TOKEN}"}
    expect: {status: 200, body: fine}
"""
BROKEN = "import os\nraise RuntimeError('no use for ' + os.environ['API_TOKEN'])\n"


def echo(connection: socket.socket) -> None:
    """Answers with what was asked, header fields and all."""
    asked = connection.recv(65536)
    connection.sendall(b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked)


@pytest.fixture
def leaky(repo: Repo, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repo full of leaks; the URL of a server that sends back what it is sent."""
    monkeypatch.setenv("API_TOKEN", TOKEN)
    monkeypatch.setenv("URL_TOKEN", URL_TOKEN)
    monkeypatch.setenv("DATABASE_URL", f"postgres://app:{quote(PASSWORD, safe='')}@db/shop")
    repo.write("checks/test_leaks.py", LEAKS)
    repo.write("checks/leaks.yml", YAML)
    return serve(echo)


def assert_hidden(told: bytes | str, place: object) -> None:
    text = told if isinstance(told, str) else told.decode("utf-8", errors="replace")
    assert [form for form in FORMS if form in text] == [], place
    assert [piece for piece in PIECES if piece in text] == [], place


@pytest.mark.parametrize("verbose", [["-vv", "--showlocals"], ["--color=yes"], ["--tb=native", "-rA"]], ids=" ".join)
@pytest.mark.parametrize("mode", [[], ["-n", "2"], ["--concurrency=4"]], ids=" ".join)
def test_no_secret_shows(repo: Repo, leaky: str, mode: list[str], verbose: list[str]) -> None:
    repo.write("checks/test_broken.py", BROKEN)
    run = repo.pytest(
        f"--target={leaky}", "--junitxml=junit.xml", "-o", "junit_logging=all", "-o", "junit_family=xunit1",
        "--metrics-textfile=checks.prom", "--results=lines.jsonl", "-rA", *mode, *verbose,
    )  # fmt: skip
    terminal = run.stdout.str() + run.stderr.str()
    run.assert_outcomes(passed=3, failed=14, errors=4 if "-n" in mode else 3, skipped=1, xfailed=1, warnings=1)
    assert terminal.count("***") > 20
    assert_hidden(terminal, "terminal")
    written = [repo.path / name for name in ("junit.xml", "lines.jsonl", "checks.prom")]
    written += (repo.path / ".upcheck").iterdir()
    for file in written:
        assert_hidden(file.read_bytes(), file)
    assert "***" in (repo.path / "junit.xml").read_text()
    properties = {one.get("name"): one.get("value") for one in ET.parse(repo.path / "junit.xml").iter("property")}
    assert properties["token"] == "***"
    reasons = {}
    for line in (repo.path / "lines.jsonl").read_text().splitlines():
        if "outcome" in (said := json.loads(line)):
            reasons[said["check"].rpartition("::")[2]] = (said["outcome"], said["reason"])
    assert reasons["test_fixture"] == ("error", "RuntimeError: login with *** refused")
    assert reasons["test_chained"][0] == "failed"
    assert "***" in reasons["test_chained"][1]
    with History(repo.path / ".upcheck/history.sqlite") as history:
        (page,) = history.results("checks/leaks.yml::page")
    assert page.facts["asked"].endswith("/***?shop=***")


def test_a_name_is_not_changed(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "checks")
    repo.write("checks/test_it.py", "def test_it(): assert 'checks' == 'x'\n")
    monkeypatch.setenv("DB_PASSWORD", "critical")
    run = repo.pytest("--results=lines.jsonl", "-p", "no:cacheprovider")
    run.assert_outcomes(failed=1)
    said = json.loads((repo.path / "lines.jsonl").read_text().splitlines()[-1])
    assert (said["check"], said["facts"]["file"]) == ("checks/test_it.py::test_it", "checks/test_it.py")
    assert said["facts"]["severity"] == "critical", "what is counted by is no secret, though it is spelled like one"
    assert "checks" not in said["reason"]


def test_a_file_s_source_is_hidden_too(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", TOKEN)
    repo.write("checks/test_it.py", f"def test_it():\n    token = {TOKEN!r}\n    assert not token\n")
    run = repo.pytest()
    run.assert_outcomes(failed=1)
    assert_hidden(run.stdout.str(), "terminal")
