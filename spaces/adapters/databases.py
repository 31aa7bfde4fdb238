"""Databases and roles of a space's PostgreSQL server, by asyncpg.

Every method looks before it acts and may be repeated; each opens one connection and closes it. On
Azure the administrator is no superuser: it must be a member of a role to give it a database.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg

from spaces import errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from spaces.ports import Server

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30.0
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_LOCK = 0x6B706178
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class PostgresDatabases:
    """See the port. Raises `InvalidError`, `DeniedError`, `TransientError`."""

    async def ensure_role(self, server: Server, role: str, password: str) -> None:
        """A login role with this password and no other right."""
        name = _name(role)
        async with _changing(server) as connection:
            there = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            if not there:
                await connection.execute(f"CREATE ROLE {name} LOGIN")
            # the server quotes the password: a statement of this kind takes no parameters
            statement = await connection.fetchval(
                "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)",
                role,
                password,
            )
            await connection.execute(str(statement))

    async def ensure_database(self, server: Server, database: str, *, owner: str) -> None:
        """A database owned by `owner`, closed to the public."""
        name, owned_by = _name(database), _name(owner)
        async with _changing(server) as connection:
            await _join(connection, owner)
            has = await connection.fetchval(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", database
            )
            if has is None:
                await connection.execute(
                    f"CREATE DATABASE {name} OWNER {owned_by} TEMPLATE template0"
                )
            elif has != owner:
                await connection.execute(f"ALTER DATABASE {name} OWNER TO {owned_by}")
            await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")

    async def drop_database(self, server: Server, database: str) -> None:
        """Drop it with its connections; a missing one counts as done."""
        name = _name(database)
        async with _changing(server) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def databases(self, server: Server) -> list[str]:
        """Names of the databases there, templates left out."""
        async with _connected(server) as connection:
            rows = await connection.fetch(
                "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname"
            )
            return [row["datname"] for row in rows]

    async def ensure_login(
        self, server: Server, role: str, password: str, *, acts_as: str
    ) -> None:
        """A login role with this password, whose sessions act as the role `acts_as`."""
        await self.ensure_role(server, role, password)
        if role == acts_as:
            return
        name, owner = _name(role), _name(acts_as)
        async with _changing(server) as connection:
            await connection.execute(f"GRANT {owner} TO {name}")
            # What a session makes then belongs to the owner, whichever login is in force.
            await connection.execute(f"ALTER ROLE {name} SET role = {owner}")

    async def retire_login(self, server: Server, role: str) -> None:
        """No login by this role any more; its sessions end, its rights stay."""
        name = _name(role)
        async with _changing(server) as connection:
            there = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            if not there:
                return
            await connection.execute(f"ALTER ROLE {name} NOLOGIN PASSWORD NULL")
            # An administrator that is no superuser ends sessions of roles it is a member of.
            await _join(connection, role)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
                role,
            )

    async def accepts(self, server: Server, database: str, role: str, password: str) -> bool:
        """Whether this role logs in to this database with this password."""
        for name in (role, database):
            _name(name)
        tried = replace(server, user=role, password=password)
        try:
            async with _connected(tried, database):
                return True
        except errors.DeniedError:
            return False


async def _join(connection: asyncpg.Connection, role: str) -> None:
    """Make the administrator a member of a role, unless it stands above all roles."""
    if not await connection.fetchval(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ):
        await connection.execute(f"GRANT {_name(role)} TO CURRENT_USER")


def _name(text: str) -> str:
    """The identifier in quotes; only names that would not need them are let through."""
    if not _NAME.fullmatch(text):
        raise errors.InvalidError(
            f"{text[:80]!r} is no name for a database or a role",
            remedy="A small letter, then small letters, digits and underscores, 63 in all.",
        )
    return f'"{text}"'


@contextlib.asynccontextmanager
async def _changing(server: Server) -> AsyncGenerator[asyncpg.Connection]:
    """A connection that changes roles or databases, one at a time on a server.

    Two that make the same at once would else fail in the server's catalogue ("tuple concurrently
    updated"), and two copies of a template at once are refused. The lock ends with the connection.
    """
    async with _connected(server) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield connection


@contextlib.asynccontextmanager
async def _connected(
    server: Server, database: str = "postgres"
) -> AsyncGenerator[asyncpg.Connection]:
    host, _, port = server.address.partition(":")
    where = f"PostgreSQL server {server.address}"
    try:
        connection = await asyncpg.connect(
            host=host,
            port=int(port or 5432),
            user=server.user,
            password=server.password,
            database=database,
            # across a network the server must prove its name; asyncpg's default would not ask
            ssl=False if host in _LOOPBACK else ssl.create_default_context(),
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            statement_cache_size=0,
        )
        try:
            yield connection
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
                await connection.close(timeout=CONNECT_TIMEOUT_S)
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InsufficientPrivilegeError,
    ) as error:
        raise errors.DeniedError(str(error), where=where) from error
    except asyncpg.UndefinedObjectError as error:
        raise errors.NotFoundError(str(error), where=where) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise errors.TransientError(
            f"the database server: {str(error) or type(error).__name__}", where=where
        ) from error
