"""What tests of every room share: a home of their own, a real Azurite, real databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from local import processes
from local.azurite import AzuriteAccounts, servers
from local.azurite.accounts import CONTROL_ACCOUNT
from local.home import Home
from local.postgres import PostgresServers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that forgets to name a home must not reach the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPAX_HOME", str(tmp_path_factory.mktemp("nobodys") / "home"))
        yield


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home.open(tmp_path / "home")


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteAccounts]:
    """Accounts in a running Azurite, one for each test worker; `ensure` a new one per test."""
    home = Home.open(tmp_path_factory.mktemp("azurite") / "home")
    started = {name: servers.start(home, name) for name in servers.SERVICES}
    try:
        accounts = AzuriteAccounts(home)
        asyncio.run(accounts.ensure(CONTROL_ACCOUNT))
        yield accounts
    finally:
        for name, identity in started.items():
            servers.stop(home, name, identity)


@pytest_asyncio.fixture
async def postgres(home: Home) -> AsyncIterator[PostgresServers]:
    """Database servers in the test's home, all gone afterwards."""
    databases = PostgresServers(home)
    try:
        yield databases
    finally:
        for server in databases.all():
            await databases.delete(server.name)
        for left in processes.marked(home):
            processes.end(left.identity)
