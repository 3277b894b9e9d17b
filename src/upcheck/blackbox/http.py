"""The exporter's HTTP prober: an exchange of ours, and its conditions."""

from __future__ import annotations

import base64
import email.utils
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from upcheck.probes import Journey, Phase, ProbeError, ProbeFailure, Reason, Run, Travelling
from upcheck.probes.http.exchange import MAX_BODY, Answer, Request
from upcheck.probes.http.journey import journey
from upcheck.probes.http.url import Target
from upcheck.probes.tls import Tls

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?i?B)?")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_VERSIONS = {"HTTP/2": "HTTP/2.0"}


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What fails the probe, in the exporter's words."""

    statuses: tuple[int, ...]
    versions: tuple[str, ...]
    if_ssl: bool
    if_not_ssl: bool
    body: tuple[tuple[re.Pattern[str], bool], ...]  # each with whether a match fails the probe
    headers: tuple[tuple[str, re.Pattern[str], bool, bool], ...]  # and whether the header may be missing

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Conditions:
        """Those among the options of a module."""
        body = [(_expression(one), True) for one in given.get("fail_if_body_matches_regexp") or ()]
        body += [(_expression(one), False) for one in given.get("fail_if_body_not_matches_regexp") or ()]
        headers = [
            (one["header"], _expression(one["regexp"]), fails, bool(one.get("allow_missing", False)))
            for key, fails in (("fail_if_header_matches", True), ("fail_if_header_not_matches", False))
            for one in given.get(key) or ()
        ]
        return cls(
            tuple(given.get("valid_status_codes") or ()),
            tuple(given.get("valid_http_versions") or ()),
            bool(given.get("fail_if_ssl", False)),
            bool(given.get("fail_if_not_ssl", False)),
            tuple(body),
            tuple(headers),
        )

    def judge(self, run: Run, answer: Answer, secure: bool) -> None:
        """Raise ProbeFailure where *answer* is not as it should be."""
        if not (answer.status in self.statuses if self.statuses else answer.is_success):
            raise run.fail(Reason.STATUS, f"the status {answer.status} is not accepted")
        self._judge_texts(run, answer)
        version = _VERSIONS.get(answer.http_version, answer.http_version)
        if self.versions and version not in self.versions:
            raise run.fail(Reason.UNEXPECTED_ANSWER, f"the version {version} is not accepted")
        if secure and self.if_ssl:
            raise run.fail(Reason.UNEXPECTED_ANSWER, "the last hop was over TLS")
        if not secure and self.if_not_ssl:
            raise run.fail(Reason.UNEXPECTED_ANSWER, "the last hop was not over TLS")

    def _judge_texts(self, run: Run, answer: Answer) -> None:
        run.metrics["probe_failed_due_to_regex"] = 1
        for name, expression, fails, optional in self.headers:
            values = [value for one, value in answer.headers if one.lower() == name.lower()]
            if not values:
                if fails or optional:
                    continue
                raise run.fail(Reason.UNEXPECTED_ANSWER, f"there is no header {name}")
            found = any(expression.search(value) for value in values)
            if found is fails:
                raise run.fail(Reason.UNEXPECTED_ANSWER, _told(f"the header {name}", expression, fails))
        text = answer.text if self.body else ""
        for expression, fails in self.body:
            if bool(expression.search(text)) is fails:
                raise run.fail(Reason.UNEXPECTED_ANSWER, _told("the body", expression, fails))
        run.metrics["probe_failed_due_to_regex"] = 0


def _told(what: str, expression: re.Pattern[str], fails: bool) -> str:
    return f"{what} {'matches' if fails else 'does not match'} {expression.pattern!r}"


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ProbeError(f"{text!r} is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class HttpProbe(Travelling):
    """A request, and the conditions of its answer."""

    request: Request
    conditions: Conditions
    deadline: float
    handshake: Mapping[str, Any]
    kind: ClassVar[str] = "http"

    @classmethod
    def of(
        cls,
        target: str,
        deadline: float,
        hostname: str | None,
        given: Mapping[str, Any],
        folder: Path,
        way: Mapping[str, Any],
    ) -> HttpProbe:
        """The probe that a module with the options *given* makes of *target*; *way* is how it is asked and trusted."""
        url = target if "://" in target else f"http://{target}"
        place, name, connect_to = Target.of(url), way["server_name"], None
        headers = _headers(given, folder)
        if hostname:
            headers = [one for one in headers if one[0].lower() != "host"] + [("Host", hostname)]
            name = name or hostname
        if name and place.scheme == "https":
            connect_to = place.host
            shown = f"[{place.host}]" if ":" in place.host else place.host
            if not any(one[0].lower() == "host" for one in headers):
                headers.append(("Host", f"{shown}:{place.port}" if place.port != 443 else shown))
            url = url.replace(f"//{shown}", f"//{name}", 1)
        follow = given.get("follow_redirects", True) and not given.get("no_follow_redirects", False)
        trust: dict[str, Any] = {key: way.get(key) for key in ("verify", "ca_file", "certificate", "key")}
        request = Request(
            url,
            method=given.get("method") or "GET",
            headers=tuple(headers),
            body=str(given.get("body") or "").encode(),
            deadline=deadline,
            follow_redirects=follow,
            max_body=_size(given["body_size_limit"]) if given.get("body_size_limit") else MAX_BODY,
            proxy=given.get("proxy_url") or None,
            http2=given.get("enable_http2", True),
            connect_to=connect_to,
            **{key: way[key] for key in ("ip_protocol", "ip_protocol_fallback", "source_ip")},
            **trust,
        )
        return cls(request, Conditions.of(given), deadline, {**trust, "server_name": name})

    @property
    def asked(self) -> str:
        """The method and the URL."""
        return self.request.asked

    def journey(self, run: Run) -> Journey:
        """Ask, and judge the answer."""
        run.note(f"asking {self.asked}")
        try:
            answer = yield from journey(self.request, run.until, run.reach)
        except ProbeFailure as failure:
            run.reached(failure.address)
            raise
        run.note(f"{answer.status} {answer.reason_phrase} from {answer.remote_address}, {len(answer.body)} bytes")
        run.phase = Phase.TRANSFER
        last = Target.of(answer.url)
        secure = last.scheme == "https"
        _record(run, answer, secure)
        if secure and self.request.proxy is None:
            yield from self._look(run, last, answer.remote_address)
        self.conditions.judge(run, answer, secure)

    def _look(self, run: Run, place: Target, address: str) -> Journey:
        """What the certificate of *place* says, by a handshake of its own: libcurl does not tell all of it."""
        shown = f"[{address}]" if ":" in address else address
        options = {**self.handshake, "server_name": self.handshake["server_name"] or place.host}
        other = Run(0.0, run.until, run.reach)
        with suppress(ProbeFailure, OSError):  # the answer is there; this is for facts beside it
            yield from Tls(f"{shown}:{place.port}", **options).journey(other)
        run.metrics |= {
            key: value for key, value in other.metrics.items() if key.startswith(("probe_ssl", "probe_tls"))
        }


def _record(run: Run, answer: Answer, secure: bool) -> None:
    run.reached(answer.remote_address)
    metrics = run.metrics
    for phase, seconds in answer.phases.rounded().items():
        metrics[f'probe_http_duration_seconds{{phase="{phase}"}}'] = seconds
    length = answer.header("content-length") or ""
    metrics |= {
        "probe_dns_lookup_time_seconds": answer.phases.resolve,
        "probe_http_status_code": answer.status,
        "probe_http_content_length": int(length) if length.isdigit() else -1,
        "probe_http_uncompressed_body_length": len(answer.body),
        "probe_http_redirects": answer.redirects,
        "probe_http_ssl": int(secure),
        "probe_http_version": float(answer.http_version.partition("/")[2]),
    }
    if (changed := answer.header("last-modified")) is not None:
        with suppress(ValueError):  # no date at all
            moment = email.utils.parsedate_to_datetime(changed)
            metrics["probe_http_last_modified_timestamp_seconds"] = moment.timestamp()


def _headers(given: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    headers = [(str(name), str(value)) for name, value in (given.get("headers") or {}).items()]
    names = {name.lower() for name, _ in headers}
    if "accept-encoding" not in names:
        headers.append(("Accept-Encoding", given.get("compression") or "identity"))
    if "authorization" not in names:
        headers += [("Authorization", value) for value in _authorizations(given, folder)]
    return headers


def _authorizations(given: Mapping[str, Any], folder: Path) -> Iterable[str]:
    def secret(options: Mapping[str, Any], key: str) -> str:
        if options.get(f"{key}_file"):
            file = folder / str(options[f"{key}_file"])
            return file.read_text(encoding="utf-8").strip()
        return str(options.get(key) or "")

    if basic := given.get("basic_auth"):
        pair = f"{basic.get('username', '')}:{secret(basic, 'password')}"
        yield f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif authorization := given.get("authorization"):
        yield f"{authorization.get('type') or 'Bearer'} {secret(authorization, 'credentials')}"
    elif given.get("bearer_token") or given.get("bearer_token_file"):
        yield f"Bearer {secret(given, 'bearer_token')}"


def _size(text: str | int) -> int:
    found = _SIZE.fullmatch(str(text))
    if found is None or float(found[1]) <= 0:
        raise ProbeError(f"body_size_limit: {text!r}: expected a size such as 10MB")
    return int(float(found[1]) * _UNITS[(found[2] or "").removesuffix("B")])
