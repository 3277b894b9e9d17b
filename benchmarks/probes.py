"""What a probe costs in `upcheck watch`, against blackbox_exporter: `python -m benchmarks.probes`.

CPU for each check of a loopback target, from its schedule to its row in the history, at the same rate as the peer's
`/probe`: by the peer's default and with GOMAXPROCS=1, whichever is cheaper. What the targets cost is not counted.
The ratios are ours to the peer's; `*_us` are the microseconds behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import trustme

from benchmarks import stage
from benchmarks.engine import paced
from benchmarks.scale import said
from upcheck import tools
from upcheck.history import History
from upcheck.result import Outcome
from upcheck.settings import Settings

RATES = {"tcp": 500, "dns": 500, "tls": 200, "icmp": 500, "grpc": 200}  # probes a second
SECONDS, WARM = 8, 5
NAME = "www.example.org."


class Dns(asyncio.DatagramProtocol):
    """Answers each question with the same address."""

    def __init__(self) -> None:
        question = dns.message.make_query(NAME, "A", use_edns=False)
        answer = dns.message.make_response(question)
        answer.answer.append(dns.rrset.from_text(NAME, 300, "IN", "A", "127.0.0.1"))
        self._rest = answer.to_wire()[2:]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data[:2] + self._rest, addr)  # type: ignore[attr-defined]


class Quiet(asyncio.Protocol):
    """Takes connections, and leaves the closing to the other end."""


async def serve(kind: str, certificate: str) -> None:
    """Serve for ever; the port is the one line on stdout."""
    loop = asyncio.get_running_loop()
    if kind == "dns":
        transport, _ = await loop.create_datagram_endpoint(Dns, ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
    else:
        context = None
        if kind == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        server = await loop.create_server(Quiet, "127.0.0.1", 0, ssl=context, backlog=4096)
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.Event().wait()


def serve_grpc() -> None:
    """A real gRPC server that says that it serves."""
    import grpc
    from grpc_health.v1 import health, health_pb2_grpc  # type: ignore[import-untyped]

    server = grpc.server(ThreadPoolExecutor(4))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


@contextlib.contextmanager
def target(kind: str, certificate: Path) -> Iterator[str]:
    """Where the target of *kind* is, in a process of its own."""
    if kind == "icmp":
        yield "127.0.0.1"
        return
    argv = [sys.executable, "-m", "benchmarks.probes", kind, str(certificate)]
    with subprocess.Popen(argv, cwd=stage.ROOT, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, stage.THEIRS)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def asked(kind: str, where: str, roots: Path) -> Any:
    """What a check in YAML has under its kind."""
    if kind == "dns":
        return {"name": NAME, "server": where}
    return {"address": where, "ca_file": str(roots)} if kind == "tls" else where


def modules(roots: Path) -> dict[str, Any]:
    """The same for the peer; its TCP prober does handshakes."""
    v4 = {"preferred_ip_protocol": "ip4"}
    return {
        "tcp": {"prober": "tcp", "tcp": v4},
        "dns": {"prober": "dns", "dns": {"query_name": NAME, "query_type": "A", **v4}},
        "tls": {"prober": "tcp", "tcp": {"tls": True, "tls_config": {"ca_file": str(roots)}, **v4}},
        "icmp": {"prober": "icmp", "icmp": v4},
        "grpc": {"prober": "grpc", "grpc": v4},
    }


def our_cost(kind: str, where: str, roots: Path) -> float:
    """Microseconds of CPU that the engine spends on a check."""
    rate = RATES[kind]
    checks = [{"name": f"check {number}", kind: asked(kind, where, roots), "every": "2s"} for number in range(2 * rate)]
    with stage.repo() as folder:
        (folder / "checks/all.yml").write_text(json.dumps({"checks": checks}))
        with stage.watching(folder) as engine:
            time.sleep(WARM)
            before, cpu = said(folder), stage.cpu(engine)
            time.sleep(SECONDS)
            after, used = said(folder), stage.cpu(engine) - cpu
        with History(folder / ".upcheck/history.sqlite", read_only=True) as history:
            bad = [one.result for one in history.latest() if one.result.outcome is not Outcome.HELD]
            assert not bad, bad[0]
    return used / (after.runs - before.runs) * 1e6


def peer_cost(kind: str, where: str, roots: Path) -> float:
    """Microseconds of CPU that blackbox_exporter spends on a probe."""
    path = tools.ensure(["blackbox_exporter"], Settings.load(stage.ROOT))["blackbox_exporter"].path
    costs = []
    for environ in ({}, {"GOMAXPROCS": "1"}):
        with stage.blackbox(path, None, modules(roots), **environ) as (probe, process):
            url = f"{probe.partition('?')[0]}?module={kind}&target={where}"
            paced(url, RATES[kind], 2)
            before = stage.cpu(process)
            count = paced(url, RATES[kind], SECONDS)
            costs.append((stage.cpu(process) - before) / count * 1e6)
    return min(costs)


def main() -> None:
    """Print the line."""
    figures: dict[str, float] = {}
    costs: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        authority, pem, roots = trustme.CA(), Path(folder, "server.pem"), Path(folder, "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        authority.cert_pem.write_to_path(roots)
        for kind in RATES:
            with target(kind, pem) as where:
                ours, theirs = our_cost(kind, where, roots), peer_cost(kind, where, roots)
            figures[kind] = round(ours / theirs, 3)
            costs |= {f"{kind}_us": round(ours), f"{kind}_blackbox_us": round(theirs)}
    print(json.dumps(figures | costs))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "grpc":
        serve_grpc()
    else:
        asyncio.run(serve(sys.argv[1], sys.argv[2]))
