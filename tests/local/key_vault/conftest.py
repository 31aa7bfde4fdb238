"""Running vault servers: one for a module, and one that a test may kill."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from local.home import Home
from tests.local.running_vaults import RunningVaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVaults]:
    """One server for a whole module; each test takes vaults of its own."""
    root = tmp_path_factory.mktemp("vaults")
    running = RunningVaults(Home.open(root / "home"), root / "key_vault.log")
    asyncio.run(running.start())
    yield running
    running.kill()


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[RunningVaults]:
    """A server that the test may kill."""
    running = RunningVaults(Home.open(tmp_path / "home"), tmp_path / "key_vault.log")
    await running.start()
    yield running
    running.kill()
