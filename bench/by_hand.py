"""What a space is made of, made directly: the plain baseline of an opening.

Only the stack's building blocks are called, one after the other; nothing is written down, nothing
could be resumed, nobody would know of the space.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Self

import aiohttp
import asyncpg
from azure.storage.blob.aio import BlobServiceClient

from local.azurite import AzuriteAccounts
from local.compute import Compute, ScaleSet
from local.key_vault.ca import ca_file
from local.key_vault.vaults import Vaults
from local.postgres import PostgresServers

if TYPE_CHECKING:
    from local.home import Home

_ADMIN, _ROLE, _DATABASE, _CONTAINER = "kpax_admin", "kpax_app", "kpax", "attachments"
_LOOK_S = 0.01


class ByHand:
    """Makes and removes the pieces of one space, in a home whose stack runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._accounts, self._vaults = AzuriteAccounts(home), Vaults(home)
        self._servers, self._compute = PostgresServers(home), Compute(home)

    async def make(self, name: str) -> dict[str, float]:
        """Make all of it; the seconds that each piece took until it answered."""
        took: dict[str, float] = {}
        admin, role = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        began = time.monotonic()

        def lap(piece: str) -> None:
            nonlocal began
            took[piece], began = time.monotonic() - began, time.monotonic()

        server = await self._servers.ensure(name, admin_user=_ADMIN, admin_password=admin)
        lap("initdb and server")
        account = await self._accounts.ensure(_account(name))
        vault = await self._vaults.ensure(name)
        lap("account and vault")
        await self._database(server.port, admin=admin, role=role)
        async with BlobServiceClient.from_connection_string(account.connection_string) as blobs:
            await blobs.create_container(_CONTAINER)
        settings = {
            "version": 1,
            "space_id": name,
            "name": name,
            "release": "by-hand",
            "database": {
                "host": server.host,
                "port": server.port,
                "name": _DATABASE,
                "user": _ROLE,
                "password": role,
            },
            "storage": {
                "connection_string": account.connection_string,
                "container": _CONTAINER,
            },
        }
        await self._tell(vault.uri, json.dumps(settings))
        lap("role, database, container, settings")
        await self._instances(name, vault.uri)
        lap("two instances")
        return took

    async def remove(self, name: str) -> None:
        """Remove all of it."""
        await self._compute.delete(name)
        await self._servers.delete(name)
        await self._vaults.remove(name)
        await self._accounts.remove(_account(name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of the process that instances are forked from."""
        await self._compute.close()

    async def _database(self, port: int, *, admin: str, role: str) -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user=_ADMIN, password=admin, database="postgres"
        )
        try:
            await connection.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{role}'")
            await connection.execute(f"CREATE DATABASE {_DATABASE} OWNER {_ROLE}")
        finally:
            await connection.close()

    async def _tell(self, vault_uri: str, settings: str) -> None:
        headers = {"Authorization": f"Bearer {self._home.secret('token')}"}
        tls = ssl.create_default_context(cafile=ca_file(self._home))
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.put(
                f"{vault_uri}secrets/settings?api-version=7.6",
                json={"value": settings},
                ssl=tls,
            ) as answer,
        ):
            if answer.status != 200:
                raise RuntimeError(f"the vault answered {answer.status}")

    async def _instances(self, name: str, vault_uri: str) -> None:
        wanted = ScaleSet(
            name=name,
            zones=("1", "2"),
            capacity=2,
            memory_mib=192,
            cpus=2,
            vault_uri=vault_uri,
            vault_token=self._vaults.token(name),
            tags={},
            revision="1",
        )
        found = await self._compute.ensure(wanted)
        while not all(one.healthy for one in found):
            await asyncio.sleep(_LOOK_S)
            found = await self._compute.probe(name)


def _account(name: str) -> str:
    return name.replace("-", "")
