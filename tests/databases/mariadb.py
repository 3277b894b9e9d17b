"""A MariaDB server, and a replica of it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.databases.packages import Programs
from tests.databases.servers import Server, give_away, unprivileged
from upcheck.servers import free_port

PASSWORD = "sesame:/@"  # as a URL would not have it
MAX_CONNECTIONS = 10  # it takes no less
SYSTEM = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
USERS = f"""\
CREATE USER IF NOT EXISTS super@'127.0.0.1' IDENTIFIED BY 'super';
GRANT ALL ON *.* TO super@'127.0.0.1';
CREATE USER IF NOT EXISTS upcheck@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT REPLICA MONITOR ON *.* TO upcheck@'127.0.0.1';
GRANT CREATE, SELECT ON app.* TO upcheck@'127.0.0.1';
CREATE USER IF NOT EXISTS few@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
CREATE DATABASE IF NOT EXISTS app;
"""


class MariadbServer(Server):
    """A MariaDB on *port*; `server("SELECT 1")` asks as its superuser and gives rows by column."""

    def __init__(self, programs: Programs, home: Path) -> None:
        super().__init__(programs, [], free_port(), home)
        self.data = home / "data"
        self.share = programs.root / "usr/share/mysql"
        small = ("innodb-buffer-pool-size=8M", "innodb-log-file-size=4M", "innodb-flush-log-at-trx-commit=0")
        common = ("no-defaults", f"datadir={self.data}", f"lc-messages-dir={self.share}", *small)
        place = (f"port={self.port}", "bind-address=127.0.0.1", f"socket={home}/socket", "skip-name-resolve")
        role = (f"server-id={self.port}", "log-bin=log", f"max-connections={MAX_CONNECTIONS}")
        self.always = [f"--{one}" for one in common]
        self.program = programs["mariadbd"]
        files = (f"pid-file={home}/pid", f"init-file={home}/users.sql")
        self.options = [*self.always, *(f"--{one}" for one in (*place, *role, *files))]

    def make(self) -> None:
        """Make its system tables, and start it."""
        self.data.mkdir()
        (self.home / "users.sql").write_text(USERS)
        tables = "".join((self.share / name).read_text() for name in SYSTEM)
        give_away(self.home)
        done = subprocess.run(
            [self.program, *self.always, "--bootstrap"],
            input=f"CREATE DATABASE mysql;\nUSE mysql;\n{tables}",
            env=self.programs.environ,
            capture_output=True,
            text=True,
            timeout=60,
            **unprivileged(),
        )
        assert done.returncode == 0, done.stderr
        self.begin()

    def begin(self, *options: str) -> None:
        """Start it with *options* more, and wait until it answers."""
        self.argv = [self.program, *self.options, *options]
        self.start(self._answers)

    def again(self, *options: str) -> None:
        """End it, and start it with *options*."""
        self.stop()
        self.begin(*options)

    def _answers(self) -> bool:
        import pymysql

        try:
            self("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def __call__(self, statement: str) -> list[dict[str, Any]]:
        import pymysql

        cursor_class = pymysql.cursors.DictCursor
        with contextlib.closing(
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="super", password="super", autocommit=True, ssl_disabled=True,
                cursorclass=cursor_class, connect_timeout=5,
            )
        ) as connection, connection.cursor() as cursor:  # fmt: skip
            cursor.execute(statement)
            return list(cursor.fetchall())

    @contextlib.contextmanager
    def with_setting(self, name: str, value: str) -> Iterator[None]:
        """Have the variable *name* be *value* meanwhile."""
        before = self(f"SELECT @@GLOBAL.{name} AS it")[0]["it"]
        self(f"SET GLOBAL {name} = {value}")
        try:
            yield
        finally:
            self(f"SET GLOBAL {name} = {before!r}")

    @contextlib.contextmanager
    def secured(self, certificate: Path, *options: str) -> Iterator[None]:
        """Have it speak TLS meanwhile, with the key and the certificates in *certificate*."""
        own = self.home / "server.pem"
        shutil.copy(certificate, own)
        give_away(self.home)
        self.again(f"--ssl-cert={own}", f"--ssl-key={own}", *options)
        try:
            yield
        finally:
            self.again()

    def follow(self, source: MariadbServer) -> None:
        """Be a replica of *source*."""
        self("STOP SLAVE")
        self(
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={source.port}, master_user='super', "
            "master_password='super', master_use_gtid=slave_pos, master_connect_retry=1, master_delay=0"
        )
        self("START SLAVE")

    def url(self, user: str = "upcheck", password: str = "sesame%3A%2F%40", database: str = "app") -> str:
        """Where it is, as a check has it."""
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}/{database}"
