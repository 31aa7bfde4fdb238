"""The block-range engine behind the app's door: a real PostgreSQL, a real Azurite, day after day."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from backups.dumps import PostgresData
from backups.engine import Base
from backups.ranges import RangesEngine
from local.postgres import binaries
from spaces.errors import DamagedError, NotFoundError
from spaces.model import BackupId
from tests.backups import test_real_bundle as bundle
from tests.backups.test_real_bundle import FILES, LARGE, SECRETS, Estate, connected, stored

if TYPE_CHECKING:
    from local.home import Home
    from spaces.ports import Server

pytestmark = pytest.mark.stack
machine = bundle.machine
bundles = bundle.estate


@pytest_asyncio.fixture
async def estate(bundles: Estate, machine: tuple[Home, Server]) -> Estate:
    """The same space under the engine of the daily run."""
    engine = bundles.engine
    ranges = RangesEngine(keys=engine._keys, bundles=engine, programs=binaries(machine[0]))
    return replace(bundles, engine=ranges)  # pyright: ignore[reportArgumentType]


async def test_days_are_stored_as_differences_and_each_comes_back(estate: Estate) -> None:
    await estate.files.blobs.create("attachments", "d/3-groß.bin", LARGE)
    first = await estate.back_up()
    assert (first.rows, first.attachments) == (5000 + 3 + 1 + 400, len(FILES) + 1)
    before = await PostgresData(None).contents(estate.base)
    async with connected(estate.server, estate.base.database) as session:
        await session.execute("UPDATE devices SET load = 1 WHERE id = 77")
        await session.execute("DELETE FROM readings WHERE at = '2025-06-02'")
    await estate.files.blobs.create("attachments", "d/5.txt", b"new", metadata={"by": "us"})
    second = await estate.back_up(2)
    assert second.bytes_stored < first.bytes_stored / 100
    unchanged = await estate.back_up(3)
    assert unchanged.bytes_stored < 4096
    after = await PostgresData(None).contents(estate.base)
    assert [one.backup_id for one in await estate.engine.list(estate.store)] == [
        first.backup_id,
        second.backup_id,
        unchanged.backup_id,
    ]
    for number, contents in ((1, before), (2, after), (3, after)):
        wanted = BackupId(estate.label(number).backup_id)
        found = await estate.engine.find(estate.store, wanted)
        await estate.engine.look(estate.store, found)
        await estate.engine.verify(estate.store, found, await estate.fresh("verify_7"))
        base, files = await estate.fresh("app_r7"), estate.beside(f"attachments-r{number}")
        await estate.engine.restore(estate.store, found, base, files)
        await estate.engine.prove(estate.store, found, base, files)
        restored = await PostgresData(None).contents(base)
        ours = [one for one in contents.tables if not one.name.startswith("kpax_backup.")]
        assert restored.tables == ours
        assert await files.blobs.read(files.container, "d/3-groß.bin") == LARGE
        info = await files.blobs.info(files.container, "d/5.txt")
        assert (info is None) is (number == 1)
        assert info is None or info.metadata["by"] == "us"


HARMS = (
    "UPDATE devices SET load = load + 1 WHERE id = 77",
    'INSERT INTO "Weird Table" VALUES (1, NULL)',
    "CREATE TABLE extra ()",
    "DROP TABLE empty_one",
    "ALTER TABLE devices RENAME COLUMN told TO said",
    "SELECT setval('tickets', -400)",
    "DROP INDEX by_name",
    "DROP POLICY mine ON devices",
    "REVOKE SELECT ON devices FROM reader",
    "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
)


async def test_the_proof_finds_what_is_not_as_the_snapshot_says(estate: Estate) -> None:
    manifest = await estate.back_up()
    good, files = await estate.fresh("app_r5"), estate.beside("attachments-r5")
    await estate.engine.restore(estate.store, manifest, good, files)
    await estate.engine.prove(estate.store, manifest, good, files)
    for harm in HARMS:
        harmed = Base(server=estate.server, database="harmed")
        async with connected(estate.server, "postgres") as session:
            await session.execute("DROP DATABASE IF EXISTS harmed WITH (FORCE)")
            await session.execute("CREATE DATABASE harmed TEMPLATE app_r5")
        async with connected(estate.server, "harmed") as session:
            await session.execute(harm)
        with pytest.raises(DamagedError, match="restored, it is not"):
            await estate.engine.prove(estate.store, manifest, harmed, files)
    await files.blobs.create(files.container, "too-much", b"")
    with pytest.raises(DamagedError, match="1 attachments are not"):
        await estate.engine.prove(estate.store, manifest, good, files)
    await files.blobs.delete(files.container, "too-much")
    await files.blobs.delete(files.container, "d/4.txt")
    with pytest.raises(DamagedError, match="1 attachments are missing"):
        await estate.engine.prove(estate.store, manifest, good, files)


async def test_bundles_of_before_stay_readable(estate: Estate, bundles: Estate) -> None:
    old = await bundles.back_up()
    new = await estate.back_up(2)
    assert [one.backup_id for one in await estate.engine.list(estate.store)] == [
        old.backup_id,
        new.backup_id,
    ]
    found = await estate.engine.find(estate.store, BackupId(old.backup_id))
    await estate.engine.verify(estate.store, found, await estate.fresh("verify_8"))
    with pytest.raises(NotFoundError):
        await estate.engine.find(estate.store, BackupId("bkp-000009-20200101T000000Z"))


async def test_damage_names_the_object(estate: Estate) -> None:
    manifest = await estate.back_up()
    pack = next(ref for ref in manifest.objects if ref.name.startswith("p/"))
    data = await estate.store.blobs.read(estate.store.container, pack.name)
    await estate.store.blobs.delete(estate.store.container, pack.name)
    with pytest.raises(DamagedError, match=pack.name):
        await estate.engine.look(estate.store, manifest)
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    await estate.store.blobs.create(estate.store.container, pack.name, bytes(changed))
    await estate.engine.look(estate.store, manifest)
    with pytest.raises(DamagedError, match=pack.name):
        await estate.engine.verify(estate.store, manifest, await estate.fresh("verify_9"))


async def test_nothing_of_the_customers_can_be_found_in_the_container(estate: Estate) -> None:
    await estate.back_up()
    for name, data in (await stored(estate)).items():
        for secret in SECRETS:
            assert secret not in data, name


async def test_a_run_that_is_given_up_ends_by_itself(estate: Estate) -> None:
    """The saga ends an attempt that takes too long; its thread must not publish afterwards."""
    task = asyncio.create_task(estate.back_up())
    while not await stored(estate):  # noqa: ASYNC110 — each round asks the real container
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    manifest = await estate.back_up(2)
    (listed,) = await estate.engine.list(estate.store)
    assert listed.backup_id == manifest.backup_id
