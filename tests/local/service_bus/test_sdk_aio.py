"""The unmodified asynchronous SDK against a real broker, sessions and competing receivers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import AutoLockRenewer, ServiceBusClient
from azure.servicebus.exceptions import (
    MessageNotFoundError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from azure.servicebus.aio import ServiceBusReceiver, ServiceBusSender

    from tests.local.service_bus.process import Broker

# One loop for all, so that the links are closed once, together.
pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


class AioLinks:
    """Senders and receivers that are closed together."""

    def __init__(self, client: ServiceBusClient) -> None:
        self._client = client
        self._links: list[Any] = []

    def sender(self, name: str) -> ServiceBusSender:
        self._links.append(self._client.get_queue_sender(name))
        return self._links[-1]

    def receiver(self, name: str, **what: Any) -> ServiceBusReceiver:
        self._links.append(self._client.get_queue_receiver(name, **what))
        return self._links[-1]

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def links(broker: Broker) -> AsyncIterator[AioLinks]:
    """Links to the broker."""
    async with ServiceBusClient.from_connection_string(
        broker.connection_string, retry_total=0
    ) as client:
        links = AioLinks(client)
        yield links
        await links.close()


async def test_settlement_in_all_its_ways(broker: Broker, links: AioLinks) -> None:
    name = broker.queue(max_delivery_count=2)
    sender, receiver = links.sender(name), links.receiver(name)
    dead = links.receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    await sender.send_messages([ServiceBusMessage(text) for text in ("poison", "bad", "later")])
    for count in range(2):
        [message] = await receiver.receive_messages(max_wait_time=5)
        assert (str(message), message.delivery_count) == ("poison", count)
        await receiver.abandon_message(message)
    bad, later = await receiver.receive_messages(2, max_wait_time=5)
    await receiver.dead_letter_message(bad, reason="why", error_description="because")
    await receiver.defer_message(later)
    [later] = await receiver.receive_deferred_messages([later.sequence_number])
    await receiver.renew_message_lock(later)
    await receiver.complete_message(later)
    with pytest.raises(MessageNotFoundError):
        await receiver.receive_deferred_messages([later.sequence_number])
    letters = await dead.receive_messages(2, max_wait_time=5)
    assert [m.dead_letter_reason for m in letters] == ["MaxDeliveryCountExceeded", "why"]
    for letter in letters:
        await dead.complete_message(letter)
    assert f'"name": "{name}", "active": 0'.encode() in broker.get("/_local/queues")


async def test_schedule_cancel_peek_and_batches(broker: Broker, links: AioLinks) -> None:
    name = broker.queue()
    sender = links.sender(name)
    receiver = links.receiver(
        name, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE, prefetch_count=50
    )
    due = datetime.now(UTC) + timedelta(minutes=5)
    [number] = await sender.schedule_messages(ServiceBusMessage("x"), due)
    assert [m.sequence_number for m in await receiver.peek_messages(5)] == [number]
    await sender.cancel_scheduled_messages(number)
    batch = await sender.create_message_batch()
    for index in range(100):
        batch.add_message(ServiceBusMessage(str(index)))
    await sender.send_messages(batch)
    got: list[str] = []
    async for message in receiver:
        got.append(str(message))
        if len(got) == 100:
            break
    assert got == [str(index) for index in range(100)]


async def test_a_renewer_keeps_a_lock_beyond_its_length(
    broker: Broker, links: AioLinks
) -> None:
    name = broker.queue(lock_duration=timedelta(seconds=3))
    sender, receiver = links.sender(name), links.receiver(name)
    other = links.receiver(name)  # a receiver that waits would hold up its own renewals
    await sender.send_messages([ServiceBusMessage("kept"), ServiceBusMessage("measure")])
    [kept] = await receiver.receive_messages(max_wait_time=5)
    await receiver.renew_message_lock(kept)  # opens the link for the renewals
    async with AutoLockRenewer(max_lock_renewal_duration=10) as renewer:
        renewer.register(receiver, kept)
        for expected in (0, 1):  # the second time the other one's lock has ended
            [measure] = await other.receive_messages(max_wait_time=5)
            assert (str(measure), measure.delivery_count) == ("measure", expected)
        await receiver.complete_message(kept)


async def test_competing_receivers_share_and_nothing_comes_twice(
    broker: Broker, links: AioLinks
) -> None:
    name = broker.queue()
    sender = links.sender(name)
    await sender.send_messages([ServiceBusMessage(str(n)) for n in range(200)])
    shares: list[list[str]] = [[] for _ in range(4)]

    async def work(share: list[str]) -> None:
        receiver = await links.receiver(name, prefetch_count=10).__aenter__()
        while messages := await receiver.receive_messages(10, max_wait_time=0.5):
            for message in messages:
                share.append(str(message))
                await receiver.complete_message(message)

    await asyncio.gather(*(work(share) for share in shares))
    assert sorted(int(text) for share in shares for text in share) == list(range(200))
    assert all(shares)


async def test_unknown_queues_and_wrong_keys_are_refused(
    broker: Broker, links: AioLinks
) -> None:
    with pytest.raises(MessagingEntityNotFoundError):
        await links.sender("no-such").send_messages(ServiceBusMessage("x"))
    wrong = broker.connection_string.replace("SharedAccessKey=", "SharedAccessKey=x")
    async with AsyncExitStack() as stack:
        client = ServiceBusClient.from_connection_string(wrong, retry_total=0)
        await stack.enter_async_context(client)
        with pytest.raises(ServiceBusAuthenticationError):
            await client.get_queue_sender("no-such").send_messages(ServiceBusMessage("x"))


async def test_sessions_named_and_next_available(broker: Broker, links: AioLinks) -> None:
    name = broker.queue(requires_session=True)
    sender = links.sender(name)
    texts = [("a1", "a"), ("b1", "b"), ("a2", "a")]
    await sender.send_messages([ServiceBusMessage(t, session_id=s) for t, s in texts])
    named = links.receiver(name, session_id="a")
    got = await named.receive_messages(5, max_wait_time=5)
    assert [str(m) for m in got] == ["a1", "a2"]
    assert named.session.locked_until_utc is not None
    await named.session.set_state(b"half way")
    assert await named.session.get_state() == b"half way"
    assert await named.session.renew_lock() > datetime.now(UTC)
    with pytest.raises(SessionCannotBeLockedError):
        await links.receiver(name, session_id="a").receive_messages(max_wait_time=1)
    following = links.receiver(name, session_id=NEXT_AVAILABLE_SESSION)
    [b1] = await following.receive_messages(max_wait_time=5)
    assert (str(b1), following.session.session_id) == ("b1", "b")
    await following.complete_message(b1)
    await named.complete_message(got[0])
    await named.close()  # a2 was in flight: the session is free, and it comes again, uncounted
    again = links.receiver(name, session_id=NEXT_AVAILABLE_SESSION)
    [a2] = await again.receive_messages(max_wait_time=5)
    assert (str(a2), a2.delivery_count, again.session.session_id) == ("a2", 0, "a")
    assert await again.session.get_state() == b"half way"
    await again.session.set_state(None)
    await again.defer_message(a2)
    [a2] = await again.receive_deferred_messages([a2.sequence_number])
    await again.complete_message(a2)
    waiting = links.receiver(name, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1)
    with pytest.raises(OperationTimeoutError):
        await waiting.receive_messages()


async def test_a_session_whose_lock_ended_is_lost(broker: Broker, links: AioLinks) -> None:
    name = broker.queue(requires_session=True, lock_duration=timedelta(seconds=1))
    sender = links.sender(name)
    await sender.send_messages(ServiceBusMessage("a1", session_id="a"))
    first = links.receiver(name, session_id="a")
    [a1] = await first.receive_messages(max_wait_time=5)
    second = links.receiver(name, session_id=NEXT_AVAILABLE_SESSION)
    [again] = await second.receive_messages(max_wait_time=5)  # waits for the first to lose it
    assert (str(again), again.delivery_count) == ("a1", 1)
    with pytest.raises(SessionLockLostError):
        await first.complete_message(a1)
    await second.complete_message(again)
