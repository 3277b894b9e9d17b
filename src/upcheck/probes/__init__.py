"""The probes: one module for each protocol that a check can speak, all under the contract in this file.

A probe is a frozen dataclass of what to ask. It has a `journey`, a generator that yields what it waits for, so that
one thread can drive thousands (`multi`) or the calling thread one (`single`); or, where it can only block, an
`ask`, which gets a thread. See docs/probes/README.md.
"""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from upcheck.probes.reach import ANYWHERE as ANYWHERE
from upcheck.probes.reach import Reach as Reach


class Phase(StrEnum):
    """Where an exchange stands."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    PROCESSING = "processing"
    TRANSFER = "transfer"

    @property
    def words(self) -> str:
        """What was going on, for a sentence."""
        return _WORDS[self]


_WORDS = {
    Phase.RESOLVE: "resolving the name",
    Phase.CONNECT: "connecting",
    Phase.TLS: "in the TLS handshake",
    Phase.PROCESSING: "waiting for the answer",
    Phase.TRANSFER: "reading the body",
}


class Reason(StrEnum):
    """Why a probe failed: a bounded set, fit for a label. docs/probes/README.md says what each means."""

    NAME_NOT_FOUND = "name_not_found"
    NAME_SERVER_FAILED = "name_server_failed"
    NAME_TIMEOUT = "name_timeout"
    RESOLVER_STUCK = "resolver_stuck"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_TIMEOUT = "tls_timeout"
    TLS_NOT_SPOKEN = "tls_not_spoken"
    TLS_FAILED = "tls_failed"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_WRONG_HOST = "certificate_wrong_host"
    CERTIFICATE_SELF_SIGNED = "certificate_self_signed"
    CERTIFICATE_UNKNOWN_ISSUER = "certificate_unknown_issuer"
    CERTIFICATE_INVALID = "certificate_invalid"
    TIMEOUT = "timeout"
    RESET = "reset"
    BROKEN_OFF = "broken_off"
    MALFORMED = "malformed"
    BAD_ENCODING = "bad_encoding"
    BODY_TOO_LARGE = "body_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    REDIRECT_REFUSED = "redirect_refused"
    ADDRESS_REFUSED = "address_refused"
    PROXY_FAILED = "proxy_failed"
    UNEXPECTED_ANSWER = "unexpected_answer"
    STATUS = "status"
    NOT_SERVING = "not_serving"
    UNKNOWN_SERVICE = "unknown_service"
    NO_STARTTLS = "no_starttls"
    TTL_EXCEEDED = "ttl_exceeded"
    REPORTED_DOWN = "reported_down"
    NO_REPORT = "no_report"
    NOT_RUNNING = "not_running"
    NOT_LISTENING = "not_listening"
    AUTHENTICATION_FAILED = "authentication_failed"
    TLS_REQUIRED = "tls_required"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    NEAR_LIMIT = "near_limit"
    STARTING_UP = "starting_up"
    SHUTTING_DOWN = "shutting_down"
    UNKNOWN_DATABASE = "unknown_database"
    READ_ONLY = "read_only"
    QUERY_FAILED = "query_failed"
    WRONG_ROLE = "wrong_role"
    REPLICATION_LAG = "replication_lag"
    REPLICATION_BROKEN = "replication_broken"
    OUT_OF_MEMORY = "out_of_memory"
    PERSISTENCE_FAILED = "persistence_failed"
    UNKNOWN_CONTAINER = "unknown_container"
    UNHEALTHY = "unhealthy"
    CERTIFICATE_FILE = "certificate_file"
    NOT_PERMITTED = "not_permitted"
    MISSING_EXTRA = "missing_extra"
    OWN_RESOURCES = "own_resources"
    CRASHED = "crashed"
    OTHER = "other"

    @property
    def ours(self) -> bool:
        """Whether the trouble is on this machine, so that nothing is told of the target."""
        return self in _OURS

    @property
    def of_certificate(self) -> bool:
        """Whether the target's certificate was not accepted."""
        return self.startswith("certificate_") and self is not Reason.CERTIFICATE_FILE


_OURS = {
    Reason.CRASHED,
    Reason.OWN_RESOURCES,
    Reason.RESOLVER_STUCK,
    Reason.CERTIFICATE_FILE,
    Reason.NOT_PERMITTED,
    Reason.MISSING_EXTRA,
}
STARVED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
TIMEOUTS = {
    Phase.RESOLVE: Reason.NAME_TIMEOUT,
    Phase.CONNECT: Reason.CONNECT_TIMEOUT,
    Phase.TLS: Reason.TLS_TIMEOUT,
    Phase.PROCESSING: Reason.TIMEOUT,
    Phase.TRANSFER: Reason.TIMEOUT,
}


@dataclass(slots=True)
class Certificate:
    """What the target shows of itself: *not_after* in unix seconds, the names as OpenSSL writes them."""

    not_after: float
    subject: str
    issuer: str


class ProbeFailure(Exception):
    """A probe failed. The sentence says why; *elapsed* in seconds; *certificate* where one was seen."""

    def __init__(self, reason: Reason, sentence: str, phase: Phase, elapsed: float = 0.0) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.phase = phase
        self.elapsed = elapsed
        self.certificate: Certificate | None = None
        self.address = ""  # who was asked, where it came to that

    def again(self) -> ProbeFailure:
        """Another of the same, for another who waited for the same."""
        return ProbeFailure(self.reason, str(self), self.phase, self.elapsed)


class ProbeError(ValueError):
    """A probe that can't be meant, in a sentence."""


def timeout_sentence(deadline: float, phase: Phase, elapsed: float) -> str:
    """What is said when the *deadline* has passed."""
    return f"no complete answer within {deadline:g} s ({phase.words}, given up after {elapsed:.1f} s)"


def broken_sentence(error: OSError, phase: Phase) -> tuple[Reason, str]:
    """What an *error* of the system means for whoever stands in *phase*."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in STARVED:
        return Reason.OWN_RESOURCES, f"not asked: this machine has no file descriptor, port or memory for it ({why})"
    if error.errno == errno.ECONNREFUSED:
        return Reason.CONNECTION_REFUSED, why
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return Reason.RESET, f"{why}, {phase.words}"
    if error.errno == errno.ETIMEDOUT:
        return TIMEOUTS[phase], why
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINVAL, errno.EAFNOSUPPORT, errno.EACCES):
        return Reason.UNREACHABLE, why
    return Reason.OTHER, f"{why}, {phase.words}"


@dataclass(slots=True)
class Lookup:
    """A step: the addresses of *host*, until the monotonic second *until*. Answered with a list of addresses."""

    host: str
    until: float


READ, WRITE = 1, 4  # POLLIN and POLLOUT


class Wait:
    """A step: until the descriptor *fd* is ready for *events*. Answered with whether it is, or with False at *until*.

    A step of one journey may be changed and yielded again.
    """

    __slots__ = ("events", "fd", "until")

    def __init__(self, fd: int, events: int, until: float) -> None:
        self.fd = fd
        self.events = events
        self.until = until


class Run:
    """One run of a probe, as its journey goes on: its end (*until*, monotonic seconds), what it may reach, its notes.

    *phases* are seconds by name; *metrics* are samples as Prometheus writes them, the part before the value as key;
    *phase* is where it stands and *given* the seconds that it has, for the sentence of a timeout; *log* is None where
    nobody will read it.
    """

    __slots__ = ("address", "began", "given", "log", "looking", "metrics", "phase", "phases", "reach", "until")

    def __init__(
        self, deadline: float, until: float | None, reach: Reach = ANYWHERE, log: list[tuple[float, str]] | None = None
    ) -> None:
        """*until*, a monotonic second, is there in place of the *deadline*, which is in seconds."""
        self.began = time.monotonic()
        self.until = self.began + deadline if until is None else until
        self.given = self.until - self.began
        self.reach = reach
        self.log = log
        self.phase = Phase.RESOLVE
        self.phases: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.address = ""
        self.looking = False  # only for a certificate that was not accepted: nothing is told to who shows it

    def note(self, sentence: str) -> None:
        """Have *sentence* in the log, where one is kept."""
        if self.log is not None:
            self.log.append((time.monotonic() - self.began, sentence))

    def spent(self, phase: str, since: float) -> float:
        """Add the time *since* a monotonic second to *phase*; the monotonic second that it is now."""
        now = time.monotonic()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - since
        return now

    def reached(self, address: str) -> None:
        """Take *address* for the one that is asked."""
        self.address = address
        if address:
            self.metrics["probe_ip_protocol"] = 6 if ":" in address else 4

    def fail(self, reason: Reason, sentence: str) -> ProbeFailure:
        """The failure to raise."""
        return ProbeFailure(reason, sentence, self.phase)

    def late(self) -> ProbeFailure:
        """The failure of what had no answer in time."""
        return ProbeFailure(TIMEOUTS[self.phase], "", self.phase)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe tells. *duration* and *phases* in seconds; *reason* and *sentence* are there where it failed.

    *metrics* are blackbox_exporter's samples by name and labels, such as `probe_dns_answer_rrs`; *log* has what was
    done, by seconds since the start, where that was asked for; *address* is who was asked, where it came to that.
    """

    success: bool
    duration: float
    reason: Reason | None = None
    sentence: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    address: str = ""
    log: tuple[tuple[float, str], ...] = ()

    @property
    def elapsed(self) -> float:
        """As *duration*, in the word of an HTTP answer."""
        return self.duration

    @property
    def certificate_expiry(self) -> float | None:
        """When the first certificate that was shown expires, in unix seconds; None where none was."""
        return self.metrics.get("probe_ssl_earliest_cert_expiry")


Step = Any  # Lookup, Wait, or one of HTTP's own: what the drivers know
Journey = Generator[Step, Any, None]


class Probe(ABC):
    """What to ask: a frozen dataclass, whose fields say it all.

    *deadline* seconds bound it, from the name to the last byte; it is also bounded in bytes.
    """

    __slots__ = ()
    kind: ClassVar[str]
    deadline: float

    @property
    @abstractmethod
    def asked(self) -> str:
        """What is asked, in a line, without secrets."""


class Travelling(Probe):
    """A probe that waits by yielding Steps."""

    __slots__ = ()

    @abstractmethod
    def journey(self, run: Run) -> Journey:
        """Ask; returns where the target is as it should be, and raises ProbeFailure or OSError where it is not."""


class Blocking(Probe):
    """A probe that can only block, as the libraries of databases do. It has a thread for as long as it takes."""

    __slots__ = ()

    @abstractmethod
    def ask(self, run: Run) -> None:
        """As `journey`, in the calling thread, which must be free again at *run.until*."""


def walk(
    probe: Travelling, until: float | None = None, reach: Reach = ANYWHERE, *, log: bool = False
) -> Generator[Step, Any, ProbeResult]:
    """The steps of *probe*, each to be answered or to have a ProbeFailure thrown in; returns its ProbeResult.

    *until*, a monotonic second, is there in place of its own deadline.
    """
    run = Run(probe.deadline, until, reach, [] if log else None)
    try:
        yield from probe.journey(run)
    except Exception as error:  # noqa: BLE001 - a fault of ours in one probe must not end the others
        return failed(run, error)
    return held(run)


def block(probe: Blocking, until: float | None = None, *, log: bool = False, given: float | None = None) -> ProbeResult:
    """The result of a probe that blocks, in the calling thread, which may have begun later than it was *given* time."""
    run = Run(probe.deadline, until, log=[] if log else None)
    run.given = run.given if given is None else given
    try:
        probe.ask(run)
    except Exception as error:  # noqa: BLE001 - as above, and a library may raise anything
        return failed(run, error)
    return held(run)


def held(run: Run) -> ProbeResult:
    """The result of *run*, which ended well."""
    took = time.monotonic() - run.began
    return ProbeResult(True, took, None, "", run.phases, run.metrics, run.address, tuple(run.log or ()))


def failed(run: Run, error: Exception) -> ProbeResult:
    """The result of *run*, which ended with *error*."""
    took = time.monotonic() - run.began
    if isinstance(error, ProbeFailure):
        reason, sentence, phase = error.reason, str(error), error.phase
        if not sentence and reason in TIMEOUTS.values():
            sentence = timeout_sentence(round(run.given, 2), phase, took)
    elif isinstance(error, OSError):
        reason, sentence = broken_sentence(error, run.phase)
    else:
        reason, sentence = Reason.CRASHED, f"not asked: upcheck itself failed: {type(error).__name__}: {error}"
    run.note(sentence)
    return ProbeResult(False, took, reason, sentence, run.phases, run.metrics, run.address, tuple(run.log or ()))
