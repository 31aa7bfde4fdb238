"""A Resource Manager with doubles behind it, in a thread, for unmodified SDK clients."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import asyncpg
import pytest

from local.home import Home
from local.resource_manager.server import Server
from local.resource_manager.service import Service
from tests.local.resource_manager.clients import Arm
from tests.local.resource_manager.doubles import FakeConnection, a_cloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    monkeypatch.setenv("KPAX_ARM_RETRY_AFTER", "0")
    monkeypatch.setattr(asyncpg, "connect", FakeConnection.open)
    home = Home.open(tmp_path / "home")
    cloud = a_cloud(home)
    server = Server(home, Service(cloud))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    found = Arm(home, cloud)
    yield found
    for client in found.clients:
        client.close()
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()
