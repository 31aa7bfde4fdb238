"""What is sent is stored once, comes when it is due, and can be looked at without touching it."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient

from local.service_bus.connection import connection_string
from spaces import telemetry
from spaces.adapters.bus import AzureBus
from spaces.adapters.wire import Wire
from spaces.errors import InvalidError, NotFoundError, TransientError
from spaces.ports import Bus, Message
from tests.fakes import FakeBus, FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conformance.parts import Parts

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUEUES = ("provisioning-steps", "backup-runs", "billing-events")


@dataclass(frozen=True)
class Taken:
    """A message as the receiving side sees it."""

    message_id: str
    body: bytes
    properties: dict[str, str]
    content_type: str | None = "application/json"


class Rig(Protocol):
    """A bus and the other side of it."""

    bus: Bus

    async def take(self, queue: str) -> list[Taken]:
        """Receive and remove all that is there."""
        ...

    async def dead_letter(self, queue: str, reason: str, description: str) -> None:
        """Receive one message and put it aside."""
        ...

    async def give_up(self, queue: str) -> None:
        """Receive and abandon one message until the broker puts it aside."""
        ...

    def now(self) -> datetime: ...

    async def pass_time(self, seconds: float) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self._fake = FakeBus(self._clock)
        self.bus: Bus = self._fake

    async def take(self, queue: str) -> list[Taken]:
        items = self._fake.receive(queue, most=1000)
        for item in items:
            self._fake.complete(item)
        return [
            Taken(item.message.message_id, item.body, dict(item.message.properties))
            for item in items
        ]

    async def dead_letter(self, queue: str, reason: str, description: str) -> None:
        self._fake.dead_letter(self._fake.receive(queue)[0], reason, description)

    async def give_up(self, queue: str) -> None:
        while items := self._fake.receive(queue):
            self._fake.abandon(items[0])

    def now(self) -> datetime:
        return self._clock.now()

    async def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)


class BrokerRig:
    """Links take half a second to open: these stay open for the whole module."""

    def __init__(self, bus: AzureBus, client: ServiceBusClient) -> None:
        self.bus: Bus = bus
        self._client = client
        self._receivers: dict[tuple[str, bool], Any] = {}

    async def take(self, queue: str) -> list[Taken]:
        receiver = self._receiver(queue, remove=True)
        taken: list[Taken] = []
        for _ in range(await self._active(queue)):
            [message] = await receiver.receive_messages(1, max_wait_time=10)
            properties = message.application_properties or {}
            taken.append(
                Taken(
                    message.message_id,
                    b"".join(message.body),
                    {key.decode(): value.decode() for key, value in properties.items()},
                    message.content_type,
                )
            )
        return taken

    async def dead_letter(self, queue: str, reason: str, description: str) -> None:
        receiver = self._receiver(queue, remove=False)
        [message] = await receiver.receive_messages(1, max_wait_time=10)
        await receiver.dead_letter_message(
            message, reason=reason, error_description=description
        )

    async def give_up(self, queue: str) -> None:
        receiver = self._receiver(queue, remove=False)
        while await self._active(queue):
            [message] = await receiver.receive_messages(1, max_wait_time=10)
            await receiver.abandon_message(message)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def empty(self) -> None:
        """Take away what a failed test left behind."""
        for queue in QUEUES:
            await self.take(queue)

    async def _active(self, queue: str) -> int:
        [depth] = await self.bus.depths([queue])
        return depth.active

    def _receiver(self, queue: str, *, remove: bool) -> Any:
        if (queue, remove) not in self._receivers:
            mode = (
                ServiceBusReceiveMode.RECEIVE_AND_DELETE
                if remove
                else ServiceBusReceiveMode.PEEK_LOCK
            )
            self._receivers[queue, remove] = self._client.get_queue_receiver(
                queue, receive_mode=mode
            )
        return self._receivers[queue, remove]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(parts: Parts) -> AsyncIterator[BrokerRig]:
    admin = f"http://127.0.0.1:{parts.home.port('service_bus_admin')}"
    await asyncio.to_thread(parts.start, "service_bus", health=f"{admin}/$namespaceinfo")
    connection = connection_string(parts.home)
    wire = Wire()
    bus = AzureBus(wire, connection=connection, admin=admin)
    async with ServiceBusClient.from_connection_string(connection) as client:
        yield BrokerRig(bus, client)
    await bus.close()
    await wire.close()


@pytest_asyncio.fixture(loop_scope="module")
async def emptied(broker: BrokerRig) -> BrokerRig:
    await broker.empty()
    return broker


@pytest.fixture(params=["fake", pytest.param("broker", marks=pytest.mark.stack)])
def rig(request: pytest.FixtureRequest) -> Rig:
    return FakeRig() if request.param == "fake" else request.getfixturevalue("emptied")


def a_message(queue: str = QUEUES[0], **over: Any) -> Message:
    given: dict[str, Any] = {"message_id": f"m-{uuid.uuid4().hex}", "body": '{"v": 1}'}
    return Message(queue=queue, **{**given, **over})


async def test_a_message_arrives_as_it_was_sent(rig: Rig) -> None:
    message = a_message(
        body=json.dumps({"text": "Zoë \U0001f30d"}, ensure_ascii=False),
        properties={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    )
    await rig.bus.send([message])
    [taken] = await rig.take(QUEUES[0])
    assert taken.message_id == message.message_id
    assert taken.body == message.body.encode()
    assert taken.properties == dict(message.properties)
    assert taken.content_type == "application/json"


async def test_nothing_to_send_is_nothing_sent(rig: Rig) -> None:
    await rig.bus.send([])
    assert await rig.take(QUEUES[0]) == []


async def test_messages_keep_their_order_within_a_queue(rig: Rig) -> None:
    messages = [a_message(QUEUES[n % 2]) for n in range(6)]
    await rig.bus.send(messages)
    for at in range(2):
        sent = [m.message_id for m in messages if m.queue == QUEUES[at]]
        assert [t.message_id for t in await rig.take(QUEUES[at])] == sent


async def test_an_id_sent_again_within_the_window_is_dropped(rig: Rig) -> None:
    message = a_message()
    await rig.bus.send([message])
    await rig.bus.send([message, a_message(message_id=message.message_id, body="{}")])
    assert [taken.body for taken in await rig.take(QUEUES[0])] == [b'{"v": 1}']
    await rig.bus.send([message])
    assert await rig.take(QUEUES[0]) == []


async def test_the_same_id_in_another_queue_is_another_message(rig: Rig) -> None:
    message = a_message()
    await rig.bus.send([message, a_message(QUEUES[1], message_id=message.message_id)])
    assert len(await rig.take(QUEUES[0])) == 1
    assert len(await rig.take(QUEUES[1])) == 1


async def test_a_scheduled_message_comes_when_it_is_due_and_not_before(rig: Rig) -> None:
    later = a_message(due_at=rig.now() + timedelta(seconds=0.9))
    await rig.bus.send([later, a_message()])
    assert len(await rig.take(QUEUES[0])) == 1
    assert [d.scheduled for d in await rig.bus.depths(QUEUES[:1])] == [1]
    await rig.pass_time(1.0)
    assert [t.message_id for t in await rig.take(QUEUES[0])] == [later.message_id]


async def test_a_message_due_in_the_past_comes_at_once(rig: Rig) -> None:
    await rig.bus.send([a_message(due_at=rig.now() - timedelta(hours=1))])
    assert len(await rig.take(QUEUES[0])) == 1


async def test_a_scheduled_id_is_known_before_it_is_due(rig: Rig) -> None:
    poke = a_message(due_at=rig.now() + timedelta(seconds=0.9))
    await rig.bus.send([poke])
    await rig.bus.send([a_message(message_id=poke.message_id)])
    assert await rig.take(QUEUES[0]) == []
    await rig.pass_time(1.0)
    assert len(await rig.take(QUEUES[0])) == 1


async def test_many_senders_at_once_lose_and_double_nothing(rig: Rig) -> None:
    messages = [a_message(QUEUES[n % 3]) for n in range(60)]
    await asyncio.gather(*(rig.bus.send([message]) for message in messages))
    taken = [t.message_id for queue in QUEUES for t in await rig.take(queue)]
    assert sorted(taken) == sorted(message.message_id for message in messages)


async def test_more_than_one_batch_holds_is_sent_in_several(rig: Rig) -> None:
    messages = [a_message(body=json.dumps("x" * 200_000)) for _ in range(8)]
    await rig.bus.send(messages)
    taken = await rig.take(QUEUES[0])
    assert [t.message_id for t in taken] == [m.message_id for m in messages]


async def test_depths_are_told_in_the_order_asked(rig: Rig) -> None:
    await rig.bus.send([a_message(QUEUES[1]), a_message(QUEUES[1]), a_message(QUEUES[0])])
    depths = await rig.bus.depths([QUEUES[1], QUEUES[0], QUEUES[2]])
    assert [(d.name, d.active) for d in depths] == [
        (QUEUES[1], 2),
        (QUEUES[0], 1),
        (QUEUES[2], 0),
    ]
    await rig.take(QUEUES[0])
    await rig.take(QUEUES[1])


async def test_the_oldest_message_is_the_first_that_can_be_worked_on(rig: Rig) -> None:
    assert await rig.bus.oldest(QUEUES[1]) is None
    later = a_message(QUEUES[1], due_at=rig.now() + timedelta(hours=1))
    await rig.bus.send([later])
    assert await rig.bus.oldest(QUEUES[1]) is None
    await rig.bus.send([a_message(QUEUES[1])])
    first = await rig.bus.oldest(QUEUES[1])
    assert first is not None
    assert abs((rig.now() - first).total_seconds()) < 60
    await rig.bus.send([a_message(QUEUES[1])])
    assert await rig.bus.oldest(QUEUES[1]) == first
    await rig.take(QUEUES[1])
    assert await rig.bus.oldest(QUEUES[1]) is None


async def test_dead_letters_are_seen_and_stay(rig: Rig) -> None:
    before = len(await rig.bus.dead_letters(QUEUES[2], limit=1000))
    messages = [a_message(QUEUES[2], body=json.dumps(n)) for n in range(3)]
    await rig.bus.send(messages)
    for _ in messages:
        await rig.dead_letter(QUEUES[2], "unreadable", "no CloudEvent")
    for _ in range(2):
        seen = (await rig.bus.dead_letters(QUEUES[2], limit=1000))[before:]
        assert [(s.message_id, s.body) for s in seen] == [
            (m.message_id, m.body.encode()) for m in messages
        ]
        assert {s.dead_letter_reason for s in seen} == {"unreadable"}
        assert {s.dead_letter_description for s in seen} == {"no CloudEvent"}
        assert all(s.enqueued_at is not None and s.enqueued_at.tzinfo for s in seen)
    assert len(await rig.bus.dead_letters(QUEUES[2], limit=2)) == 2
    [depth] = await rig.bus.depths([QUEUES[2]])
    assert depth.dead_letter == before + 3


async def test_a_message_that_nobody_can_handle_ends_among_the_dead(rig: Rig) -> None:
    before = len(await rig.bus.dead_letters(QUEUES[1]))
    message = a_message(QUEUES[1])
    await rig.bus.send([message])
    await rig.give_up(QUEUES[1])
    [seen] = (await rig.bus.dead_letters(QUEUES[1]))[before:]
    assert seen.message_id == message.message_id
    assert seen.dead_letter_reason == "MaxDeliveryCountExceeded"
    assert seen.delivery_count == 5


async def test_a_queue_that_is_not_there_is_named(rig: Rig) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        await rig.bus.send([a_message("nowhere")])
    with pytest.raises(NotFoundError, match="nowhere"):
        await rig.bus.depths(["nowhere"])
    with pytest.raises(NotFoundError, match="nowhere"):
        await rig.bus.dead_letters("nowhere")


async def test_what_stands_behind_a_message_that_cannot_be_sent_is_not_sent(
    rig: Rig,
) -> None:
    """A poke that arrives proves that the events before it are stored."""
    event = Message(queue="not-there", message_id=uuid.uuid4().hex, body="{}")
    poke = Message(queue=QUEUES[0], message_id=uuid.uuid4().hex, body="{}")
    with pytest.raises(NotFoundError):
        await rig.bus.send([event, poke])
    assert await rig.take(QUEUES[0]) == []


async def test_a_message_too_large_for_the_service_is_invalid(rig: Rig) -> None:
    with pytest.raises(InvalidError):
        await rig.bus.send([a_message(body=json.dumps("x" * 2 * 2**20))])
    await rig.bus.send([a_message()])
    assert len(await rig.take(QUEUES[0])) == 1


@pytest.mark.stack
async def test_a_sender_outlives_a_broker_that_was_killed(
    emptied: BrokerRig, parts: Parts
) -> None:
    broker = emptied
    health = f"http://127.0.0.1:{parts.home.port('service_bus_admin')}/$namespaceinfo"
    await broker.bus.send([a_message(QUEUES[1])])
    await asyncio.to_thread(parts.kill, "service_bus")
    with pytest.raises(TransientError):
        await broker.bus.depths(QUEUES)
    await asyncio.to_thread(parts.start, "service_bus", health=health)
    await broker.bus.send([a_message(QUEUES[1])])
    [depth] = await broker.bus.depths([QUEUES[1]])
    assert depth.active == 2


@pytest.mark.stack
async def test_each_message_is_counted_once_however_it_is_batched(emptied: BrokerRig) -> None:
    before = telemetry.counts()[telemetry.BUS_MESSAGES]
    await emptied.bus.send([a_message(), a_message(), a_message(QUEUES[1])])
    assert telemetry.counts()[telemetry.BUS_MESSAGES] - before == 3


@pytest.mark.stack
async def test_a_broker_that_does_not_answer_is_a_passing_trouble() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        wire = Wire()
        bus = AzureBus(
            wire,
            connection=(
                f"Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName=app;SharedAccessKey=a2V5;"
                "UseDevelopmentEmulator=true"
            ),
            admin=f"http://127.0.0.1:{port}",
        )
        try:
            with pytest.raises(TransientError):
                await bus.send([a_message()])
            with pytest.raises(TransientError):
                await bus.depths(QUEUES)
        finally:
            await bus.close()
            await wire.close()
