"""Checks in YAML: a file's checks, validated against the schema that ships, and what comes of an answer."""

from __future__ import annotations

import functools
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
from upcheck.probes import Blocking, ProbeError, ProbeFailure, ProbeResult, Travelling
from upcheck.probes.families import FAMILIES
from upcheck.probes.http.exchange import Answer, Request, excerpt, summary
from upcheck.probes.kinds import KINDS, probe_class
from upcheck.result import Outcome

Asked = Request | Travelling | Blocking
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class YamlCheck:
    """One entry of a file: *expect* as it stands there, with a status of 2xx where a URL has none.

    *kind* is `url` or one of the probes' and *subject* what is asked. *asking* has what else is said of it: method,
    headers, body, follow_redirects, proxy, verify, ca_file, max_body of a URL, fields of another probe, each only
    where it stands in the file. *folder* is where a relative ca_file is looked for.
    """

    name: str
    subject: Any
    declaration: Declaration
    expect: Mapping[str, Any]
    line: int
    asking: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    kind: str = "url"

    def asked(self, base_url: str, environment: Mapping[str, str] = os.environ) -> Asked:
        """What to ask, with each `${VARIABLE}` read from *environment*, now; a path of a URL is below *base_url*.

        Raises ProbeError where a variable is missing, or makes something that can't be asked.
        """
        if self.kind == "url":
            return self.request(base_url, environment)
        probe = probe_class(self.kind)
        given = {key: _filled(value, environment, f"{self.name}: {key}") for key, value in self.asking.items()}
        given |= {key: value for key, value in self.expect.items() if key not in _JUDGES_OF_PROBES}
        for key in _FILES & given.keys():
            given[key] = str(self.folder / given[key])
        given[probe.subject] = _filled(self.subject, environment, f"{self.name}: {self.kind}")
        made: Asked = probe(**given, deadline=self.declaration.timeout)
        return made

    def request(self, base_url: str, environment: Mapping[str, str] = os.environ) -> Request:
        """What to ask of the target at *base_url*, with each `${VARIABLE}` read from *environment*, now.

        Raises ProbeError where a variable is missing, or makes something that can't be sent.
        """
        given = {key: _filled(value, environment, f"{self.name}: {key}") for key, value in self.asking.items()}
        given["headers"] = tuple(given.get("headers", {}).items())
        if "ca_file" in given:
            given["ca_file"] = str(self.folder / given["ca_file"])
        if "body" in given:
            given["body"] = given["body"].encode()
        url = _filled(self.subject, environment, f"{self.name}: url")
        url = url if not url.startswith("/") else base_url.rstrip("/") + url
        return Request(url, deadline=self.declaration.timeout, **given)

    def unmet(self, answer: Answer) -> Iterator[str]:
        """What of *expect* does not hold of *answer*: a sentence each."""
        for key, wanted in self.expect.items():
            sentence = _JUDGES[key](wanted, answer)
            if sentence:
                yield sentence


def variables(check: YamlCheck) -> set[str]:
    """The names of the variables that what *check* asks is made of."""
    return {name for name in _VARIABLE.findall(str((check.subject, check.asking))) if name}


def _filled(value: Any, environment: Mapping[str, str], place: str) -> Any:
    """*value* with the variables in its text replaced; `$$` is a dollar sign."""
    if isinstance(value, Mapping):
        return {key: _filled(one, environment, f"{place}: {key}") for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environment, place) for one in value]
    if not isinstance(value, str) or "$" not in value:
        return value

    def read(found: re.Match[str]) -> str:
        if found[1] is None:
            return "$"
        if found[1] not in environment:
            raise ProbeError(f"{place}: the variable {found[1]} is not set in the environment")
        return environment[found[1]]

    return _VARIABLE.sub(read, value)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an exchange tells: HELD with no reason, FAILED, or ERROR where the trouble is our own.

    *facts* are plain values: asked, got and want where something does not hold, and whatever is known of phases
    (seconds by name), status, certificate_expiry (unix seconds), metrics (samples of the probes' families) and code
    (why there was no answer, a bounded set).
    """

    outcome: Outcome
    reason: str
    facts: dict[str, Any]


def ask(check: YamlCheck, asked: Asked) -> Judgement:
    """Ask once, in the calling thread, within the check's timeout; whether *check* holds."""
    from upcheck.probes.single import ask as ask_probe  # libcurl, which a run of rule tests alone should not load
    from upcheck.probes.single import fetch

    outcome: Answer | ProbeFailure | ProbeResult
    try:
        outcome = fetch(asked) if isinstance(asked, Request) else ask_probe(asked)
    except ProbeFailure as failure:
        outcome = failure
    return judge(check, asked, outcome)


def judge(check: YamlCheck, asked: Asked, outcome: Answer | ProbeFailure | ProbeResult) -> Judgement:
    """Whether *check* holds, now that what it *asked* had this *outcome*."""
    if isinstance(outcome, ProbeResult):
        return _judged(check, asked, outcome)
    if isinstance(outcome, ProbeFailure):
        want = ", ".join(f"{key} {_words(value)}" for key, value in check.expect.items())
        facts: dict[str, Any] = {"asked": asked.asked, "got": str(outcome), "want": want, "code": str(outcome.reason)}
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
    told = {"asked": asked.asked, "got": shown, "want": want, "code": code, **facts}
    return Judgement(Outcome.FAILED, f"{got}, wanted {want}", told)


def _judged(check: YamlCheck, asked: Asked, result: ProbeResult) -> Judgement:
    """As `judge`, of what a probe tells."""
    facts: dict[str, Any] = {}
    metrics = {name: round(value, 6) for name, value in result.metrics.items() if _is_exported(name)}
    if metrics:
        facts["metrics"] = metrics
    if (expiry := result.certificate_expiry) is not None:
        facts["certificate_expiry"] = expiry
    if not result.success:
        assert result.reason is not None  # what has failed has one
        want = ", ".join(f"{key} {_words(value)}" for key, value in check.expect.items())
        told = {"asked": asked.asked, "got": result.sentence, "want": want, "code": result.reason.value, **facts}
        return Judgement(Outcome.ERROR if result.reason.ours else Outcome.FAILED, result.sentence, told)
    if not check.expect:
        return Judgement(Outcome.HELD, "", facts)
    judges = [
        (key, _JUDGES_OF_PROBES[key](check.expect[key], result)) for key in _JUDGES_OF_PROBES if key in check.expect
    ]
    unmet = {key: sentence for key, sentence in judges if sentence}
    if not unmet:
        return Judgement(Outcome.HELD, "", facts)
    got, want = f"an answer in {result.duration * 1000:.0f} ms", ", ".join(unmet.values())
    told = {"asked": asked.asked, "got": got, "want": want, "code": next(iter(unmet)), **facts}
    return Judgement(Outcome.FAILED, f"{got}, wanted {want}", told)


_EXPORTED = {family.name for family in FAMILIES}


@functools.lru_cache(4096)  # the same few, at each run
def _is_exported(sample: str) -> bool:
    return sample.partition("{")[0] in _EXPORTED


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
    kind = _kind(path, document, place)
    expect = {**({"status": "2xx"} if kind == "url" else {}), **entry.get("expect", {})}
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
    subject, asking = entry[kind], {key: entry[key] for key in _ASKING if key in entry}
    if isinstance(subject, dict):
        main = probe_class(kind).subject
        subject, asking = subject[main], {key: value for key, value in subject.items() if key != main}
    line = documents.where(document, place)[0]
    check = YamlCheck(entry["name"], subject, declaration, expect, line, asking, path.parent, kind)
    _refuse_asking(path, document, place, check)
    return check


def _kind(path: Path, document: Any, place: list[str | int]) -> str:
    """Which probe an entry is of; raises DocumentError where it is of several, or has what is another's."""
    entry = document["checks"][place[-1]]
    kind, *others = [key for key in entry if key in ("url", *KINDS)]
    if others:
        mark = documents.where(document, [*place, others[0]], key=True)
        raise DocumentError(path, f"'{others[0]}' beside '{kind}': a check asks one of them; make it two checks", *mark)
    for key in entry:
        if kind != "url" and key in _ASKING:
            mark = documents.where(document, [*place, key], key=True)
            raise DocumentError(path, f"'{key}' is for a check of a url, and this is one of {kind}", *mark)
    return str(kind)


_FILES = {"ca_file", "certificate", "key", "pidfile"}
_ASKING = ("method", "headers", "body", "follow_redirects", "proxy", "verify", "ca_file", "max_body")


class _AnyVariable(dict[str, str]):
    """An environment in which every variable is set, for what is known before one is."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "0"


def _refuse_asking(path: Path, document: Any, place: list[str | int], check: YamlCheck) -> None:
    """What could never be asked is a mistake in the file."""
    asking = {key: value for key, value in check.asking.items() if key != "proxy" or "$" not in value}
    subject = "/" if str(check.subject).startswith("${") else check.subject
    if check.kind != "url" and "$" in str(check.subject):  # where it leads is known when it runs
        return
    try:
        replace(check, asking=asking, subject=subject).asked("http://localhost", _AnyVariable())
    except ProbeError as error:
        raise DocumentError(path, str(error), *documents.where(document, place)) from None


def _status(wanted: Any, answer: Answer) -> str | None:
    accepted = wanted if isinstance(wanted, list) else [wanted]
    if answer.status in accepted or f"{answer.status // 100}xx" in accepted:
        return None
    return f"status {' or '.join(map(str, accepted))}"


def _latency(wanted: Any, answer: Answer | ProbeResult) -> str | None:
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


def _certificate_days(wanted: float, answer: Answer | ProbeResult) -> str | None:
    if isinstance(answer, ProbeResult):
        expiry, none = answer.certificate_expiry, "none"
    else:
        expiry, none = answer.certificate.not_after if answer.certificate else None, "plain HTTP"
    if expiry is None:
        return f"a certificate valid for {wanted:g} days (got {none})"
    left = (expiry - time.time()) / 86400
    return None if left >= wanted else f"a certificate valid for {wanted:g} days (got {left:.1f})"


_JUDGES: Mapping[str, Callable[[Any, Answer], str | None]] = {
    "status": _status,
    "latency": _latency,
    "body": _body,
    "header": _header,
    "certificate_days": _certificate_days,
}
_JUDGES_OF_PROBES: Mapping[str, Callable[[Any, ProbeResult], str | None]] = {
    "latency": _latency,
    "certificate_days": _certificate_days,
}
