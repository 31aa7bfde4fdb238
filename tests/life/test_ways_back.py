"""Each operation that fails for good: the space is as it was, and nothing is left over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spaces import audit, names, strays
from spaces.configuration import checked_app_settings
from spaces.errors import DeniedError, InvalidError
from spaces.model import OpKind, OpStatus, Status, replace
from spaces.ports import Replace
from spaces.registry import Change
from tests.fakes import Script
from tests.life.world import CLUSTER_VAULT, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backups.engine import Base
    from spaces.model import Space
    from spaces.ports import Part, Ports, Stack, StackRequest
    from spaces.saga.outcomes import Outcome, Work

REFUSED = DeniedError("no such right")
SETTINGS = checked_app_settings({"locale": "de"})


async def failed(world: World, kind: OpKind, **params: str) -> Space:
    """An operation from its start to its bad end; what went wrong stays wrong."""
    op_id = await world.do(kind, **params)
    await world.settle(hours=8)
    row = await world.operation(op_id)
    assert row.status is OpStatus.FAILED, row
    assert row.error
    return await world.space()


async def serves_as_before(world: World) -> None:
    space = await world.space()
    assert (space.status, space.op) == (Status.ACTIVE, None)
    assert (world.is_awake(), await world.answers(), await world.kept_data()) == (
        True, 200, True,
    )  # fmt: skip
    await world.nothing_is_loose()


def poison(world: World, port: str, call: str, error: BaseException = REFUSED) -> None:
    """Let this call be refused from now on."""
    getattr(world.bare, port).faults.plan(call, error, times=100_000)


def heal(world: World, port: str) -> None:
    getattr(world.bare, port).faults._planned.clear()


async def test_a_resize_that_fails_half_way_leaves_the_old_plan() -> None:
    world = await World().open()
    refuse_other_plans(world, "SkuNotAvailable")
    space = await failed(world, OpKind.RESIZE, plan="premium")
    assert (space.tier, world.zones()) == ("standard", {"1", "2"})
    assert world.arm.request(world.stack).parameters["plan"] == "standard"
    await serves_as_before(world)


def refuse_other_plans(world: World, code: str) -> None:
    """Let deployments of another plan than the space's own end with this error."""
    real, own = world.arm.put_stack, world.arm.request(world.stack).parameters["plan"]

    async def put(request: StackRequest) -> Stack:
        bad = request.parameters["plan"] != own
        world.arm.scripts[request.name] = Script(failure=(code, "no") if bad else None)
        return await real(request)

    world.arm.put_stack = put


async def test_machines_that_do_not_come_up_with_new_settings_get_the_old_ones_back() -> None:
    world = await World().open()
    world.sick = {"2"}
    space = await failed(world, OpKind.CONFIGURE, settings=SETTINGS)
    assert (space.app_settings, space.config_revision) == ((), 3)
    assert world.serving["told"]["app"]["locale"] == "en"
    await serves_as_before(world)
    world.sick = set()
    space = await world.done(OpKind.CONFIGURE, settings=SETTINGS)
    assert (space.config_revision, world.serving["told"]["app"]["locale"]) == (4, "de")


async def test_a_rotation_that_does_not_serve_goes_back_to_the_old_secrets() -> None:
    world = await World().open()
    old = world.serving["told"]["database"]
    world.sick = {"2"}
    space = await failed(world, OpKind.ROTATE_SECRETS)
    assert (space.secret_revision, space.config_revision) == (1, 3)
    assert world.serving["told"]["database"] == old
    assert await world.accepts(old["user"], old["password"])
    new = replace(space, secret_revision=2)
    left = await world.bare.secrets.get(CLUSTER_VAULT, names.role_secret(new))
    assert left is not None
    assert not await world.accepts(names.login_role(new), left)
    await serves_as_before(world)
    world.sick = set()
    space = await world.done(OpKind.ROTATE_SECRETS)
    assert (space.secret_revision, await world.answers()) == (2, 200)


async def test_an_old_password_that_is_still_accepted_is_never_called_retired() -> None:
    world = await World().open()
    real = world.databases.retire_login

    async def keeps(*_: object) -> None:
        """The statement is answered and does nothing, as through a proxy to another server."""

    world.databases.retire_login = keeps
    op_id = await world.do(OpKind.ROTATE_SECRETS)
    await world.settle(hours=0.2)
    world.databases.retire_login = real
    row = await world.operation(op_id)
    assert row.status is OpStatus.FAILED
    assert "still accepted" in str(row.error)
    await serves_as_before(world)


@pytest.mark.parametrize("call", ["set_power", "put_stack"])
async def test_a_suspension_that_is_refused_leaves_the_space_serving(call: str) -> None:
    world = await World().open()
    poison(world, "arm", call)
    await failed(world, OpKind.SUSPEND)
    await serves_as_before(world)


async def test_a_database_that_does_not_stop_gets_its_machines_and_its_address_back() -> None:
    world = await World().open()
    real = world.arm.set_power

    async def refuses(part: Part, *, on: bool) -> None:
        if part.kind == "database" and not on:
            raise REFUSED
        await real(part, on=on)

    world.arm.set_power = refuses
    await failed(world, OpKind.SUSPEND)
    await serves_as_before(world)


async def test_a_space_that_cannot_serve_stays_suspended_and_rests() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    world.sick = {"1"}
    space = await failed(world, OpKind.RESUME)
    assert (space.status, world.is_asleep(), await world.answers()) == ("suspended", True, 503)
    await world.nothing_is_loose()


async def test_an_address_that_cannot_be_closed_is_in_no_quarantine() -> None:
    world = await World().open()
    poison(world, "arm", "put_stack")
    space = await failed(world, OpKind.QUARANTINE, reason="r", actor="key:ops")
    assert space.quarantined is None
    heal(world, "arm")
    await serves_as_before(world)


async def test_without_a_final_backup_nothing_is_cancelled() -> None:
    world = await World().open()
    poison(world, "keys", "wrap")
    space = await failed(world, OpKind.CANCEL)
    assert (space.final_backup, space.grace_until) == (None, None)
    await serves_as_before(world)


async def test_a_suspended_space_whose_final_backup_fails_is_suspended_again() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    poison(world, "keys", "wrap")
    space = await failed(world, OpKind.CANCEL)
    assert (space.status, world.is_asleep()) == (Status.SUSPENDED, True)


async def test_a_final_backup_that_is_damaged_cancels_nothing_and_does_not_count() -> None:
    world = await World().open()
    real = world.data.load

    async def lies(base: Base, dump: AsyncIterator[bytes]) -> None:
        await real(base, dump)
        world.data.rows(base)["devices"].append("3 strange")

    world.data.load = lies
    space = await failed(world, OpKind.CANCEL)
    assert space.last_backup is None
    assert [row.state for row in await world.rows()] == ["failed"]
    await serves_as_before(world)


async def test_a_suspended_space_whose_backup_fails_rests_again() -> None:
    world = await World().open()
    await world.done(OpKind.SUSPEND)
    poison(world, "keys", "wrap")
    space = await failed(world, OpKind.BACKUP)
    assert (space.status, world.is_asleep()) == (Status.SUSPENDED, True)


# --- guards ---------------------------------------------------------------------------------------


async def cancelled(world: World) -> World:
    await world.open()
    await world.done(OpKind.CANCEL)
    world.clock.advance(15 * 86_400)
    return world


async def change(world: World, **over: object) -> None:
    """Write into the space's row behind everybody's back, as a race would."""
    loaded = await world.registry.require(world.first.space_id)
    entry = audit.Entry(act="changed", actor="test", obj="", detail={})
    changed = replace(loaded.space, **over)
    await world.registry.commit(
        loaded, Change(space=changed, entry=entry), now=world.clock.now()
    )


async def test_nothing_is_deleted_whose_final_backup_is_gone_from_the_store() -> None:
    world = await cancelled(World())
    names_there = [name for name in await world.stored() if name.startswith("p/")]
    await world.vaulted.delete(world.first.space_id, names_there[0])
    await failed(world, OpKind.DELETE)
    assert world.arm.names() == [world.stack]
    assert (await world.space()).status is Status.CANCELLED


async def test_nothing_is_deleted_whose_final_backup_nobody_proved() -> None:
    world = await cancelled(World())
    (row,) = await world.rows()
    stored = await world.bare.tables.get("spaces", world.first.space_id, f"bkp!{row.backup_id}")
    assert stored is not None
    told = json.loads(str(stored.values["doc"])) | {"state": "completed"}
    values = {"doc": json.dumps(told), "state": "completed"}
    await world.bare.tables.commit(
        "spaces", world.first.space_id, [Replace(stored.key, values, stored.etag)]
    )
    space = await failed(world, OpKind.DELETE)
    assert (world.arm.names(), space.status) == ([world.stack], Status.CANCELLED)


async def test_a_hold_that_comes_between_the_request_and_the_step_still_counts() -> None:
    world = await cancelled(World())
    space = await world.space()
    assert space.billing is not None
    op_id = await world.do(OpKind.DELETE)
    await change(world, billing=replace(space.billing, legal_hold=True))
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.FAILED
    assert world.arm.names() == [world.stack]


async def test_a_stack_that_cannot_be_deleted_is_counted_and_given_to_an_operator() -> None:
    world = await cancelled(World())
    world.arm.scripts[world.stack] = Script(undeletable=("DenyAssignment", "left by a stack"))
    op_id = await world.do(OpKind.DELETE)
    await world.settle(hours=3)
    row = await world.operation(op_id)
    assert row.status is OpStatus.NEEDS_OPERATOR
    assert world.stack in str(row.error)
    (stray,) = await strays.all_of(world.bare.tables)
    assert (stray.stack, stray.code) == (world.stack, "DenyAssignment")
    space = await world.space()
    assert space.status is Status.CANCELLED
    assert space.op is not None
    assert space.op.stuck


async def test_a_stack_that_is_refused_a_few_times_is_no_stray_in_the_end() -> None:
    world = await cancelled(World())
    world.arm.scripts[world.stack] = Script(undeletable=("Conflict", "not now"))
    op_id = await world.do(OpKind.DELETE)
    await world.settle(hours=0.1)
    assert len(await strays.all_of(world.bare.tables)) == 1
    world.arm.scripts.clear()
    await world.settle()
    assert (await world.operation(op_id)).status is OpStatus.SUCCEEDED
    await world.nothing_is_loose()


async def test_a_key_that_is_still_there_fails_the_erasure() -> None:
    world = await cancelled(World())
    await world.done(OpKind.DELETE)
    world.clock.advance(31 * 86_400)
    key = await world.vaulted.read(world.first.space_id, "k/0001")
    op_id = await world.do(OpKind.ERASE)
    plan = world.plans[OpKind.ERASE]
    act = plan.step("prove").act

    async def prove(ports: Ports, work: Work) -> Outcome:
        # somebody's copy of the key comes back after the step that looked
        world.vaulted.put(world.first.space_id, "k/0001", key)
        return await act(ports, work)

    steps = tuple(
        replace(step, act=prove) if step.name == "prove" else step for step in plan.steps
    )
    world.plans = {**world.plans, OpKind.ERASE: replace(plan, steps=steps)}
    await world.settle()
    row = await world.operation(op_id)
    assert (row.status, "can still be read" in str(row.error)) == (OpStatus.FAILED, True)
    assert (await world.space()).status is Status.DELETED
    assert [name for name in await world.stored() if name.startswith("s/")]


async def test_a_vault_that_keeps_secrets_does_not_keep_a_space_from_its_erasure() -> None:
    world = await cancelled(World())
    await world.done(OpKind.DELETE)
    world.clock.advance(31 * 86_400)
    world.bare.secrets.protected.add(CLUSTER_VAULT.rstrip("/"))  # pyright: ignore[reportAttributeAccessIssue]
    poison(world, "arm", "purge_vault", InvalidError("purge protection"))
    space = await world.done(OpKind.ERASE)
    assert space.status is Status.ERASED
    last = (await world.registry.operations(space.space_id))[-1]
    found = await world.registry.operation(space.space_id, last.op_id)
    assert found is not None
    told = " ".join(step.detail for step in found[1])
    assert "kept by the vault's protection: db-admin-" in told
