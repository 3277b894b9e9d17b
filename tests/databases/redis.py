"""A Redis server."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.databases.packages import Programs
from tests.databases.servers import Server, listens
from upcheck.servers import free_port


class RedisServer(Server):
    """A Redis on *port*, and with certificates on *tls_port*; `server("SET", "a", "b")` is what it answers."""

    def __init__(self, programs: Programs, home: Path, *options: str) -> None:
        super().__init__(programs, [], free_port(), home)
        self.tls_port = 0
        self.begin(*options)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(self, *options: str, ready: bool = True) -> None:
        """Start it with *options*; *ready*: wait until it answers."""
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.home))
        swift = ("--save", "", "--repl-diskless-sync-delay", "0")
        self.argv = [self.programs["redis-server"], *place, *swift, *options]
        self.start(lambda: listens(self.port) and (not ready or self("PING").startswith(("+PONG", "-NOAUTH"))))

    def again(self, *options: str, ready: bool = True) -> None:
        """End it, and start it with other *options*."""
        self.stop()
        self.begin(*options, ready=ready)

    def secured(self, certificate: Path, *options: str) -> int:
        """Start it with TLS beside; the port of that."""
        self.tls_port = free_port()
        files = ("--tls-cert-file", certificate, "--tls-key-file", certificate, "--tls-ca-cert-file", certificate)
        self.again("--tls-port", str(self.tls_port), *map(str, files), "--tls-auth-clients", "no", *options)
        return self.tls_port

    def __call__(self, *words: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            lines = [f"*{len(words)}", *(line for word in words for line in (f"${len(word.encode())}", word))]
            connection.sendall(("\r\n".join(lines) + "\r\n").encode())
            return connection.recv(65536).decode()

    def fill(self, keys: int) -> None:
        """Have *keys* keys set."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"".join(b"SET key%d value\r\n" % key for key in range(keys)))
            answered = b""
            while answered.count(b"+OK") < keys:
                answered += connection.recv(65536)
