"""Spaces with everything real: vault, database, container, instances as processes."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import pytest
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import ContainerClient

from local import processes
from local.azurite import AzuriteAccounts
from local.compute import Compute, Instance, ScaleSet
from local.home import Home
from local.postgres import PostgresServers, Server
from tests.local.running_vaults import RunningVaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ADMIN = {"user": "kpax_admin", "password": "admin"}


@dataclass
class World:
    """What the spaces of all tests share: one home, one database server, one vault server."""

    home: Home
    vaults: RunningVaults
    accounts: AzuriteAccounts
    server: Server

    async def ask(self, database: str, statement: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.server.port, database=database, **ADMIN
        )
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def space(self, name: str, *, instances: int = 1, told: bool = True) -> Space:
        """A space of this name: its parts exist, its instances listen; `told`: settings too."""
        database = name.replace("-", "_")
        password = secrets.token_urlsafe(9)
        await self.ask("postgres", f"CREATE ROLE {database} LOGIN PASSWORD '{password}'")
        await self.ask("postgres", f"CREATE DATABASE {database} OWNER {database}")
        account = await self.accounts.ensure(f"st{secrets.token_hex(8)}")
        container = ContainerClient.from_connection_string(
            account.connection_string, "attachments"
        )
        async with container:
            await container.create_container()
        vault = await self.vaults.vaults.ensure(f"kv-{name}")
        space = Space(
            world=self,
            name=name,
            database=database,
            settings={
                "version": 1,
                "space_id": f"s-{name}",
                "name": name,
                "release": "2026.11.1",
                "database": {
                    "host": "127.0.0.1",
                    "port": self.server.port,
                    "name": database,
                    "user": database,
                    "password": password,
                },
                "storage": {
                    "connection_string": account.connection_string,
                    "container": "attachments",
                },
                "app": {"title": name.capitalize(), "locale": "en"},
            },
        )
        if told:
            await space.tell()
        compute = Compute(self.home)
        space.instances = await compute.ensure(
            ScaleSet(
                name=name,
                zones=("1", "2", "3"),
                capacity=instances,
                memory_mib=192,
                cpus=2.0,
                vault_uri=vault.uri,
                vault_token=self.vaults.vaults.token(vault.name),
                tags={},
                revision="1",
            )
        )
        await compute.close()
        if told:
            await space.until_healthy()
        return space


@dataclass
class Space:
    """One space, and a way to its instances as the front door has it."""

    world: World
    name: str
    database: str
    settings: dict[str, Any]
    instances: list[Instance] = field(default_factory=list)

    def url(self, path: str, instance: int = 0) -> str:
        return f"http://{self.instances[instance].address}{path}"

    @property
    def connection_string(self) -> str:
        return self.settings["storage"]["connection_string"]

    async def tell(self) -> None:
        """Put the settings into the vault."""
        vault = self.world.vaults.vaults.get(f"kv-{self.name}")
        assert vault
        async with SecretClient(
            vault.uri, self.world.vaults.async_credential(), **self.world.vaults.options
        ) as client:
            await client.set_secret("settings", json.dumps(self.settings))

    async def health(self, instance: int = 0) -> tuple[int, dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url("/healthz", instance)) as answer,
        ):
            return answer.status, await answer.json()

    async def until_healthy(self, *, healthy: bool = True) -> None:
        async with asyncio.timeout(15):
            for number in range(len(self.instances)):
                while ((await self.health(number))[0] == 200) != healthy:  # noqa: ASYNC110 — another process
                    await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, azurite: AzuriteAccounts
) -> Iterator[World]:
    """The shared parts, ended with every process of their home."""
    root = tmp_path_factory.mktemp("world")
    home = Home.open(root / "home")
    vaults = RunningVaults(home, root / "key_vault.log")
    databases = PostgresServers(home)

    async def start() -> Server:
        server, _ = await asyncio.gather(
            databases.ensure("shared", admin_user=ADMIN["user"], admin_password="admin"),
            vaults.start(),
        )
        return server

    async def stop() -> None:
        compute = Compute(home)
        await asyncio.gather(*(compute.delete(name) for name in compute.names()))
        await databases.delete("shared")

    try:
        yield World(home, vaults, azurite, asyncio.run(start()))
    finally:
        asyncio.run(stop())
        vaults.kill()
        for left in processes.marked(home):
            processes.end(left.identity)


@pytest.fixture(scope="session")
def acme(world: World) -> Space:
    """A space with two instances that most tests share."""
    return asyncio.run(world.space("acme", instances=2))


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that comes through the front door."""
    headers = {"X-Azure-FDID": world.home.secret("front_door_id")}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session
