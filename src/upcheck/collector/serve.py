"""Serving: the address, the signals, the one line on stdout, and the end in bounded time."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from upcheck.collector import protocol
from upcheck.collector.access import token_file
from upcheck.collector.environment import EnvironmentVariableError
from upcheck.collector.reloaded import FileError, Reloaded
from upcheck.documents import DocumentError
from upcheck.redaction import redacted
from upcheck.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from upcheck.collector import Collector
    from upcheck.collector.environment import Environment
    from upcheck.collector.web_config import WebConfig

_DRAIN = 3  # seconds for the requests in flight at SIGTERM
_LONGEST_EXIT = 4.5  # seconds from SIGTERM to the end, whatever hangs
_CONNECTIONS = 2048  # further ones are answered 503
_WRONG, _CANNOT_LISTEN = 2, 3  # exit codes

_OPEN = "whoever reaches {} can read everything: set METRICS_TOKEN, or --web-config with users or client certificates"

_EXAMPLES = """\
examples:
  python collector.py                            http://127.0.0.1:9909, for this machine only
  python collector.py --port 0                   any free port; the line on stdout says which
  python collector.py --host 0.0.0.0             for a Prometheus on another machine
  python collector.py --sample-interval 5        CPU usage over 5 seconds
  python collector.py --web-config web.yml       over TLS, for the users in web.yml
exit codes: 0 stopped by SIGTERM or Ctrl-C, 2 a wrong flag, file or variable, 3 the address can't be listened on
"""


def serve(collector: Collector, argv: Sequence[str] | None = None) -> None:
    """Serve *collector* until a signal.

    Raises SystemExit with 2 for a wrong flag or environment variable, 3 for a useless address.
    """
    options = _options(argv, collector.environment)
    try:
        app, rules = collector.app, collector.rules
        if options.token_file:
            rules.token = Reloaded(partial(token_file, options.token_file))
        if options.web_config:
            rules.web = _web_config(options.web_config)
    except (DocumentError, EnvironmentVariableError, FileError, SettingsError) as error:
        raise _refusal(str(error), _WRONG) from None
    collector.sampling.every("system", options.sample_interval)
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        raise _refusal(_sentence(options.host, options.port, error), _CANNOT_LISTEN) from None
    _allow_open_files(2 * _CONNECTIONS)
    _keep_secrets_out_of_logs()
    if not rules.closed and not ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback:
        sys.stderr.write(f"collector: {_OPEN.format(options.host)}\n")
    config = protocol.Config(
        app,
        rules,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        backlog=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_DRAIN,
    )
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_Server(config, collector).serve(sockets=[listener]))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError.

    Listening at once, not at uvicorn's start: two sockets may be bound to a port as long as neither listens.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's, with our deadline for a handshake: its own is 60 s, in which uvicorn knows of no connection."""

    async def create_server(self, *arguments: Any, **named: Any) -> asyncio.Server:
        if named.get("ssl"):
            named["ssl_handshake_timeout"] = protocol.REQUEST_DEADLINE
        return await super().create_server(*arguments, **named)


class _Server(uvicorn.Server):
    """uvicorn's, with our signals and our one line."""

    _loop: asyncio.AbstractEventLoop | None = None  # once it serves
    _left: asyncio.Event

    def __init__(self, config: uvicorn.Config, collector: Collector) -> None:
        super().__init__(config)
        self._health = collector.health

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and not self.should_exit:
            scheme = "https" if self.config.ssl else "http"
            sys.stdout.write(f"collector   {_url(scheme, sockets[0])}   (Ctrl-C stops it)\n")
            sys.stdout.flush()

    async def main_loop(self) -> None:
        """Not uvicorn's, which wakes ten times a second: that is most of what an idle collector costs."""
        self._loop, self._left = asyncio.get_running_loop(), asyncio.Event()
        while not await self.on_tick(0):  # 0: the second's turn to write the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not uvicorn's, which raises the signal again at the end: a drained process has exit code 0."""
        before = {number: signal.signal(number, self._leave) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave(self, number: int, _: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + number)
        self._health.drain()
        self.should_exit = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._left.set)
        # A coroutine that refuses to be cancelled, or a thread of the user's own, would hold the exit for ever.
        watchdog = threading.Timer(_LONGEST_EXIT, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()


class _Redacting(logging.Formatter):
    """What *formatter* makes of a record, without secrets: those of a traceback, too."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return redacted(self._formatter.format(record))


def _keep_secrets_out_of_logs() -> None:
    """For every handler of the root logger; without one, the log goes to stderr from warnings up, as it does anyway."""
    root = logging.getLogger()
    if not root.handlers:
        stderr = logging.StreamHandler()
        stderr.setLevel(logging.WARNING)
        root.addHandler(stderr)
    for handler in root.handlers:
        handler.setFormatter(_Redacting(handler.formatter or logging.Formatter()))


def _refusal(sentence: str, code: int) -> SystemExit:
    sys.stderr.write(f"collector: {sentence}\n")
    return SystemExit(code)


def _options(argv: Sequence[str] | None, environment: Environment) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python {Path(sys.argv[0]).name}",
        description="Serves this host's metrics and health over HTTP.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=environment.port, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--sample-interval",
        type=_seconds,
        default=environment.system_interval,
        metavar="SECONDS",
        help="between two background samples (default: %(default)g)",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="ask for the token in FILE (default: METRICS_TOKEN)"
    )
    parser.add_argument(
        "--web-config",
        "--web.config.file",
        type=Path,
        metavar="FILE",
        help="TLS, users and headers, in Prometheus' web configuration format",
    )
    return parser.parse_args(argv)


def _web_config(path: Path) -> Reloaded[WebConfig]:
    from upcheck.collector import web_config  # here, not above: YAML, which most collectors need not read

    return web_config.watched(path)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}': expected a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"'{text}': expected seconds from 0.1 to 3600")
    return seconds


def _sentence(host: str, port: int, error: OSError) -> str:
    again = f"python {Path(sys.argv[0]).name}"
    if isinstance(error, socket.gaierror):
        return f"host '{host}' is not known here ({error.strerror}); for this machine only: {again} --host 127.0.0.1"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; take a free one: {again} --host {host} --port 0"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges; take a free one: {again} --host {host} --port 0"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine, so port {port} can't be listened on; try: {again} --host 0.0.0.0"
    return f"can't listen on port {port} of {host}: {error.strerror}; try: {again} --host 127.0.0.1 --port 0"


def _url(scheme: str, listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _allow_open_files(wanted: int) -> None:
    """A soft limit of 1,024 files, the usual one, is what 1,000 idle clients use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < more:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
