"""Checks in YAML: a file's checks, validated against the schema that ships, and their judgement on an answer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upcheck import documents, schema
from upcheck.declaration import Declaration, seconds
from upcheck.documents import DocumentError
from upcheck.probes.http.exchange import Answer, HttpFailure, Request, excerpt, summary
from upcheck.probes.http.url import RequestError
from upcheck.result import Outcome

_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class YamlCheck:
    """One entry of a file: *expect* as it stands there, with a status of 2xx where none is given.

    *asking* has what else is said of the request: method, headers, body, follow_redirects, proxy, verify, ca_file,
    max_body, each only where it stands in the file. *folder* is where a relative ca_file is looked for.
    """

    name: str
    url: str
    declaration: Declaration
    expect: Mapping[str, Any]
    line: int
    asking: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    def request(self, base_url: str, environment: Mapping[str, str] = os.environ) -> Request:
        """What to ask of the target at *base_url*, with each `${VARIABLE}` read from *environment*, now.

        Raises RequestError where a variable is missing, or makes something that can't be sent.
        """
        given = {key: _filled(value, environment, f"{self.name}: {key}") for key, value in self.asking.items()}
        given["headers"] = tuple(given.get("headers", {}).items())
        if "ca_file" in given:
            given["ca_file"] = str(self.folder / given["ca_file"])
        if "body" in given:
            given["body"] = given["body"].encode()
        url = _filled(self.url, environment, f"{self.name}: url")
        url = url if not url.startswith("/") else base_url.rstrip("/") + url
        return Request(url, deadline=self.declaration.timeout, **given)

    def unmet(self, answer: Answer) -> Iterator[str]:
        """What of *expect* does not hold of *answer*: a sentence each."""
        for key, wanted in self.expect.items():
            sentence = _JUDGES[key](wanted, answer)
            if sentence:
                yield sentence


def _filled(value: Any, environment: Mapping[str, str], place: str) -> Any:
    """*value* with the variables in its text replaced; `$$` is a dollar sign."""
    if isinstance(value, Mapping):
        return {key: _filled(one, environment, f"{place}: {key}") for key, one in value.items()}
    if not isinstance(value, str) or "$" not in value:
        return value

    def read(found: re.Match[str]) -> str:
        if found[1] is None:
            return "$"
        if found[1] not in environment:
            raise RequestError(f"{place}: the variable {found[1]} is not set in the environment")
        return environment[found[1]]

    return _VARIABLE.sub(read, value)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an exchange tells: HELD with no reason, FAILED, or ERROR where the trouble is our own.

    *facts* are plain values: asked, got and want where something does not hold, and whatever is known of phases
    (seconds by name), status, certificate_expiry (unix seconds) and code (why there was no answer, a bounded set).
    """

    outcome: Outcome
    reason: str
    facts: dict[str, Any]


def judge(check: YamlCheck, request: Request, outcome: Answer | HttpFailure) -> Judgement:
    """Whether *check* holds, now that *request* had this *outcome*."""
    if isinstance(outcome, HttpFailure):
        want = ", ".join(f"{key} {_words(value)}" for key, value in check.expect.items())
        facts: dict[str, Any] = {"asked": request.asked, "got": str(outcome), "want": want, "code": str(outcome.reason)}
        if outcome.certificate is not None:
            facts["certificate_expiry"] = outcome.certificate.not_after
        return Judgement(Outcome.ERROR if outcome.reason.ours else Outcome.FAILED, str(outcome), facts)
    facts = {"status": outcome.status, "phases": outcome.phases.rounded()}
    if outcome.certificate is not None:
        facts["certificate_expiry"] = outcome.certificate.not_after
    unmet = list(check.unmet(outcome))
    if not unmet:
        return Judgement(Outcome.HELD, "", facts)
    want = ", ".join(unmet)
    body = None if outcome.is_success else outcome.text
    got = summary(outcome.status, outcome.reason_phrase, outcome.elapsed, body)
    shown = f"{got}: {excerpt(outcome.text)}" if "body" in check.expect and outcome.is_success else got
    code = next(key for key, wanted in check.expect.items() if _JUDGES[key](wanted, outcome))
    told = {"asked": request.asked, "got": shown, "want": want, "code": code, **facts}
    return Judgement(Outcome.FAILED, f"{got}, wanted {want}", told)


def _words(wanted: Any) -> str:
    """What is wanted, as people write it."""
    if isinstance(wanted, dict):
        return ", ".join(f"{name}: {text}" for name, text in wanted.items())
    return " or ".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)


def load(path: Path) -> list[YamlCheck]:
    """The checks in *path*, in their order; raises DocumentError at the line and column of what is wrong."""
    document = documents.load(path)
    schema.validate(path, document, "checks")
    checks: list[YamlCheck] = []
    for index, entry in enumerate(document["checks"]):
        check = _check(path, document, index)
        if any(check.name == other.name for other in checks):
            mark = documents.where(document, ["checks", index])
            raise DocumentError(path, f"a second check is named '{entry['name']}'", *mark)
        checks.append(check)
    return checks


def _check(path: Path, document: Any, index: int) -> YamlCheck:
    place: list[str | int] = ["checks", index]
    entry = document["checks"][index]
    expect = {"status": "2xx", **entry.get("expect", {})}
    durations: dict[tuple[str, ...], Any] = {(key,): entry[key] for key in ("every", "timeout") if key in entry}
    durations |= {("expect", "latency"): expect["latency"]} if "latency" in expect else {}
    for key, value in durations.items():
        try:
            seconds(value)
        except ValueError as error:
            raise DocumentError(path, f"{key[-1]}: {error}", *documents.where(document, [*place, *key])) from None
    declaration = Declaration.of({key: entry[key] for key in Declaration.__slots__ if key in entry})
    if "latency" in expect and seconds(expect["latency"]) >= declaration.timeout:
        mark = documents.where(document, [*place, "expect", "latency"])
        raise DocumentError(
            path, f"latency: {expect['latency']} is no less than the timeout, {declaration.timeout:g} s", *mark
        )
    asking = {key: entry[key] for key in _ASKING if key in entry}
    check = YamlCheck(
        entry["name"], entry["url"], declaration, expect, documents.where(document, place)[0], asking, path.parent
    )
    _refuse_request(path, document, place, check)
    return check


_ASKING = ("method", "headers", "body", "follow_redirects", "proxy", "verify", "ca_file", "max_body")


class _AnyVariable(dict[str, str]):
    """An environment in which every variable is set, for what is known before one is."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "0"


def _refuse_request(path: Path, document: Any, place: list[str | int], check: YamlCheck) -> None:
    """What could never be sent is a mistake in the file."""
    asking = {key: value for key, value in check.asking.items() if key != "proxy" or "$" not in value}
    try:
        replace(check, asking=asking).request("http://localhost", _AnyVariable())
    except RequestError as error:
        raise DocumentError(path, str(error), *documents.where(document, place)) from None


def _status(wanted: Any, answer: Answer) -> str | None:
    accepted = wanted if isinstance(wanted, list) else [wanted]
    if answer.status in accepted or f"{answer.status // 100}xx" in accepted:
        return None
    return f"status {' or '.join(map(str, accepted))}"


def _latency(wanted: Any, answer: Answer) -> str | None:
    return None if answer.elapsed <= seconds(wanted) else f"latency within {wanted}"


def _body(wanted: str, answer: Answer) -> str | None:
    return None if wanted in answer.text else f"a body that contains {wanted!r}"


def _header(wanted: Mapping[str, str], answer: Answer) -> str | None:
    unmet = {name: text for name, text in wanted.items() if text not in (answer.header(name) or "")}
    if not unmet:
        return None
    return "header " + ", ".join(
        f"{name} with {text!r} (got {answer.header(name) or 'none'!r})" for name, text in unmet.items()
    )


def _certificate_days(wanted: float, answer: Answer) -> str | None:
    if answer.certificate is None:
        return f"a certificate valid for {wanted:g} days (got plain HTTP)"
    left = (answer.certificate.not_after - time.time()) / 86400
    return None if left >= wanted else f"a certificate valid for {wanted:g} days (got {left:.1f})"


_JUDGES: Mapping[str, Callable[[Any, Answer], str | None]] = {
    "status": _status,
    "latency": _latency,
    "body": _body,
    "header": _header,
    "certificate_days": _certificate_days,
}
