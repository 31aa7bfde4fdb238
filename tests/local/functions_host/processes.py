"""The host as a process of its own, started the way the stack starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from local.home import Home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class HostProcess:
    """One started host."""

    home: Home
    process: asyncio.subprocess.Process
    log: Path
    client: aiohttp.ClientSession

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.home.port('functions_host')}{path}"

    def lines(self) -> list[dict[str, Any]]:
        texts = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(text) for text in texts if text.startswith("{")]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    async def status(self) -> dict[str, Any] | None:
        """The host's status, or None while nobody listens."""
        try:
            async with self.client.get(
                self.url("/admin/host/status"),
                headers={"x-functions-key": self.home.secret("master_key")},
            ) as answer:
                return await answer.json()
        except aiohttp.ClientError:
            return None

    async def running(self) -> dict[str, Any]:
        """Wait until it runs; fails with the log when it ends instead."""
        async with asyncio.timeout(30):
            while True:
                assert self.process.returncode is None, self.log.read_text(encoding="utf-8")
                status = await self.status()
                if status is not None and status["state"] == "Running":
                    return status
                await asyncio.sleep(0.02)

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log."""
        async with asyncio.timeout(30):
            while True:
                for line in self.lines():
                    if line["event"] == event:
                        return line
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def host_process(app: Path, home: Path, **environ: str) -> AsyncIterator[HostProcess]:
    """Start the host of this app in this home; ended, by its pid, at the latest when left."""
    log = Home.open(home).path("host.log")
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "local.functions_host",
            cwd=_PROJECT,
            env=os.environ | {"KPAX_HOME": str(home), "KPAX_APP_DIR": str(app)} | environ,
            stderr=file,
        )
    try:
        async with aiohttp.ClientSession() as client:
            yield HostProcess(Home.open(home), process, log, client)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
