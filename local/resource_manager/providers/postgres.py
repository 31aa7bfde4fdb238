"""PostgreSQL flexible servers: a server process of its own for each, from a fresh initdb."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from local.resource_manager.errors import ArmError
from local.resource_manager.providers import postgres_settings as configurations
from local.resource_manager.providers.base import Power, Provider, at, one_of
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

_VERSIONS = ("13", "14", "15", "16", "17", "18")
_PASSWORD = configurations.PASSWORD


class FlexibleServers(Provider):
    """`Microsoft.DBforPostgreSQL/flexibleServers`."""

    type = "Microsoft.DBforPostgreSQL/flexibleServers"
    required = ("sku.name", "sku.tier", "properties.version")
    hidden = (_PASSWORD,)
    taken = "ServerNameAlreadyExists"
    powers: ClassVar[dict[str, Power]] = {
        "stop": Power(
            rests="stopped", meanwhile={"state": "Stopping"}, afterwards={"state": "Stopped"}
        ),
        "start": Power(meanwhile={"state": "Starting"}, afterwards={"state": "Ready"}),
        "restart": Power(meanwhile={"state": "Restarting"}, afterwards={"state": "Ready"}),
    }
    summary = (
        "a PostgreSQL 18 server process of its own; `fullyQualifiedDomainName` is "
        "`127.0.0.1:PORT`; version, SKU, storage and standby are recorded; `stop`, `start`, "
        "`restart`"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """What the service refuses at once: names, versions, standby on a burstable size."""
        super().check(body, target)
        if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]", target.name):
            raise ArmError("InvalidServerName", f"'{target.name}' is no name of a server.")
        tier = at(body, "sku.tier")
        one_of(tier, ("Burstable", "GeneralPurpose", "MemoryOptimized"), "sku.tier")
        one_of(at(body, "properties.version"), _VERSIONS, "properties.version")
        mode = at(body, "properties.highAvailability.mode")
        one_of(
            mode, ("Disabled", "SameZone", "ZoneRedundant"), "properties.highAvailability.mode"
        )
        if tier == "Burstable" and mode not in (None, UNKNOWN, "Disabled"):
            raise ArmError(
                "HighAvailabilityNotSupported",
                "High availability is not supported for the Burstable tier.",
            )
        login, password = at(body, "properties.administratorLogin"), at(body, _PASSWORD)
        if password is not None and login is None:
            raise ArmError(
                "MissingRequiredProperty", "'properties.administratorLogin' is required."
            )

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """A server that accepts connections."""
        password = record.hidden.get(_PASSWORD)
        login = record.properties.get("administratorLogin")
        if not password or not login:
            raise ArmError(
                "MissingRequiredProperty",
                "'properties.administratorLogin' and its password are required for a new server.",
            )
        server = await cloud.databases.ensure(
            record.id.name, admin_user=login, admin_password=password
        )
        return {
            "fullyQualifiedDomainName": f"{server.host}:{server.port}",
            "state": "Ready",
            "minorVersion": "0",
        }

    def check_power(self, verb: str, record: Record) -> None:
        """Only what is started is stopped or restarted, and the other way round."""
        state = record.properties.get("state")
        if state == self.powers[verb].meanwhile["state"]:
            return
        if verb == "start" and state != "Stopped":
            raise ArmError(
                "ServerIsNotReady",
                "Start Server can only be performed on Stopped servers. Server Name = "
                f"{record.id.name}, Current Server State = {state}",
                status=409,
            )
        if verb != "start" and state != "Ready":
            raise ArmError(
                "ServerIsNotReady",
                "Restart or Stop Server can only be performed on Started servers. Sever Name = "
                f"{record.id.name}, Current Server State = {state}",
                status=409,
            )

    async def set_power(self, verb: str, record: Record, cloud: Cloud) -> None:
        """Stop the process, start it, or both."""
        if verb != "start":
            await cloud.databases.stop(record.id.name)
        if verb != "stop":
            await self.realise(record, cloud)

    def check_rest(self, record: Record) -> None:
        """A stopped server takes no changes."""
        if record.power is not None:
            raise ArmError(
                "ServerStoppedError",
                f"The server '{record.id.name}' is stopped. Start it before this operation.",
            )

    def busy(self, target: ResourceId) -> ArmError:
        """In the words of this service."""
        return ArmError(
            "ServerIsBusy",
            f"Cannot complete operation while server '{target.name}' is busy processing another "
            "operation. Try again later.",
            status=409,
        )

    async def view(
        self, path: tuple[str, ...], record: Record, cloud: Cloud
    ) -> dict[str, Any] | None:
        """`configurations` that nobody has set, one or all."""
        match [one.lower() for one in path]:
            case ["configurations"]:
                return {"value": await configurations.every(record, cloud)}
            case ["configurations", name]:
                return await configurations.one(name, record, cloud)
        return None

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """The server with its data."""
        await cloud.databases.delete(record.id.name)


class Databases(Provider):
    """`Microsoft.DBforPostgreSQL/flexibleServers/databases`."""

    type = "Microsoft.DBforPostgreSQL/flexibleServers/databases"
    location = "none"
    tracked = False
    summary = "a database of the server, owned by its administrator"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Names that need no quoting."""
        super().check(body, target)
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", target.name):
            raise ArmError("InvalidDatabaseName", f"'{target.name}' is no name of a database.")

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """The database, made where there is none."""
        import asyncpg  # noqa: PLC0415 — 5 MiB that only templates with databases need

        connection = await asyncpg.connect(**configurations.administrator(record, cloud))
        try:
            await connection.execute(f'create database "{record.id.name}"')
        except asyncpg.DuplicateDatabaseError:
            pass
        finally:
            await connection.close()
        return {"charset": "UTF8", "collation": "C.UTF-8"}

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """Drop it, if its server is still there."""
        import asyncpg  # noqa: PLC0415 — see above

        server = cloud.databases.get(record.id.root.name)
        if server is None or not server.running:
            return
        connection = await asyncpg.connect(**configurations.administrator(record, cloud))
        try:
            await connection.execute(f'drop database if exists "{record.id.name}" with (force)')
        finally:
            await connection.close()
