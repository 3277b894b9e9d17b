"""One probe or request, asked in the calling thread."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Generator
from typing import Any

import pycurl

from upcheck.probes import (
    ANYWHERE,
    Blocking,
    Lookup,
    Phase,
    ProbeFailure,
    ProbeResult,
    Reach,
    Reason,
    Step,
    Travelling,
    Wait,
    block,
    resolver,
    walk,
)
from upcheck.probes.http.curl import Handle
from upcheck.probes.http.exchange import Answer, Certificate, Request
from upcheck.probes.http.journey import Peer, Transfer, journey


class _Kept(threading.local):
    """The handle of each thread."""

    def __init__(self) -> None:
        self.handle: Handle | None = None


_kept = _Kept()


def _forget() -> None:
    _kept.handle = None


os.register_at_fork(after_in_child=_forget)


def fetch(request: Request, until: float | None = None) -> Answer:
    """The answer to *request*, within its deadline; raises ProbeFailure. Any number of threads may call at once.

    *until*, a monotonic second, is there in place of the request's own deadline.
    """
    answer: Answer = drive(journey(request, until))
    return answer


def ask(
    probe: Travelling | Blocking, until: float | None = None, reach: Reach = ANYWHERE, *, log: bool = False
) -> ProbeResult:
    """What *probe* tells, within its deadline, or until the monotonic second *until*. From any number of threads.

    *reach* bounds what it may connect to; *log* has what was done written down.
    """
    if not isinstance(probe, Travelling):
        return block(probe, until, log=log)
    result: ProbeResult = drive(walk(probe, until, reach, log=log))
    return result


def drive(steps: Generator[Step, Any, Any]) -> Any:
    """What *steps* return, each of them answered in the calling thread."""
    try:
        step = next(steps)
        while True:
            try:
                result = _wait(step) if type(step) is Wait else _take(step)
            except ProbeFailure as failure:
                step = steps.throw(failure)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return end.value


def _wait(step: Wait) -> bool:
    poller = select.poll()
    poller.register(step.fd, step.events)
    return bool(poller.poll(max(0.0, step.until - time.monotonic()) * 1000))


def _take(step: Lookup | Transfer | Peer) -> list[str] | Answer | Certificate | None:
    if isinstance(step, Lookup):
        return look_up(step)
    transfer = step.transfer if isinstance(step, Peer) else step
    left = transfer.until - time.monotonic()
    if left <= 0:
        if isinstance(step, Peer):
            return None
        raise ProbeFailure(Reason.TIMEOUT, "", Phase.CONNECT)
    if isinstance(step, Peer):
        return _peer(transfer, left)
    return _perform(transfer, left)


def _perform(step: Transfer, left: float) -> Answer:
    handle = _kept.handle
    _kept.handle = None  # a signal handler or a destructor that asks in the midst of this takes another
    if handle is None:
        handle = Handle()
    try:
        handle.prepare(step, left)
        handle.curl.perform()
        return handle.answer()
    except pycurl.error as error:
        raise handle.failed(error) from None
    finally:
        _kept.handle = handle


def _peer(step: Transfer, left: float) -> Certificate | None:
    handle = Handle()  # of its own: it keeps its connection until it is closed
    try:
        handle.prepare_peer(step, left)
        handle.curl.perform()
        return handle.certificate()
    except pycurl.error:
        return None  # the first failure is told; this was for a fact beside it
    finally:
        handle.curl.close()


def look_up(step: Lookup) -> list[str]:
    """The addresses that *step* asks for; raises ProbeFailure, within its time."""
    known: list[list[str] | ProbeFailure] = []
    heard = threading.Event()

    def told(outcome: list[str] | ProbeFailure) -> None:
        known.append(outcome)
        heard.set()

    asked = resolver.shared()
    asked.ask(step.host, told)
    if not heard.wait(max(0.0, step.until - time.monotonic())):
        raise too_late(asked, step.host)
    if isinstance(known[0], ProbeFailure):
        raise known[0].again()
    return known[0]


def too_late(asked: resolver.Resolver, host: str) -> ProbeFailure:
    """The failure of a name that had no answer in time."""
    return ProbeFailure(Reason.NAME_TIMEOUT, "", Phase.RESOLVE) if asked.asked(host) else asked.stuck(host)
