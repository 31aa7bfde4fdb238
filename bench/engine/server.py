"""The PostgreSQL server of a measurement, in memory; its time and memory are counted for nobody."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg2

from local.home import Home
from local.postgres_account import account

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

# Durability is off for all alike: no tool under test waits for the server's disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "timezone": "UTC",
}


class Server:
    """A fresh server below `root`, which runs while the context is open."""

    def __init__(self, root: Path) -> None:
        self._home = Home.open(root)
        self._account = account(self._home)
        self._port = self._home.port("database")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        folder = self._home.path("database", "data")
        self._account.make_folder(folder.parent)
        options = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        self._run("initdb", "-D", str(folder), "--no-instructions", *options)
        settings = [part for item in _SETTINGS.items() for part in ("-c", "=".join(item))]
        argv = [str(self.programs / "postgres"), "-D", str(folder), "-p", str(self._port)]
        with self._home.path("database.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._account.argv([*argv, *settings]),
                cwd="/",
                stdout=log,
                stderr=log,
                **self._account.popen(),
            )
        self._until_it_answers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def programs(self) -> Path:
        """The folder of `psql`, `pg_dump`, `pg_restore`, `pgbench`."""
        return self._account.binaries

    def dsn(self, database: str) -> str:
        """The address of a database of it."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def sql(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run each by itself; the rows of the last."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def connect(self, database: str) -> Any:  # noqa: ANN401 — psycopg2 has no types
        """A connection that commits by itself."""
        connection = psycopg2.connect(self.dsn(database))
        connection.autocommit = True
        return connection

    def create(self, database: str, *, template: str = "template0") -> None:
        """A new database; a copy of `template`."""
        self.sql(
            "postgres",
            f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY FILE_COPY',
        )

    def drop(self, database: str) -> None:
        """Without asking who is connected."""
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def _until_it_answers(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                self.connect("postgres").close()
            except psycopg2.OperationalError:
                if time.monotonic() > until or (self._process and self._process.poll()):
                    raise
                time.sleep(0.02)
            else:
                return

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._account.argv([str(self.programs / program), *arguments]),
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            **self._account.popen(),
        )
