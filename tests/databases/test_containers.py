"""Databases in containers, by testcontainers: a check of what runs there, and what it says when that is gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.databases.engine import host
from tests.databases.images import image
from tests.databases.packages import programs
from tests.probes.conftest import by_multi as ask
from tests.probes.conftest import failed, held
from upcheck.probes import Reason
from upcheck.probes.docker import Docker
from upcheck.probes.postgres import Postgres
from upcheck.probes.redis import Redis

if TYPE_CHECKING:
    from docker import DockerClient

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image can't be pulled; what is started here is ended here
PASSWORD = "sesame"
BEGIN = """\
set -e
initdb -D /data -U app -A scram-sha-256 --pwfile=/password -N -E UTF8 --locale=C --no-instructions
echo 'host all all all scram-sha-256' >> /data/pg_hba.conf
exec postgres -D /data -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/data
"""


@pytest.fixture(scope="module")
def postgres_image(docker_engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, shell = programs("postgres"), programs("busybox-static")
    home = Path(server["postgres"]).resolve().parents[1]
    shared = next(server.root.glob("usr/share/postgresql/*"))
    folder = tmp_path_factory.mktemp("image")
    (folder / "passwd").write_text("app:x:70:70::/data:/bin/sh\n")
    (folder / "password").write_text(PASSWORD)
    (folder / "begin").write_text(BEGIN)
    place = re.sub(f"^{re.escape(str(server.root))}", "/", str(home)).replace("//", "/")
    share = "/" + str(shared.relative_to(server.root))
    with image(
        docker_engine,
        "postgres",
        [
            f"ENV PATH={place}/bin:/bin",
            'RUN ["/bin/busybox", "mkdir", "-p", "-m", "700", "/data"]',
            'RUN ["/bin/busybox", "chown", "70:70", "/data"]',
            'RUN ["/bin/busybox", "mkdir", "-m", "1777", "/tmp"]',
            "USER 70",
            'ENTRYPOINT ["/bin/sh", "/begin"]',
        ],
        programs=[server["postgres"], server["initdb"]],
        files={
            "/bin/busybox": shell["busybox"],
            "/bin/sh": shell["busybox"],
            f"{place}/lib": home / "lib",
            share: shared,
            "/etc/passwd": folder / "passwd",
            "/password": folder / "password",
            "/begin": folder / "begin",
        },
        environ=server.environ,
    ) as tag:
        yield tag


def test_a_postgres(postgres_image: str) -> None:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    ready = LogMessageWaitStrategy("database system is ready to accept connections").with_startup_timeout(60)
    with DockerContainer(postgres_image).with_exposed_ports(5432).waiting_for(ready) as postgres:
        there = f"{postgres.get_container_host_ip()}:{postgres.get_exposed_port(5432)}"
        url = f"postgresql://app:{PASSWORD}@{there}/postgres"
        held(ask(Postgres(url, writable=True)))
        failed(ask(Postgres(url.replace(PASSWORD, "wrong"))), Reason.AUTHENTICATION_FAILED)
        name = str(postgres.get_wrapped_container().name)
        held(ask(Docker(host(), container=name)))
        postgres.get_wrapped_container().kill()
        postgres.get_wrapped_container().wait()
        failed(ask(Docker(host(), container=name)), Reason.NOT_RUNNING)
        failed(ask(Postgres(url)), Reason.CONNECTION_REFUSED)


def test_a_redis(docker_engine: DockerClient) -> None:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    server = programs("redis-server")
    program = Path(server["redis-server"])
    files = {"/redis-server": program.resolve()}  # what it is, it reads from its name
    with (
        image(
            docker_engine,
            "redis",
            ['ENTRYPOINT ["/redis-server"]'],
            programs=[program],
            files=files,
            environ=server.environ,
        ) as tag,
        DockerContainer(tag)
        .with_command("--protected-mode no --save ''")
        .with_exposed_ports(6379)
        .waiting_for(LogMessageWaitStrategy("Ready to accept connections").with_startup_timeout(30)) as redis,
    ):
        url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}"
        held(ask(Redis(url)))
        redis.get_wrapped_container().kill()
        redis.get_wrapped_container().wait()
        failed(ask(Redis(url)), Reason.CONNECTION_REFUSED)
