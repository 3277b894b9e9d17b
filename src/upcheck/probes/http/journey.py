"""One exchange from the name to the last answer: hop by hop, under one deadline, whoever drives it."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from urllib.parse import urljoin

from upcheck.probes import ANYWHERE, Lookup, Reach, timeout_sentence
from upcheck.probes.addresses import is_address
from upcheck.probes.http.exchange import Answer, Certificate, HttpFailure, Phase, Phases, Reason, Request
from upcheck.probes.http.url import RequestError, is_link_local, redacted, sounds_secret

_REDIRECTS = {301, 302, 303, 307, 308}
_USERINFO = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/?#]*@")


@dataclass(slots=True)
class Transfer:
    """A step: ask *request*, at *addresses* where its host is a name. Answered with an Answer.

    *resolved* seconds went into the name; all is over at the monotonic second *until*.
    """

    request: Request
    addresses: list[str] | None
    resolved: float
    until: float


@dataclass(slots=True)
class Peer:
    """A step: the certificate that is shown to *request*, whether or not it is to be trusted; None where none is."""

    transfer: Transfer


Step = Lookup | Transfer | Peer
Outcome = Answer | HttpFailure
Journey = Generator[Step, list[str] | Answer | Certificate | None, Answer]


def journey(request: Request, until: float | None = None, reach: Reach = ANYWHERE) -> Journey:
    """The steps of *request*, each to be answered or to have an HttpFailure thrown in; returns the Answer.

    Raises HttpFailure, whose *elapsed* is set. *until*, a monotonic second, is there in place of its own deadline.
    *reach* bounds what each hop may connect to.
    """
    began = time.monotonic()
    if until is None:
        until = began + request.deadline
    hop, redirects = request, 0
    phases, elapsed = Phases(), 0.0
    try:
        while True:
            answer = yield from _hop(hop, until, reach)
            if request.follow_redirects and answer.status in _REDIRECTS and answer.header("location") is not None:
                if redirects == request.max_redirects:
                    sentence = f"more than {request.max_redirects} redirects, the last to {_leads(answer)}"
                    raise HttpFailure(Reason.TOO_MANY_REDIRECTS, sentence, Phase.TRANSFER)
                redirects += 1
                phases, elapsed = phases + answer.phases, elapsed + answer.elapsed
                hop = redirected(hop, answer)
                continue
            if redirects:
                answer.phases, answer.elapsed = phases + answer.phases, elapsed + answer.elapsed
                answer.redirects = redirects
            return answer
    except HttpFailure as failure:
        failure.elapsed = time.monotonic() - began
        if failure.reason in _TIMEOUTS:
            failure.args = (timeout_sentence(until - began, failure.phase, failure.elapsed),)
        raise


_TIMEOUTS = {Reason.NAME_TIMEOUT, Reason.CONNECT_TIMEOUT, Reason.TLS_TIMEOUT, Reason.TIMEOUT}


def _hop(
    request: Request, until: float, reach: Reach
) -> Generator[Step, list[str] | Answer | Certificate | None, Answer]:
    place = request.via or request.target
    addresses: list[str] | None = None
    resolved = 0.0
    host = request.connect_to or place.host
    if not place.literal or request.connect_to is not None:
        began = time.monotonic()
        found = [host] if is_address(host) else (yield Lookup(host, until))
        assert isinstance(found, list)
        addresses, resolved = request.prefer.chosen(found), time.monotonic() - began
        if not addresses:
            sentence = f"the name {host} has no address of {request.ip_protocol}"
            raise HttpFailure(Reason.NAME_NOT_FOUND, sentence, Phase.RESOLVE)
    for one in addresses or [place.host]:
        if refusal := reach.refuses(one):
            raise HttpFailure(Reason.ADDRESS_REFUSED, refusal, Phase.RESOLVE)
    if request.refuse_link_local:
        _refuse_link_local(request, addresses if request.via is None else None)
    step = Transfer(request, addresses, resolved, until)
    try:
        answer = yield step
    except HttpFailure as failure:
        failure.address = (addresses or [place.host])[0]
        if failure.reason.of_certificate:
            peer = yield Peer(step)
            failure.certificate = peer if isinstance(peer, Certificate) else None
        raise
    assert isinstance(answer, Answer)
    return answer


def _refuse_link_local(request: Request, addresses: list[str] | None) -> None:
    for one in addresses or [request.target.host]:
        if is_link_local(one):
            sentence = f"a redirect to {request.target.shown} was not followed: {one} is a link-local address"
            raise HttpFailure(Reason.REDIRECT_REFUSED, sentence, Phase.RESOLVE)


def redirected(request: Request, answer: Answer) -> Request:
    """What to ask where *answer* leads; raises HttpFailure where that is not to be followed.

    Credentials stay with the scheme, host and port they were meant for.
    """
    location = answer.header("location") or ""
    place = urljoin(request.target.url, _USERINFO.sub(r"\1//", location))
    method, body = request.method, request.body
    if (answer.status == 303 and method != "HEAD") or (answer.status in (301, 302) and method == "POST"):
        method, body = "GET", b""
    headers = request.headers
    if request.target.authorization and not any(name.lower() == "authorization" for name, _ in headers):
        headers += (("Authorization", request.target.authorization),)
    if body != request.body:
        headers = tuple(one for one in headers if not one[0].lower().startswith("content-"))
    refuse = request.refuse_link_local or not is_link_local(answer.remote_address)
    try:
        if any(character < " " or character == "\x7f" for character in location):
            raise RequestError("it has a control character in it")
        new = replace(request, url=place, method=method, body=body, headers=headers, refuse_link_local=refuse)
    except RequestError as error:
        sentence = f"a redirect to {_leads(answer)} was not followed: {error}"
        raise HttpFailure(Reason.REDIRECT_REFUSED, sentence, Phase.TRANSFER) from None
    if new.target.origin != request.target.origin:
        new = replace(new, headers=tuple(one for one in headers if not is_bound(one[0])))
    return new


def _leads(answer: Answer) -> str:
    return "".join(one if one.isprintable() else "?" for one in redacted(answer.header("location") or ""))


def is_bound(name: str) -> bool:
    """Whether the header *name* is for one origin only."""
    return name.lower() in ("cookie", "host") or sounds_secret(name)
