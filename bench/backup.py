"""Backup, destruction and restore of a small space, as the demo has it.

A backup counts only when its proof is done: a restore into a scratch database with every row and
attachment compared. Beside it stands a plain dump of the same database, which proves nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from bench import kit
from bench.customers import Customers
from bench.kit import Figure
from bench.stack import running
from local.demo.calls import Api, lose_everything, settings_of
from local.postgres import binaries

if TYPE_CHECKING:
    from local.home import Home

ROUNDS = 3
DOCUMENTS, DOCUMENT_BYTES, READINGS = 5, 300_000, 50
_LOOK_S = 0.05


def measure() -> list[Figure]:
    """Rounds of backup, destruction and restore on one space."""
    with running() as stack:
        return asyncio.run(_measure(stack.home))


async def _measure(home: Home) -> list[Figure]:
    dumps, backups, restores, gaps, stored = [], [], [], [], []
    async with Customers(home) as customers:
        space = await customers.open_space("kept")
        await _write(customers, space["url"])
        for _ in range(ROUNDS):
            dumps.append(await _dump_s(home, space["space_id"]))
            backup_s, backup = await _backed_up(customers, space["space_id"])
            backups.append(backup_s)
            stored.append(backup["bytes_stored"] / 2**20)
            await lose_everything(home, space["space_id"])
            restore_s, gap_s = await _restored(customers, space, backup["backup_id"])
            restores.append(restore_s)
            gaps.append(gap_s)
    size = f"{READINGS} readings, {DOCUMENTS} attachments of {DOCUMENT_BYTES // 1000} kB"
    return [
        Figure(
            "backup, proved by a restore",
            kit.median(backups),
            "s",
            note=f"{kit.spread(backups, 's')}; {size}",
        ),
        Figure("… stored, encrypted", kit.median(stored), "MiB"),
        Figure(
            "pg_dump of the same database (baseline)",
            kit.median(dumps),
            "s",
            note=kit.spread(dumps, "s"),
        ),
        Figure(
            "restore after all data was destroyed, switched",
            kit.median(restores),
            "s",
            note=kit.spread(restores, "s"),
        ),
        Figure(
            "longest time without an answer of the URL in a restore",
            max(gaps),
            "s",
            note="instances are restarted one by one",
        ),
    ]


async def _write(customers: Customers, url: str) -> None:
    ask = customers.browser.ask
    device_body = {"name": "Boiler 1", "serial": "sn-1"}
    device = Api.expect(
        await ask("POST", f"{url}/api/devices", json_body=device_body), 201, "device"
    )
    for number in range(READINGS):
        body = {"device_id": device["id"], "value": float(number), "unit": "°C"}
        Api.expect(await ask("POST", f"{url}/api/readings", json_body=body), 201, "reading")
    for number in range(DOCUMENTS):
        data = secrets.token_bytes(DOCUMENT_BYTES)
        await customers.browser.upload(url, f"manual-{number}.bin", data)


async def _backed_up(customers: Customers, space_id: str) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    operation = await customers.api.post(f"/spaces/{space_id}/backups", None, status=202)
    await _ended(customers, operation["operation_id"])
    took = time.monotonic() - began
    backup = await customers.api.get(f"/spaces/{space_id}/backups/latest")
    if backup["state"] != "verified":
        raise RuntimeError(f"the backup is {backup['state']}")
    return took, backup


async def _restored(
    customers: Customers, space: dict[str, Any], backup_id: str
) -> tuple[float, float]:
    """Seconds until the operation ended, and the longest pause between two answers of the URL."""
    began = time.monotonic()
    path, body = f"/spaces/{space['space_id']}/restores", {"backup_id": backup_id}
    operation = await customers.api.post(path, body, status=202)
    watch = asyncio.create_task(_longest_gap(customers, space["url"]))
    try:
        await _ended(customers, operation["operation_id"])
        took = time.monotonic() - began
    finally:
        watch.cancel()
        (gap,) = await asyncio.gather(watch, return_exceptions=True)
    readings = await customers.browser.ask("GET", f"{space['url']}/api/readings")
    if len(Api.expect(readings, 200, "readings")) < READINGS:
        raise RuntimeError("the readings did not come back")
    if isinstance(gap, BaseException):
        raise gap
    return took, gap


async def _longest_gap(customers: Customers, url: str) -> float:
    """Ask until cancelled; the longest time from one good answer to the next."""
    longest, last = 0.0, time.monotonic()
    try:
        while True:
            if await customers.answers(url):
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        return max(longest, time.monotonic() - last)


async def _ended(customers: Customers, operation_id: str) -> None:
    async for operation in customers.api.watch(f"/operations/{operation_id}"):
        if operation["status"] == "succeeded":
            return
        if operation["status"] not in {"running", "notStarted"}:
            raise RuntimeError(
                f"{operation['kind']} {operation['status']}: {operation['error']}"
            )


async def _dump_s(home: Home, space_id: str) -> float:
    where = (await settings_of(home, space_id))["database"]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(binaries(home) / "pg_dump"),
        *("-Fc", "-h", where["host"], "-p", str(where["port"])),
        *("-U", where["user"], where["name"]),
        env={**os.environ, "PGPASSWORD": where["password"]},
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise RuntimeError("pg_dump failed")
    return time.monotonic() - began
