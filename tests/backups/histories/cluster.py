"""A PostgreSQL server of a test: made, stopped, copied cold, started elsewhere."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg2

from local import processes
from local.home import is_free
from local.postgres_account import account

if TYPE_CHECKING:
    from pathlib import Path

    from local.home import Home

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "replica",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_prepared_transactions": "4",
    "max_logical_replication_workers": "0",
    "timezone": "UTC",
}


class Cluster:
    """One server and its data folder. `dsn` leads to a database of it."""

    def __init__(self, home: Home, name: str, **settings: str) -> None:
        self.home = home
        self.name = name
        self.port = home.port(f"pg-{name}")
        self.settings = _SETTINGS | settings
        self._account = account(home)
        self._process: processes.Identity | None = None

    @property
    def data(self) -> Path:
        return self.home.path("pg", self.name)

    @property
    def programs(self) -> Path:
        return self._account.binaries

    def initialised(self) -> Cluster:
        """A new data folder: a copy of one that initdb made once, so its system id is not its own."""
        self._account.make_folder(self.data.parent, passable=True)
        fresh = self.home.path("pg", "fresh")
        if not fresh.exists():
            arguments = "-U postgres --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync"
            self._run("initdb", "-D", str(fresh), "--no-instructions", *arguments.split())
        self._copy(fresh)
        return self

    def start(self) -> Cluster:
        assert is_free(self.port)
        options = [part for item in self.settings.items() for part in ("-c", "=".join(item))]
        argv = [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        self._process = processes.spawn(
            self._account.argv([*argv, *options]),
            home=self.home,
            name=f"pg-{self.name}",
            log=self.home.path("pg", f"{self.name}.log"),
            cwd="/",
            uid_gid=self._account.uid_gid,
            die_with_parent=True,  # a run that is killed leaves no server behind
        )
        until = time.monotonic() + 60
        while True:
            try:
                psycopg2.connect(self.dsn("postgres")).close()
            except psycopg2.OperationalError:
                assert processes.alive(self._process), self.log()
                assert time.monotonic() < until, self.log()
                time.sleep(0.01)
            else:
                return self

    def stop(self) -> None:
        if self._process is not None:
            processes.end(self._process, sig=signal.SIGINT, grace_s=20)
            self._process = None

    def copied(self, name: str, **settings: str) -> Cluster:
        """A cold copy of a stopped server's data folder, not started."""
        assert self._process is None
        other = Cluster(self.home, name, **(self.settings | settings))
        other._copy(self.data)
        return other

    def _copy(self, data: Path) -> None:
        shutil.copytree(data, self.data)
        for path in (self.data, *self.data.rglob("*")):
            self._account.give(path)

    def delete(self) -> None:
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def dsn(self, database: str, user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user={user} dbname={database}"

    def connect(self, database: str, user: str = "postgres") -> Any:
        connection = psycopg2.connect(self.dsn(database, user))
        connection.autocommit = True
        return connection

    def sql(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Each statement by itself; the rows of the last one."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def create(self, database: str, how: str = "") -> str:
        """A new, empty database; answers its address."""
        self.sql("postgres", f'CREATE DATABASE "{database}" {how}')
        return self.dsn(database)

    def drop(self, database: str) -> None:
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def log(self) -> str:
        return self.home.path("pg", f"{self.name}.log").read_text(errors="replace")[-2000:]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._account.argv([str(self.programs / program), *arguments]),
            cwd="/",
            check=True,
            capture_output=True,
            **self._account.popen(),
        )
