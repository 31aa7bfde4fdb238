"""A backup and a restore as operations, and what they leave behind in every outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backups import api, nightly
from spaces.audit import Entry
from spaces.errors import DamagedError, NotFoundError, RefusedError, TransientError
from spaces.model import OpStatus, Status
from spaces.ports import Replace, StackState
from spaces.registry import Change, Registry
from spaces.saga.outline import COPY_S
from spaces.saga.sweep import sweep
from tests.backups.world import FILES, GRACE_S, ROWS, World
from tests.fakes import Script

if TYPE_CHECKING:
    from tests.fakes import FakeBlobs


async def backed_up(world: World, key: str = "k-1") -> str:
    op_id = await world.back_up(key)
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.SUCCEEDED
    return (await world.rows())[-1].backup_id


async def test_a_backup_is_verified_listed_and_told(world: World) -> None:
    backup_id = await backed_up(world)
    (view,) = (await api.listing(world.bare, "acme")).items
    last = (await world.space()).last_backup
    assert view.backup_id == backup_id
    assert view.state == "verified"
    assert (view.rows, view.attachments) == (5, 3)
    assert last is not None
    assert last.verified_at == view.verified_at is not None
    assert last.backup_id == backup_id
    objects = await world.stored()
    named = [name for name in objects if not name.startswith(("k/", "s/"))]
    assert view.bytes_stored == sum(len(objects[name]) for name in named)
    assert "verify_1" not in await world.databases_there()


async def test_a_restore_brings_back_what_was_destroyed(world: World) -> None:
    await backed_up(world)
    await world.destroy()
    assert await world.served() == ({}, {})
    op_id = await world.restore()
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.SUCCEEDED
    assert await world.served() == (ROWS, FILES)
    space = await world.space()
    assert (space.database, space.container) == ("app_r2", "attachments-r2")
    told = await world.told()
    assert (told["version"], told["revision"]) == (1, 2)


async def test_replaced_data_is_kept_for_seven_days_and_then_removed(world: World) -> None:
    await backed_up(world)
    await world.restore()
    await world.settle()
    files = await world.files("")
    world.clock.advance(days=6, hours=23)
    assert await nightly.retire_old(world.bare, world.settings) == 0
    assert "app" in await world.databases_there()
    world.clock.advance(hours=2)
    assert await nightly.retire_old(world.bare, world.settings) == 1
    assert "app" not in await world.databases_there()
    assert files.containers() == ["attachments-r2"]
    assert await world.served() == (ROWS, FILES)
    assert await nightly.retire_old(world.bare, world.settings) == 0


async def test_data_in_force_is_never_removed(world: World) -> None:
    await backed_up(world)
    await world.restore()
    await world.settle()
    (row,) = await world.bare.tables.query("spaces", key_from="keep!", key_below='keep"')
    kept = {**json.loads(str(row.values["doc"])), "database": (await world.space()).database}
    values = {**row.values, "doc": json.dumps(kept)}
    write = Replace(row.key, values, row.etag)
    await world.bare.tables.commit("spaces", world.first.space_id, [write])
    world.clock.advance(days=8)
    assert await nightly.retire_old(world.bare, world.settings) == 0
    assert await world.served() == (ROWS, FILES)


async def test_what_cannot_be_removed_now_is_removed_later(world: World) -> None:
    await backed_up(world)
    await world.restore()
    await world.settle()
    world.clock.advance(days=8)
    world.databases.faults.plan("drop_database", TransientError("away"))
    assert await nightly.retire_old(world.bare, world.settings) == 0
    assert await nightly.retire_old(world.bare, world.settings) == 1


async def test_a_long_capture_is_not_started_twice_by_the_sweeper(world: World) -> None:
    op_id = await world.back_up()
    world.clock.advance(GRACE_S + COPY_S - 1)
    assert await sweep(world.bare, grace_s=GRACE_S) == 0
    world.clock.advance(2)
    assert await sweep(world.bare, grace_s=GRACE_S) == 1
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.SUCCEEDED


async def test_a_restore_is_proved_before_it_serves(world: World) -> None:
    """A container that somebody else wrote into is not switched to, and is removed again."""
    await backed_up(world)
    files = await world.files("")
    await files.ensure_container("attachments-r2")
    files.put("attachments-r2", "d/9-stranger.txt", b"not ours")
    op_id = await world.restore()
    await world.settle()
    row = await world.operation(op_id)
    assert (row.status, row.error_kind) == (OpStatus.FAILED, "damaged")
    await still_the_old(world)


async def still_the_old(world: World) -> None:
    """The old data serves, under its names, and nothing of the restore is left."""
    space = await world.space()
    assert (space.database, space.container) == ("app", "attachments")
    assert await world.served() == (ROWS, FILES)
    assert await world.databases_there() == ["app", "postgres"]
    assert (await world.files("")).containers() == ["attachments"]
    told = await world.told()
    assert (told["database"]["name"], told["storage"]["container"]) == ("app", "attachments")


async def test_machines_that_do_not_come_back_are_switched_back(world: World) -> None:
    await backed_up(world)
    world.edge.stop("http://acme.france.localhost:8080")
    op_id = await world.restore()
    await world.settle()
    row = await world.operation(op_id)
    assert row.status is OpStatus.FAILED
    assert "confirm did not end" in row.error
    await still_the_old(world)
    assert (await world.space()).config_revision == 3


async def test_a_machine_on_the_old_database_keeps_a_restore_from_being_done(
    world: World,
) -> None:
    await backed_up(world)
    world.data.stuck = {"app": 1}
    op_id = await world.restore()
    await world.settle()
    row = await world.operation(op_id)
    assert row.status is OpStatus.FAILED
    assert "still works on the old database" in row.error
    await still_the_old(world)


async def test_a_stack_that_fails_is_put_again_and_then_switched_back(world: World) -> None:
    await backed_up(world)
    name = f"{world.first.space_id}-1"
    world.arm.scripts[name] = Script(failure=("Conflict", "try again"))
    op_id = await world.restore()
    await world.pump()
    for _ in range(30):
        world.clock.advance(20)
        await world.pump()
    assert world.arm.puts(name) > 3
    world.arm.scripts.clear()
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.SUCCEEDED
    assert (await world.bare.arm.get_stack(name)).state is StackState.SUCCEEDED


async def test_a_damaged_backup_no_longer_counts_and_the_one_before_does(world: World) -> None:
    first = await backed_up(world)
    world.clock.advance(days=1)

    class Flipping:
        """The account flips a byte of the newest dump after it was stored."""

        def __init__(self, blobs: FakeBlobs) -> None:
            self._blobs = blobs

        def __getattr__(self, name: str) -> object:
            return getattr(self._blobs, name)

        async def create(self, container: str, name: str, *args: object, **kw: object) -> str:
            etag = await self._blobs.create(container, name, *args, **kw)  # pyright: ignore[reportArgumentType]
            if name.endswith("-database"):
                self._blobs.flip(container, name, 60)
            return etag

    world.bare.accounts.backups["france"] = Flipping(world.vaulted)  # pyright: ignore[reportAttributeAccessIssue]
    op_id = await world.back_up("k-2")
    await world.settle()
    row = await world.operation(op_id)
    assert (row.status, row.error_kind) == (OpStatus.FAILED, "damaged")
    assert "-database is damaged" in row.error
    views = (await api.listing(world.bare, "acme")).items
    assert [view.state for view in views] == ["failed", "verified"]
    assert [view.error for view in views] == [row.error, None]
    last = (await world.space()).last_backup
    assert last is not None
    assert last.backup_id == first
    assert (await api.one(world.bare, "acme", "latest")).backup_id == first


async def test_a_backup_that_cannot_be_verified_now_stays_completed(world: World) -> None:
    world.databases.faults.plan("ensure_database", TransientError("away"), times=10_000)
    op_id = await world.back_up()
    await world.settle()
    row = await world.operation(op_id)
    assert row.status is OpStatus.FAILED
    (view,) = (await api.listing(world.bare, "acme")).items
    assert (view.state, view.verified_at) == ("completed", None)
    assert "away" in str(view.error)


async def test_a_backup_that_failed_before_it_existed_is_listed_as_failed(
    world: World,
) -> None:
    world.bare.keys.forget("https://kv-kx-france.vault.azure.net/", "backup-kek")  # pyright: ignore[reportAttributeAccessIssue]
    op_id = await world.back_up()
    await world.settle()
    (view,) = (await api.listing(world.bare, "acme")).items
    assert (view.state, view.operation_id, view.bytes_stored) == ("failed", op_id, 0)
    assert "backup-kek" in str(view.error)
    assert view.backup_id.startswith("bkp-000001-")
    assert (await world.space()).last_backup is None


@pytest.mark.parametrize("region", ["", "westeurope", "francecentral"])
async def test_nothing_is_stored_where_the_decision_does_not_allow_it(region: str) -> None:
    world = await World(backup_region=region).open()
    op_id = await world.back_up()
    await world.settle()
    row = await world.operation(op_id)
    assert (row.status, row.error_kind) == (OpStatus.FAILED, "residency-violation")
    assert await world.stored() == {}


async def test_one_operation_at_a_time(world: World) -> None:
    op_id = await world.back_up()
    with pytest.raises(RefusedError, match="is running") as refused:
        await world.back_up("k-2")
    assert refused.value.members["operation_id"] == op_id
    assert await world.back_up("k-1") == op_id


async def test_a_restore_needs_a_backup_that_is_known(world: World) -> None:
    with pytest.raises(NotFoundError, match="no backup yet"):
        await world.restore()
    await backed_up(world)
    with pytest.raises(NotFoundError, match="no backup bkp-9"):
        await world.restore("bkp-9")


async def test_a_restore_of_an_erased_space_is_refused_for_its_status(world: World) -> None:
    registry = Registry(world.bare.tables)
    loaded = await registry.find("acme")
    erased = replace(loaded.space, status=Status.ERASED)
    entry = Entry(act="test", actor="test", obj="acme", detail={})
    now = world.bare.clock.now()
    await registry.commit(loaded, Change(space=erased, entry=entry), now=now)
    with pytest.raises(RefusedError, match="cannot start from status erased"):
        await world.restore()
    with pytest.raises(NotFoundError, match="no backup bkp-9"):
        await world.restore("bkp-9")


async def test_a_dry_run_tells_the_plan_and_does_nothing(world: World) -> None:
    backup_id = await backed_up(world)
    before = await world.space()
    plan = await api.planned(world.bare, world.places, "acme", "latest")
    assert plan.backup.backup_id == backup_id
    assert (plan.replaces.database, plan.replaced_by.database) == ("app", "app_r2")
    assert plan.bytes_to_read == plan.backup.bytes_stored
    assert plan.damaged_before == []
    assert await world.space() == before
    assert await world.databases_there() == ["app", "postgres"]


async def test_a_dry_run_names_an_object_that_is_gone(world: World) -> None:
    await backed_up(world)
    name = next(name for name in await world.stored() if name.endswith("-00000"))
    await world.vaulted.delete(world.first.space_id, name)
    with pytest.raises(DamagedError, match=name):
        await api.planned(world.bare, world.places, "acme", "latest")


async def test_a_manifest_that_vanished_is_damage_not_an_unknown_backup(world: World) -> None:
    backup_id = await backed_up(world)
    await world.vaulted.delete(world.first.space_id, f"s/{backup_id}")
    op_id = await world.restore()
    await world.settle()
    row = await world.operation(op_id)
    assert (row.status, row.error_kind) == (OpStatus.FAILED, "damaged")
    assert f"s/{backup_id}" in row.error


async def test_a_manifest_removed_from_the_middle_is_told(world: World) -> None:
    ids = []
    for number in range(3):
        ids.append(await backed_up(world, f"k-{number}"))
        world.clock.advance(days=1)
    await world.vaulted.delete(world.first.space_id, f"s/{ids[1]}")
    plan = await api.planned(world.bare, world.places, "acme", ids[2])
    assert plan.damaged_before == [f"s/{ids[1]}"]
    world.clock.advance(days=30)
    plan = await api.planned(world.bare, world.places, "acme", ids[2])
    assert plan.damaged_before == []


async def test_a_second_restore_builds_on_the_first(world: World) -> None:
    backup_id = await backed_up(world)
    await world.restore(key="r-1")
    await world.settle()
    await world.destroy()
    await world.restore(backup_id, key="r-2")
    await world.settle()
    space = await world.space()
    assert (space.database, space.config_revision) == ("app_r3", 3)
    assert await world.served() == (ROWS, FILES)
