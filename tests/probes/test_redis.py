"""Redis: real servers, good and bad; a fake for what a real one does not do to those beside it."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.conftest import Repo, Serve
from tests.databases.packages import programs
from tests.databases.redis import RedisServer
from tests.databases.servers import folder
from tests.probes.conftest import BAD_CERTIFICATES, Ask, Certificates, Secure, Talk, failed, held, place
from tests.waiting import eventually
from upcheck.probes import ProbeError, Reason
from upcheck.probes.redis import Redis


def at(server: RedisServer, **options: object) -> Redis:
    return Redis(f"redis://127.0.0.1:{server.port}", **options)  # type: ignore[arg-type]


def test_a_server_that_is_well(redis_server: RedisServer, ask: Ask) -> None:
    result = held(ask(at(redis_server, role="master", memory=0.9, connections=0.5), log=True))
    metrics = result.metrics
    assert metrics['probe_redis_role_info{role="master"}'] == 1
    assert any(name.startswith('probe_redis_version_info{version="') for name in metrics)
    assert 0 < metrics["probe_redis_connections"] < metrics["probe_redis_max_connections"]
    assert metrics["probe_redis_memory_used_bytes"] > 100_000
    assert metrics["probe_redis_last_save_ok"] == 1
    assert 0 < metrics['probe_redis_duration_seconds{phase="ping"}'] < result.duration
    assert "master" in result.log[-1][1]


def test_one_that_hangs_and_one_that_is_gone(redis_server: RedisServer, ask: Ask) -> None:
    with redis_server.hung():
        began = time.monotonic()
        late = failed(ask(at(redis_server, deadline=0.3)), Reason.TIMEOUT)
        assert time.monotonic() - began < 1.5
    assert "waiting for the answer" in late.sentence
    held(ask(at(redis_server)))
    redis_server.stop()
    failed(ask(at(redis_server)), Reason.CONNECTION_REFUSED)
    redis_server.begin()
    held(ask(at(redis_server)))


def test_a_password_that_changes(redis_server: RedisServer, ask: Ask) -> None:
    redis_server("CONFIG", "SET", "requirepass", "sesame:/@")
    url = f"redis://:sesame%3A%2F%40@127.0.0.1:{redis_server.port}"
    lacking = failed(ask(at(redis_server)), Reason.AUTHENTICATION_FAILED)
    assert lacking.sentence == (
        "PING was refused: NOAUTH Authentication required: put a password into the URL, redis://:${PASSWORD}@host"
    )
    held(ask(Redis(url)))
    redis_server.again("--requirepass", "changed")
    wrong = failed(ask(Redis(url), log=True), Reason.AUTHENTICATION_FAILED)
    assert wrong.sentence.endswith("is the password in the check's URL the current one?")
    assert "sesame" not in repr(wrong) + Redis(url).asked + repr(Redis(url))


def test_a_user_who_may_not_ask(redis_server: RedisServer, ask: Ask) -> None:
    redis_server("ACL", "SETUSER", "watcher", "on", ">pw", "+ping")
    url = f"redis://watcher:pw@127.0.0.1:{redis_server.port}"
    refused = failed(ask(Redis(url)), Reason.AUTHENTICATION_FAILED)
    assert refused.sentence.startswith("INFO was refused: NOPERM")
    assert refused.sentence.endswith("let the user of the check run ping and info")
    redis_server("ACL", "SETUSER", "watcher", "+info")
    held(ask(Redis(url)))


def test_memory(redis_server: RedisServer, ask: Ask) -> None:
    redis_server("CONFIG", "SET", "maxmemory", "4mb")
    held(ask(at(redis_server, memory=0.9)))
    much = failed(ask(at(redis_server, memory=0.01)), Reason.NEAR_LIMIT)
    assert "of 4,194,304 bytes in use (" in much.sentence
    assert much.sentence.endswith("wanted at most 1 %")
    redis_server("CONFIG", "SET", "maxmemory", "1000")
    assert redis_server("SET", "a", "b").startswith("-OOM")
    full = failed(ask(at(redis_server)), Reason.OUT_OF_MEMORY)
    assert full.sentence.endswith("writes are refused (noeviction): raise maxmemory, or let keys be evicted")
    redis_server("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    held(ask(at(redis_server)))


def test_connections(redis_server: RedisServer, ask: Ask) -> None:
    redis_server("CONFIG", "SET", "maxclients", "3")
    waiting = [socket.create_connection(("127.0.0.1", redis_server.port)) for _ in range(2)]
    many = failed(ask(at(redis_server, connections=0.8)), Reason.NEAR_LIMIT)
    assert many.sentence == "3 of 3 connections in use (100 %), wanted at most 80 %"
    waiting.append(socket.create_connection(("127.0.0.1", redis_server.port)))
    none = failed(ask(at(redis_server)), Reason.TOO_MANY_CONNECTIONS)
    assert none.sentence == ("ERR max number of clients reached: raise maxclients, or find who keeps connections open")
    for one in waiting:
        one.close()
    eventually(lambda: ask(at(redis_server, connections=0.8)).success)


def test_loading(redis_server: RedisServer, ask: Ask) -> None:
    redis_server.fill(3000)
    assert redis_server("SAVE") == "+OK\r\n"
    slow = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    redis_server.again(*slow, ready=False)
    loading = failed(ask(at(redis_server)), Reason.STARTING_UP)
    assert loading.sentence == (
        "PING was refused: LOADING Redis is loading the dataset in memory: it answers once its data is in memory"
    )
    redis_server.again()
    held(ask(at(redis_server)))


def test_a_snapshot_that_fails(redis_server: RedisServer, ask: Ask) -> None:
    redis_server("CONFIG", "SET", "dbfilename", "dump.rdb")
    (redis_server.home / "dump.rdb").mkdir()
    redis_server("SET", "a", "b")
    redis_server("BGSAVE")
    eventually(lambda: not ask(at(redis_server)).success)
    broken = failed(ask(at(redis_server)), Reason.PERSISTENCE_FAILED)
    assert broken.sentence == "the last snapshot failed: see to the disk it saves to"
    assert broken.metrics["probe_redis_last_save_ok"] == 0
    (redis_server.home / "dump.rdb").rmdir()
    redis_server("SAVE")
    held(ask(at(redis_server)))


def test_a_replica_and_its_master(redis_server: RedisServer, ask: Ask) -> None:
    with folder("redis") as home, RedisServer(programs("redis-server"), home) as replica:
        replica("REPLICAOF", "127.0.0.1", str(redis_server.port))
        eventually(lambda: ask(at(replica)).metrics.get("probe_redis_master_link_up") == 1)
        held(ask(at(replica, role="replica")))
        role = failed(ask(at(replica, role="master")), Reason.WRONG_ROLE)
        assert role.sentence == "it is a replica, wanted a master: has there been a failover?"
        redis_server.stop()
        eventually(lambda: not ask(at(replica)).success)
        gone = failed(ask(at(replica)), Reason.REPLICATION_BROKEN)
        assert f"its master 127.0.0.1:{redis_server.port} has been out of its reach" in gone.sentence
        redis_server.begin()
        eventually(lambda: ask(at(replica)).success)
        replica("REPLICAOF", "NO", "ONE")
        failed(ask(at(replica, role="replica")), Reason.WRONG_ROLE)


def test_tls(redis_server: RedisServer, ask: Ask, certificates: Certificates, trusted: str) -> None:
    port = redis_server.secured(certificates("good"), "--requirepass", "sesame")
    url = f"rediss://:sesame@localhost:{port}"
    result = held(ask(Redis(url, ca_file=trusted)))
    assert result.certificate_expiry is not None
    assert result.phases["tls"] > 0
    plain = failed(ask(Redis(f"redis://:sesame@127.0.0.1:{port}")), Reason.BROKEN_OFF)
    assert plain.sentence.endswith("did not answer AUTH: does it want TLS? (tls: true)")
    failed(ask(Redis(f"redis://127.0.0.1:{redis_server.port}", tls=True, deadline=0.4)), Reason.TLS_TIMEOUT)


@pytest.mark.parametrize(("case", "reason", "words"), BAD_CERTIFICATES)
def test_a_bad_certificate(
    redis_server: RedisServer, ask: Ask, certificates: Certificates, trusted: str, case: str, reason: Reason, words: str
) -> None:
    port = redis_server.secured(certificates(case))
    result = failed(ask(Redis(f"redis://localhost:{port}", tls=True, ca_file=trusted)), reason)
    assert result.sentence == f"certificate not accepted: {words}"
    assert result.certificate_expiry is not None


def test_a_password_is_not_told_to_whom_is_not_trusted(serve: Serve, ask: Ask, secure: Secure, trusted: str) -> None:
    heard: list[bytes] = []  # a fake, because a real server does not tell what it heard

    def talk(connection: socket.socket) -> None:
        with secure("expired").wrap_socket(connection, server_side=True) as inner:
            heard.append(inner.recv(100))

    where = place(serve(talk)).replace("127.0.0.1", "localhost")
    failed(ask(Redis(f"rediss://:sesame@{where}", ca_file=trusted)), Reason.CERTIFICATE_EXPIRED)
    time.sleep(0.1)
    assert b"".join(heard) == b""


def replies(*answers: bytes, then: float = 0.0) -> Talk:
    """Answers each command with the next of *answers*, and holds the connection for *then* seconds."""

    def talk(connection: socket.socket) -> None:
        for one in answers:
            connection.recv(4096)
            connection.sendall(one)
        time.sleep(then)

    return talk


# Fakes, for answers that no real server gives, or not in a test's time.
@pytest.mark.parametrize(
    ("talk", "reason", "words"),
    [
        (replies(), Reason.BROKEN_OFF, "the server closed the connection and did not answer PING"),
        (replies(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Reason.MALFORMED, "no Redis speaks so"),
        (replies(b"+QUEUED\r\n"), Reason.UNEXPECTED_ANSWER, "PING was answered with b'QUEUED', and not with PONG"),
        (replies(b"+PONG\r\n", b"$9\r\nrole"), Reason.BROKEN_OFF, "the answer to INFO broke off"),
        (replies(b"+PONG\r\n", b"$4\r\nrole\r\n"), Reason.MALFORMED, "INFO was answered without a version and a role"),
        (replies(b"+PONG\r\n", b"$99999999\r\n" + b"x" * 600_000), Reason.BODY_TOO_LARGE, "more than 262,144 bytes"),
        (replies(b"-MASTERDOWN Link with MASTER is down\r\n"), Reason.REPLICATION_BROKEN, "see to its master"),
        (replies(b"-DENIED Redis is running in protected mode\r\n"), Reason.AUTHENTICATION_FAILED, "protected-mode no"),
        (replies(b"-MISCONF Errors writing to the AOF file\r\n"), Reason.PERSISTENCE_FAILED, "see to the disk"),
        (replies(b"-BUSY Redis is busy running a script\r\n"), Reason.QUERY_FAILED, "PING was refused: BUSY Redis is"),
        (replies(b"+PONG\r\n", b"$90\r\n", then=3), Reason.TIMEOUT, "no complete answer within 0.4 s"),
        (replies(b"x" * 9000), Reason.MALFORMED, "a line of more than 4,096 bytes"),
    ],
)
def test_an_answer_that_is_none(serve: Serve, ask: Ask, talk: Talk, reason: Reason, words: str) -> None:
    result = failed(ask(Redis(f"redis://{place(serve(talk))}", deadline=0.4)), reason)
    assert words in result.sentence


def test_a_drip_does_not_outlast_the_deadline(serve: Serve, ask: Ask) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"+PONG\r\n$9999\r\n")
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)

    began = time.monotonic()
    failed(ask(Redis(f"redis://{place(serve(talk))}", deadline=0.4)), Reason.TIMEOUT)
    assert time.monotonic() - began < 1.5


def test_an_old_server_that_has_no_password(serve: Serve, ask: Ask) -> None:
    where = place(serve(replies(b"-ERR Client sent AUTH, but no password is set\r\n")))  # Redis 5 is in no package here
    result = failed(ask(Redis(f"redis://:pw@{where}")), Reason.AUTHENTICATION_FAILED)
    assert result.sentence == "AUTH was refused: ERR Client sent AUTH, but no password is set"


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://cache", {}, "url: expected redis://user:password@host:6379/database, not a URL of 'http'"),
        ("redis://:sesame/@cache", {}, "write / @ : of a password as %2F %40 %3A"),
        ("redis://cache:70000", {}, "url: expected redis://"),
        ("redis://cache?db=1", {}, "what follows a ? or # is not read"),
        ("redis://cache/1", {}, "a number of a database says nothing of a server"),
        ("redis://cache", {"role": "slave"}, "role: expected master or replica, not 'slave'"),
        ("redis://cache", {"memory": 90}, "memory: expected a share above 0 and up to 1, such as 0.8, not 90"),
        ("redis://cache", {"connections": 0}, "connections: expected a share"),
    ],
)
def test_what_can_t_be_meant(url: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        Redis(url, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_it_says_what_is_asked() -> None:
    assert Redis("redis://:sesame@[::1]").asked == "redis [::1]:6379"
    assert Redis("rediss://cache").secured


YAML = """
checks:
  - {{name: cache, redis: "redis://:${{REDIS_PASSWORD}}@{at}", expect: {{role: master, memory: 0.9, latency: 5s}}}}
  - {{name: replica, redis: {{url: "redis://:${{REDIS_PASSWORD}}@{at}"}}, expect: {{role: replica}}}}
  - {{name: stranger, redis: "redis://{at}"}}
"""
PYTHON = """
import os

URL = f"redis://:{{os.environ['REDIS_PASSWORD']}}@{at}"

def test_cache(redis):
    assert redis(URL, role="master").metrics["probe_redis_connections"] >= 1

async def test_replica(redis):
    await redis(URL, role="replica")
"""


def test_checks_in_a_repo(redis_server: RedisServer, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    redis_server("CONFIG", "SET", "requirepass", "sesame")
    monkeypatch.setenv("REDIS_PASSWORD", "sesame")
    at = f"127.0.0.1:{redis_server.port}"
    repo.write("checks/all.yml", YAML.format(at=at))
    repo.write("checks/test_all.py", PYTHON.format(at=at))
    repo.pytest("--results=results")
    told = (repo.path / "results").read_text()
    results = [one for line in told.splitlines() if "outcome" in (one := json.loads(line))]
    outcomes = {one["check"].rpartition("::")[2]: (one["outcome"], one["facts"].get("code")) for one in results}
    assert outcomes == {
        "cache": ("held", None),
        "replica": ("failed", "wrong_role"),
        "stranger": ("failed", "authentication_failed"),
        "test_cache": ("held", None),
        "test_replica": ("failed", "wrong_role"),
    }
    assert "sesame" not in told
