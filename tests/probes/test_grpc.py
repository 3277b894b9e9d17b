from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.conftest import Serve, answer
from tests.probes.conftest import Ask, failed, held, place, says
from upcheck.probes import Reason
from upcheck.probes.grpc import Grpc
from upcheck.servers import free_port

Start = Callable[..., str]
STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def start(authority: trustme.CA) -> Iterator[Start]:
    """A real gRPC server: which services it has, whether it tells of health, and over which certificate."""
    servers: list[grpc.Server] = []

    def make(
        *, tells: bool = True, names: tuple[str, ...] = (), interceptors: list[grpc.ServerInterceptor] | None = None
    ) -> str:
        server = grpc.server(ThreadPoolExecutor(2), interceptors=interceptors)
        servers.append(server)
        if tells:
            servicer = health.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
            for name in ("SERVING", "NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"):
                servicer.set(name, STATUS.ServingStatus.Value(name))
        if names:
            issued = authority.issue_cert(*names)
            chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
            credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
            port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield make
    for server in servers:
        server.stop(None).wait()


def test_a_service_that_serves(start: Start, ask: Ask) -> None:
    where = start()
    for service in ("", "SERVING"):
        result = held(ask(Grpc(where, service=service)))
        assert result.metrics["probe_grpc_status_code"] == 0
        assert result.metrics['probe_grpc_healthcheck_response{serving_status="SERVING"}'] == 1
        assert result.metrics["probe_grpc_ssl"] == 0
        assert 0 < result.metrics['probe_grpc_duration_seconds{phase="check"}'] < 2


@pytest.mark.parametrize(
    ("service", "reason", "words", "code"),
    [
        ("NOT_SERVING", Reason.NOT_SERVING, "the service says NOT_SERVING", 0),
        ("UNKNOWN", Reason.NOT_SERVING, "the service says UNKNOWN", 0),
        ("SERVICE_UNKNOWN", Reason.UNKNOWN_SERVICE, "the service says SERVICE_UNKNOWN", 0),
        ("nobody", Reason.UNKNOWN_SERVICE, "NOT_FOUND", 5),
        ("n" * 300, Reason.UNKNOWN_SERVICE, "NOT_FOUND", 5),
    ],
)
def test_one_that_does_not(start: Start, ask: Ask, service: str, reason: Reason, words: str, code: int) -> None:
    result = failed(ask(Grpc(start(), service=service)), reason)
    assert result.sentence == words
    assert result.metrics["probe_grpc_status_code"] == code


def test_a_server_that_does_not_tell_of_health(start: Start, ask: Ask) -> None:
    result = failed(ask(Grpc(start(tells=False))), Reason.UNKNOWN_SERVICE)
    assert result.sentence.startswith("UNIMPLEMENTED")


class Refusing(grpc.ServerInterceptor):
    def intercept_service(self, *_: object) -> object:  # type: ignore[override]
        def refuse(_request: object, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_another_code(start: Start, ask: Ask) -> None:
    result = failed(ask(Grpc(start(interceptors=[Refusing()]))), Reason.STATUS)
    assert result.sentence == "UNAUTHENTICATED: who are you?"
    assert result.metrics["probe_grpc_status_code"] == 16


def test_over_tls(start: Start, ask: Ask, trusted: str) -> None:
    where = start(names=("localhost",))
    there = where.replace("127.0.0.1", "localhost")
    result = held(ask(Grpc(there, tls=True, ca_file=trusted)))
    assert result.metrics["probe_grpc_ssl"] == 1
    assert result.certificate_expiry is not None
    held(ask(Grpc(where, tls=True, ca_file=trusted, server_name="localhost")))
    held(ask(Grpc(where, tls=True, verify=False)))
    failed(ask(Grpc(there, tls=True)), Reason.CERTIFICATE_UNKNOWN_ISSUER)
    wrong = failed(ask(Grpc(where, tls=True, ca_file=trusted)), Reason.CERTIFICATE_WRONG_HOST)
    assert wrong.certificate_expiry is not None


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (says(then=3), Reason.TIMEOUT),
        (says(), Reason.RESET),
        (says(b"220 mail\r\n", then=0.2), Reason.MALFORMED),
        (answer("200 OK", "hello"), Reason.MALFORMED),
    ],
    ids=["hangs", "closed", "another protocol", "HTTP/1.1"],
)
def test_a_bad_server(serve: Serve, ask: Ask, talk: Callable[..., None], reason: Reason) -> None:
    result = ask(Grpc(place(serve(talk)), deadline=0.5))
    assert not result.success
    assert result.reason in (reason, Reason.BROKEN_OFF, Reason.MALFORMED) if reason is Reason.RESET else result.reason
    if reason is Reason.TIMEOUT:
        failed(result, reason)
    assert result.metrics["probe_grpc_status_code"] == 14


def test_nothing_listens(ask: Ask) -> None:
    failed(ask(Grpc(f"127.0.0.1:{free_port()}")), Reason.CONNECTION_REFUSED)
