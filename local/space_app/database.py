"""The space's own tables: brought up to date at the start, then read and written.

Instances start at the same time, so a migration runs under an advisory lock, each in one
transaction with the row that says it is done.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg

from local.space_app.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.space_app.inputs import NewDevice, NewReading
    from local.space_app.settings import Database as Address

_CONNECT_S = 5.0
_COMMAND_S = 15.0
_HEALTH_S = 1.0
_IDLE_S = 20.0
_BATCH = 500
_MIGRATION_LOCK = 0x6B_70_61_78  # "kpax"

MIGRATIONS = (
    """
    CREATE TABLE devices (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        name text NOT NULL,
        serial text NOT NULL,
        created_at timestamptz NOT NULL
    );
    CREATE TABLE readings (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        device_id text NOT NULL REFERENCES devices (id),
        value double precision NOT NULL,
        unit text NOT NULL,
        at timestamptz NOT NULL
    );
    CREATE TABLE documents (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        name text NOT NULL,
        content_type text NOT NULL,
        size bigint NOT NULL,
        sha256 text NOT NULL
    );
    """,
    "CREATE INDEX readings_of_device ON readings (device_id, at);",
)
COLUMNS = {
    "devices": "id, name, serial, created_at",
    "readings": "id, device_id, value, unit, at",
    "documents": "id, name, content_type, size, sha256",
}

Row = dict[str, Any]

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
)


class Database:
    """A few connections to the space's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, address: Address) -> Database:
        """Connect and bring the schema up to date; raises what the server says."""
        pool = await asyncpg.create_pool(
            host=address.host,
            port=address.port,
            database=address.name,
            user=address.user,
            password=address.password,
            min_size=1,
            max_size=4,
            timeout=_CONNECT_S,
            command_timeout=_COMMAND_S,
            max_inactive_connection_lifetime=_IDLE_S,  # each costs the server 2 MiB
            server_settings={"application_name": "kpax-space"},
        )
        database = cls(pool)
        try:
            await database._migrate()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """End the connections, without waiting for lost ones."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def answers(self) -> bool:
        """Whether a query comes back within a second."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                return await self._pool.fetchval("SELECT 1") == 1
        except (*UNREACHABLE, asyncpg.PostgresError):
            return False

    async def add_device(self, new: NewDevice) -> Row:
        """Store a device."""
        return await self._insert("devices", _id(), new.name, new.serial, _now())

    async def add_reading(self, new: NewReading) -> Row:
        """Store a reading; its device must be there."""
        try:
            return await self._insert(
                "readings", _id(), new.device_id, new.value, new.unit, new.at or _now()
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise ProblemError(
                400, "Invalid input", "There is no device of this id.", pointer="/device_id"
            ) from error

    async def add_document(
        self, document_id: str, *, name: str, content_type: str, size: int, sha256: str
    ) -> Row:
        """Record a document whose bytes are stored already."""
        return await self._insert("documents", document_id, name, content_type, size, sha256)

    async def document(self, document_id: str) -> Row | None:
        """What is recorded of a document, or None."""
        found = await self._pool.fetchrow(
            f"SELECT {COLUMNS['documents']} FROM documents WHERE id = $1",  # noqa: S608 — columns named above
            document_id,
        )
        return _shown(found) if found else None

    async def batches(self, table: str) -> AsyncIterator[list[Row]]:
        """Every row in order of arrival, a few hundred at a time, no connection held between."""
        last = 0
        while True:
            rows = await self._pool.fetch(
                f"SELECT seq, {COLUMNS[table]} FROM {table}"  # noqa: S608 — tables and columns named above
                " WHERE seq > $1 ORDER BY seq LIMIT $2",
                last,
                _BATCH,
            )
            if rows:
                last = rows[-1]["seq"]
                yield [_shown(row) for row in rows]
            if len(rows) < _BATCH:
                return

    async def latest(self, table: str, count: int) -> tuple[int, list[Row]]:
        """How many rows there are, and the newest of them."""
        total = await self._pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 — one of COLUMNS
        rows = await self._pool.fetch(
            f"SELECT {COLUMNS[table]} FROM {table} ORDER BY seq DESC LIMIT $1",  # noqa: S608 — one of COLUMNS
            count,
        )
        return total, [_shown(row) for row in rows]

    async def _insert(self, table: str, *values: object) -> Row:
        marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        columns = COLUMNS[table]
        row = await self._pool.fetchrow(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING {columns}",  # noqa: S608 — one of COLUMNS
            *values,
        )
        return _shown(row)

    async def _migrate(self) -> None:
        async with self._pool.acquire() as connection:
            for number, statements in enumerate(MIGRATIONS, start=1):
                async with connection.transaction():
                    await connection.execute(
                        "SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK
                    )
                    await connection.execute(
                        "CREATE TABLE IF NOT EXISTS schema_versions"
                        " (version int PRIMARY KEY, applied_at timestamptz NOT NULL)"
                    )
                    if not await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM schema_versions WHERE version = $1)", number
                    ):
                        await connection.execute(statements)
                        await connection.execute(
                            "INSERT INTO schema_versions VALUES ($1, $2)", number, _now()
                        )


def _shown(row: asyncpg.Record) -> Row:
    return {
        name: value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        if isinstance(value, dt.datetime)
        else value
        for name, value in row.items()
        if name != "seq"
    }


def _id() -> str:
    return str(uuid.uuid4())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
