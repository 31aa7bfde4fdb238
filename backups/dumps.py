"""A space's PostgreSQL database: dumped, loaded and proved. PostgreSQL's own programs do the work.

Dump and hashes are of one exported snapshot. The transaction locks every table before its first
read: a table that somebody truncates and refills, or rewrites, would else read as empty or half
in a snapshot that is open. The session is pinned as pg_dump pins its own: a role under row-level
security silently gets half the rows otherwise. Source: backups.md, amendments 3 to 5, all of them
measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING, NoReturn

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none

from backups import census
from backups.manifest import DatabaseContents, SequenceContents, TableContents
from backups.session import CONNECT_S, LOCK_S, LOOPBACK, connected, connected_to
from spaces.errors import InvalidError, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from backups.engine import Base
    from backups.session import Connection
    from spaces.ports import Server

_PIECE = 1 << 18
_TRIES = 5
# Whole phrases: a table may well be called `connections`.
_PASSING = re.compile(
    r"connection to server|server closed the connection|terminating connection"
    r"|connection has been closed|could not connect|timed out|lost synchronization"
    r"|is shutting down|is starting up|recovery mode|too many clients|remaining connection slots"
    r"|deadlock detected|canceling statement due to",
    re.IGNORECASE,
)


class PostgresData:
    """See `engine.Data`. `programs` is the folder of pg_dump and pg_restore; None: on the PATH."""

    def __init__(self, programs: Path | None) -> None:
        self._programs = programs

    async def dump(self, base: Base, sink: Callable[[bytes], None]) -> DatabaseContents:
        """Give the dump to `sink`; answers what the same snapshot holds."""
        async with connected(base) as connection:
            for _ in range(_TRIES):
                contents = await self._dump_once(connection, base, sink)
                if contents is not None:
                    return contents
        raise TransientError(
            "tables are made and dropped faster than they can be locked", where=_where(base)
        )

    async def load(self, base: Base, dump: AsyncIterator[bytes]) -> None:
        """Fill an empty database from a dump; owners and rights are as they were."""
        argv = [
            "pg_restore",
            f"--dbname={base.database}",
            "--no-password",
            "--exit-on-error",
            "--transaction-size=1000",
            "--no-subscriptions",
        ]
        async with self._running(argv, base, feeds=True) as process:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            try:
                async for piece in dump:
                    process.stdin.write(piece)
                    await process.stdin.drain()
                process.stdin.close()
                await process.stdin.wait_closed()
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has ended: its exit code and last words say why

    async def contents(self, base: Base) -> DatabaseContents:
        """What the database holds now, in one snapshot."""
        async with connected(base) as connection:
            for _ in range(_TRIES):
                async with _snapshot(connection) as tables:
                    if tables is not None:
                        before = await _sequences(connection)
                        return await _contents(connection, tables, before, before)
        raise TransientError("tables come and go too fast to be read", where=_where(base))

    async def sessions(self, server: Server, role: str) -> dict[str, int]:
        """How many sessions of `role` each database has."""
        async with connected_to(server, "postgres") as connection:
            rows = await connection.fetch(
                "SELECT datname, count(*) AS sessions FROM pg_stat_activity"
                " WHERE usename = $1 AND datname IS NOT NULL GROUP BY datname",
                role,
            )
            return {str(row["datname"]): int(row["sessions"]) for row in rows}

    async def _dump_once(
        self, connection: Connection, base: Base, sink: Callable[[bytes], None]
    ) -> DatabaseContents | None:
        async with _snapshot(connection) as tables:
            if tables is None:
                return None
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            before = await _sequences(connection)
            await self._pg_dump(base, str(snapshot), sink)
            after = await _sequences(connection)
            return await _contents(connection, tables, before, after)

    async def _pg_dump(self, base: Base, snapshot: str, sink: Callable[[bytes], None]) -> None:
        argv = [
            "pg_dump",
            f"--dbname={base.database}",
            "--format=custom",
            "--compress=gzip:3",
            f"--snapshot={snapshot}",
            "--no-password",
            f"--lock-wait-timeout={LOCK_S * 1000}",
        ]
        async with self._running(argv, base, feeds=False) as process:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            while piece := await process.stdout.read(_PIECE):
                sink(piece)

    @contextlib.asynccontextmanager
    async def _running(
        self, argv: list[str], base: Base, *, feeds: bool
    ) -> AsyncGenerator[asyncio.subprocess.Process]:
        """A program of PostgreSQL's; ended in every outcome, its failure raised at the end."""
        program = str(self._programs / argv[0]) if self._programs else argv[0]
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *argv[1:],
                stdin=pipe if feeds else nothing,
                stdout=nothing if feeds else pipe,
                stderr=pipe,
                env=_environment(base.server),
            )
        except OSError as error:
            raise InvalidError(
                f"{argv[0]} cannot be started: {error.strerror}",
                remedy="Setting KPAX_PG_BIN names the folder of PostgreSQL's programs.",
            ) from error
        words = asyncio.create_task(_last_words(process))
        try:
            yield process
            code = await process.wait()
            told = await words
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await words
            raise
        if code != 0:
            _refused(argv[0], told, base)


def _refused(program: str, told: str, base: Base) -> NoReturn:
    """Raise what a failed program's last words mean; they are cut before they tell of rows."""
    lines = [line for line in told.splitlines() if "error:" in line.lower()]
    what = f"{program} failed: {lines[0][:200] if lines else 'without a word'}"
    if not lines or _PASSING.search(lines[0]):
        raise TransientError(what, where=_where(base))
    raise InvalidError(
        what,
        where=_where(base),
        remedy="docs/backup-format.md, `When a dump does not load`.",
        slug="dump-refused",
    )


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """The first 8 KiB of its errors; the rest is read and forgotten, so that it never blocks."""
    assert process.stderr is not None  # noqa: S101 - it was asked for
    kept = b""
    while piece := await process.stderr.read(4096):
        if len(kept) < 8192:
            kept += piece
    return kept.decode(errors="replace")


def _environment(server: Server) -> dict[str, str]:
    """The environment of PostgreSQL's programs: a password in an argument would be seen by all."""
    host, _, port = server.address.partition(":")
    loopback = host in LOOPBACK
    return {
        "PATH": os.environ.get("PATH", ""),
        "LC_ALL": "C",
        "PGHOST": host,
        "PGPORT": port or "5432",
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
        "PGCONNECT_TIMEOUT": str(CONNECT_S),
        "PGSSLMODE": "disable" if loopback else "verify-full",
        **({} if loopback else {"PGSSLROOTCERT": "system"}),
    }


# --- what a database holds --------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _snapshot(
    connection: Connection,
) -> AsyncGenerator[list[census.Table] | None]:
    """A transaction with one snapshot and every table locked; None when tables changed meanwhile.

    The list is read first and outside, because the lock must come before the snapshot.
    """
    listed = await census.tables(connection)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        locked = True
        if listed:
            names = ", ".join(table.name for table in listed)
            try:
                await connection.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
            except (asyncpg.UndefinedTableError, asyncpg.WrongObjectTypeError):
                locked = False
        yield await _unchanged(connection, listed) if locked else None


async def _unchanged(
    connection: Connection, listed: list[census.Table]
) -> list[census.Table] | None:
    seen = await census.tables(connection)
    return seen if seen == listed and all(table.is_settled for table in seen) else None


async def _contents(
    connection: Connection,
    tables: list[census.Table],
    before: dict[str, tuple[int, bool]],
    after: dict[str, tuple[int, bool]],
) -> DatabaseContents:
    return DatabaseContents(
        server_version=str(await connection.fetchval("SHOW server_version")),
        encoding=str(await connection.fetchval("SHOW server_encoding")),
        tables=[
            *[await _table(connection, table) for table in tables],
            *await _large_objects(connection),
        ],
        sequences=[_bounds(name, before[name], after.get(name)) for name in sorted(before)],
        census=await census.kinds(connection),
    )


async def _table(connection: Connection, table: census.Table) -> TableContents:
    source = f"SELECT (r_.*)::text AS told FROM ONLY {table.name} AS r_"  # noqa: S608 - a name that the server quoted
    rows, sha256 = await _hashed(connection, source)
    return TableContents(name=table.name, columns=table.columns, rows=rows, sha256=sha256)


async def _large_objects(connection: Connection) -> list[TableContents]:
    source = (
        "SELECT oid::text || ' ' || encode(sha256(lo_get(oid)), 'hex') AS told"
        " FROM pg_catalog.pg_largeobject_metadata"
    )
    rows, sha256 = await _hashed(connection, source)
    if not rows:
        return []
    return [TableContents(name="large objects", columns="", rows=rows, sha256=sha256)]


async def _hashed(connection: Connection, source: str) -> tuple[int, str]:
    """Count and hash of a set of texts, whatever their order, sorted by the server.

    Each text is hashed, the hashes are sorted and hashed in 256 groups, so that neither side ever
    holds more than a group: 32 bytes for every 256th row.
    """
    groups = await connection.fetch(
        "SELECT count(*) AS n, sha256(string_agg(h, ''::bytea ORDER BY h)) AS s FROM"  # noqa: S608 - see the callers
        f" (SELECT sha256(convert_to(told, 'UTF8')) AS h FROM ({source}) AS t_) AS h_"
        " GROUP BY get_byte(h, 0) ORDER BY get_byte(h, 0)"
    )
    digest, rows = hashlib.sha256(), 0
    for group in groups:
        rows += int(group["n"])
        digest.update(f"{group['n']}\n".encode() + bytes(group["s"]))
    return rows, digest.hexdigest()


async def _sequences(connection: Connection) -> dict[str, tuple[int, bool]]:
    found: dict[str, tuple[int, bool]] = {}
    for name in await census.sequences(connection):
        row = await connection.fetchrow(f"SELECT last_value, is_called FROM {name}")  # noqa: S608 - a name that the server quoted
        if row is not None:
            found[name] = (int(row["last_value"]), bool(row["is_called"]))
    return found


def _bounds(
    name: str, before: tuple[int, bool], after: tuple[int, bool] | None
) -> SequenceContents:
    then = after or before
    return SequenceContents(
        name=name,
        lowest=min(before[0], then[0]),
        highest=max(before[0], then[0]),
        called=sorted({before[1], then[1]}),
    )


def _where(base: Base) -> str:
    return f"database {base.database} of {base.server.address}"
