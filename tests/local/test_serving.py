"""Parts as processes: they serve, end cleanly, and say in one line why they cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from local.key_vault.vaults import Vaults

if TYPE_CHECKING:
    from local.home import Home

pytestmark = pytest.mark.stack

PARTS = ("front_door", "key_vault")


async def start(home: Home, part: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"local.{part}",
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "KPAX_HOME": str(home.root)},
    )


async def until_healthy(home: Home, part: str) -> None:
    url = f"http://127.0.0.1:{home.port(part)}/healthz"
    async with asyncio.timeout(15), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_a_part_serves_and_ends_cleanly(
    home: Home, part: str, sig: signal.Signals
) -> None:
    process = await start(home, part)
    try:
        await until_healthy(home, part)
        process.send_signal(sig)
        _, log = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    assert b"Traceback" not in log


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_whose_port_is_taken_says_so_in_one_line(home: Home, part: str) -> None:
    with socket.create_server(("127.0.0.1", home.port(part))):
        process = await start(home, part)
        _, log = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    [line] = log.decode().splitlines()
    assert line.startswith(f"{part} cannot start: ")
    assert str(home.port(part)) in line


async def test_a_vault_whose_port_is_taken_is_named_by_its_port(home: Home) -> None:
    vault = await Vaults(home).ensure("kv")
    with socket.create_server(("127.0.0.1", vault.port)):
        process = await start(home, "key_vault")
        _, log = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    assert str(vault.port) in log.decode()
