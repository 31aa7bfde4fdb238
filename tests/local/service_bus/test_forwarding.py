"""Forwarding and idleness, rule by rule, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from local.service_bus.errors import Condition
from local.service_bus.forwarding import MAX_HOPS, TOO_MANY_HOPS
from local.service_bus.message import Stamps, render
from local.service_bus.model import QueueSettings
from tests.local.service_bus.rig import Consumer, body, raw
from tests.local.service_bus.test_filters import decoded, encoded
from tests.local.service_bus.world import World, a_topic, held, refused

MINUTE_MS = 60_000


# --- forwarding


def test_what_is_sent_to_a_forwarding_queue_is_in_the_other_one() -> None:
    world = World()
    world.queue("to")
    world.queue("from", forward_to="sb://host:1/TO")
    world.send("from", "x")
    [message] = held(world, "to")
    assert body(message) == "x"
    assert message.travel is not None
    assert (message.travel.origin, message.travel.hops) == (1, 1)
    assert held(world, "from") == []


def test_forwarding_that_begins_later_takes_what_is_there() -> None:
    world = World()
    world.queue("to")
    queue = world.queue("from")
    for text in "ab":
        world.send("from", text)
    settings = QueueSettings(name="from", forward_to="to")
    world.namespace.update(settings)
    world.turn()
    assert world.bodies("to") == ["a", "b"]
    world.namespace.update(QueueSettings(name="from"))
    world.send("from", "c")
    assert [body(m) for m in queue.active.messages.values()] == ["c"]


def test_a_subscription_forwards_to_a_topic_and_on() -> None:
    world = a_topic(World())
    world.topic("second")
    world.queue("end")
    world.subscription("second", "s", forward_to="end")
    world.subscription("t", "s", forward_to="second")
    world.send("t", "x")
    [message] = held(world, "end")
    assert message.travel is not None
    assert message.travel.hops == 2


def test_a_message_goes_four_ways_and_no_further() -> None:
    world = World()
    world.queue("0")
    for number in range(MAX_HOPS + 1):
        world.queue(str(number + 1), forward_to=str(number))
    world.send("4", "fits")
    assert world.bodies("0") == ["fits"]
    world.send("5", "too far")
    assert held(world, "0") == []
    [stuck] = world.receive("1/$Transfer/$DeadLetterQueue").got
    assert (body(stuck), stuck.reason) == ("too far", TOO_MANY_HOPS)


def test_a_ring_of_queues_ends() -> None:
    world = World()
    world.queue("a")
    world.queue("b", forward_to="a")
    world.namespace.update(QueueSettings(name="a", forward_to="b"))
    world.send("a", "x")
    stuck = [len(held(world, f"{name}/$transfer/$deadletterqueue")) for name in "ab"]
    assert sorted(stuck) == [0, 1]


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("gone", "MessagingEntityNotFound"),
        ("disabled", "MessagingEntityDisabled"),
        ("full", "QuotaExceeded"),
        ("sessions", "Session ID is null."),
    ],
)
def test_what_cannot_be_forwarded_lies_in_the_transfer_dead_letters(
    why: str, reason: str
) -> None:
    world = World()
    world.queue("to", requires_session=why == "sessions")
    world.queue("from", forward_to="to")
    if why == "gone":
        world.namespace.delete("to")
    elif why == "disabled":
        world.namespace.update(QueueSettings(name="to", can_send=False))
    elif why == "full":
        world.namespace.update(QueueSettings(name="to", max_bytes=1))
    world.send("from", "x")
    [stuck] = world.receive("from/$transfer/$deadletterqueue").got
    assert (body(stuck), stuck.reason) == ("x", reason)
    assert world.namespace.find("from").queue.bytes == 0


def test_a_forwarded_duplicate_is_dropped_where_it_arrives() -> None:
    world = World()
    world.queue("to", duplicate_window_ms=MINUTE_MS)
    world.queue("from", forward_to="to")
    for text in "ab":
        world.send("from", text, message_id="m")
    assert world.bodies("to") == ["a"]


def test_dead_letters_are_forwarded_with_their_reason_and_where_they_come_from() -> None:
    world = World()
    world.queue("graves")
    queue = world.queue(
        "from", forward_dead_to="graves", ttl_ms=1_000, dead_letter_expired=True
    )
    queue.send([encoded()])
    world.pass_ms(1_000)
    [message] = held(world, "graves")
    seen = decoded(message.render(message.raw or b""))
    assert seen.application_properties[b"DeadLetterReason"] == b"TTLExpiredException"
    assert seen.application_properties[b"color"] == b"blue"
    assert seen.message_annotations[b"x-opt-deadletter-source"] == b"from"
    assert message.delivery_count == 0
    assert held(world, "from/$deadletterqueue") == []
    world.pass_ms(10 * MINUTE_MS)
    assert len(held(world, "graves")) == 1


def test_dead_letters_of_a_subscription_are_forwarded_at_their_last_delivery() -> None:
    world = a_topic(World())
    world.queue("graves")
    sub = world.subscription("t", "s", forward_dead_to="graves")
    world.send("t", "x")
    for _ in range(3):
        consumer = Consumer(credit=1)
        sub.active.hungry(consumer)
        sub.active.leave(consumer)
        sub.active.abandon(consumer.tokens[0])
    world.turn()
    assert world.bodies("graves") == ["x"]


def test_a_queue_with_sessions_forwards_in_order_within_each() -> None:
    world = World()
    world.queue("to")
    world.queue("from", requires_session=True, forward_to="to")
    for number in range(6):
        world.send("from", str(number), session=f"s{number % 2}")
    assert sorted(world.bodies("to")) == [str(n) for n in range(6)]


def test_forwarding_to_itself_or_to_nothing_is_refused() -> None:
    world = a_topic(World(), "s")
    world.queue("q")
    for target in ("new", "nowhere", "t/subscriptions/s"):
        with refused(Condition.ARGUMENT):
            world.queue("new", forward_to=target)
    world.subscription("t", "own", forward_to="t")  # the service takes this


def test_the_reason_lies_before_the_body_whatever_the_message_has() -> None:
    for sent in (encoded(), raw("x"), raw("x", message_id="m")):
        world = World()
        world.queue("graves")
        world.queue("from", forward_dead_to="graves").bury(sent, "why", "because")
        world.turn()
        [message] = held(world, "graves")
        seen = decoded(message.raw or b"")
        assert seen.application_properties[b"DeadLetterReason"] == b"why"
        assert seen.data == decoded(sent).data
        stamps = Stamps(sequence=1, enqueued_ms=1, delivery_count=0)
        assert decoded(render(message.raw or b"", stamps)).data == decoded(sent).data


# --- idleness


def test_an_unused_queue_is_deleted_and_a_used_one_is_not() -> None:
    world = World()
    gone: list[str] = []
    world.namespace.on_deleted = lambda queue: gone.append(queue.name)
    queue = world.queue("q", idle_ms=5 * MINUTE_MS)
    world.pass_ms(4 * MINUTE_MS)
    queue.active.peek(1, 1)
    world.pass_ms(4 * MINUTE_MS)
    world.send("q", "x")
    world.pass_ms(5 * MINUTE_MS - 1)
    assert not gone
    world.pass_ms(1)
    assert gone == ["q"]
    with refused(Condition.NOT_FOUND):
        world.namespace.find("q")


def test_a_waiting_receiver_a_schedule_or_forwarding_is_use() -> None:
    world = World()
    world.queue("waited", idle_ms=5 * MINUTE_MS).active.hungry(waiting := Consumer(credit=1))
    world.queue("scheduled", idle_ms=5 * MINUTE_MS)
    world.send("scheduled", "x", due_ms=world.clock.now + 8 * MINUTE_MS)
    world.queue("end")
    world.queue("forwards", idle_ms=5 * MINUTE_MS, forward_to="end")
    world.pass_ms(9 * MINUTE_MS)
    assert {"waited", "scheduled", "forwards"} <= set(world.namespace.entities)
    world.namespace.find("waited").queue.active.leave(waiting)
    world.pass_ms(15 * MINUTE_MS)
    assert set(world.namespace.entities) == {"end", "forwards"}


def test_an_unused_topic_goes_with_its_subscriptions_and_copies_are_no_use() -> None:
    world = a_topic(World(), "s", idle_ms=20 * MINUTE_MS)
    world.subscription("t", "idle", idle_ms=5 * MINUTE_MS)
    world.send("t", "x")
    world.pass_ms(5 * MINUTE_MS)
    assert "t/subscriptions/idle" not in world.namespace.entities
    world.pass_ms(15 * MINUTE_MS)
    assert not world.namespace.entities
