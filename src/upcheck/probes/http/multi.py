"""Many requests at once on one thread: libcurl's multi interface over epoll, or poll where there is none."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

import pycurl

from upcheck.probes.http import resolver
from upcheck.probes.http.curl import Handle
from upcheck.probes.http.exchange import Answer, Certificate, HttpFailure, Phase, Reason, Request
from upcheck.probes.http.journey import Journey, Lookup, Peer, Step, Transfer, journey
from upcheck.probes.http.single import too_late

Done = Callable[[Answer | HttpFailure], None]
_Result = list[str] | Answer | Certificate | HttpFailure | None
MAX_FREE = 1024  # handles kept for the next request
_EPOLL = hasattr(select, "epoll")
_READ, _WRITE = select.POLLIN, select.POLLOUT  # the same numbers in epoll
_BROKEN = select.POLLERR | select.POLLHUP
_EVENTS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}


class _Flight:
    """A request under way."""

    __slots__ = ("done", "looking", "peer", "walk")

    def __init__(self, walk: Journey, done: Done) -> None:
        self.walk = walk
        self.done = done
        self.looking: Lookup | None = None
        self.peer = False


class Multi:
    """Requests under way together. All but `submit` and `wake` is for the one thread that polls.

    A *done* is called on that thread, from within `poll`, once for each request; what it raises, `poll` raises.
    """

    def __init__(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._poller = select.epoll() if _EPOLL else select.poll()
        self._watched: dict[int, int] = {}
        self._free: list[Handle] = []
        self._flying: dict[pycurl.Curl, Handle] = {}
        self._landed: deque[tuple[_Flight, _Result]] = deque()
        self._timer: float | None = None  # monotonic seconds, when curl wants to be called
        self._lookups: list[tuple[float, int, _Flight, Lookup]] = []
        self._number = itertools.count()
        self._inbox: deque[Callable[[], None]] = deque()
        self._resolver = resolver.shared()
        self._waker = _Waker()
        self._poller.register(self._waker.reader, _READ)
        self.in_flight = 0
        self._asleep = False  # or about to be: only then is it worth the writing of a byte to be woken

    def start(self, request: Request, done: Done, until: float | None = None) -> None:
        """Begin *request*; *done* has the Answer, or the HttpFailure, within its deadline.

        *until*, a monotonic second, is there in place of that, for a request that is made once and asked again.
        """
        flight = _Flight(journey(request, until), done)
        self.in_flight += 1
        self._advance(flight, None)

    def submit(self, request: Request, done: Done, until: float | None = None) -> None:
        """As `start`, from any thread."""
        self._inbox.append(lambda: self.start(request, done, until))
        if self._asleep:
            self.wake()

    def wake(self) -> None:
        """Have `poll` return soon; from any thread."""
        self._waker.wake()

    def poll(self, timeout: float) -> None:
        """Wait for at most *timeout* seconds until something happens, and attend to what did."""
        now = time.monotonic()
        wait = timeout
        if self._timer is not None:
            wait = min(wait, self._timer - now)
        if self._lookups:
            wait = min(wait, self._lookups[0][0] - now)
        self._asleep = True  # before the look at the inbox, so that who adds to it afterwards wakes us
        if self._inbox or self._landed:
            self._asleep = False
            wait = 0
        action, waker = self._multi.socket_action, self._waker.reader
        happened = self._poller.poll(self._units(wait))
        self._asleep = False
        for fd, events in happened:
            if fd == waker:
                self._waker.rest()
                continue
            mask = (
                (pycurl.CSELECT_IN if events & _READ else 0)
                | (pycurl.CSELECT_OUT if events & _WRITE else 0)
                | (pycurl.CSELECT_ERR if events & _BROKEN else 0)
            )
            action(fd, mask)
        for _ in range(len(self._inbox)):  # and what comes meanwhile, the next time
            self._inbox.popleft()()
        now = time.monotonic()
        if self._timer is not None and self._timer <= now:
            self._timer = None
            action(pycurl.SOCKET_TIMEOUT, 0)
        self._reap()
        while self._lookups and self._lookups[0][0] <= now:
            _, _, flight, step = heapq.heappop(self._lookups)
            if flight.looking is step:
                self._resolved(flight, step, too_late(self._resolver, step.host))

    def _units(self, wait: float) -> float:
        return max(0.0, wait) if _EPOLL else max(0.0, wait) * 1000

    def close(self) -> None:
        """Give up all that is under way, unanswered, and let the descriptors go."""
        for curl in self._flying:
            self._multi.remove_handle(curl)
            curl.close()
        self._flying.clear()
        self.in_flight = 0
        self._multi.close()
        for handle in self._free:
            handle.curl.close()
        self._free.clear()
        if _EPOLL and isinstance(self._poller, select.epoll):
            self._poller.close()
        self._waker.close()

    def _advance(self, flight: _Flight, result: _Result) -> None:
        """Take the flight's next step, or tell how it ended."""
        end: Answer | HttpFailure
        try:
            while True:
                step = flight.walk.throw(result) if isinstance(result, HttpFailure) else flight.walk.send(result)
                trouble = self._take(flight, step)
                if trouble is None:
                    return
                result = None if isinstance(step, Peer) else trouble
        except StopIteration as stop:
            end = stop.value
        except HttpFailure as failure:
            end = failure
        self.in_flight -= 1
        flight.done(end)

    def _take(self, flight: _Flight, step: Step) -> HttpFailure | None:
        """Begin *step*; a failure where it can't even begin."""
        if isinstance(step, Lookup):
            flight.looking = step
            heapq.heappush(self._lookups, (step.until, next(self._number), flight, step))
            self._resolver.ask(step.host, lambda outcome: self._hear(flight, step, outcome))
            return None
        flight.peer = isinstance(step, Peer)
        transfer = step.transfer if isinstance(step, Peer) else step
        left = transfer.until - time.monotonic()
        if left <= 0:
            return HttpFailure(Reason.TIMEOUT, "", Phase.CONNECT)
        return self._fly(flight, transfer, left)

    def _fly(self, flight: _Flight, step: Transfer, left: float) -> HttpFailure | None:
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

    def _hear(self, flight: _Flight, step: Lookup, outcome: list[str] | HttpFailure) -> None:
        """On a thread of the resolver, or our own."""
        known = outcome.again() if isinstance(outcome, HttpFailure) else outcome
        self._inbox.append(lambda: self._resolved(flight, step, known))
        if self._asleep:
            self.wake()

    def _resolved(self, flight: _Flight, step: Lookup, outcome: list[str] | HttpFailure) -> None:
        if flight.looking is step:
            flight.looking = None
            self._advance(flight, outcome)

    def _reap(self) -> None:
        """Tell of the transfers that ended. Those that a *done* which raises keeps waiting are told of next time."""
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

    def _result(self, handle: Handle, flight: _Flight) -> Answer | Certificate | HttpFailure | None:
        try:
            return handle.certificate() if flight.peer else handle.answer()
        except HttpFailure as failure:
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


class _Waker:
    """A pipe that interrupts a poll, at most one byte full."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._rung = False
        self._closed = False
        self._lock = threading.Lock()

    def wake(self) -> None:
        with self._lock:  # a descriptor that is closed may be another's by now
            if not self._rung and not self._closed:
                self._rung = True
                os.write(self._writer, b"x")

    def rest(self) -> None:
        with self._lock:
            os.read(self.reader, 64)
            self._rung = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.reader)
            os.close(self._writer)
