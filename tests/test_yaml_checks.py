from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from upcheck import yaml_checks
from upcheck.declaration import Declaration
from upcheck.documents import DocumentError


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


def unmet(folder: Path, expect: str, latency: float = 0.1, **response: object) -> list[str]:
    (check,) = yaml_checks.load(write(folder, f"checks: [{{name: a, url: /, expect: {expect}}}]"))
    return list(check.unmet(httpx.Response(**response), latency))  # type: ignore[arg-type]


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
    assert unmet(tmp_path, expect, status_code=status, text="Welcome!") == sentences
