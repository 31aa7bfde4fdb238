"""Server parameters of PostgreSQL flexible servers: the server's own settings, really applied.

A value is written with ALTER SYSTEM, so that the server itself refuses what it does not take. One
that needs a restart is pending until `POST …/restart`, as on the service. What would keep a small
local server from starting (memory, libraries, files) is recorded only.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError, not_found
from local.resource_manager.providers.base import Provider, at
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

PASSWORD = "properties.administratorLoginPassword"  # noqa: S105 — a path, no password
_TYPE = "Microsoft.DBforPostgreSQL/flexibleServers/configurations"
_AT_START = ("max_connections", "max_prepared_transactions", "max_locks_per_transaction")
"""Those that need a restart and are applied; others of the kind are recorded."""
_RANGES = {"max_connections": (25, 5000)}
"""Where the service is narrower than PostgreSQL."""
_OURS = (
    "fsync",
    "full_page_writes",
    "ssl",
    "archive_mode",
    "archive_command",
    "log_destination",
)
"""The service keeps them to itself."""
_ELSEWHERE = re.compile(
    r"(?:azure|azure_storage|pgbouncer|metrics|logfiles|pg_qs|pgms_wait_sampling|pgaudit|"
    r"index_tuning|intelligent_tuning|connection_throttle|cron|pg_stat_statements)\.[a-z0-9_.]+"
)
"""Of parts that are not here: recorded."""
_QUERY = """
    select name, setting, boot_val, context, vartype, min_val, max_val, enumvals, unit,
           short_desc, pending_restart
      from pg_settings"""


class Configurations(Provider):
    """`Microsoft.DBforPostgreSQL/flexibleServers/configurations`."""

    type = _TYPE
    location = "none"
    tracked = False
    summary = (
        "a setting of the server, by ALTER SYSTEM; one that needs a restart waits for it; "
        "memory, libraries and extensions are recorded"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Names, and values that are text."""
        super().check(body, target)
        if not re.fullmatch(r"[a-z][a-z0-9_.]{0,62}", target.name, re.IGNORECASE):
            raise ArmError("InvalidParameterName", f"'{target.name}' is no server parameter.")
        value = at(body, "properties.value")
        if value is not None and value is not UNKNOWN and not isinstance(value, str):
            raise ArmError(
                "InvalidParameterValue",
                "A server parameter's value is a string.",
                target="value",
            )
        if target.name.lower() in _OURS:
            raise ArmError(
                "ConfigurationReadOnly",
                f"The configuration(s) '{target.name}' is(are) read-only.",
            )

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Set it; without a value, or with the source `system-default`, as it was at first."""
        name, value = record.id.name.lower(), record.properties.get("value")
        reset = str(record.properties.get("source")).lower() == "system-default"
        async with _connected(record, cloud) as connection:
            found = await connection.fetchrow(f"{_QUERY} where name = $1", name)
            if found is None:
                if not _ELSEWHERE.fullmatch(name):
                    raise not_found(str(record.id))
                return {"source": "user-override"}
            if reset or value is None:
                await _apply(connection, found, None)
                return {"value": found["boot_val"], "source": "system-default"}
            _check_value(found, value)
            await _apply(connection, found, value)
        return {"source": "user-override"}

    async def seen(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """With what the server says of it."""
        async with _connected(record, cloud) as connection:
            found = await connection.fetchrow(
                f"{_QUERY} where name = $1", record.id.name.lower()
            )
        shown = record.shown()
        told = _told(found) if found is not None else {}
        return {**shown, "properties": {**told, **shown["properties"]}}

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """As it was at first, if the server is still there."""
        server = cloud.databases.get(record.id.root.name)
        if server is None or not server.running:
            return
        async with _connected(record, cloud) as connection:
            found = await connection.fetchrow(
                f"{_QUERY} where name = $1", record.id.name.lower()
            )
            if found is not None:
                await _apply(connection, found, None)


async def every(server: Record, cloud: Cloud) -> list[dict[str, Any]]:
    """All parameters of a server, set or not.

    Raises:
        ArmError: the server is stopped.
    """
    async with _connected(server, cloud) as connection:
        rows = await connection.fetch(f"{_QUERY} order by name")
    return [_shown(server, row, cloud) for row in rows]


async def one(name: str, server: Record, cloud: Cloud) -> dict[str, Any] | None:
    """One parameter; None when the server has none of this name.

    Raises:
        ArmError: the server is stopped.
    """
    async with _connected(server, cloud) as connection:
        row = await connection.fetchrow(f"{_QUERY} where name = $1", name)
    return None if row is None else _shown(server, row, cloud)


def administrator(record: Record, cloud: Cloud) -> dict[str, Any]:
    """How to connect to the server that a record is, or is below of.

    Raises:
        ArmError: there is none.
    """
    parent = cloud.store.get(record.id.root)
    server = cloud.databases.get(record.id.root.name)
    if parent is None or server is None:
        raise ArmError("ParentResourceNotFound", f"{record.id.root} was not found.", status=404)
    return {
        "host": server.host,
        "port": server.port,
        "user": parent.properties["administratorLogin"],
        "password": parent.hidden[PASSWORD],
        "database": "postgres",
    }


@asynccontextmanager
async def _connected(record: Record, cloud: Cloud) -> AsyncIterator[asyncpg.Connection]:
    import asyncpg  # noqa: PLC0415 — 5 MiB that only templates with databases need

    parent = cloud.store.get(record.id.root)
    if parent is not None and parent.power is not None:
        raise ArmError(
            "ServerStoppedError",
            f"The server '{parent.id.name}' is stopped. Start it before this operation.",
        )
    connection: asyncpg.Connection = await asyncpg.connect(**administrator(record, cloud))
    try:
        yield connection
    finally:
        await connection.close()


def _check_value(row: asyncpg.Record, value: str) -> None:
    least, most = _range(row)
    if row["vartype"] not in ("integer", "real") or least is None or most is None:
        return
    try:
        fits = float(least) <= float(value) <= float(most)
    except ValueError:
        fits = False
    if not fits:
        raise _bad_value(row["name"], value, f"it is between {least} and {most}")


async def _apply(
    connection: asyncpg.Connection, row: asyncpg.Record, value: str | None
) -> None:
    """Write it; the server reads it at once, or when it starts."""
    import asyncpg  # noqa: PLC0415 — see above

    name = row["name"]
    if row["context"] == "internal" or (
        row["context"] == "postmaster" and name not in _AT_START
    ):
        return
    try:
        if value is None:
            await connection.execute(f'alter system reset "{name}"')
        else:
            quoted = value.replace("'", "''")
            await connection.execute(f"alter system set \"{name}\" = '{quoted}'")
    except asyncpg.PostgresError as error:
        raise _bad_value(name, str(value), str(error)) from error
    await connection.execute("select pg_reload_conf()")


def _bad_value(name: str, value: str, why: str) -> ArmError:
    return ArmError(
        "InvalidParameterValue",
        f"The value '{value}' of the server parameter '{name}' is invalid: {why}.",
        target=name,
    )


def _range(row: asyncpg.Record) -> tuple[Any, Any]:
    return _RANGES.get(row["name"], (row["min_val"], row["max_val"]))


def _told(row: asyncpg.Record) -> dict[str, Any]:
    kind = {"bool": "Boolean", "integer": "Integer", "real": "Numeric", "enum": "Enumeration"}
    allowed = {"bool": "on,off", "enum": ",".join(row["enumvals"] or ())}.get(row["vartype"])
    if row["vartype"] in ("integer", "real"):
        allowed = "-".join(str(one) for one in _range(row))
    return {
        "value": row["setting"],
        "defaultValue": row["boot_val"],
        "dataType": kind.get(row["vartype"], "String"),
        "allowedValues": allowed or "",
        "description": row["short_desc"],
        "unit": row["unit"] or "",
        "isDynamicConfig": row["context"] not in ("postmaster", "internal"),
        "isReadOnly": row["context"] == "internal" or row["name"] in _OURS,
        "isConfigPendingRestart": row["pending_restart"],
        "source": "system-default",
    }


def _shown(server: Record, row: asyncpg.Record, cloud: Cloud) -> dict[str, Any]:
    target = server.id.child("configurations", row["name"])
    found = cloud.store.get(target)
    told = {**_told(row), **(found.properties if found else {})}
    return {"id": str(target), "name": row["name"], "type": _TYPE, "properties": told}
