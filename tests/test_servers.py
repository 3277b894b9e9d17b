from __future__ import annotations

import socket
import sys

import pytest

from upcheck.servers import free_port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is free at that moment, and no more is promised")
def test_a_free_port_is_for_a_server_and_nobody_is_given_it_by_chance() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port)).close()
