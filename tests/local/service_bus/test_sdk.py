"""The unmodified SDK against a real broker: what it sends, receives and settles.

Opening a link costs the SDK 0.4 s, so a test holds few of them and asks several things.
"""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
)
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusError,
)

if TYPE_CHECKING:
    from tests.local.service_bus.process import Broker, Links

pytestmark = pytest.mark.stack


def test_a_message_arrives_with_everything_it_was_sent_with(
    broker: Broker, links: Links
) -> None:
    name = broker.queue()
    properties = {"int": 1, "float": 2.5, "yes": True, "text": "ü", "id": uuid4(), "none": None}
    sent = ServiceBusMessage(
        "grüße",
        application_properties=properties,
        message_id="m-1",
        subject="sub",
        content_type="text/plain",
        correlation_id="c-1",
        to="t",
        reply_to="r",
        partition_key="p",
        time_to_live=timedelta(minutes=5),
    )
    before = datetime.now(UTC)
    sender, receiver = links.both(name)
    sender.send_messages(sent)
    [got] = receiver.receive_messages(max_wait_time=5)
    assert str(got) == "grüße"
    assert got.application_properties == {k.encode(): _wire(v) for k, v in properties.items()}
    assert (got.message_id, got.subject, got.content_type) == ("m-1", "sub", "text/plain")
    assert (got.correlation_id, got.to, got.reply_to) == ("c-1", "t", "r")
    assert (got.partition_key, got.time_to_live) == ("p", timedelta(minutes=5))
    assert (got.sequence_number, got.enqueued_sequence_number, got.delivery_count) == (1, 1, 0)
    assert got.state is ServiceBusMessageState.ACTIVE
    assert got.enqueued_time_utc is not None
    assert abs(got.enqueued_time_utc - before) < timedelta(seconds=5)
    assert got.expires_at_utc == got.enqueued_time_utc + timedelta(minutes=5)
    assert got.locked_until_utc is not None
    assert timedelta(seconds=15) < got.locked_until_utc - before < timedelta(seconds=25)
    assert isinstance(got.lock_token, UUID)
    receiver.complete_message(got)
    assert receiver.receive_messages(max_wait_time=0.2) == []


def _wire(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def test_all_body_kinds_lists_and_batches_arrive(broker: Broker, links: Links) -> None:
    name = broker.queue()
    sender = links.sender(name)
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    receiver = links.receiver(name, receive_mode=mode, prefetch_count=200)
    sender.send_messages(AmqpAnnotatedMessage(data_body=[b"a", b"b"]))
    sender.send_messages(AmqpAnnotatedMessage(value_body={"k": [1, None, 2.5]}))
    sender.send_messages(AmqpAnnotatedMessage(sequence_body=[[1, "x"], [2]]))
    sender.send_messages([ServiceBusMessage(str(n)) for n in range(50)])
    batch = sender.create_message_batch()
    for number in range(50, 100):
        batch.add_message(ServiceBusMessage(str(number)))
    sender.send_messages(batch)
    large = b"x" * 900_000
    sender.send_messages(ServiceBusMessage(large))
    got = []
    while len(got) < 104:
        got += receiver.receive_messages(200, max_wait_time=5)
    assert list(got[0].body) == [b"a", b"b"]
    assert got[1].body == {b"k": [1, None, 2.5]}
    assert list(got[2].body) == [[1, b"x"], [2]]
    assert [str(m) for m in got[3:103]] == [str(n) for n in range(100)]
    assert b"".join(got[103].body) == large
    with pytest.raises(MessageSizeExceededError):
        sender.send_messages(ServiceBusMessage(b"x" * 1_100_000))
    sender.send_messages(ServiceBusMessage("the link still works"))
    [last] = receiver.receive_messages(max_wait_time=5)
    assert str(last) == "the link still works"


def test_settlement_in_all_its_ways(broker: Broker, links: Links) -> None:
    name = broker.queue(max_delivery_count=3)
    (sender, receiver), dead = links.both(name), links.dead(name)
    sender.send_messages([ServiceBusMessage("poison"), ServiceBusMessage("refused")])
    for count in range(3):
        [message] = receiver.receive_messages(max_wait_time=5)
        assert (str(message), message.delivery_count) == ("poison", count)
        receiver.abandon_message(message)
    [message] = receiver.receive_messages(max_wait_time=5)
    receiver.dead_letter_message(message, reason="why", error_description="because")
    with pytest.raises(ValueError, match="already settled"):
        receiver.complete_message(message)
    first, second = dead.receive_messages(2, max_wait_time=5)
    assert (str(first), first.dead_letter_reason) == ("poison", "MaxDeliveryCountExceeded")
    assert first.dead_letter_error_description == (
        "Message could not be consumed after 3 delivery attempts."
    )
    assert (second.dead_letter_reason, second.dead_letter_error_description) == (
        "why",
        "because",
    )
    dead.complete_message(first)
    # Resubmitted, it carries its old reason as a property and is alive.
    sender.send_messages(ServiceBusMessage(b"".join(second.body), message_id=second.message_id))
    dead.complete_message(second)
    [again] = receiver.receive_messages(max_wait_time=5)
    receiver.defer_message(again)
    assert receiver.receive_messages(max_wait_time=0.2) == []
    [deferred] = receiver.receive_deferred_messages([again.sequence_number])
    assert (str(deferred), deferred.state) == ("refused", ServiceBusMessageState.DEFERRED)
    with pytest.raises(MessageNotFoundError):
        receiver.receive_deferred_messages([again.sequence_number])
    receiver.complete_message(deferred)
    assert receiver.peek_messages(10, sequence_number=1) == []


def test_locks_are_renewed_and_lost(broker: Broker, links: Links) -> None:
    name = broker.queue(lock_duration=timedelta(seconds=2))
    sender, receiver = links.both(name)
    sender.send_messages([ServiceBusMessage("renewed"), ServiceBusMessage("lost")])
    renewed, lost = receiver.receive_messages(2, max_wait_time=5)
    other = links.receiver(name)
    other._open()
    ended_at = lost.locked_until_utc
    assert ended_at is not None
    until = receiver.renew_message_lock(renewed)
    assert until == renewed.locked_until_utc
    assert until is not None
    assert until > ended_at
    [back] = other.receive_messages(max_wait_time=5)  # comes when the lock has ended
    assert (str(back), back.delivery_count) == ("lost", 1)
    assert datetime.now(UTC) >= ended_at
    receiver.complete_message(renewed)
    lost._expiry = datetime.now(UTC) + timedelta(minutes=1)  # so that the broker is asked
    with pytest.raises(MessageLockLostError):
        receiver.complete_message(lost)
    with pytest.raises(MessageLockLostError):
        receiver.renew_message_lock(lost)
    other.complete_message(back)
    assert f'"name": "{name}", "active": 0'.encode() in broker.get("/_local/queues")


def test_scheduled_messages_come_when_due_under_a_new_number(
    broker: Broker, links: Links
) -> None:
    name = broker.queue()
    sender, receiver = links.both(name)
    due = datetime.now(UTC) + timedelta(seconds=1)
    first, second = sender.schedule_messages(
        [ServiceBusMessage("one"), ServiceBusMessage("two")], due
    )
    sender.send_messages(ServiceBusMessage("by annotation", scheduled_enqueue_time_utc=due))
    sender.cancel_scheduled_messages(second)
    with pytest.raises(MessageNotFoundError):
        sender.cancel_scheduled_messages(second)
    peeked = receiver.peek_messages(10, sequence_number=1)
    assert [m.state for m in peeked] == [ServiceBusMessageState.SCHEDULED] * 2
    assert [m.sequence_number for m in peeked] == [first, 3]
    got = []
    while len(got) < 2:
        got += receiver.receive_messages(2, max_wait_time=5)
    assert datetime.now(UTC) >= due - timedelta(milliseconds=1)
    assert [(str(m), m.sequence_number) for m in got] == [("one", 4), ("by annotation", 5)]
    assert got[0].enqueued_time_utc is not None
    assert got[0].enqueued_time_utc >= due - timedelta(milliseconds=1)
    with pytest.raises(MessageNotFoundError):
        sender.cancel_scheduled_messages(first)
    for message in got:
        receiver.complete_message(message)


def test_peeking_in_pages(broker: Broker, links: Links) -> None:
    name = broker.queue()
    sender, receiver = links.both(name)
    sender.send_messages([ServiceBusMessage(str(n)) for n in range(10)])
    receiver.receive_messages(1, max_wait_time=5)
    pages = [receiver.peek_messages(4, sequence_number=n) for n in (1, 5, 9, 11)]
    assert [[str(m) for m in page] for page in pages] == [
        ["0", "1", "2", "3"],
        ["4", "5", "6", "7"],
        ["8", "9"],
        [],
    ]
    assert [str(m) for m in receiver.peek_messages(2)] == []  # goes on where it stopped
    sender.send_messages([ServiceBusMessage(b"y" * 400_000) for _ in range(2)])
    sender.send_messages(ServiceBusMessage(b"y" * 400_000))
    # More than an answer holds: what fits comes, the rest is asked for again.
    assert len(receiver.peek_messages(10, sequence_number=11)) == 2
    assert len(receiver.peek_messages(10)) == 1


def test_duplicates_are_accepted_and_dropped(broker: Broker, links: Links) -> None:
    name = broker.queue(
        requires_duplicate_detection=True,
        duplicate_detection_history_time_window=timedelta(minutes=1),
    )
    sender, receiver = links.both(name)
    for body in "abc":
        sender.send_messages(ServiceBusMessage(body, message_id="same"))
    sender.send_messages(ServiceBusMessage("d", message_id="other"))
    got = receiver.receive_messages(5, max_wait_time=5)
    assert [str(m) for m in got] == ["a", "d"]


def test_time_to_live(broker: Broker, links: Links) -> None:
    name = broker.queue(
        dead_lettering_on_message_expiration=True,
        default_message_time_to_live=timedelta(seconds=1),
    )
    sender, dead = links.sender(name), links.dead(name)
    sender.send_messages(ServiceBusMessage("short"))
    [message] = dead.receive_messages(max_wait_time=5)
    assert message.dead_letter_reason == "TTLExpiredException"


def test_unknown_queues_wrong_keys_and_wrong_ends_are_refused(broker: Broker) -> None:
    name = broker.queue()
    wrong = broker.connection_string.replace("SharedAccessKey=", "SharedAccessKey=x")
    with broker.client() as client:
        with pytest.raises(MessagingEntityNotFoundError), client.get_queue_receiver("no-such"):
            pass
        with (
            pytest.raises(ServiceBusError),
            client.get_queue_sender(f"{name}/$DeadLetterQueue"),
        ):
            pass
        with (
            pytest.raises(ServiceBusError, match="sessionful"),
            client.get_queue_receiver(name, session_id="s"),
        ):
            pass
    with (
        ServiceBusClient.from_connection_string(wrong, retry_total=0) as client,
        pytest.raises(ServiceBusAuthenticationError),
        client.get_queue_sender(name),
    ):
        pass


def test_a_message_settles_after_its_connection_is_gone(broker: Broker) -> None:
    name = broker.queue()
    with broker.patient_client() as client:
        client.get_queue_sender(name).send_messages(ServiceBusMessage("a"))
        receiver = client.get_queue_receiver(name, prefetch_count=1)
        [message] = receiver.receive_messages(max_wait_time=5)
        receiver._handler._connection._transport.sock.shutdown(socket.SHUT_RDWR)
        receiver.complete_message(message)  # by its lock token, through a new connection
        receiver.close()
    assert f'"name": "{name}", "active": 0'.encode() in broker.get("/_local/queues")


def test_an_idle_broker_costs_next_to_nothing(broker: Broker, links: Links) -> None:
    name = broker.queue()
    assert broker.process is not None
    stat = f"/proc/{broker.process.pid}/stat"
    receivers = [links.receiver(name, prefetch_count=5) for _ in range(2)]
    for receiver in receivers:
        receiver._open()

    def ticks() -> int:
        with open(stat, encoding="ascii") as file:  # noqa: PTH123 — one line of /proc
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before, begin = ticks(), time.monotonic()
    receivers[0].receive_messages(max_wait_time=1)  # waits, and nothing comes
    spent_s = (ticks() - before) / 100
    assert spent_s <= 0.05 * (time.monotonic() - begin)
