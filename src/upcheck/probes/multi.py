"""Many probes at once on one thread: their journeys over epoll, or poll where there is none; HTTP's through libcurl."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pycurl

from upcheck.probes import (
    ANYWHERE,
    STARVED,
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
    walk,
)
from upcheck.probes import resolver as resolvers
from upcheck.probes.http.curl import Handle
from upcheck.probes.http.journey import Peer, Transfer, journey
from upcheck.probes.single import too_late
from upcheck.probes.threads import Threads

if TYPE_CHECKING:
    from upcheck.probes import Blocking
    from upcheck.probes.http.exchange import Answer, Certificate, Request

Done = Callable[["Answer | ProbeFailure"], None]
Told = Callable[[ProbeResult], None]
_Result = Any  # what a step is answered with, or the ProbeFailure that is thrown in
MAX_FREE = 1024  # handles kept for the next request
GRACE = 0.2  # seconds past its deadline in which a thread may say by itself that it has passed
_EPOLL = hasattr(select, "epoll")
_READ, _WRITE = select.POLLIN, select.POLLOUT  # the same numbers in epoll
_BROKEN = select.POLLERR | select.POLLHUP
_ONCE = select.EPOLLONESHOT if _EPOLL else 0
_EVENTS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}


class _Flight:
    """A journey under way."""

    __slots__ = ("alarm", "done", "fd", "peer", "waiting", "walk")

    def __init__(self, walk: Generator[Step, Any, Any], done: Callable[[Any], None]) -> None:
        self.walk = walk
        self.done = done
        self.waiting: Lookup | Wait | None = None  # what it waits for, where that is not libcurl's
        self.alarm = 0.0  # the monotonic second at which it is looked at, if nothing happens before
        self.fd = -1  # the descriptor that it waited for last
        self.peer = False


class Multi:
    """Probes and requests under way together. All but `submit` and `wake` is for the one thread that polls.

    What is to be told is called on that thread, from within `poll`, once for each; what it raises, `poll` raises.
    """

    def __init__(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._poller = select.epoll() if _EPOLL else select.poll()
        self._watched: dict[int, int] = {}  # libcurl's descriptors, and their events
        self._waiting: dict[int, _Flight] = {}  # those of journeys
        self._free: list[Handle] = []
        self._flying: dict[pycurl.Curl, Handle] = {}
        self._landed: deque[tuple[_Flight, _Result]] = deque()
        self._timer: float | None = None  # monotonic seconds, when curl wants to be called
        self._alarms: list[tuple[float, int, _Flight]] = []
        self._number = itertools.count()
        self._inbox: deque[Callable[[], None]] = deque()
        self._resolver = resolvers.shared()
        self._threads: Threads | None = None
        self._waker = _Waker()
        self._poller.register(self._waker.reader, _READ)
        self.in_flight = 0
        self._asleep = False  # or about to be: only then is it worth the writing of a byte to be woken

    def start(self, request: Request, done: Done, until: float | None = None) -> None:
        """Begin *request*; *done* has the Answer, or the ProbeFailure, within its deadline.

        *until*, a monotonic second, is there in place of that, for a request that is made once and asked again.
        """
        self._begin(journey(request, until), done)

    def probe(
        self,
        probe: Travelling | Blocking,
        told: Told,
        until: float | None = None,
        reach: Reach = ANYWHERE,
        *,
        log: bool = False,
    ) -> None:
        """Begin *probe*; *told* has its ProbeResult, within its deadline. *until* as in `start`."""
        if isinstance(probe, Travelling):
            self._begin(walk(probe, until, reach, log=log), told)
        else:
            self._begin(self._in_thread(probe, until, log), told)

    def submit(self, request: Request, done: Done, until: float | None = None) -> None:
        """As `start`, from any thread."""
        self.call(lambda: self.start(request, done, until))

    def call(self, what: Callable[[], None]) -> None:
        """Have *what* called by the thread that polls, from any thread."""
        self._inbox.append(what)
        if self._asleep:
            self.wake()

    def wake(self) -> None:
        """Have `poll` return soon; from any thread."""
        self._waker.wake()

    def poll(self, timeout: float) -> None:
        """Wait for at most *timeout* seconds until something happens, and attend to what did."""
        self._asleep = True  # before the look at the inbox, so that who adds to it afterwards wakes us
        if self._inbox or self._landed:
            self._asleep = False
            timeout = 0
        happened = self._poller.poll(self._units(self._patience(timeout)))
        self._asleep = False
        for fd, events in happened:
            self._hear_of(fd, events)
        for _ in range(len(self._inbox)):  # and what comes meanwhile, the next time
            self._inbox.popleft()()
        now = time.monotonic()
        if self._timer is not None and self._timer <= now:
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._reap()
        while self._alarms and self._alarms[0][0] <= now:
            self._rung(heapq.heappop(self._alarms)[2], now)

    def _patience(self, timeout: float) -> float:
        """For how long there is nothing to do but to wait: *timeout* at most."""
        soonest = self._alarms[0][0] if self._alarms else None
        if self._timer is not None and (soonest is None or self._timer < soonest):
            soonest = self._timer
        return timeout if soonest is None else min(timeout, soonest - time.monotonic())

    def _hear_of(self, fd: int, events: int) -> None:
        flight = self._waiting.pop(fd, None)
        if flight is not None:
            if not _EPOLL:
                self._poller.unregister(fd)
            flight.waiting = None
            self._landed.append((flight, True))
        elif fd in self._watched:
            self._multi.socket_action(fd, _mask(events))
        elif fd == self._waker.reader:
            self._waker.rest()

    def _units(self, wait: float) -> float:
        return max(0.0, wait) if _EPOLL else max(0.0, wait) * 1000

    def close(self) -> None:
        """Give up all that is under way, unanswered, and let the descriptors go."""
        for curl in self._flying:
            self._multi.remove_handle(curl)
            curl.close()
        self._flying.clear()
        for flight in [*self._waiting.values(), *[one for _, _, one in self._alarms]]:
            flight.waiting = None
            flight.walk.close()
        self._waiting.clear()
        self._alarms.clear()
        self.in_flight = 0
        self._multi.close()
        for handle in self._free:
            handle.curl.close()
        self._free.clear()
        if _EPOLL and isinstance(self._poller, select.epoll):
            self._poller.close()
        self._waker.close()

    def _begin(self, walk: Generator[Step, Any, Any], done: Callable[[Any], None]) -> None:
        flight = _Flight(walk, done)
        self.in_flight += 1
        self._advance(flight, None)

    def _advance(self, flight: _Flight, result: _Result) -> None:
        """Take the flight's next step, or tell how it ended."""
        try:
            while True:
                step = flight.walk.throw(result) if isinstance(result, ProbeFailure) else flight.walk.send(result)
                trouble = self._wait(flight, step) if type(step) is Wait else self._take(flight, step)
                if trouble is None:
                    return
                result = None if isinstance(step, Peer) else trouble
        except StopIteration as stop:
            end = stop.value
        except ProbeFailure as failure:
            end = failure
        self.in_flight -= 1
        flight.done(end)

    def _wait(self, flight: _Flight, step: Wait) -> ProbeFailure | None:
        """Watch the descriptor that *step* names; once, because what it leads to may close it."""
        fd = step.fd
        try:
            if flight.fd == fd and _EPOLL:
                self._poller.modify(fd, step.events | _ONCE)
            else:
                flight.fd = fd
                self._poller.register(fd, step.events | _ONCE)
        except FileNotFoundError:  # it was closed meanwhile, and its number given to another
            self._poller.register(fd, step.events | _ONCE)
        except FileExistsError:  # it was waited for before another was
            self._poller.modify(fd, step.events | _ONCE)
        except OSError as error:
            if error.errno in STARVED:
                return ProbeFailure(Reason.OWN_RESOURCES, resolvers.own_resources(str(error)), Phase.CONNECT)
            raise
        self._waiting[fd] = flight
        flight.waiting = step
        self._arm(flight, step.until)
        return None

    def _arm(self, flight: _Flight, until: float) -> None:
        """Look at *flight* at *until*, unless that is so already: most steps of a journey have one end."""
        if not 0.0 < flight.alarm <= until:
            flight.alarm = until
            heapq.heappush(self._alarms, (until, next(self._number), flight))

    def _rung(self, flight: _Flight, now: float) -> None:
        """The time that *flight* had may be over, or it may have gone on since."""
        step = flight.waiting
        flight.alarm = 0.0
        if step is None:
            return
        if step.until > now:
            self._arm(flight, step.until)
            return
        flight.waiting = None
        if isinstance(step, Lookup):
            self._advance(flight, too_late(self._resolver, step.host))
            return
        if self._waiting.get(step.fd) is flight:
            del self._waiting[step.fd]
            flight.fd = -1
            with contextlib.suppress(OSError, KeyError, ValueError):  # closed already, and forgotten with that
                self._poller.unregister(step.fd)
        self._advance(flight, False)

    def _in_thread(self, probe: Blocking, until: float | None, log: bool) -> Generator[Step, Any, ProbeResult]:
        """The journey of a probe that blocks: it waits for a thread's word."""
        now = time.monotonic()
        end = now + probe.deadline if until is None else until
        if self._threads is None:
            self._threads = Threads()
        reader, writer = os.pipe()
        told: list[ProbeResult] = []

        def ask() -> None:
            told.append(block(probe, end, log=log, given=end - now))

        try:
            self._threads.submit(ask, end, writer)
            yield Wait(reader, _READ, end + GRACE)
        finally:
            os.close(reader)
        if told:
            return told[0]
        return ProbeResult(False, probe.deadline, Reason.TIMEOUT, f"no answer within {probe.deadline:g} s")

    def _take(self, flight: _Flight, step: Step) -> ProbeFailure | None:
        """Begin *step*; a failure where it can't even begin."""
        if isinstance(step, Lookup):
            flight.waiting = step
            self._arm(flight, step.until)
            self._resolver.ask(step.host, lambda outcome: self._hear(flight, step, outcome))
            return None
        flight.peer = isinstance(step, Peer)
        transfer = step.transfer if isinstance(step, Peer) else step
        left = transfer.until - time.monotonic()
        if left <= 0:
            return ProbeFailure(Reason.TIMEOUT, "", Phase.CONNECT)
        return self._fly(flight, transfer, left)

    def _fly(self, flight: _Flight, step: Transfer, left: float) -> ProbeFailure | None:
        handle = self._free.pop() if self._free and not flight.peer else Handle()
        try:
            if flight.peer:
                handle.prepare_peer(step, left)
            else:
                handle.prepare(step, left)
            handle.user = flight
            self._multi.add_handle(handle.curl)
        except pycurl.error as error:
            return handle.failed(error)
        self._flying[handle.curl] = handle
        return None

    def _hear(self, flight: _Flight, step: Lookup, outcome: list[str] | ProbeFailure) -> None:
        """On a thread of the resolver, or our own."""
        known = outcome.again() if isinstance(outcome, ProbeFailure) else outcome
        self.call(lambda: self._resolved(flight, step, known))

    def _resolved(self, flight: _Flight, step: Lookup, outcome: list[str] | ProbeFailure) -> None:
        if flight.waiting is step:
            flight.waiting = None
            self._advance(flight, outcome)

    def _reap(self) -> None:
        """Go on with what is ready. What a *done* that raises keeps waiting has its turn the next time."""
        more = len(self._flying)
        while more:
            more, well, ill = self._multi.info_read()
            for curl in well:
                handle = self._land(curl)
                self._landed.append((handle.user, self._result(handle, handle.user)))
            for curl, code, message in ill:
                handle = self._land(curl)
                flight: _Flight = handle.user
                failure = handle.failure(code, message)
                self._keep(handle, flight)
                self._landed.append((flight, None if flight.peer else failure))
        while self._landed:
            self._advance(*self._landed.popleft())

    def _result(self, handle: Handle, flight: _Flight) -> Answer | Certificate | ProbeFailure | None:
        try:
            return handle.certificate() if flight.peer else handle.answer()
        except ProbeFailure as failure:
            return failure
        finally:
            self._keep(handle, flight)

    def _land(self, curl: pycurl.Curl) -> Handle:
        self._multi.remove_handle(curl)
        return self._flying.pop(curl)

    def _keep(self, handle: Handle, flight: _Flight) -> None:
        handle.user = None
        if flight.peer or len(self._free) >= MAX_FREE:
            handle.curl.close()
        else:
            self._free.append(handle)

    def _watch(self, what: int, fd: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._watched.pop(fd, None)
            with contextlib.suppress(OSError, KeyError):  # closed already, and forgotten by the kernel with that
                self._poller.unregister(fd)
            return
        events = _EVENTS[what]
        known = self._watched.get(fd)
        if known is None:
            self._poller.register(fd, events)
        elif known != events:
            self._poller.modify(fd, events)
        self._watched[fd] = events

    def _set_timer(self, milliseconds: int) -> None:
        self._timer = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _mask(events: int) -> int:
    return (
        (pycurl.CSELECT_IN if events & _READ else 0)
        | (pycurl.CSELECT_OUT if events & _WRITE else 0)
        | (pycurl.CSELECT_ERR if events & _BROKEN else 0)
    )


class _Waker:
    """A pipe that interrupts a poll. A signal's handler may ring it at any moment, also while it is put to rest."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        for end in (self.reader, self._writer):
            os.set_blocking(end, False)
        self._closed = False
        self._lock = threading.RLock()  # which a handler that interrupts its holder can take

    def wake(self) -> None:
        with self._lock:  # a descriptor that is closed may be another's by now
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # full: it rings already
                    os.write(self._writer, b"x")

    def rest(self) -> None:
        os.read(self.reader, 65536)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.reader)
            os.close(self._writer)
