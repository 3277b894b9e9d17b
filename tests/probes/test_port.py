from __future__ import annotations

import os
import socket

import psutil
import pytest

from tests.probes.conftest import Ask, failed, held
from upcheck.probes import ProbeError, Reason
from upcheck.probes.port import Port
from upcheck.servers import free_port


def test_what_listens(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        held(ask(Port(port)))
        held(ask(Port(port, host="127.0.0.1", process=psutil.Process(os.getpid()).name())))
        failed(ask(Port(port, host="127.0.0.2")), Reason.NOT_LISTENING)
        failed(ask(Port(port, protocol="udp")), Reason.NOT_LISTENING)
        other = failed(ask(Port(port, process="nginx")), Reason.NOT_LISTENING)
        assert other.sentence.endswith("listens there, not nginx")
    assert failed(ask(Port(port)), Reason.NOT_LISTENING).sentence == f"nothing listens on tcp {port}"


def test_a_connection_is_no_listener(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        failed(ask(Port(one.getsockname()[1])), Reason.NOT_LISTENING)


def test_udp(ask: Ask) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        held(ask(Port(sock.getsockname()[1], protocol="udp")))
    failed(ask(Port(free_port(), protocol="udp")), Reason.NOT_LISTENING)


def test_where_it_is_not_allowed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: str) -> None:  # as macOS does, unless one is root
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", denied)
    assert "ask by `tcp`" in failed(ask(Port(80)), Reason.NOT_PERMITTED).sentence


@pytest.mark.parametrize(("port", "protocol"), [(0, "tcp"), (65536, "tcp"), (80, "sctp")])
def test_what_can_t_be_meant(port: int, protocol: str) -> None:
    with pytest.raises(ProbeError):
        Port(port, protocol=protocol)
