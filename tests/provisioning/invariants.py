"""What must hold of an estate: at each write of a space, and when nothing more happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from spaces import audit, power
from spaces.lifecycle import MATRIX
from spaces.model import OpStatus, Phase, Space, Status

if TYPE_CHECKING:
    from spaces.ports import Stored
    from tests.provisioning.campaign import Campaign, Ordered


class Progress:
    """Each version of a space is further than the one before; never back, never beside."""

    def __init__(self) -> None:
        self._last: dict[str, Space] = {}

    def note(self, space_id: str, row: Stored) -> None:
        """Compare this version with the last one."""
        space = msgspec.json.decode(str(row.values["doc"]), type=Space)
        before = self._last.get(space_id)
        self._last[space_id] = space
        if before is None:
            return
        assert space.event_seq >= before.event_seq, "events were forgotten"
        assert space.op_seq >= before.op_seq, "an operation was forgotten"
        assert _mark(space) >= _mark(before), f"back from {_mark(before)} to {_mark(space)}"
        if before.billing is not None:
            assert space.billing is not None
            assert space.billing.sequence >= before.billing.sequence, "billing went back"
        if before.op is not None and space.op is not None:
            assert before.op.op_id == space.op.op_id, "a second operation beside the first"
        if space.status is not before.status:
            assert before.op is not None, f"{before.status} became {space.status} by itself"
            rule = MATRIX[before.op.kind]
            assert before.status in rule.start
            assert space.status in {rule.success, rule.failure}


def _mark(space: Space) -> tuple[int, int, int, int, int]:
    """How far a space is: operation, whether it ended, way, step, attempt."""
    op = space.op
    if op is None:
        return (space.op_seq, 1, 0, 0, 0)
    if op.phase is Phase.DO:
        return (space.op_seq, 0, 0, op.at, op.attempt)
    return (space.op_seq, 0, 1, len(op.steps) - op.at, op.attempt)


async def check(world: Campaign) -> None:
    """All that must hold at rest."""
    tables = world.bare.tables
    assert not world.sweeper or await tables.query("activeops") == [], "a watch is left over"
    refused = [ordered for ordered in world.orders if ordered.refused]
    allowed = {"late-sequence", *(["unknown-order"] if refused else [])}
    assert {str(row.values["reason"]) for row in await tables.query("rejected")} <= allowed
    dead = [item.message.message_id for queue in world._queues() for item in queue.dead]
    assert not [one for one in dead if not one.startswith("op-")], f"dead events: {dead}"
    directory = {row.key for row in await tables.query("directory")}
    stacks = world.arm.names()
    for ordered in refused:  # its token ran out before the first run came to the space
        assert await tables.get("hosts", ordered.name, "host") is None
        assert await world.registry.load(ordered.space_id) is None
    for ordered in [each for each in world.orders if not each.refused]:
        assert ordered.placed, "the order was never answered"
        loaded = await world.registry.require(ordered.space_id)
        entries = await world.registry.audit_entries(ordered.space_id)
        assert audit.first_break(entries, loaded.head) is None, "the audit chain is broken"
        # What was lost comes again long before a deadline; only an outage is longer than a budget.
        extended = [text for text in entries if '"operation.extended"' in text]
        assert world.had_outage or not extended, "nobody looked, and no outage explains it"
        _check_events(world, loaded.space)
        await _check_operations(world, loaded.space)
        await _check_end(world, ordered, loaded.space, stacks)
        assert ordered.space_id in directory
    assert len(stacks) <= len(world.orders), stacks


def _check_events(world: Campaign, space: Space) -> None:
    """Each number at least once, and always with the same content."""
    told: dict[int, str] = {}
    for message in world.bus.sent:
        if message.queue != "space-events":
            continue
        event = json.loads(message.body)
        if event["subject"] != space.space_id:
            continue
        number = event["data"]["sequence"]
        assert told.setdefault(number, message.body) == message.body, f"event {number} twice"
    missing = set(range(1, space.event_seq + 1)) - set(told)
    assert not missing, f"events never sent: {sorted(missing)} of {space.event_seq}"
    assert len(told) == space.event_seq


async def _check_operations(world: Campaign, space: Space) -> None:
    assert space.op is None, "an operation never ended"
    rows = await world.registry.operations(space.space_id)
    assert [row.op_id[-4:] for row in rows] == [f"{n:04}" for n in range(1, space.op_seq + 1)]
    for row in rows:
        assert row.status.is_final
        assert row.ended_at is not None
        found = await world.registry.operation(space.space_id, row.op_id)
        assert found is not None
        steps = {step.name: step.status for step in found[1]}
        planned = list(row.steps)
        if row.status is OpStatus.SUCCEEDED:
            assert list(steps) == planned
            assert set(steps.values()) == {OpStatus.SUCCEEDED}
        else:
            assert row.error, "it ended without a reason"
            reached = max((planned.index(name) for name in steps), default=0)
            assert list(steps) == planned[: reached + 1], f"rows are missing: {list(steps)}"


async def _check_end(
    world: Campaign, ordered: Ordered, space: Space, stacks: list[str]
) -> None:
    rows = await world.registry.operations(space.space_id)
    last: Any = rows[-1] if rows else None
    mine = [name for name in stacks if name.startswith(space.space_id)]
    host = await world.bare.tables.get("hosts", space.name, "host")
    assert space.billing is not None, "the paid event was lost"
    assert space.billing.sequence == ordered.newest, "the newest billing state was lost"
    match space.status:
        case Status.ACTIVE | Status.SUSPENDED:
            assert last.status is OpStatus.SUCCEEDED, (last.kind, last.error)
            assert mine == [f"{space.space_id}-{space.incarnation}"]
            assert host is not None
            assert (host.values["space_id"], host.values["confirmed"]) == (space.space_id, True)
            plan = world.arm.request(mine[0]).parameters["plan"]
            assert plan == space.tier.value, "the stack is of another tier"
            parts = (power.machines(space), power.database(space))
            running = [world.arm.is_on(part) for part in parts if part is not None]
            assert running == [space.status is Status.ACTIVE] * 2, "it runs, or it rests"
            assert world.arm.request(mine[0]).parameters["routeEnabled"] is running[0]
        case Status.FAILED:
            assert last.status is OpStatus.FAILED
            assert mine == [], f"left over: {mine}"
            assert space.failure
            assert space.resources is None
            assert host is None or host.values["space_id"] != space.space_id
            assert _may_fail(world, ordered), f"a good order failed: {space.failure}"
        case Status.REQUESTED if last is None:
            assert not space.billing.paid, "a paid order was never opened"
        case Status.REQUESTED:
            assert last.status is OpStatus.NEEDS_OPERATOR
            assert len(mine) <= 1
            raise AssertionError(f"nothing here needs an operator: {last.error}")
        case _:
            raise AssertionError(f"status {space.status}")


def _may_fail(world: Campaign, ordered: Ordered) -> bool:
    failure = ordered.script.failure
    return failure is not None and failure[0] == "InvalidTemplate"
