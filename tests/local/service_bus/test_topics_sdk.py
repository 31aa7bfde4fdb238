"""Topics, forwarding and entity keys as a stranger's code meets them, with the unmodified SDK."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import ServiceBusClient as AioClient
from azure.servicebus.exceptions import (
    MessageNotFoundError,
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)
from azure.servicebus.management import (
    AccessRights,
    AuthorizationRule,
    CorrelationRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
)

from tests.local.service_bus.process import Links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.servicebus import ServiceBusReceiver

    from tests.local.service_bus.process import Broker

# The SDK asks an XML element for its truth value, and is warned.
pytestmark = [pytest.mark.stack, pytest.mark.filterwarnings("ignore:Testing an element")]


@pytest.fixture
def admin(broker: Broker) -> Iterator[ServiceBusAdministrationClient]:
    with broker.admin() as admin:
        yield admin


def take(receiver: ServiceBusReceiver, count: int) -> list[Any]:
    """Receive and complete so many."""
    found: list[Any] = []
    while len(found) < count and (got := receiver.receive_messages(count, max_wait_time=3)):
        for message in got:
            receiver.complete_message(message)
        found += got
    return found


def test_what_is_sent_to_a_topic_reaches_each_subscription(
    broker: Broker, links: Links
) -> None:
    topic = broker.topic("a", "b")
    sender = links.topic(topic)
    sender.send_messages(ServiceBusMessage("one", application_properties={"k": 1}))
    sender.send_messages([ServiceBusMessage("two"), ServiceBusMessage("three")])
    batch = sender.create_message_batch()
    batch.add_message(ServiceBusMessage("four"))
    sender.send_messages(batch)
    a, b = links.subscription(topic, "a"), links.subscription(topic.upper(), "B")
    messages = take(a, 4)
    assert [str(m) for m in messages] == ["one", "two", "three", "four"]
    assert [m.enqueued_sequence_number for m in messages] == [1, 2, 3, 4]
    assert messages[0].application_properties == {b"k": 1}
    assert [str(m) for m in b.peek_messages(9)] == ["one", "two", "three", "four"]
    assert len(take(b, 4)) == 4
    assert a.receive_messages(1, max_wait_time=0.3) == []


def test_messages_of_a_subscription_are_settled_in_all_ways(
    broker: Broker, links: Links
) -> None:
    topic = broker.topic("s")
    sender, receiver = links.topic(topic), links.subscription(topic, "s")
    sender.send_messages([ServiceBusMessage(text) for text in ("dead", "later", "again")])
    dead, later, again = receiver.receive_messages(3, max_wait_time=5)
    receiver.dead_letter_message(dead, reason="why", error_description="because")
    receiver.defer_message(later)
    receiver.abandon_message(again)
    receiver.renew_message_lock(back := receiver.receive_messages(1, max_wait_time=5)[0])
    assert (str(back), back.delivery_count) == ("again", 1)
    receiver.complete_message(back)
    [deferred] = receiver.receive_deferred_messages([later.sequence_number])
    receiver.complete_message(deferred)
    graves = links.subscription(topic, "s", sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    [buried] = take(graves, 1)
    assert (buried.dead_letter_reason, buried.dead_letter_error_description) == (
        "why",
        "because",
    )
    gone = links.subscription(topic, "s", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    sender.send_messages(ServiceBusMessage("x"))
    assert [str(m) for m in gone.receive_messages(1, max_wait_time=5)] == ["x"]
    assert receiver.peek_messages(5, sequence_number=1) == []


def test_messages_are_scheduled_to_a_topic_and_cancelled(broker: Broker, links: Links) -> None:
    topic = broker.topic("s")
    sender, receiver = links.topic(topic), links.subscription(topic, "s")
    later = datetime.now(UTC) + timedelta(hours=1)
    numbers = sender.schedule_messages(
        [ServiceBusMessage("no"), ServiceBusMessage("never")], later
    )
    sender.cancel_scheduled_messages(numbers)
    with pytest.raises(MessageNotFoundError):
        sender.cancel_scheduled_messages(numbers[0])
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    sender.schedule_messages(ServiceBusMessage("yes"), soon)
    [message] = take(receiver, 1)
    assert str(message) == "yes"
    assert message.enqueued_time_utc >= soon.replace(microsecond=0)


def test_sessions_of_a_subscription(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic()
    admin.create_subscription(topic, "s", requires_session=True)
    sender = links.topic(topic)
    for number in range(4):
        sender.send_messages(ServiceBusMessage(str(number), session_id=f"s{number % 2}"))
    sender.send_messages(ServiceBusMessage("without"))
    one = links.subscription(topic, "s", session_id="s1")
    assert [str(m) for m in take(one, 2)] == ["1", "3"]
    one.session.set_state(b"state")
    assert one.session.get_state() == b"state"
    following = links.subscription(topic, "s", session_id=NEXT_AVAILABLE_SESSION)
    assert [str(m) for m in take(following, 2)] == ["0", "2"]
    assert following.session.session_id == "s0"
    graves = links.subscription(topic, "s", sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    assert [m.dead_letter_reason for m in take(graves, 1)] == ["Session ID is null."]
    with broker.client() as client:
        assert list(client.list_subscription_sessions(topic, "s")) == ["s1"]


def test_rules_choose_and_change(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("red", "big", "vip")
    for name, rule in (
        ("red", SqlRuleFilter("color = @wanted", parameters={"@wanted": "red"})),
        ("big", SqlRuleFilter("sys.Label LIKE 'order%' AND size > 5 AND NOT EXISTS(test)")),
        ("vip", CorrelationRuleFilter(label="order-1", properties={"size": 9, "vip": True})),
    ):
        admin.delete_rule(topic, name, "$Default")
        action = SqlRuleAction("SET size = size * 2; REMOVE color") if name == "vip" else None
        admin.create_rule(topic, name, "r", filter=rule, action=action)
    sender = links.topic(topic)
    for label, properties in (
        ("order-1", {"color": "red", "size": 9, "vip": True}),
        ("order-2", {"color": "blue", "size": 6}),
        ("order-3", {"color": "red", "size": 4, "test": 1}),
        ("other", {"size": 50}),
    ):
        sender.send_messages(
            ServiceBusMessage(label, subject=label, application_properties=properties)
        )
    got = {name: links.subscription(topic, name) for name in ("red", "big", "vip")}
    assert [str(m) for m in take(got["red"], 2)] == ["order-1", "order-3"]
    assert [str(m) for m in take(got["big"], 2)] == ["order-1", "order-2"]
    [vip] = take(got["vip"], 1)
    assert vip.application_properties == {b"size": 18, b"vip": True, b"RuleName": b"r"}
    for receiver in got.values():
        assert receiver.receive_messages(1, max_wait_time=0.2) == []


def test_a_chain_of_topics_and_queues(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    end, graves = broker.queue(), broker.queue()
    topic = broker.topic()
    admin.create_subscription(topic, "s", forward_to=end)
    first = broker.queue(forward_to=topic)
    links.sender(first).send_messages([ServiceBusMessage(str(n)) for n in range(3)])
    receiver = links.receiver(end)
    assert [str(m) for m in take(receiver, 3)] == ["0", "1", "2"]
    for refused in (links.receiver(first), links.subscription(topic, "s")):
        with pytest.raises(ServiceBusError, match="auto-forwarding"):
            refused.receive_messages(1, max_wait_time=1)
    source = broker.queue(forward_dead_lettered_messages_to=graves, max_delivery_count=1)
    sender, bad = links.both(source)
    sender.send_messages(ServiceBusMessage("bad"))
    bad.abandon_message(bad.receive_messages(1, max_wait_time=5)[0])
    [buried] = take(links.receiver(graves), 1)
    assert buried.dead_letter_reason == "MaxDeliveryCountExceeded"
    assert buried.dead_letter_source == source
    assert buried.delivery_count == 0


def test_what_cannot_be_forwarded_can_be_read_where_it_is_stuck(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    end = broker.queue()
    first = broker.queue(forward_to=end)
    admin.update_queue(admin.get_queue(end), status="SendDisabled")
    links.sender(first).send_messages(ServiceBusMessage("stuck"))
    assert admin.get_queue_runtime_properties(first).transfer_dead_letter_message_count == 1
    stuck = links.receiver(first, sub_queue=ServiceBusSubQueue.TRANSFER_DEAD_LETTER)
    assert [str(m) for m in take(stuck, 1)] == ["stuck"]


def test_a_topic_that_is_disabled_or_gone(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("s")
    sender = links.topic(topic)
    sender.send_messages(ServiceBusMessage("kept"))
    admin.update_topic(admin.get_topic(topic), status="Disabled")
    with broker.client() as client, pytest.raises(MessagingEntityDisabledError):
        client.get_topic_sender(topic).send_messages(ServiceBusMessage("x"))
    sub = admin.get_subscription(topic, "s")
    receiver = links.subscription(topic, "s")
    assert [str(m) for m in receiver.peek_messages(2)] == ["kept"]
    for word in ("Disabled", "ReceiveDisabled"):
        admin.update_subscription(topic, sub, status=word)
        assert admin.get_subscription(topic, "s").status == word
    with broker.client() as client:
        with pytest.raises(MessagingEntityDisabledError):
            client.get_subscription_receiver(topic, "s").receive_messages(1, max_wait_time=1)
        admin.delete_topic(topic)
        with pytest.raises(MessagingEntityNotFoundError):
            client.get_subscription_receiver(topic, "s").receive_messages(1, max_wait_time=1)
        queue = broker.queue()
        with pytest.raises(ServiceBusError):
            client.get_subscription_receiver(queue, "s").receive_messages(1, max_wait_time=1)


def a_key(name: str, *rights: AccessRights) -> AuthorizationRule:
    return AuthorizationRule(
        type="SharedAccessAuthorizationRule",
        claim_type="SharedAccessKey",
        claim_value="None",
        rights=list(rights),
        key_name=name,
        primary_key=f"primary-{name}",
        secondary_key=f"secondary-{name}",
    )


def test_keys_of_an_entity_open_it_with_their_rights_and_nothing_else(broker: Broker) -> None:
    keys = [a_key("reader", AccessRights.LISTEN), a_key("writer", AccessRights.SEND)]
    queue, other = broker.queue(authorization_rules=keys), broker.queue()
    topic = broker.topic("s", authorization_rules=keys)

    def open_as(name: str, which: str = "primary") -> Links:
        port = broker.home.port("service_bus")
        client = ServiceBusClient.from_connection_string(
            f"Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName={name};"
            f"SharedAccessKey={which}-{name};UseDevelopmentEmulator=true",
            retry_total=0,
        )
        return Links(client)

    writer, reader = open_as("writer"), open_as("reader", "secondary")
    with closing(writer), closing(reader):
        writer.sender(queue).send_messages(ServiceBusMessage("x"))
        writer.topic(topic).send_messages(ServiceBusMessage("y"))
        for receiver, text in (
            (reader.receiver(queue), "x"),
            (reader.subscription(topic, "s"), "y"),
        ):
            [message] = receiver.receive_messages(1, max_wait_time=5)
            assert str(message) == text
            receiver.complete_message(message)
        with pytest.raises(ServiceBusAuthorizationError):
            reader.sender(queue).send_messages(ServiceBusMessage("x"))
        for refused in (writer.receiver(queue), reader.receiver(other)):
            with pytest.raises(ServiceBusError):
                refused.receive_messages(1, max_wait_time=1)


async def test_topics_through_the_asynchronous_client(broker: Broker) -> None:
    topic = broker.topic("s")
    async with (
        AioClient.from_connection_string(broker.connection_string, retry_total=0) as client,
        client.get_topic_sender(topic) as sender,
        client.get_subscription_receiver(topic, "s") as receiver,
    ):
        await sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
        [number] = await sender.schedule_messages(
            ServiceBusMessage("c"), datetime.now(UTC) + timedelta(hours=1)
        )
        await sender.cancel_scheduled_messages(number)
        a, b = await receiver.receive_messages(2, max_wait_time=5)
        await receiver.complete_message(a)
        await receiver.dead_letter_message(b, reason="why")
        async with client.get_subscription_receiver(
            topic, "s", sub_queue=ServiceBusSubQueue.DEAD_LETTER
        ) as graves:
            [dead] = await graves.receive_messages(1, max_wait_time=5)
            assert (str(dead), dead.dead_letter_reason) == ("b", "why")
            await graves.complete_message(dead)
