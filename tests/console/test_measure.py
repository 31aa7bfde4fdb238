"""What is measured of the queues, and when a queue is too old."""

from __future__ import annotations

import logging

import pytest

from console import measure
from spaces.ports import Message
from tests.fakes import FakeBus, FakeClock, fake_ports


def a_message(queue: str = "provisioning-steps") -> Message:
    return Message(queue=queue, message_id="m-1", body="{}")


async def test_an_idle_estate_is_young() -> None:
    clock = FakeClock()
    ports = fake_ports(clock=clock, bus=FakeBus(clock))
    measured = await measure.measure(ports)
    assert {depth.active for depth in measured.queues} == {0}
    assert measured.watched == 0
    assert measure.old_queues(measured, clock.now()) == []


@pytest.mark.parametrize(("seconds", "said"), [(measure.OLD_S, 0), (measure.OLD_S + 1, 1)])
async def test_a_message_that_nobody_takes_is_said_aloud(
    seconds: float, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    ports = fake_ports(clock=clock, bus=FakeBus(clock))
    await ports.bus.send([a_message()])
    clock.advance(seconds)
    with caplog.at_level(logging.ERROR, logger="kpax.measure"):
        measured = await measure.measure(ports)
    assert measured.age_s("provisioning-steps", clock.now()) == seconds
    assert [record.message for record in caplog.records] == ["queue.old"] * said


async def test_events_wait_for_others_and_are_no_alarm() -> None:
    clock = FakeClock()
    ports = fake_ports(clock=clock, bus=FakeBus(clock))
    await ports.bus.send([a_message("space-events")])
    clock.advance(3600)
    assert measure.old_queues(await measure.look(ports), clock.now()) == []
