"""The unmodified SDK against a real broker: what few senders do, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
    SessionLockLostError,
)

if TYPE_CHECKING:
    from tests.local.service_bus.process import Broker, Links

pytestmark = pytest.mark.stack


def test_the_queues_shorter_time_is_what_a_receiver_sees(broker: Broker, links: Links) -> None:
    hour = timedelta(hours=1)
    sender, receiver = links.both(broker.queue(default_message_time_to_live=hour))
    lives = (None, timedelta(days=1), timedelta(minutes=1))
    sender.send_messages([ServiceBusMessage("x", time_to_live=live) for live in lives])
    got = receiver.peek_messages(5)
    assert [message.time_to_live for message in got] == [hour, hour, timedelta(minutes=1)]
    for message in got:
        assert message.enqueued_time_utc is not None
        assert message.time_to_live is not None
        assert message.expires_at_utc == message.enqueued_time_utc + message.time_to_live


def test_the_transfer_dead_letters_are_there_and_empty(broker: Broker, links: Links) -> None:
    sender, receiver = links.both(name := broker.queue())
    sender.send_messages(ServiceBusMessage("x"))
    [message] = receiver.receive_messages(max_wait_time=5)
    receiver.dead_letter_message(message)
    transfer = links.receiver(name, sub_queue=ServiceBusSubQueue.TRANSFER_DEAD_LETTER)
    assert transfer.peek_messages() == []
    assert transfer.receive_messages(max_wait_time=0.2) == []


def test_a_message_too_large_to_schedule_leaves_the_sender_of_use(
    broker: Broker, links: Links
) -> None:
    sender, receiver = links.both(broker.queue())
    due = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(MessageSizeExceededError):
        sender.schedule_messages(ServiceBusMessage(b"x" * 1_200_000), due)
    [number] = sender.schedule_messages(ServiceBusMessage("small"), due)
    [peeked] = receiver.peek_messages(5)
    assert (str(peeked), peeked.sequence_number) == ("small", number)


def test_what_is_not_there_is_said_in_plain_words(broker: Broker) -> None:
    with broker.client() as client:
        with pytest.raises(MessagingEntityNotFoundError, match="'t/Subscriptions/s' could not"):
            client.get_subscription_receiver("t", "s").receive_messages(max_wait_time=1)
        with pytest.raises(MessagingEntityNotFoundError, match="'t' could not"):
            client.get_topic_sender("t").send_messages(ServiceBusMessage("x"))


def test_the_client_lists_sessions_in_pages(broker: Broker, links: Links) -> None:
    name = broker.queue(requires_session=True)
    wanted = [f"s{number:03}" for number in range(130)]
    links.sender(name).send_messages([ServiceBusMessage("x", session_id=s) for s in wanted])
    with broker.client() as client:
        assert sorted(client.list_queue_sessions(name)) == wanted
        with pytest.raises(ServiceBusError, match="has no sessions"):
            list(client.list_queue_sessions(broker.queue()))


def test_a_session_that_somebody_else_holds_now_is_lost(broker: Broker, links: Links) -> None:
    name = broker.queue(requires_session=True, lock_duration=timedelta(seconds=1))
    sender, first = links.sender(name), links.receiver(name, session_id="a")
    sender.send_messages(ServiceBusMessage("x", session_id="a"))
    [old] = first.receive_messages(max_wait_time=5)
    second = links.receiver(name, session_id="a")
    while True:
        try:
            [new] = second.receive_messages(max_wait_time=5)
        except ServiceBusError:  # the first still holds it
            continue
        break
    first.session._locked_until_utc = datetime.now(UTC) + timedelta(
        minutes=1
    )  # so that it asks
    with pytest.raises(SessionLockLostError):
        first.complete_message(old)
    assert new.delivery_count == 1
    second.complete_message(new)
