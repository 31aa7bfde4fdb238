"""Each invariant is shown red once: the state is broken behind everybody's back, and it is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from backups.manifest import manifest_name
from spaces.model import Status
from spaces.ports import Insert, Put, StackRequest
from tests.fakes import Script
from tests.simworld import actions as do
from tests.simworld.invariants import RULES, BrokenError
from tests.simworld.operations import prepared
from tests.simworld.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = do.space_id()


def a_world(before: str = "restore_in_place") -> World:
    """An active space with a proved backup; or what stands before another operation."""
    return World(prepared(before)())


def changed(world: World, **over: Any) -> None:
    """The space's row says something else, and nobody wrote it down."""
    space = replace(world.rules.spaces[SPACE], **over)
    world.rules.spaces[SPACE] = space
    rows = world.estate.tables._rows("spaces")[SPACE]
    doc = msgspec.json.encode(space).decode()
    rows["state"] = replace(rows["state"], values={**rows["state"].values, "doc": doc})


def a_second_stack(world: World, name: str, **parameters: Any) -> None:
    known = world.estate.arm.request(f"{SPACE}-1")
    told = {**known.parameters, **parameters}
    request = StackRequest(
        name=name,
        location=str(parameters.get("location", known.location)),
        template=known.template,
        parameters=told,
        tags=known.tags,
    )
    world.loop.finish(world.estate.arm.put_stack(request))


def write(world: World, table: str, partition: str, *writes: Any) -> None:
    world.loop.finish(world.estate.tables.commit(table, partition, list(writes)))


def of_two_orders(world: World) -> None:
    write(world, "orders", "o-other", Insert("row", {"space_id": SPACE}))


def of_no_owner(world: World) -> None:
    changed(world, customer_ref="")


def of_a_paid_order_that_nobody_serves(world: World) -> None:
    changed(world, activated_at=None, status=Status.REQUESTED)


def of_a_stack_of_nobody(world: World) -> None:
    a_second_stack(world, "s-nobody-1", hostName="nobody.france.localhost")


def of_a_scratch_database(world: World) -> None:
    [server] = world.estate.databases.servers.values()
    server.owners["verify_9"] = "kpax_app"


def of_a_stack_that_went_away(world: World) -> None:
    world.estate.arm.vanish(f"{SPACE}-1")


def of_anothers_resources(world: World) -> None:
    resources = world.rules.spaces[SPACE].resources
    assert resources is not None
    changed(world, resources=replace(resources, resource_group="rg-kx-s-other-1"))


def of_two_deployments(world: World) -> None:
    for number in (2, 3):
        a_second_stack(world, f"{SPACE}-{number}", hostName=f"h{number}.france.localhost")


def of_a_forgotten_operation(world: World) -> None:
    changed(world, op_seq=9)


def of_one_name_twice(world: World) -> None:
    a_second_stack(world, "s-other-1")


def of_a_name_that_is_anothers(world: World) -> None:
    del world.estate.tables._rows("hosts")["acme1"]


def of_a_stack_abroad(world: World) -> None:
    told = {"location": "eastus2", "hostName": "x.france.localhost"}
    a_second_stack(world, f"{SPACE}-2", **told)


def of_a_space_abroad(world: World) -> None:
    changed(world, azure_region="eastus2")


def of_backups_abroad(world: World) -> None:
    account: Any = world.estate.accounts.backup_of("united-states")
    world.loop.finish(account.ensure_container(SPACE))


def of_a_forgotten_event(world: World) -> None:
    world.rules.newest[do.subject()] = 7


def of_a_suspension_that_nobody_carries_out(world: World) -> None:
    billing = world.rules.spaces[SPACE].billing
    assert billing is not None
    changed(world, billing=replace(billing, status="suspended"))


def of_a_stack_of_another_plan(world: World) -> None:
    world.estate.arm.edit(f"{SPACE}-1", plan="premium")


def of_a_backup_that_went_away(world: World) -> None:
    [row] = world.rules.backups(SPACE)
    account: Any = world.estate.accounts.backup_of("france")
    world.loop.finish(account.delete(SPACE, manifest_name(row.backup_id)))


def of_an_erasure_without_proof(world: World) -> None:
    changed(world, status=Status.ERASED)


def of_a_space_without_backup(world: World) -> None:
    world.clock.advance(days=3)


def of_an_operation_that_stands_still(world: World) -> None:
    world.estate.arm.ends[f"{SPACE}-1"] = [Script(duration_s=9e4, retry_after_s=60.0)]
    do.bill(world, sequence=2, kind="plan_changed", plan="premium")
    world.advance(60)
    world.clock.advance(hours=3)


def of_a_look_that_never_came(world: World) -> None:
    entry = json.dumps({"act": "operation.extended"}).replace(": ", ":")
    entry = entry.replace('"act":"operation.extended"', '"operation.extended"')
    write(world, "spaces", SPACE, Insert("aud!999999999999", {"entry": entry}))


def of_a_broken_chain(world: World) -> None:
    rows = world.estate.tables._rows("spaces")[SPACE]
    text = str(rows["aud!000000000002"].values["entry"])
    rows["aud!000000000002"] = replace(
        rows["aud!000000000002"], values={"entry": text.replace("operation", "0peration", 1)}
    )


def of_an_event_that_was_not_published(world: World) -> None:
    del world.estate.bus.published[0]


def of_a_watch_of_nothing(world: World) -> None:
    write(world, "activeops", "00", Insert("s-nobody", {"op_id": "op-s-nobody-0001"}))


# Which invariant each breaks, and whether it must be seen at once.
BREAKAGE: dict[Callable[[World], None], tuple[int, bool]] = {
    of_two_orders: (1, True),
    of_no_owner: (1, True),
    of_a_paid_order_that_nobody_serves: (1, False),
    of_a_stack_of_nobody: (2, False),
    of_a_scratch_database: (2, False),
    of_a_stack_that_went_away: (2, False),
    of_anothers_resources: (2, True),
    of_two_deployments: (3, True),
    of_a_forgotten_operation: (3, False),
    of_one_name_twice: (4, True),
    of_a_name_that_is_anothers: (4, True),
    of_a_stack_abroad: (5, True),
    of_a_space_abroad: (5, True),
    of_backups_abroad: (5, True),
    of_a_forgotten_event: (6, False),
    of_a_suspension_that_nobody_carries_out: (6, False),
    of_a_stack_of_another_plan: (6, False),
    of_a_backup_that_went_away: (7, False),
    of_an_erasure_without_proof: (7, False),
    of_a_space_without_backup: (8, False),
    of_an_operation_that_stands_still: (9, True),
    of_a_look_that_never_came: (9, False),
    of_a_broken_chain: (10, False),
    of_an_event_that_was_not_published: (10, False),
    of_a_watch_of_nothing: (14, False),
}


def seen(world: World, *, at_once: bool) -> set[int]:
    """The numbers of the invariants that do not hold."""
    found: set[int] = set()
    for space in world.rules.spaces.values():
        try:
            world.rules.of_space(space)
        except BrokenError as error:
            found.add(error.number)
    for rule in RULES:
        if rule.always or not at_once:
            try:
                rule.check(world.rules)
            except BrokenError as error:
                found.add(error.number)
    return found


@pytest.mark.parametrize("breaks", BREAKAGE, ids=lambda breaks: breaks.__name__)
def test_an_invariant_speaks(breaks: Callable[[World], None]) -> None:
    number, at_once = BREAKAGE[breaks]
    world = a_world()
    assert seen(world, at_once=False) == set()
    breaks(world)
    assert number in seen(world, at_once=at_once)
    world.close()


def test_each_invariant_of_one_space_has_its_red_test() -> None:
    numbers = {number for number, _ in BREAKAGE.values()}
    assert numbers == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14}
    assert {rule.number for rule in RULES} == numbers


def committed(world: World, *writes: Any) -> int:
    """The invariant that refuses this transaction on the space; 0 for none."""
    write(world, "spaces", SPACE, *writes)
    try:
        world.rules.committed(SPACE, list(writes))
    except BrokenError as error:
        return error.number
    return 0


def a_state(world: World, **over: Any) -> Put:
    space = replace(world.rules.spaces[SPACE], **over)
    values = world.estate.tables.row("spaces", SPACE, "state")
    assert values is not None
    return Put("state", {**values.values, "doc": msgspec.json.encode(space).decode()})


def an_entry(world: World) -> tuple[Insert, Put]:
    head = world.estate.tables.row("spaces", SPACE, "state_audit")
    assert head is not None
    seq = int(str(head.values["seq"])) + 1
    return Insert(f"aud!{seq:012}", {"entry": "{}"}), Put(
        "state_audit", {"seq": seq, "hash": ""}
    )


def test_a_change_without_an_entry_is_seen_at_once() -> None:
    world = a_world()
    assert committed(world, a_state(world, name="x"), Insert("in!x", {})) == 10


def test_a_status_that_no_event_tells_is_seen_at_once() -> None:
    world = a_world()
    assert committed(world, a_state(world, status=Status.SUSPENDED), *an_entry(world)) == 10


def test_a_number_that_falls_is_seen_at_once() -> None:
    world = a_world()
    assert committed(world, a_state(world, op_seq=0), *an_entry(world)) == 3


def test_a_deletion_without_a_verified_backup_is_seen_at_once() -> None:
    world = a_world("delete")
    told = {"body": json.dumps({"type": "space.deleted"})}
    state = a_state(
        world,
        status=Status.DELETED,
        final_backup=None,
        event_seq=world.rules.spaces[SPACE].event_seq + 1,
    )
    event = Put("out!ev!999999999999", told)
    assert committed(world, state, event, *an_entry(world)) == 7


def test_an_alarm_excuses_a_missing_backup() -> None:
    world = a_world()
    world.clock.set(world.clock.now() + timedelta(days=3))
    assert 8 in seen(world, at_once=False)
    world.rules.alarms[SPACE] = {"backup.missed"}
    assert 8 not in seen(world, at_once=False)
