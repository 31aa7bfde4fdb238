"""Each operation of a space's life, done well: what holds after it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from backups import nightly
from spaces import names, power
from spaces.configuration import checked_app_settings
from spaces.errors import DamagedError, InvalidError
from spaces.model import OpKind, Status
from tests.fakes import Script
from tests.life.world import CLUSTER_VAULT, World


async def test_a_suspended_space_rests_keeps_its_data_and_comes_back() -> None:
    world = await World().open()
    space = await world.done(OpKind.SUSPEND)
    assert (space.status, world.is_asleep(), await world.answers()) == ("suspended", True, 503)
    assert await world.kept_data()
    space = await world.done(OpKind.RESUME)
    assert (space.status, world.is_awake(), await world.answers()) == ("active", True, 200)
    assert await world.kept_data()
    assert {"space.suspended", "space.resumed"} <= set(world.events())
    await world.nothing_is_loose()


async def test_a_suspended_space_is_backed_up_and_rests_again() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    space = await world.done(OpKind.BACKUP)
    assert space.last_backup is not None
    assert space.last_backup.verified_at is not None
    assert (space.status, world.is_asleep()) == (Status.SUSPENDED, True)


async def test_a_backup_puts_to_rest_what_the_platform_woke() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    for part in (power.machines(world.first), power.database(world.first)):
        assert part is not None
        world.arm.wake_by_itself(part)
    await world.done(OpKind.BACKUP)
    assert world.is_asleep()


async def test_a_suspended_space_is_restored_and_serves_it_when_it_comes_back() -> None:
    world = await World().open()
    await world.done(OpKind.BACKUP)
    await world.destroy()
    await world.done(OpKind.SUSPEND)
    op_id = await world.restore()
    world.data.busy = {}
    await world.settle()
    assert (await world.operation(op_id)).status == "succeeded"
    assert world.is_asleep()
    await world.done(OpKind.RESUME)
    assert await world.answers() == 200
    assert world.serving["database"] == (await world.space()).database == "app_r3"
    assert await world.kept_data()


async def test_a_resize_brings_machines_and_limits_of_the_other_plan() -> None:
    world = await World().open()
    space = await world.done(OpKind.RESIZE, plan="premium")
    assert (space.tier, world.zones()) == ("premium", {"1", "2", "3"})
    assert world.arm.request(world.stack).parameters["plan"] == "premium"
    assert (await world.answers(), await world.kept_data()) == (200, True)
    space = await world.done(OpKind.RESIZE, plan="starter")
    assert (space.tier, world.zones()) == ("starter", {"1", "2"})
    await world.nothing_is_loose()


async def test_a_configured_space_runs_with_the_new_settings() -> None:
    world = await World().open()
    asked = checked_app_settings({"title": "Werk 2", "locale": "de"})
    space = await world.done(OpKind.CONFIGURE, settings=asked)
    assert space.app_settings == (("locale", "de"), ("title", "Werk 2"))
    assert world.serving["told"]["app"] == {"title": "Werk 2", "locale": "de"}
    assert (space.config_revision, await world.answers()) == (2, 200)
    space = await world.done(
        OpKind.CONFIGURE, settings=checked_app_settings({"title": "", "locale": "fr"})
    )
    assert space.app_settings == (("locale", "fr"),)
    assert world.serving["told"]["app"] == {"title": "acme", "locale": "fr"}
    await world.nothing_is_loose()


async def test_a_suspended_space_is_configured_without_waking_it() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    await world.done(OpKind.CONFIGURE, settings=checked_app_settings({"locale": "de"}))
    assert world.is_asleep()
    await world.done(OpKind.RESUME)
    assert world.serving["told"]["app"]["locale"] == "de"


@pytest.mark.parametrize(
    "told",
    [{}, {"colour": "red"}, {"locale": "german"}, {"title": "x" * 61}, {"title": "<b>"}],
)
def test_settings_that_cannot_be_made_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        checked_app_settings(told)


async def test_rotated_secrets_replace_the_old_ones_which_open_nothing() -> None:
    world = await World().open()
    seen: list[tuple[str, str]] = []
    for rotation in (2, 3, 4):
        old = world.serving["told"]
        space = await world.done(OpKind.ROTATE_SECRETS)
        new = world.serving["told"]
        assert (space.secret_revision, await world.answers()) == (rotation, 200)
        seen.append((old["database"]["user"], old["database"]["password"]))
        for login, password in seen:
            assert not await world.accepts(login, password)
        login, password = new["database"]["user"], new["database"]["password"]
        assert login == ("kpax_app_b" if rotation % 2 == 0 else "kpax_app_a")
        assert await world.accepts(login, password)
        assert new["storage"]["connection_string"] != old["storage"]["connection_string"]
        secrets = world.bare.secrets.names(CLUSTER_VAULT)  # pyright: ignore[reportAttributeAccessIssue]
        assert [name for name in secrets if name.startswith("db-app")] == [
            names.role_secret(space)
        ]
        readable = world.bare.secrets.readable(world.vault, "settings")  # pyright: ignore[reportAttributeAccessIssue]
        assert [json.loads(text)["revision"] for text in readable] == [space.config_revision]
    await world.nothing_is_loose()


async def test_a_backup_after_a_rotation_can_be_restored() -> None:
    world = await World().open()
    await world.done(OpKind.ROTATE_SECRETS)
    await world.done(OpKind.BACKUP)
    await world.destroy()
    world.data.busy = {}
    op_id = await world.restore()
    await world.settle()
    assert (await world.operation(op_id)).status == "succeeded"
    assert await world.kept_data()


async def test_a_space_in_quarantine_is_closed_and_released_again() -> None:
    world = await World().open()
    space = await world.done(OpKind.QUARANTINE, reason="a leak", actor="key:ops")
    assert space.quarantined is not None
    assert (space.quarantined.reason, space.status) == ("a leak", Status.ACTIVE)
    assert (await world.answers(), world.is_awake()) == (503, True)
    space = await world.done(OpKind.RELEASE)
    assert (space.quarantined, await world.answers()) == (None, 200)
    await world.nothing_is_loose()


async def test_a_suspended_space_in_quarantine_stays_closed_after_its_release() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    # whatever became of its last deployment: nobody can deploy while its database rests
    world.arm.scripts[world.stack] = Script(failure=("Broken", "long ago"))
    await world.done(OpKind.QUARANTINE, reason="a leak", actor="key:ops")
    await world.done(OpKind.RELEASE)
    assert world.arm.puts(world.stack) == 2
    assert (world.is_asleep(), await world.answers()) == (True, 503)


@pytest.mark.parametrize("before", [None, OpKind.SUSPEND])
async def test_a_cancelled_space_has_a_proved_final_backup_and_can_come_back(
    before: OpKind | None,
) -> None:
    world = await World().open()
    if before is not None:
        await world.done(before)
    space = await world.done(OpKind.CANCEL)
    assert (space.status, world.is_asleep()) == (Status.CANCELLED, True)
    assert space.final_backup is not None
    assert space.last_backup is not None
    assert space.last_backup.backup_id == space.final_backup
    assert space.last_backup.verified_at is not None
    assert space.grace_until is not None
    assert space.cancelled_at is not None
    assert space.grace_until - space.cancelled_at == timedelta(days=14)
    space = await world.done(OpKind.RESUME)
    assert (space.status, space.grace_until, space.final_backup) == ("active", None, None)
    assert (await world.answers(), await world.kept_data()) == (200, True)
    await world.nothing_is_loose()


async def test_a_cancelled_space_can_be_backed_up_and_rests_again() -> None:
    world = await World().open()
    final = (await world.done(OpKind.CANCEL)).final_backup
    space = await world.done(OpKind.BACKUP)
    assert (space.status, space.final_backup, world.is_asleep()) == ("cancelled", final, True)
    assert len(await world.rows()) == 2


async def ended(world: World) -> World:
    """The space cancelled and deleted."""
    await world.open()
    await world.done(OpKind.CANCEL)
    world.clock.advance(15 * 86_400)
    await world.done(OpKind.DELETE)
    return world


async def test_a_deleted_space_has_left_nothing_but_its_backups() -> None:
    world = await ended(World())
    space = await world.space()
    assert (space.status, space.resources) == (Status.DELETED, None)
    assert world.arm.names() == []
    assert world.arm.purged == {names.vault(world.first)}
    engine, store = world.places.engine(world.bare), world.places.store(world.bare, space)
    assert space.final_backup is not None
    await engine.look(store, await engine.find(store, space.final_backup))
    held = await world.host()
    assert held is not None
    assert (held["confirmed"], held["lapses_at"] > world.clock.now()) == (False, True)
    assert space.retain_until is not None
    assert "space.deleted" in world.events()
    await world.nothing_is_loose()


async def test_an_erased_space_cannot_be_read_by_anybody() -> None:
    world = await ended(World())
    before = await world.stored()
    assert [name for name in before if name.startswith("s/")]
    world.clock.advance(31 * 86_400)
    space = await world.done(OpKind.ERASE)
    assert space.status is Status.ERASED
    grave = space.tombstone
    assert grave is not None
    assert (grave.never_had_data, grave.backups_destroyed) == (False, 1)
    assert grave.keys_destroyed == ("k/0001",)
    assert "k/0001 is damaged: the space's data key is missing" in grave.proof
    assert await world.stored() == {}
    assert world.bare.secrets.names(CLUSTER_VAULT) == []  # pyright: ignore[reportAttributeAccessIssue]
    assert (space.customer_ref, space.route_request) == ("erased", '{"country": ""}')
    assert space.billing is not None
    assert (space.billing.customer_ref, space.billing.country) == ("erased", "")
    assert "c-42" not in str(await world.bare.tables.get("spaces", space.space_id, "state"))
    await world.nothing_is_loose()


async def test_backups_that_a_policy_keeps_stay_and_are_unreadable() -> None:
    world = await ended(World())
    world.vaulted.immutable = {"p/", "s/"}
    world.clock.advance(31 * 86_400)
    space = await world.done(OpKind.ERASE)
    assert {name[:2] for name in await world.stored()} == {"p/", "s/"}
    engine, store = world.places.engine(world.bare), world.places.store(world.bare, space)
    assert space.final_backup is not None
    with pytest.raises(DamagedError, match="data key is missing"):
        await engine.find(store, space.final_backup)


async def test_a_space_that_never_had_data_is_cancelled_and_erased() -> None:
    world = World(status=Status.REQUESTED, activated_at=None)
    await world.open()
    space = await world.done(OpKind.CANCEL)  # and the planner goes on by itself
    kinds = [op.kind for op in await world.registry.operations(space.space_id)]
    assert (kinds, space.status) == (["cancel", "erase"], Status.ERASED)
    assert space.final_backup is None
    assert space.tombstone is not None
    assert space.tombstone.never_had_data
    assert (world.arm.names(), await world.host()) == ([], None)
    assert await world.stored() == {}
    await world.nothing_is_loose()


async def test_what_a_cancelled_space_was_woken_for_is_stopped_again_at_night() -> None:
    world = await World().open()
    await world.done(OpKind.CANCEL)
    part = power.database(world.first)
    assert part is not None
    world.arm.wake_by_itself(part)
    await nightly.send_due(world.bare, world.settings)
    assert world.is_asleep()
