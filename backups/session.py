"""A connection to a space's database, pinned as pg_dump pins its own, and typed for our use."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none; `Connection` is ours

from spaces.errors import InvalidError, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from backups.engine import Base
    from spaces.ports import Server

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONNECT_S = 10
LOCK_S = 30


class Connection(Protocol):
    """What we use of asyncpg's, which has no types."""

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        """The first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> object:
        """The first value of the first row."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """Run it; answers the server's word for what it did."""
        ...

    def transaction(
        self, *, isolation: str, readonly: bool
    ) -> AbstractAsyncContextManager[object]:
        """A transaction around a block."""
        ...

    async def close(self, *, timeout: float) -> None:
        """End the session."""
        ...


@contextlib.asynccontextmanager
async def connected(base: Base) -> AsyncGenerator[Connection]:
    """A session in which names are always written out in full."""
    async with connected_to(base.server, base.database) as connection:
        await connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
        yield connection


@contextlib.asynccontextmanager
async def connected_to(server: Server, database: str) -> AsyncGenerator[Connection]:
    """A pinned session; what PostgreSQL raises inside becomes an error of ours."""
    host, _, port = server.address.partition(":")
    where = f"database {database} of {server.address}"
    try:
        connection = await _connect(
            host=host,
            port=int(port or 5432),
            user=server.user,
            password=server.password,
            database=database,
            ssl=False if host in LOOPBACK else ssl.create_default_context(),
            timeout=CONNECT_S,
            statement_cache_size=0,
            server_settings=_PINNED,
        )
        try:
            yield connection
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
                await connection.close(timeout=CONNECT_S)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidCatalogNameError) as error:
        raise InvalidError(f"the database refuses to be read: {error}", where=where) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise TransientError(
            f"the database server: {str(error)[:200] or type(error).__name__}", where=where
        ) from error


_PINNED = {
    "row_security": "off",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "xmloption": "content",
    "synchronize_seqscans": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"{LOCK_S}s",
    "jit": "off",
}

# asyncpg has no types: here they begin.
_connect = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
