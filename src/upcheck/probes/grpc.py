"""gRPC: the standard question for health, grpc.health.v1, over libcurl's HTTP/2. See docs/probes/grpc.md."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from upcheck.exposition import labelled
from upcheck.probes import Journey, Phase, ProbeError, ProbeFailure, Reason, Run
from upcheck.probes.http.exchange import Answer, Request
from upcheck.probes.http.journey import journey
from upcheck.probes.sockets import OverSocket

STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_NOT_KNOWN = ("NOT_FOUND", "UNIMPLEMENTED")
_SERVING = {one: labelled("probe_grpc_healthcheck_response", [("serving_status", one)]) for one in STATUSES}
MAX_ANSWER = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grpc(OverSocket):
    """Whether *service* at *address* says that it serves; the server as a whole where none is named.

    With *tls*, what of `Trust` libcurl knows. *metadata* are headers to send.
    """

    service: str = ""
    tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    request: Request = field(init=False)
    kind: ClassVar[str] = "grpc"

    def __post_init__(self) -> None:
        OverSocket.__post_init__(self)
        name = self.service.encode()
        if len(name) > 1000:
            raise ProbeError(f"service: a name of {len(name)} bytes: expected 1000 at most")
        told = b"\x0a" + _varint(len(name)) + name if name else b""
        authority = self.server_name or self.place.host
        host = f"[{authority}]" if ":" in authority else authority
        request = Request(
            f"http{'s' if self.tls else ''}://{host}:{self.place.port}/grpc.health.v1.Health/Check",
            method="POST",
            headers=(("Content-Type", "application/grpc"), ("TE", "trailers"), *self.metadata.items()),
            body=b"\0" + len(told).to_bytes(4, "big") + told,
            deadline=self.deadline,
            follow_redirects=False,
            max_body=MAX_ANSWER,
            verify=self.verify,
            ca_file=self.ca_file,
            certificate=self.certificate,
            key=self.key,
            http2=True,
            prior_knowledge=not self.tls,
            connect_to=self.place.host if authority != self.place.host else None,
            ip_protocol=self.ip_protocol,
            ip_protocol_fallback=self.ip_protocol_fallback,
            source_ip=self.source_ip,
        )
        object.__setattr__(self, "request", request)

    @property
    def asked(self) -> str:
        """Which service, and where."""
        return f"grpc {self.place.shown}{f' {self.service}' if self.service else ''}"

    def journey(self, run: Run) -> Journey:
        """Ask for health, and judge the answer."""
        metrics = run.metrics
        metrics["probe_grpc_ssl"] = int(self.tls)
        metrics |= dict.fromkeys(_SERVING.values(), 0)
        run.note(f"asking {self.place.shown} for the health of {self.service or 'the server'}")
        began = time.monotonic()
        try:
            answer = yield from journey(self.request, run.until, run.reach)
        except ProbeFailure as failure:
            metrics["probe_grpc_status_code"] = _CODES.index("UNAVAILABLE")
            run.reached(failure.address)
            if failure.certificate is not None:
                metrics["probe_ssl_earliest_cert_expiry"] = failure.certificate.not_after
            raise
        _record(run, answer, time.monotonic() - began)
        self._judge(run, answer)

    def _judge(self, run: Run, answer: Answer) -> None:
        run.phase = Phase.PROCESSING
        kind = answer.header("content-type") or ""
        if answer.status != 200 or not kind.startswith("application/grpc"):
            got = f"HTTP status {answer.status}, {kind or 'no content type'}"
            raise run.fail(Reason.MALFORMED, f"the answer is no gRPC: {got}")
        code = _trailer(answer, b"grpc-status")
        if not code.isdigit():
            raise run.fail(Reason.BROKEN_OFF, "the answer broke off: it has no grpc-status")
        run.metrics["probe_grpc_status_code"] = int(code)
        name = _CODES[int(code)] if int(code) < len(_CODES) else code
        if name != "OK":
            reason = Reason.UNKNOWN_SERVICE if name in _NOT_KNOWN else Reason.STATUS
            said = _trailer(answer, b"grpc-message")[:100]
            raise run.fail(reason, f"{name}{f': {said}' if said else ''}")
        status = _status(answer.body)
        if status is None:
            raise run.fail(Reason.MALFORMED, "the answer is no HealthCheckResponse")
        run.metrics[_SERVING[status]] = 1
        run.note(f"the service says {status}")
        if status != "SERVING":
            reason = Reason.UNKNOWN_SERVICE if status == "SERVICE_UNKNOWN" else Reason.NOT_SERVING
            raise run.fail(reason, f"the service says {status}")


def _record(run: Run, answer: Answer, took: float) -> None:
    run.phases.update(answer.phases.rounded())
    run.reached(answer.remote_address)
    metrics = run.metrics
    metrics['probe_grpc_duration_seconds{phase="resolve"}'] = answer.phases.resolve
    metrics['probe_grpc_duration_seconds{phase="check"}'] = took - answer.phases.resolve
    metrics["probe_dns_lookup_time_seconds"] = answer.phases.resolve
    if answer.certificate is not None:
        metrics["probe_ssl_earliest_cert_expiry"] = answer.certificate.not_after


def _trailer(answer: Answer, name: bytes) -> str:
    """The trailer *name*, which is a header where there is no body."""
    for line in (*answer.trailers, *answer.lines[1:]):
        key, colon, value = line.partition(b":")
        if colon and key.strip().lower() == name:
            return value.strip().decode("latin-1")
    return ""


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


def _status(body: bytes) -> str | None:
    """The status in a HealthCheckResponse; None where *body* is none. Protobuf leaves out what is 0."""
    if len(body) < 5 or body[0] != 0 or int.from_bytes(body[1:5], "big") != len(body) - 5:
        return None
    told = body[5:]
    if not told:
        return STATUSES[0]
    if len(told) != 2 or told[0] != 8 or told[1] >= len(STATUSES):
        return None
    return STATUSES[told[1]]
