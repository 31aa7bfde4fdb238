"""`python -m local.resource_manager`: serve the home's Resource Manager until SIGTERM."""

from __future__ import annotations

import asyncio

import aiohttp

from local.azurite import AzuriteAccounts
from local.compute import Compute
from local.front_door.routes import Routes
from local.home import Home
from local.key_vault.ca import ca_file
from local.key_vault.vaults import Vaults
from local.postgres import PostgresServers
from local.resource_manager.apart import take_turns
from local.resource_manager.cloud import Cloud
from local.resource_manager.providers.blob import BlobContainers
from local.resource_manager.providers.vault_data import VaultClient
from local.resource_manager.server import Server
from local.resource_manager.service import Service
from local.resource_manager.store import Store
from local.serving import run_part


class ResourceManager:
    """The part as `run_part` starts and stops it, with the real parts of the cloud."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._http: aiohttp.ClientSession | None = None
        accounts, vaults = AzuriteAccounts(home), Vaults(home)
        vault_data = VaultClient(
            vaults, self._session, token=home.secret("token"), ca_file=lambda: ca_file(home)
        )
        cloud = Cloud(
            home=home,
            store=Store(home.path("resource_manager", "state.sqlite")),
            databases=PostgresServers(home),
            accounts=accounts,
            containers=BlobContainers(accounts, self._session),
            vaults=vaults,
            vault_data=vault_data,
            compute=Compute(home),
            routes=Routes(home),
        )
        self._server = Server(home, Service(cloud))

    async def start(self) -> None:
        """Recover, then listen."""
        take_turns()
        await self._server.start()

    async def stop(self) -> None:
        """Let go of everything but databases and space processes."""
        await self._server.stop()
        if self._http is not None:
            await self._http.close()
            await asyncio.sleep(0)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        return self._http


if __name__ == "__main__":
    run_part("resource_manager", lambda: ResourceManager(Home.open()))
