"""How an instance starts, waits, and says what is broken around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from local import processes
from local.postgres import PostgresServers
from local.space_app.database import MIGRATIONS, Database
from local.space_app.settings import Database as Address
from tests.local.space_app.conftest import ADMIN

if TYPE_CHECKING:
    from tests.local.space_app.conftest import Space, World

pytestmark = pytest.mark.stack


async def waits_for(space: Space, what: str) -> None:
    async with asyncio.timeout(10):
        while what not in (await space.health())[1]["waiting_for"]:  # noqa: ASYNC110 — another process
            await asyncio.sleep(0.02)


def a_file() -> aiohttp.FormData:
    found = aiohttp.FormData()
    found.add_field("file", b"x", filename="x", content_type="text/plain")
    return found


async def test_an_instance_waits_for_its_settings_and_then_serves(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("waiting", told=False)
    status, body = await space.health()
    assert (status, body["instance"]) == (503, "waiting_0")
    assert "waiting_for" in body
    async with visitor.get(space.url("/api/devices")) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    early = asyncio.create_task(visitor.get(space.url("/api/devices")))
    await space.tell()
    async with await early as answer:
        assert answer.status == 200  # it came a moment before the instance had opened
    await space.until_healthy()


async def test_wrong_settings_are_waited_out_and_no_password_is_told(world: World) -> None:
    space = await world.space("wrong", told=False)
    right = dict(space.settings["database"])
    space.settings["database"] = {**right, "password": "not-the-password"}
    await space.tell()
    await waits_for(space, "InvalidPassword")
    space.settings["database"] = {"host": "127.0.0.1", "password": "hidden-password"}
    await space.tell()
    await waits_for(space, "not readable")
    space.settings["database"] = right
    await space.tell()
    await space.until_healthy()
    log = world.home.path("logs", "wrong_0.log").read_text()
    for secret in ("not-the-password", "hidden-password", right["password"]):
        assert secret not in log
        assert secret not in str(await space.health())


async def test_instances_that_start_together_make_the_schema_once(world: World) -> None:
    space = await world.space("together", instances=3)
    rows = await world.ask(space.database, "SELECT version FROM schema_versions ORDER BY 1")
    assert [row["version"] for row in rows] == [1, 2]


async def test_a_schema_made_from_many_sides_at_once_is_made_once(world: World) -> None:
    space = await world.space("many", told=False)
    address = msgspec.convert(space.settings["database"], Address)
    opened = await asyncio.gather(*(Database.open(address) for _ in range(8)))
    await asyncio.gather(*(database.close() for database in opened))
    rows = await world.ask(space.database, "SELECT version FROM schema_versions")
    assert len(rows) == len(MIGRATIONS)


async def test_without_its_database_an_instance_is_not_healthy_until_it_is_back(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("outage")
    databases = PostgresServers(world.home)
    await databases.stop("shared")
    try:
        await space.until_healthy(healthy=False)
        async with visitor.get(space.url("/api/devices")) as answer:
            assert answer.status == 503
    finally:
        await databases.ensure(
            "shared", admin_user=ADMIN["user"], admin_password=ADMIN["password"]
        )
    await space.until_healthy()
    async with visitor.get(space.url("/api/devices")) as answer:
        assert answer.status == 200


async def test_dropped_tables_are_an_error_and_never_an_empty_list(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("dropped")
    await world.ask(space.database, "DROP TABLE readings, devices, documents CASCADE")
    for table in ("devices", "readings", "documents"):
        async with visitor.get(space.url(f"/api/{table}")) as answer:
            assert answer.status == 500
            assert "damaged" in (await answer.json())["title"]


async def test_a_list_that_breaks_in_the_middle_does_not_end_like_a_whole_one(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("cut")
    await world.ask(
        space.database,
        "INSERT INTO devices (id, name, serial, created_at)"
        " SELECT n::text, repeat('x', 20000), 'S', now() FROM generate_series(1, 1200) n",
    )
    async with visitor.get(space.url("/api/devices")) as answer:
        assert answer.status == 200
        await answer.content.readexactly(1000)
        await world.ask(space.database, "DROP TABLE devices CASCADE")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_a_deleted_blob_is_an_error_that_names_the_loss(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("emptied")
    async with visitor.post(space.url("/api/documents"), data=a_file()) as answer:
        document = await answer.json()
    container = ContainerClient.from_connection_string(space.connection_string, "attachments")
    async with container:
        await container.delete_blob(document["id"])
        async with visitor.get(space.url(f"/api/documents/{document['id']}")) as answer:
            assert answer.status == 500
            assert "content is gone" in (await answer.json())["title"]
        await container.delete_container()
    async with visitor.post(space.url("/api/documents"), data=a_file()) as answer:
        assert answer.status == 503
    async with visitor.get(space.url("/api/documents")) as answer:
        assert await answer.json() == [document]


async def test_one_space_does_not_open_anothers_container_or_instances(
    world: World, acme: Space
) -> None:
    other = await world.space("stranger")
    mine = dict(p.split("=", 1) for p in other.connection_string.split(";") if p)
    theirs = dict(p.split("=", 1) for p in acme.connection_string.split(";") if p)
    mixed = {**theirs, "AccountKey": mine["AccountKey"]}
    async with BlobServiceClient.from_connection_string(
        ";".join(f"{name}={value}" for name, value in mixed.items())
    ) as intruder:
        with pytest.raises(HttpResponseError) as failure:
            await intruder.get_container_client("attachments").get_container_properties()
        assert failure.value.status_code == 403
    async with aiohttp.ClientSession() as session, session.get(acme.url("/api/devices")) as no:
        assert no.status == 403


async def test_a_space_holds_few_connections_and_little_memory(
    world: World, acme: Space
) -> None:
    await acme.health()
    rows = await world.ask(
        "postgres",
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = $1",
        acme.database,
    )
    assert rows[0]["n"] <= 2 * 4
    assert all(processes.pss_mib(i.pid or 0) < 40 for i in acme.instances)


async def test_sigterm_ends_an_instance_at_once_though_a_client_holds_on(
    world: World, visitor: aiohttp.ClientSession
) -> None:
    space = await world.space("ending")
    async with visitor.get(space.url("/")) as answer:
        await answer.read()  # the connection stays open
    identity = processes.identify(space.instances[0].pid or 0)
    assert identity
    assert await asyncio.to_thread(processes.end, identity, grace_s=4.0)
