"""What the host expects of a bus and of a status store, asked of the fakes and of the real parts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from local.functions_host.queues.port import (
    Bus,
    BusError,
    Delivery,
    LockLostError,
    Receiver,
    SessionReceiver,
)
from local.functions_host.queues.service_bus import ServiceBus
from local.functions_host.timers.blobs import BlobStatusStore
from local.functions_host.timers.status import StoreError
from tests.local.functions_host.fakes import FakeBus, FakeQueue, FakeStore
from tests.local.service_bus.process import Broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from local.azurite import AzuriteAccounts
    from local.functions_host.timers.status import StatusStore

# Opening the link that renews takes the SDK half a second: the real lock must be well longer.
_FAKE_LOCK_S, _REAL_LOCK_S = 0.5, 2.0
_real = pytest.mark.stack


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("ports"))
    broker.start()
    yield broker
    broker.stop()


@dataclass
class Scene:
    """A bus with one empty queue (short locks, dead after three deliveries) and a way to send to it."""

    bus: Bus
    queue: str
    lock_s: float
    send: Callable[..., Awaitable[None]]
    receivers: list[Receiver] = field(default_factory=list)

    async def receiver(self, of: str = "") -> Receiver:
        receiver = await self.bus.open(self.queue + of)
        self.receivers.append(receiver)
        return receiver

    async def session(self, wait_s: float = 5, prefetch: int = 0) -> SessionReceiver | None:
        receiver = await self.bus.open_session(self.queue, wait_s=wait_s, prefetch=prefetch)
        if receiver is not None:
            self.receivers.append(receiver)
        return receiver

    async def close(self) -> None:
        """All at once: a link takes half a second to close."""
        await asyncio.gather(*(one.close() for one in self.receivers))
        await self.bus.close()


_both = pytest.mark.parametrize(
    "scene", ["fake", pytest.param("broker", marks=_real)], indirect=True
)
_both_with_sessions = pytest.mark.parametrize(
    "scene",
    ["fake sessions", pytest.param("broker sessions", marks=_real)],
    indirect=True,
)


@pytest.fixture
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    if request.param.startswith("fake"):
        bus = FakeBus()
        queue = bus.queues["q"] = FakeQueue(lock_s=_FAKE_LOCK_S, max_delivery_count=3)

        async def put(body: bytes, **fields: Any) -> None:
            await queue.put(body, **fields)

        scene = Scene(bus, "q", _FAKE_LOCK_S, put)
        yield scene
        await scene.close()
        return
    broker: Broker = request.getfixturevalue("broker")
    lock = timedelta(seconds=_REAL_LOCK_S)
    name = await asyncio.to_thread(
        broker.queue,
        lock_duration=lock,
        max_delivery_count=3,
        requires_session=request.param.endswith("sessions"),
    )
    bus = ServiceBus(broker.connection_string)
    client = ServiceBusClient.from_connection_string(broker.connection_string)
    sender = client.get_queue_sender(name)
    async with client:

        async def send(body: bytes, **fields: Any) -> None:
            fields["application_properties"] = fields.pop("properties", None)
            await sender.send_messages(ServiceBusMessage(body, **fields))

        scene = Scene(bus, name, _REAL_LOCK_S, send)
        yield scene
        await asyncio.gather(scene.close(), sender.close())


async def _received(receiver: Receiver) -> Delivery:
    delivery = await receiver.receive(10)
    assert delivery is not None
    return delivery


@_both
async def test_a_message_is_received_with_everything_a_function_may_read(scene: Scene) -> None:
    receiver = await scene.receiver()
    await scene.send(
        b"\x00\xff",
        message_id="m",
        content_type="application/json",
        correlation_id="c",
        subject="s",
        to="t",
        reply_to="r",
        properties={"text": "é", "number": 3, "yes": True},
    )
    delivery = await _received(receiver)
    assert delivery.body == b"\x00\xff"
    assert (delivery.message_id, delivery.content_type) == ("m", "application/json")
    assert (delivery.correlation_id, delivery.subject) == ("c", "s")
    assert (delivery.to, delivery.reply_to) == ("t", "r")
    assert delivery.properties == {"text": "é", "number": 3, "yes": True}
    assert delivery.delivery_count == 1
    assert delivery.sequence_number > 0
    assert uuid.UUID(delivery.lock_token)
    left = delivery.locked_until - datetime.now(UTC)
    assert timedelta() < left <= timedelta(seconds=scene.lock_s + 0.5)


@_both
async def test_a_waiting_receiver_gets_what_is_sent_and_an_empty_queue_gives_nothing(
    scene: Scene,
) -> None:
    receiver = await scene.receiver()
    assert await receiver.receive(0.2) is None
    waiting = asyncio.create_task(receiver.receive(10))
    await scene.send(b"x")
    delivery = await waiting
    assert delivery is not None
    assert delivery.body == b"x"


@_both
async def test_a_completed_message_is_gone_and_an_abandoned_one_comes_back(
    scene: Scene,
) -> None:
    receiver = await scene.receiver()
    await scene.send(b"x")
    await receiver.abandon(await _received(receiver))
    again = await _received(receiver)
    assert (again.body, again.delivery_count) == (b"x", 2)
    await receiver.complete(again)
    assert await receiver.receive(0.2) is None


@_both
async def test_a_renewed_lock_outlives_its_first_end(scene: Scene) -> None:
    receiver = await scene.receiver()
    await scene.send(b"x")
    delivery = await _received(receiver)
    first_end = delivery.locked_until
    while datetime.now(UTC) < first_end + timedelta(seconds=0.3):
        until = await receiver.renew(delivery)
        assert until > datetime.now(UTC) + timedelta(seconds=scene.lock_s / 3)
        await asyncio.sleep(0.2)
    await receiver.complete(delivery)
    assert await receiver.receive(0.2) is None


@_both
async def test_a_lock_that_ran_out_is_lost_and_the_message_comes_again(scene: Scene) -> None:
    late = await asyncio.gather(*(scene.receiver() for _ in range(3)))
    held = []
    for receiver in late:
        await scene.send(b"x")
        held.append(await _received(receiver))
    other = await scene.receiver()
    for _ in held:
        again = await _received(other)  # waits until the lock has run out
        assert again.delivery_count == 2
        await other.complete(again)
    with pytest.raises(LockLostError):
        await late[0].complete(held[0])
    with pytest.raises(LockLostError):
        await late[1].abandon(held[1])
    with pytest.raises(LockLostError):
        await late[2].renew(held[2])


@_both
async def test_a_closed_receiver_holds_back_nothing_that_was_not_yet_received(
    scene: Scene,
) -> None:
    receiver = await scene.receiver()
    waiting = asyncio.create_task(receiver.receive(30))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait({waiting})
    await receiver.close()
    await scene.send(b"x")
    other = await scene.receiver()
    delivery = await _received(other)
    assert delivery.delivery_count == 1


@_both
async def test_dead_letters_are_a_queue_of_their_own_with_the_reason(scene: Scene) -> None:
    if isinstance(scene.bus, FakeBus):
        fake = scene.bus.queues["q"]
        dead = {"DeadLetterReason": "MaxDeliveryCountExceeded"}
        scene.bus.queues["q/$deadletterqueue"] = FakeQueue()
        await scene.bus.queues["q/$deadletterqueue"].put(b"poison", properties=dead)
        assert fake.max_delivery_count == 3
    else:
        receiver = await scene.receiver()
        await scene.send(b"poison")
        for _ in range(3):
            await receiver.abandon(await _received(receiver))
        assert await receiver.receive(0.2) is None
    dead_letters = await scene.receiver("/$deadletterqueue")
    delivery = await _received(dead_letters)
    assert delivery.body == b"poison"
    assert delivery.properties["DeadLetterReason"] == "MaxDeliveryCountExceeded"


@_both
async def test_what_is_there_comes_at_once_up_to_the_number_asked_for(scene: Scene) -> None:
    for body in (b"1", b"2", b"3", b"4"):
        await scene.send(body)
    receiver = await scene.receiver()
    first = await receiver.receive_many(3, 10)
    assert [one.body for one in first] == [b"1", b"2", b"3"]
    await receiver.complete(first[0])
    await receiver.abandon(first[1])
    await receiver.complete(first[2])
    rest = await receiver.receive_many(10, 10)
    assert {(one.body, one.delivery_count) for one in rest} == {(b"2", 2), (b"4", 1)}
    for one in rest:
        await receiver.complete(one)
    assert await receiver.receive_many(10, 0.2) == []


@_both_with_sessions
async def test_a_session_gives_its_own_messages_in_order_under_one_lock(scene: Scene) -> None:
    for body, session in ((b"a1", "a"), (b"b1", "b"), (b"a2", "a")):
        await scene.send(body, session_id=session)
    one = await scene.session()
    assert one is not None
    assert one.session_id == "a"
    left = one.locked_until - datetime.now(UTC)
    assert timedelta() < left <= timedelta(seconds=scene.lock_s + 0.5)
    first = await _received(one)
    assert (first.body, first.session_id, first.delivery_count) == (b"a1", "a", 1)
    assert first.locked_until == one.locked_until
    await one.abandon(first)
    again = await _received(one)  # the first of its session, before a2
    assert (again.body, again.delivery_count) == (b"a1", 2)
    await one.complete(again)
    other = await scene.session()
    assert other is not None
    assert other.session_id == "b"
    await other.complete(await _received(other))
    await one.complete(await _received(one))
    assert await one.receive(0.2) is None


@_both_with_sessions
async def test_without_a_free_session_there_is_none_and_a_closed_one_is_free(
    scene: Scene,
) -> None:
    assert await scene.session(wait_s=0.1) is None
    await scene.send(b"x", session_id="a")
    holder = await scene.session(prefetch=5)
    assert holder is not None
    assert (await _received(holder)).delivery_count == 1
    assert await scene.session(wait_s=0.1) is None
    await holder.close()
    following = await scene.session()
    assert following is not None
    assert (await _received(following)).delivery_count == 1  # what was held counts for nothing


@_both_with_sessions
async def test_a_renewed_session_outlives_its_first_lock(scene: Scene) -> None:
    await scene.send(b"x", session_id="a")
    holder = await scene.session()
    assert holder is not None
    delivery, first_end = await _received(holder), holder.locked_until
    while datetime.now(UTC) < first_end + timedelta(seconds=0.3):
        until = await holder.renew_session()
        assert until > datetime.now(UTC) + timedelta(seconds=scene.lock_s / 3)
        await asyncio.sleep(0.2)
    await holder.complete(delivery)
    assert await holder.receive(0.2) is None


@_both_with_sessions
async def test_a_session_whose_lock_ended_is_lost_and_goes_on_elsewhere(scene: Scene) -> None:
    await scene.send(b"x", session_id="a")
    holder = await scene.session()
    assert holder is not None
    delivery = await _received(holder)
    following = await scene.session()  # waits until the lock has run out
    assert following is not None
    again = await _received(following)
    assert (again.body, again.delivery_count) == (b"x", 2)
    with pytest.raises(LockLostError):
        await holder.complete(delivery)
    with pytest.raises(LockLostError):
        await holder.renew_session()
    with pytest.raises(LockLostError):
        await holder.receive(0.2)
    await following.complete(again)


async def test_a_broker_that_does_not_answer_is_a_bus_error() -> None:
    nowhere = "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=k;SharedAccessKey=a2V5;"
    bus = ServiceBus(nowhere + "UseDevelopmentEmulator=true")
    with pytest.raises(BusError):
        await bus.open("q")
    await bus.close()


@pytest.fixture(params=["fake", pytest.param("azurite", marks=_real)])
def accounts(request: pytest.FixtureRequest) -> AzuriteAccounts | None:
    return None if request.param == "fake" else request.getfixturevalue("azurite")


@pytest.fixture
async def store(accounts: AzuriteAccounts | None) -> AsyncIterator[StatusStore]:
    if accounts is None:
        yield FakeStore()
        return
    account = await accounts.ensure(f"timers{uuid.uuid4().hex[:8]}")
    store = BlobStatusStore(account.connection_string, host_id="host-1")
    yield store
    await store.close()


async def test_a_status_is_kept_per_function_and_replaced_whole(store: StatusStore) -> None:
    assert await store.read("one") is None
    await store.write("one", "a longer text é")
    await store.write("two", "other")
    await store.write("one", "short")
    assert await store.read("one") == "short"
    assert await store.read("two") == "other"


async def test_a_store_that_does_not_answer_is_a_store_error() -> None:
    store = BlobStatusStore(
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;"
        "BlobEndpoint=http://127.0.0.1:9/a;",
        host_id="host-1",
    )
    with pytest.raises(StoreError):
        await store.read("one")
    with pytest.raises(StoreError):
        await store.write("one", "x")
    await store.close()
