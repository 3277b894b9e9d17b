"""Redis: a PING, and what INFO says of memory, clients, replication and persistence. See docs/probes/redis.md."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from upcheck.exposition import labelled
from upcheck.probes import Journey, Phase, ProbeError, ProbeFailure, Reason, Run, Travelling
from upcheck.probes.addresses import Preference
from upcheck.probes.database import Database, judge_share, share, timed, versioned
from upcheck.probes.sockets import Stream, connect
from upcheck.probes.tls import Trust, examined, handshake

ROLES = ("master", "replica")
MAX_LINE = 4096  # bytes
_REFUSALS = {
    "NOAUTH": (Reason.AUTHENTICATION_FAILED, "put a password into the URL, redis://:${PASSWORD}@host"),
    "WRONGPASS": (Reason.AUTHENTICATION_FAILED, "is the password in the check's URL the current one?"),
    "NOPERM": (Reason.AUTHENTICATION_FAILED, "let the user of the check run ping and info"),
    "DENIED": (Reason.AUTHENTICATION_FAILED, "set a password or protected-mode no on the server"),
    "LOADING": (Reason.STARTING_UP, "it answers once its data is in memory"),
    "MASTERDOWN": (Reason.REPLICATION_BROKEN, "see to its master, or to the line between them"),
    "MISCONF": (Reason.PERSISTENCE_FAILED, "see to the disk it saves to"),
    "OOM": (Reason.OUT_OF_MEMORY, "raise maxmemory, or let keys be evicted"),
}
_TOO_MANY = "max number of clients"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Redis(Database, Travelling):
    """Whether the server at *url* answers, and is as it should be.

    *role* is `master` or `replica`; *memory* and *connections* are the shares that may be used of maxmemory (of the
    machine's memory where that is 0) and of maxclients. Raises ProbeError where it can't be meant.
    """

    role: str | None = None
    memory: float | None = None
    connections: float | None = None
    kind: ClassVar[str] = "redis"
    schemes: ClassVar[Mapping[str, bool]] = {"redis": False, "rediss": True}
    port: ClassVar[int] = 6379

    def __post_init__(self) -> None:
        Database.__post_init__(self)
        if self.role not in (None, *ROLES):
            raise ProbeError(f"role: expected master or replica, not {self.role!r}")
        share("memory", self.memory)
        share("connections", self.connections)
        if self.login.database:
            raise ProbeError("url: a number of a database says nothing of a server: leave it out")

    def journey(self, run: Run) -> Journey:
        """Connect, log in, PING, INFO."""
        return examined(run, self._exchange, self._look, self.trust)

    def _connected(self, run: Run, trust: Trust) -> Generator[Any, Any, Stream]:
        place = self.login.place
        stream = yield from connect(run, place, Preference())
        try:
            if self.secured:
                yield from handshake(run, stream, place.host, trust)
        except BaseException:
            stream.close()
            raise
        return stream

    def _look(self, run: Run, trust: Trust) -> Journey:
        (yield from self._connected(run, trust)).close()

    def _exchange(self, run: Run, trust: Trust) -> Journey:
        stream = yield from self._connected(run, trust)
        with stream:
            began = time.monotonic()
            if self.login.password:
                user = [self.login.user] if self.login.user else []
                yield from _answer(run, stream, "AUTH", *user, self.login.password)
            began = timed(run, "redis", "login", began)
            pong = yield from _answer(run, stream, "PING")
            if pong != b"PONG":
                raise run.fail(Reason.UNEXPECTED_ANSWER, f"PING was answered with {pong[:60]!r}, and not with PONG")
            began = timed(run, "redis", "ping", began)
            told = _read(run, (yield from _answer(run, stream, "INFO")))
            timed(run, "redis", "info", began)
        _record(run, told)
        self._judge(run, told)

    def _judge(self, run: Run, told: Mapping[str, str]) -> None:
        role = _role(told)
        if told.get("loading") == "1":
            raise run.fail(Reason.STARTING_UP, "it is loading its data: it answers once that is in memory")
        if self.role is not None and role != self.role:
            raise run.fail(Reason.WRONG_ROLE, f"it is a {role}, wanted a {self.role}: has there been a failover?")
        if role == "replica" and told.get("master_link_status") == "down":
            since = told.get("master_link_down_since_seconds", "")
            away = f" for {since} s" if since not in ("", "-1") else ""
            master = f"{told.get('master_host', '?')}:{told.get('master_port', '?')}"
            sentence = f"its master {master} has been out of its reach{away}: see to that, or to the line between them"
            raise run.fail(Reason.REPLICATION_BROKEN, sentence)
        for key, words in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "write to its log")):
            if told.get(key, "ok") != "ok":
                raise run.fail(Reason.PERSISTENCE_FAILED, f"the last {words} failed: see to the disk it saves to")
        used, most = _number(told, "used_memory"), _number(told, "maxmemory")
        if 0 < most <= used and told.get("maxmemory_policy") == "noeviction":
            raise run.fail(
                Reason.OUT_OF_MEMORY,
                f"{used:,.0f} of {most:,.0f} bytes in use, and writes are refused (noeviction): raise maxmemory, "
                "or let keys be evicted",
            )
        judge_share(run, "bytes", used, most or _number(told, "total_system_memory"), self.memory)
        clients, limit = _number(told, "connected_clients"), _number(told, "maxclients")
        judge_share(run, "connections", clients, limit, self.connections)


def _answer(run: Run, stream: Stream, *words: str) -> Generator[Any, Any, bytes]:
    """What the server answers to a command. Raises ProbeFailure for its errors."""
    encoded = [word.encode() for word in words]
    run.note(f"sending {words[0]}")
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in encoded)
    with contextlib.suppress(ConnectionError):  # what it said before it closed can still be read
        yield from stream.send(command)
    try:
        line = yield from stream.line(MAX_LINE)
    except ConnectionError:  # closed with what was sent unread, as a server with no room or with TLS does
        line = None
    if line is None or not line.endswith(b"\r\n"):
        advice = "" if run.phases.get("tls") else ": does it want TLS? (tls: true)"
        raise run.fail(Reason.BROKEN_OFF, f"the server closed the connection and did not answer {words[0]}{advice}")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return bytes(rest)
    if kind == b"-":
        raise _refused(run, words[0], rest.decode(errors="replace"))
    if kind != b"$" or not rest.isdigit():
        raise run.fail(Reason.MALFORMED, f"{words[0]} was answered with {line[:60]!r}: no Redis speaks so")
    body = yield from stream.exactly(int(rest) + 2)
    if len(body) < int(rest) + 2:
        raise run.fail(Reason.BROKEN_OFF, f"the answer to {words[0]} broke off")
    return bytes(body[:-2])


def _refused(run: Run, command: str, said: str) -> ProbeFailure:
    if _TOO_MANY in said:
        advice = "raise maxclients, or find who keeps connections open"
        return run.fail(Reason.TOO_MANY_CONNECTIONS, f"{said[:150]}: {advice}")
    if command == "AUTH" and said.startswith("ERR"):  # before Redis 6, and where no password is set
        return run.fail(Reason.AUTHENTICATION_FAILED, f"AUTH was refused: {said[:150]}")
    reason, advice = _REFUSALS.get(said.partition(" ")[0], (Reason.QUERY_FAILED, ""))
    return run.fail(reason, f"{command} was refused: {said[:150].rstrip('.')}{f': {advice}' if advice else ''}")


def _read(run: Run, text: bytes) -> dict[str, str]:
    told = dict(
        line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line and line[0] != "#"
    )
    if "redis_version" not in told or "role" not in told:
        raise run.fail(Reason.MALFORMED, "INFO was answered without a version and a role: no Redis speaks so")
    return told


def _role(told: Mapping[str, str]) -> str:
    return "master" if told["role"] == "master" else "replica"


def _number(told: Mapping[str, str], key: str) -> float:
    """The number that INFO has by *key*; 0 where it has none."""
    text = told.get(key, "0")
    return float(text) if text.isdecimal() else 0.0


_GAUGES = {
    "used_memory": "probe_redis_memory_used_bytes",
    "maxmemory": "probe_redis_memory_max_bytes",
    "connected_clients": "probe_redis_connections",
    "maxclients": "probe_redis_max_connections",
    "loading": "probe_redis_loading",
}


def _record(run: Run, told: Mapping[str, str]) -> None:
    metrics, role = run.metrics, _role(told)
    run.phase = Phase.PROCESSING
    metrics[versioned("redis", told["redis_version"])] = 1
    metrics[labelled("probe_redis_role_info", [("role", role)])] = 1
    metrics |= {name: _number(told, key) for key, name in _GAUGES.items() if key in told}
    metrics["probe_redis_last_save_ok"] = int(told.get("rdb_last_bgsave_status", "ok") == "ok")
    if role == "replica":
        metrics["probe_redis_master_link_up"] = int(told.get("master_link_status") == "up")
    run.note(f"Redis {told['redis_version']}, {role}")
