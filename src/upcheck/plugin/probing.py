"""The fixtures of the probes: `tcp("db:5432")` asks, and raises where the target is not as it should be."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from upcheck.plugin.mark import declaration_of
from upcheck.plugin.record import EXCHANGE, standing
from upcheck.probes import Phase, ProbeError, ProbeFailure, ProbeResult
from upcheck.probes.kinds import probe_class
from upcheck.result import Unknown
from upcheck.settings import nearest


def _probe(kind: str, subject: str, options: Mapping[str, Any]) -> Any:
    """The probe that is asked for; raises Unknown where it can't be meant: the target is not to blame for that."""
    made = probe_class(kind)
    known = list(inspect.signature(made).parameters)[1:]
    for name in options:
        if name not in known:
            own = "; the check's timeout is its deadline" if name == "timeout" else nearest(name, known)
            raise Unknown(f"{kind}() has no option '{name}'{own}")
    try:
        return made(subject, **options)
    except ProbeError as error:
        raise Unknown(f"{kind}(): {error}") from None


def _fixture(kind: str, example: str) -> Any:
    def prober(request: pytest.FixtureRequest) -> Callable[..., Any]:
        item = request.node
        known = standing(item)
        deadline = (known.declaration if known is not None else declaration_of(item)).timeout

        def ask(subject: str, **options: Any) -> ProbeResult:
            from upcheck.probes import single  # libcurl, for those who ask

            probe = _probe(kind, subject, {"deadline": deadline, **options})
            result = single.ask(probe)
            got = result.sentence or f"an answer in {result.duration * 1000:.0f} ms"
            item.stash[EXCHANGE] = {"asked": probe.asked, "got": got}
            if result.certificate_expiry is not None:
                item.stash[EXCHANGE]["certificate_expiry"] = result.certificate_expiry
            if result.reason is not None:
                raise ProbeFailure(result.reason, f"{probe.asked}: {got}", Phase.PROCESSING, result.duration)
            return result

        async def ask_aside(subject: str, **options: Any) -> ProbeResult:
            return await asyncio.to_thread(ask, subject, **options)

        return ask_aside if inspect.iscoroutinefunction(item.obj) else ask

    prober.__doc__ = (
        f"Asks by {kind}: `{example}` is a ProbeResult, or raises ProbeFailure. Await it in `async def`.\n\n"
        f"Options are the fields of `upcheck.probes.{kind}`; the check's timeout is the deadline."
    )
    return pytest.fixture(prober, name=kind)


tcp = _fixture("tcp", 'tcp("db:5432")')
tls = _fixture("tls", 'tls("shop.example:443")')
dns = _fixture("dns", 'dns("shop.example", type="MX", server="192.0.2.53")')
icmp = _fixture("icmp", 'icmp("router.example")')
grpc = _fixture("grpc", 'grpc("api:50051", service="shop.Orders")')
websocket = _fixture("websocket", 'websocket("wss://shop.example/feed")')
smtp = _fixture("smtp", 'smtp("mail.example:25", starttls=True)')
ssh = _fixture("ssh", 'ssh("host:22")')
docker = _fixture("docker", 'docker("unix:///var/run/docker.sock", container="web")')
postgres = _fixture("postgres", 'postgres("postgresql://watcher:secret@db/app", connections=0.8)')
mysql = _fixture("mysql", 'mysql("mysql://watcher:secret@db/app", connections=0.8)')
redis = _fixture("redis", 'redis("redis://:secret@cache:6379", role="master")')
