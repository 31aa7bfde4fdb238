"""What the fakes offer beyond their ports: the host's side of the bus, scripts, bad days."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest

from spaces.errors import LostRaceError, TransientError, WrongKeyError
from spaces.ports import Insert, Message, Ports, Replace, StackState
from tests.builders import a_stack_request
from tests.fakes import (
    CLUSTER_VAULTS,
    FakeArm,
    FakeBilling,
    FakeBus,
    FakeClock,
    FakeKeys,
    FakeTables,
    QueueRules,
    Received,
    Script,
    fake_ports,
)

QUEUE = "provisioning-steps"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus(clock: FakeClock) -> FakeBus:
    return FakeBus(clock)


def a_message(message_id: str = "m-1", **over: object) -> Message:
    return Message(queue=QUEUE, message_id=message_id, body="{}", **over)  # pyright: ignore[reportArgumentType]


def test_every_port_has_a_fake_and_any_may_be_brought_along(clock: FakeClock) -> None:
    arm = FakeArm(clock)
    ports = fake_ports(clock=clock, arm=arm, billing=FakeBilling())
    assert ports.arm is arm
    assert ports.clock is clock
    assert all(getattr(ports, field.name) is not None for field in fields(Ports))
    with pytest.raises(TypeError, match="nonsense"):
        fake_ports(nonsense=1)


async def test_a_lock_that_runs_out_gives_the_message_back(
    bus: FakeBus, clock: FakeClock
) -> None:
    await bus.send([a_message(), a_message("m-2")])
    [first] = bus.receive(QUEUE)
    clock.advance(29.9)
    assert [item.message.message_id for item in bus.receive(QUEUE, most=9)] == ["m-2"]
    clock.advance(0.1)
    [again] = bus.receive(QUEUE)
    assert (again.message.message_id, again.delivery_count) == ("m-1", 2)
    clock.advance(30)
    with pytest.raises(LookupError, match="lost"):
        bus.complete(first)


async def test_five_deliveries_are_the_last(bus: FakeBus) -> None:
    await bus.send([a_message()])
    for count in range(1, 6):
        [item] = bus.receive(QUEUE)
        assert item.delivery_count == count
        bus.abandon(item)
    assert bus.receive(QUEUE) == []
    [dead] = await bus.dead_letters(QUEUE)
    assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"


async def test_an_id_may_be_sent_again_when_its_window_is_over(
    bus: FakeBus, clock: FakeClock
) -> None:
    await bus.send([a_message()])
    clock.advance(599)
    await bus.send([a_message()])
    clock.advance(1)
    await bus.send([a_message()])
    assert len(bus.receive(QUEUE, most=9)) == 2
    assert [message.message_id for message in bus.sent] == ["m-1", "m-1"]


async def test_scheduled_messages_come_in_the_order_of_their_times(
    bus: FakeBus, clock: FakeClock
) -> None:
    now = clock.now()
    await bus.send([a_message("late", due_at=now + timedelta(seconds=9))])
    await bus.send([a_message("early", due_at=now + timedelta(seconds=3))])
    assert bus.next_due() == now + timedelta(seconds=3)
    clock.advance(10)
    assert [item.message.message_id for item in bus.receive(QUEUE, most=9)] == ["early", "late"]
    assert bus.next_due() is None


async def test_what_nobody_reads_in_time_is_gone(clock: FakeClock) -> None:
    bus = FakeBus(clock, [QueueRules(name=QUEUE, ttl_s=60)])
    await bus.send([a_message()])
    clock.advance(61)
    assert bus.receive(QUEUE) == []


async def test_a_pump_delivers_what_handlers_send_until_nothing_is_left(
    bus: FakeBus,
) -> None:
    seen: list[str] = []

    async def handle(item: Received) -> None:
        seen.append(item.message.message_id)
        if item.message.message_id == "m-1" and item.delivery_count < 3:
            raise RuntimeError
        if len(seen) < 6:
            await bus.send([a_message(f"next-{len(seen)}")])

    await bus.send([a_message()])
    assert await bus.pump({QUEUE: handle}) == 6
    assert seen == ["m-1", "m-1", "m-1", "next-3", "next-4", "next-5"]
    assert bus.receive(QUEUE) == []


async def test_a_pump_that_never_ends_is_an_error(bus: FakeBus) -> None:
    async def handle(item: Received) -> None:
        await bus.send([a_message(item.message.message_id + "+")])

    await bus.send([a_message()])
    with pytest.raises(AssertionError, match="more than 20"):
        await bus.pump({QUEUE: handle}, most=20)


async def test_a_message_can_be_lost_after_it_was_accepted(bus: FakeBus) -> None:
    await bus.send([a_message()])
    assert bus.lose(QUEUE).message.message_id == "m-1"
    assert bus.receive(QUEUE) == []


async def test_a_planned_error_comes_before_the_effect_or_after_it() -> None:
    tables = FakeTables()
    tables.faults.plan("commit", TransientError("before"))
    tables.faults.plan("commit", TransientError("after"), after=True)
    with pytest.raises(TransientError, match="before"):
        await tables.commit("rows", "p", [Insert("r", {})])
    assert tables.rows("rows") == []
    with pytest.raises(TransientError, match="after"):
        await tables.commit("rows", "p", [Insert("r", {})])
    assert [row.key for row in tables.rows("rows")] == ["r"]
    await tables.commit("rows", "p", [Insert("s", {})])
    assert tables.faults.calls == ["commit"] * 3


async def test_a_row_taken_away_behind_everybodys_back_is_a_lost_race() -> None:
    tables = FakeTables()
    await tables.commit("rows", "p", [Insert("r", {})])
    [row] = tables.rows("rows")
    tables.forget("rows", "p", "r")
    with pytest.raises(LostRaceError):
        await tables.commit("rows", "p", [Replace("r", {}, row.etag)])


async def test_a_stack_takes_as_long_as_its_script_says(clock: FakeClock) -> None:
    arm = FakeArm(clock, default=Script(duration_s=60, delete_s=30))
    request = a_stack_request()
    await arm.put_stack(request)
    clock.advance(59)
    assert (await arm.get_stack(request.name)).state is StackState.RUNNING
    clock.advance(1)
    assert (await arm.get_stack(request.name)).state is StackState.SUCCEEDED
    await arm.delete_stack(request.name)
    await arm.delete_stack(request.name)
    clock.advance(29)
    assert arm.names() == [request.name]
    clock.advance(1)
    assert arm.names() == []
    assert arm.puts(request.name) == 0


async def test_machines_are_shown_where_they_were_started(clock: FakeClock) -> None:
    arm = FakeArm(clock)
    arm.start_machines("rg", "vmss", ["1", "2"])
    found = await arm.instances("rg", "vmss")
    assert [(each.name, each.zone, each.state) for each in found] == [
        ("vmss_0", "1", "running"),
        ("vmss_1", "2", "running"),
    ]


async def test_a_rotated_key_still_opens_what_the_old_one_wrapped() -> None:
    vault = CLUSTER_VAULTS["france"]
    keys = FakeKeys([vault])
    old_id, wrapped = await keys.wrap(vault, "backup-kek", b"k")
    keys.rotate(vault, "backup-kek")
    new_id, _ = await keys.wrap(vault, "backup-kek", b"k")
    assert new_id != old_id
    assert await keys.unwrap(old_id, wrapped) == b"k"
    with pytest.raises(WrongKeyError):
        await keys.unwrap(new_id, wrapped)
