"""A real server per space: from initdb, kept over kill -9, gone when deleted, as root or not."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from local import processes
from local.errors import StackError
from local.home import PROJECT, Home
from local.postgres import PostgresServers, Server, binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.stack

ROOT = os.geteuid() == 0
FIRST = "one'two"


async def ask(server: Server, query: str, *, password: str = FIRST) -> object:
    connection = await asyncpg.connect(
        host=server.host, port=server.port, user="kpax", password=password, database="postgres"
    )
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def ensure(databases: PostgresServers, name: str, password: str = FIRST) -> Server:
    return await databases.ensure(name, admin_user="kpax", admin_password=password)


async def test_a_server_serves_and_repeating_changes_nothing(
    postgres: PostgresServers,
) -> None:
    server = await ensure(postgres, "s-1")
    await ask(server, "create table t as select 1")
    assert await ensure(postgres, "s-1") == server == postgres.get("s-1")
    assert postgres.all() == [server]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(server, "select 1", password="wrong")


async def test_every_server_is_a_cluster_of_its_own(postgres: PostgresServers) -> None:
    servers = await asyncio.gather(*(ensure(postgres, f"s-{number}") for number in range(3)))
    query = "select system_identifier from pg_control_system()"
    assert len({await ask(server, query) for server in servers}) == 3
    assert len({server.port for server in servers}) == 3


async def test_what_was_committed_outlives_a_kill(postgres: PostgresServers) -> None:
    server = await ensure(postgres, "s-1")
    await ask(server, "create table t as select generate_series(1, 1000)")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    again = await ensure(postgres, "s-1")
    assert again.pid != server.pid
    assert again.port == server.port
    assert await ask(again, "select count(*) from t") == 1000


async def test_a_server_is_found_by_another_process_and_without_its_record(
    home: Home, postgres: PostgresServers
) -> None:
    server = await ensure(postgres, "s-1")
    assert PostgresServers(home).get("s-1") == server
    record = home.path("postgres", "s-1", "server.json")
    text = record.read_text()
    record.write_text(text.replace(f'"pid": {server.pid}', '"pid": null'))
    assert await ensure(PostgresServers(home), "s-1") == server


async def test_a_stopped_server_keeps_its_data(postgres: PostgresServers) -> None:
    server = await ensure(postgres, "s-1")
    await ask(server, "create table t as select 7 as x")
    await postgres.stop("s-1")
    await postgres.stop("s-1")
    stopped = postgres.get("s-1")
    assert stopped
    assert not stopped.running
    assert stopped.pid is None
    assert await ask(await ensure(postgres, "s-1"), "select x from t") == 7


async def test_a_deleted_server_leaves_nothing(home: Home, postgres: PostgresServers) -> None:
    server = await ensure(postgres, "s-1")
    assert server.pid
    await postgres.delete("s-1")
    assert processes.identify(server.pid) is None
    assert not list(home.root.rglob("*s-1*"))
    assert "s-1" not in (home.root / "stack.json").read_text()
    assert postgres.get("s-1") is None
    await postgres.delete("s-1")
    fresh = await ensure(postgres, "s-1")
    with pytest.raises(asyncpg.UndefinedTableError):
        await ask(fresh, "select * from t")


async def test_another_password_replaces_the_first(postgres: PostgresServers) -> None:
    await ensure(postgres, "s-1")
    server = await ensure(postgres, "s-1", "new")
    assert await ask(server, "select 1", password="new") == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(server, "select 1")


async def test_an_initdb_that_was_cut_off_is_done_again(
    home: Home, postgres: PostgresServers
) -> None:
    half = home.path("postgres", "s-1", "data.new", "base")
    half.mkdir()
    (half.parent / "PG_VERSION").write_text("18")
    assert await ask(await ensure(postgres, "s-1"), "select 1") == 1
    assert not half.parent.exists()


async def test_a_taken_port_is_told(home: Home, postgres: PostgresServers) -> None:
    port = home.port("postgres-s-1")
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=f"Port {port} .* taken by pid {os.getpid()} "),
    ):
        await ensure(postgres, "s-1")


@pytest.mark.parametrize("name", ["", "../x", "A", "a b"])
async def test_a_malformed_name_is_refused(postgres: PostgresServers, name: str) -> None:
    with pytest.raises(StackError, match="no server or user name"):
        await ensure(postgres, name)


async def test_a_server_that_cannot_start_tells_why(
    home: Home, postgres: PostgresServers
) -> None:
    await ensure(postgres, "s-1")
    await postgres.stop("s-1")
    with home.path("postgres", "s-1", "data", "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StackError, match="no_such_setting"):
        await ensure(postgres, "s-1")


def test_the_client_programs_are_there(home: Home) -> None:
    for name in ("pg_dump", "pg_restore", "psql"):
        assert (binaries(home) / name).exists()


# The ways of running it that this machine would not choose by itself, each in a process of its own.
JOURNEY = """
import asyncio, os, sys
import asyncpg
from local.home import Home
from local.postgres import PostgresServers

async def main():
    home = Home.open(sys.argv[1])
    databases = PostgresServers(home)
    server = await databases.ensure("s-1", admin_user="kpax", admin_password="pw")
    try:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user="kpax", password="pw", database="postgres"
        )
        data = home.path("postgres", "s-1", "data")
        print(await connection.fetchval("select 'answered'"))
        print(os.stat(f"/proc/{server.pid}").st_uid, oct(data.stat().st_mode & 0o777))
        await connection.close()
    finally:
        await databases.delete("s-1")

asyncio.run(main())
"""


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that other accounts can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="kpax-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_ordinary_user() -> list[str]:
    """A prefix under which a program is no longer root: a user namespace, where we are root."""
    entry = next(entry for entry in pwd.getpwall() if entry.pw_uid > 0)
    return ["unshare", "--user", f"--map-user={entry.pw_uid}", "--"] if ROOT else []


def journey(
    home: Path, *, prefix: Sequence[str] = (), environment: dict[str, str] | None = None
) -> tuple[list[str], str]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", JOURNEY, str(home)],
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split(), done.stderr


def test_an_ordinary_user_runs_it_as_himself(tmp_path: Path) -> None:
    told, error = journey(tmp_path / "home", prefix=as_ordinary_user())
    assert told[:1] == ["answered"], error
    assert told[1] != "0"  # as he sees it himself


def test_the_account_of_the_server_is_never_root(passable: Path) -> None:
    ways = ["", "drop"] if ROOT else [""]
    for way in ways:
        told, error = journey(passable / f"home-{way}", environment={"KPAX_PG_ACCOUNT": way})
        assert told[:1] == ["answered"], error
        assert told[2] == "0o700"
        if way == "drop":
            assert told[1] != "0"


def test_a_folder_that_bars_the_other_account_is_named(tmp_path: Path) -> None:
    barred = tmp_path / "barred"
    barred.mkdir(mode=0o700)
    told, error = journey(barred / "home", environment={"KPAX_PG_ACCOUNT": "drop"})
    if ROOT:
        assert told == []
        assert "lets no other account pass" in error
    else:  # an ordinary user needs no other account
        assert told[:1] == ["answered"], error
