"""A running host in this process, and what its tests share."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from local.functions_host.host import Host
from tests.local.functions_host.fakes import FakeBus, FakeStore

if TYPE_CHECKING:
    from types import ModuleType

FUNCTION_KEY = "function-key-of-the-tests"
MASTER_KEY = "master-key-of-the-tests"
SETTINGS = {"ServiceBus": "bus", "AzureWebJobsStorage": "storage"}
PREAMBLE = """
import asyncio, logging, time
from datetime import UTC, datetime
from typing import List
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Rig:
    """A running host with its fakes, and a client for its port."""

    host: Host
    port: int
    client: aiohttp.ClientSession
    bus: FakeBus
    store: FakeStore
    recycled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def app(self) -> ModuleType:
        """The app's module: functions leave what they saw in its globals."""
        return sys.modules["function_app"]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def status(self) -> dict[str, Any]:
        async with self.client.get(
            self.url("/admin/host/status"), headers={"x-functions-key": MASTER_KEY}
        ) as answer:
            assert answer.status == 200
            return await answer.json()

    async def running(self) -> None:
        async with asyncio.timeout(10):
            while (await self.status())["state"] != "Running":  # noqa: ASYNC110 — only the port tells
                await asyncio.sleep(0.005)


async def until(holds: Callable[[], bool]) -> None:
    """Wait, at most ten seconds, until `holds()` is true."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 — what is waited for is not ours and sets no event
            await asyncio.sleep(0.002)


MakeApp = Callable[..., Path]
RunHost = Callable[..., AbstractAsyncContextManager[Rig]]
