from __future__ import annotations

import json
import re
import socket
import time
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.conftest import ROOT, Repo, Serve
from upcheck import yaml_checks
from upcheck.declaration import Declaration
from upcheck.documents import DocumentError
from upcheck.probes.http import Answer, Certificate, HttpFailure, Phase, Phases, Reason, RequestError
from upcheck.result import Outcome
from upcheck.servers import free_port
from upcheck.yaml_checks import YamlCheck


def write(folder: Path, text: str) -> Path:
    path = folder / "checks.yml"
    path.write_text(text)
    return path


def test_the_schema_is_one() -> None:
    schema = json.loads(resources.files("upcheck").joinpath("schemas/checks.json").read_text())
    Draft202012Validator.check_schema(schema)


def test_a_check_and_what_it_leaves_out(tmp_path: Path) -> None:
    text = "checks:\n  - {name: a, url: 'http://x/', every: 1m, timeout: 2s, severity: info}\n  - {name: b, url: /b}\n"
    first, second = yaml_checks.load(write(tmp_path, text))
    assert (first.name, first.declaration, first.line) == ("a", Declaration(60, 2, "info"), 2)
    assert (second.declaration, second.expect, second.line) == (Declaration(), {"status": "2xx"}, 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "checks:\n  - name: a\n    url: /\n    evry: 1m\n",
            "checks.yml:4:5: unknown key 'evry'; did you mean 'every'?",
        ),
        ("chekcs: []\n", "checks.yml:1:1: unknown key 'chekcs'; did you mean 'checks'?"),
        ("checks: []\n", "checks.yml:1:9: checks: expected a list with at least one check, not []"),
        ("checks:\n  - url: /\n", "checks.yml:2:5: lacks 'name': what the check is called"),
        ("checks:\n  - name: a\n", "checks.yml:2:5: lacks 'url': an http or https URL"),
        ("checks:\n  - {name: a, url: ftp://x}\n", "checks.yml:2:20: url: expected an http or https URL"),
        ("checks:\n  - {name: a, url: /, every: often}\n", "checks.yml:2:30: every: expected a duration such as"),
        ("checks:\n  - {name: a, url: /, every: 0}\n", "checks.yml:2:30: every: expected a duration such as"),
        ("checks:\n  - {name: a, url: /, timeout: 0s}\n", "checks.yml:2:32: timeout: expected a duration above zero"),
        ("checks:\n  - {name: a, url: /, expect: {latency: 0s}}\n", "latency: expected a duration above zero"),
        (
            "checks:\n  - {name: a, url: /, timeout: 2s, expect: {latency: 20s}}\n",
            "checks.yml:2:54: latency: 20s is no less than the timeout, 2 s",
        ),
        ("checks:\n  - {name: a, url: /, severity: bad}\n", "severity: expected critical, warning or info, not 'bad'"),
        ("checks:\n  - {name: a, url: /, expect: {staus: 200}}\n", "unknown key 'staus'; did you mean 'status'?"),
        ("checks:\n  - {name: a, url: /, expect: {status: 99}}\n", "status: expected a status code such as 200"),
        (
            "checks:\n  - {name: a, url: /, expect: {status: [200, no]}}\n",
            "checks.yml:2:40: status: expected a status code such as 200",
        ),
        ("checks:\n  - {name: a, url: /, expect: }\n", "expect: expected what must hold of the answer"),
        ("checks:\n  - {name: 1, url: /}\n", "name: expected what the check is called"),
        ("checks:\n  - {name: a, url: /}\n  - {name: a, url: /}\n", "checks.yml:3:5: a second check is named 'a'"),
        ("", "checks.yml:1:1: expected a file with a list of checks, not nothing"),
        ("- a\n", "checks.yml:1:1: expected a file with a list of checks"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        yaml_checks.load(write(tmp_path, text))
    assert sentence in str(caught.value)


def answer(status: int, text: str = "Welcome!", latency: float = 0.1) -> Answer:
    lines = [b"HTTP/1.1 %d Some Words\r\n" % status, b"Content-Type: text/plain; charset=utf-8\r\n"]
    return Answer(status, lines, text.encode(), Phases(connect=0.001, transfer=0.1), latency)


def one(folder: Path, keys: str) -> YamlCheck:
    (check,) = yaml_checks.load(write(folder, f"checks: [{{name: a, url: /, {keys}}}]"))
    return check


@pytest.mark.parametrize(
    ("expect", "status", "sentences"),
    [
        ("{status: 200}", 200, []),
        ("{status: 200}", 503, ["status 200"]),
        ("{status: 2xx}", 204, []),
        ("{status: [200, 3xx]}", 301, []),
        ("{status: [200, 3xx]}", 404, ["status 200 or 3xx"]),
        ("{latency: 50ms}", 200, ["latency within 50ms"]),
        ("{latency: 1s}", 500, ["status 2xx"]),
        ("{body: Welcome}", 200, []),
        ("{body: welcome}", 200, ["a body that contains 'welcome'"]),
        ("{header: {content-type: text/plain}}", 200, []),
        ("{header: {X-A: b}}", 200, ["header X-A with 'b' (got 'none')"]),
        (
            "{status: 404, body: no, latency: 1ms}",
            200,
            ["status 404", "a body that contains 'no'", "latency within 1ms"],
        ),
    ],
)
def test_what_does_not_hold_is_told(tmp_path: Path, expect: str, status: int, sentences: list[str]) -> None:
    assert list(one(tmp_path, f"expect: {expect}").unmet(answer(status))) == sentences


def test_a_request_says_what_the_file_says(tmp_path: Path) -> None:
    keys = """
        method: POST, headers: {Authorization: 'Bearer ${TOKEN}', Price: $$5}, body: 'id=${ID}', timeout: 3s,
        follow_redirects: false, proxy: 'http://127.0.0.1:3128', verify: false, ca_file: ca.pem, max_body: 1000
    """
    request = one(tmp_path, keys).request("http://host/api/", {"TOKEN": "t1", "ID": "7"})
    assert (request.url, request.method, request.body) == ("http://host/api/", "POST", b"id=7")
    assert (request.deadline, request.follow_redirects, request.max_body) == (3.0, False, 1000)
    assert (request.proxy, request.verify, request.ca_file) == (
        "http://127.0.0.1:3128",
        False,
        str(tmp_path / "ca.pem"),
    )
    assert dict(request.headers) == {
        "Authorization": "Bearer t1",
        "Price": "$5",
    }
    plain = one(tmp_path, "severity: info").request("http://host")
    assert (plain.url, plain.method, plain.follow_redirects, plain.verify) == ("http://host/", "GET", True, True)


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    check = one(tmp_path, "headers: {Authorization: 'Bearer ${TOKEN}'}")
    with pytest.raises(RequestError) as caught:
        check.request("http://host", {})
    assert str(caught.value) == "a: headers: Authorization: the variable TOKEN is not set in the environment"


def test_a_variable_that_smuggles_is_refused(tmp_path: Path) -> None:
    check = one(tmp_path, "headers: {X-A: '${VALUE}'}")
    with pytest.raises(RequestError) as caught:
        check.request("http://host", {"VALUE": "sesame\r\nX-B: c"})
    assert str(caught.value) == "the header X-A has a control character in it"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("method: get", "method: expected an HTTP method such as GET"),
        ("headers: {X-A: 1}", "X-A: expected text for the header, not 1"),
        ("headers: {X A: b}", "'X A' is no name for a header"),
        ("follow_redirects: 5", "follow_redirects: expected true or false"),
        ("verify: no", "verify: expected true or false"),
        ("proxy: host:80", "proxy: expected the URL of a proxy"),
        ("max_body: 0", "max_body: expected how many bytes"),
        ("headrs: {}", "unknown key 'headrs'; did you mean 'headers'?"),
    ],
)
def test_a_mistake_in_a_request_has_its_place(tmp_path: Path, keys: str, sentence: str) -> None:
    with pytest.raises(DocumentError, match=r"checks\.yml:1:\d+: ") as caught:
        one(tmp_path, keys)
    assert sentence in str(caught.value)


def test_the_judgement_of_an_answer(tmp_path: Path) -> None:
    check = one(tmp_path, "expect: {body: Welcome}")
    request = check.request("http://host")
    phases = {"resolve": 0.0, "connect": 0.001, "tls": 0.0, "processing": 0.0, "transfer": 0.1}
    good = answer(200)
    good.certificate = Certificate(1e9, "s", "i")
    held = yaml_checks.judge(check, request, good)
    assert (held.outcome, held.reason) == (Outcome.HELD, "")
    assert held.facts == {"status": 200, "phases": phases, "certificate_expiry": 1e9}
    json.dumps(held.facts)
    other = yaml_checks.judge(check, request, answer(200, "Maintenance"))
    want = "a body that contains 'Welcome'"
    assert (other.outcome, other.reason) == (Outcome.FAILED, f"200 Some Words in 100 ms, wanted {want}")
    assert other.facts == {
        "asked": "GET http://host/",
        "got": '200 Some Words in 100 ms: "Maintenance"',
        "want": want,
        "code": "body",
        "status": 200,
        "phases": phases,
    }
    bad = yaml_checks.judge(check, request, answer(503, "Welcome"))
    assert bad.facts["got"] == '503 Some Words in 100 ms: "Welcome"'


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.CONNECTION_REFUSED, Outcome.FAILED),
        (Reason.OWN_RESOURCES, Outcome.ERROR),
        (Reason.RESOLVER_STUCK, Outcome.ERROR),
        (Reason.NAME_TIMEOUT, Outcome.FAILED),
    ],
)
def test_the_judgement_of_a_failure(tmp_path: Path, reason: Reason, outcome: Outcome) -> None:
    check = one(tmp_path, "expect: {latency: 1s}")
    failure = HttpFailure(reason, "some sentence", Phase.CONNECT)
    failure.certificate = Certificate(1e9, "s", "i")
    told = yaml_checks.judge(check, check.request("http://host"), failure)
    assert (told.outcome, told.reason) == (outcome, "some sentence")
    assert told.facts == {
        "asked": "GET http://host/",
        "got": "some sentence",
        "want": "status 2xx, latency 1s",
        "code": str(reason),
        "certificate_expiry": 1e9,
    }


@pytest.mark.parametrize(("days", "sentences"), [(5, []), (20, ["a certificate valid for 20 days (got 10.0)"])])
def test_the_days_of_a_certificate(tmp_path: Path, days: int, sentences: list[str]) -> None:
    check = one(tmp_path, f"expect: {{certificate_days: {days}}}")
    told = answer(200)
    told.certificate = Certificate(time.time() + 10 * 86400, "s", "i")
    assert list(check.unmet(told)) == sentences
    told.certificate = None
    assert list(check.unmet(told)) == [f"a certificate valid for {days} days (got plain HTTP)"]


def test_the_page_names_every_key() -> None:
    schema = json.loads(resources.files("upcheck").joinpath("schemas/checks.json").read_text())
    keys = set(schema["$defs"]["check"]["properties"]) - {"expect"}
    keys |= {f"expect.{key}" for key in schema["$defs"]["url_expect"]["properties"]}
    page = (ROOT / "docs/checks.md").read_text().partition("## In YAML")[2].partition("## Outcomes")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`([\w.]+)`", row)} == keys


def test_what_a_run_tells(repo: Repo, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPCHECK_NO_SUCH", raising=False)
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    target = serve(talk)
    port = free_port()
    repo.write(
        "checks/some.yml",
        f"""checks:
          - {{name: held, url: /a, method: POST, body: x, headers: {{X-A: b}}}}
          - {{name: down, url: "http://127.0.0.1:{port}/"}}
          - {{name: lacking, url: /b, headers: {{X-A: "${{UPCHECK_NO_SUCH}}"}}}}
          - {{name: proxied, url: "https://127.0.0.1:{port}/", proxy: "http://127.0.0.1:{port}"}}
          - {{name: ours, url: "{target.replace("http:", "https:")}/", ca_file: none.pem}}
        """,
    )
    repo.pytest(f"--target={target}", "--results=results.jsonl")
    lines = [json.loads(line) for line in (repo.path / "results.jsonl").read_text().splitlines()]
    told = {line["check"].rpartition("::")[2]: line for line in lines if "outcome" in line}
    assert heard[0].startswith(b"POST /a HTTP/1.1\r\n")
    assert b"\r\nUser-Agent: upcheck\r\nAccept: */*\r\n" in heard[0]
    assert told["held"]["outcome"] == "held"
    assert told["held"]["facts"]["status"] == 200
    assert set(told["held"]["facts"]["phases"]) == {"resolve", "connect", "tls", "processing", "transfer"}
    assert told["down"]["outcome"] == "failed"
    assert (told["down"]["facts"]["code"], told["down"]["facts"]["got"]) == ("connection_refused", "Connection refused")
    assert told["lacking"]["outcome"] == "error"
    assert "the variable UPCHECK_NO_SUCH is not set" in told["lacking"]["reason"]
    assert told["proxied"]["facts"]["code"] == "proxy_failed"
    assert (told["ours"]["outcome"], told["ours"]["facts"]["code"]) == ("error", "certificate_file")
    assert "none.pem" in told["ours"]["reason"]
