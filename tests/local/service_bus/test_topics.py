"""Topics and forwarding, rule by rule, on a clock that is moved by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.service_bus.errors import Condition
from local.service_bus.filters.rule import Correlation, RuleText
from local.service_bus.filters.wire import compiled
from tests.local.service_bus.rig import body, raw
from tests.local.service_bus.test_filters import decoded, encoded
from tests.local.service_bus.world import World, a_topic, held, refused, sql

if TYPE_CHECKING:
    from pathlib import Path


MINUTE_MS = 60_000


# --- copies


def test_each_subscription_gets_a_copy_of_its_own() -> None:
    world = a_topic(World(), "a", "b")
    assert world.send("t", "x") == 1
    assert world.bodies("t/subscriptions/a") == ["x"]
    assert world.bodies("T/Subscriptions/B") == ["x"]
    assert held(world, "t") == []


def test_a_message_without_subscriptions_is_gone() -> None:
    world = a_topic(World())
    world.send("t", "x")
    world.subscription("t", "late")
    assert world.bodies("t/subscriptions/late") == []


def test_a_batch_is_copied_in_order() -> None:
    world = a_topic(World(), "a")
    world.namespace.find("t").queue.send([raw(text) for text in "abc"])
    world.turn()
    got = world.receive("t/subscriptions/a")
    assert got.bodies == ["a", "b", "c"]
    assert [m.travel.origin for m in got.got if m.travel] == [1, 2, 3]


def test_a_copy_carries_the_number_it_had_in_the_topic() -> None:
    world = a_topic(World(), "a", "b")
    world.receive("t/subscriptions/a")
    for _ in range(2):
        world.send("t", "x")
    world.subscription("t", "late")
    world.send("t", "y")
    [message] = held(world, "t/subscriptions/late")
    annotations = decoded(message.render(raw("y"))).message_annotations
    assert annotations[b"x-opt-sequence-number"] == 1
    assert annotations[b"x-opt-enqueue-sequence-number"] == 3


def test_a_topic_drops_duplicates_for_all_subscriptions() -> None:
    world = a_topic(World(), "a", "b", duplicate_window_ms=MINUTE_MS)
    for text in ("first", "second"):
        world.send("t", text, message_id="m")
    assert world.bodies("t/subscriptions/a") == world.bodies("t/subscriptions/b") == ["first"]
    world.pass_ms(MINUTE_MS)
    world.send("t", "third", message_id="m")
    assert world.bodies("t/subscriptions/a") == ["third"]


def test_a_scheduled_message_is_copied_when_it_is_due() -> None:
    world = a_topic(World())
    world.send("t", "x", due_ms=world.clock.now + 5_000)
    gone = world.send("t", "y", due_ms=world.clock.now + 5_000)
    world.subscription("t", "made-meanwhile")
    world.namespace.find("t").queue.cancel([gone])
    world.pass_ms(4_999)
    assert world.bodies("t/subscriptions/made-meanwhile") == []
    world.pass_ms(1)
    [message] = held(world, "t/subscriptions/made-meanwhile")
    assert (body(message), message.enqueued_ms) == ("x", world.clock.now)
    assert held(world, "t") == []


def test_the_shorter_life_counts() -> None:
    world = a_topic(World(), ttl_ms=10_000)
    world.subscription("t", "long", ttl_ms=20_000)
    world.subscription("t", "short", ttl_ms=5_000, dead_letter_expired=True)
    world.send("t", "x")
    world.pass_ms(5_000)
    assert len(held(world, "t/subscriptions/long")) == 1
    assert world.receive("t/subscriptions/short/$deadletterqueue").bodies == ["x"]
    world.pass_ms(5_000)
    assert held(world, "t/subscriptions/long") == []


def test_a_topic_is_full_by_what_its_subscriptions_hold() -> None:
    world = a_topic(World(), "a", max_bytes=200)
    world.send("t", "x" * 150)
    with refused(Condition.FULL):
        world.send("t", "x" * 150)
    world.receive("t/subscriptions/a")
    world.send("t", "x" * 150)


def test_a_disabled_subscription_goes_on_getting_copies() -> None:
    world = a_topic(World())
    world.subscription("t", "off", can_receive=False, can_send=False)
    world.send("t", "x")
    assert len(held(world, "t/subscriptions/off")) == 1


def test_a_subscription_with_sessions_takes_no_message_without_one() -> None:
    world = a_topic(World())
    world.subscription("t", "s", requires_session=True)
    world.send("t", "x")
    world.send("t", "y", session="one")
    [dead] = world.receive("t/subscriptions/s/$deadletterqueue").got
    assert (body(dead), dead.reason) == ("x", "Session ID is null.")
    assert [m.session_id for m in held(world, "t/subscriptions/s")] == ["one"]


# --- rules


def test_plain_rules_make_one_copy_and_rules_with_an_action_one_each() -> None:
    world = a_topic(World())
    world.subscription(
        "t",
        "s",
        [
            sql("one", "color = 'blue'"),
            sql("two", "quantity > 1"),
            sql("no", "color = 'red'", "SET quantity = 0"),
            sql("three", "1=1", "SET quantity = quantity + 1"),
            sql("four", "1=1", "REMOVE color"),
        ],
    )
    topic = world.namespace.find("t").queue
    topic.send([encoded()])
    world.turn()
    copies = [
        decoded(m.raw or b"").application_properties for m in held(world, "t/subscriptions/s")
    ]
    found = {copy.get(b"RuleName"): copy for copy in copies}
    assert set(found) == {None, b"three", b"four"}
    assert len(copies) == 3
    assert found[None][b"quantity"] == 10
    assert found[b"three"][b"quantity"] == 11
    assert b"color" not in found[b"four"]
    assert found[b"four"][b"quantity"] == 10


def correlated(**what: str) -> RuleText:
    user = {"color": ("string", "blue"), "quantity": ("int", "10")}
    return RuleText(
        name="c", kind="CorrelationFilter", correlation=Correlation(system=what, user=user)
    )


def test_a_correlation_needs_everything_to_be_equal() -> None:
    world = a_topic(World())
    world.subscription("t", "yes", [compiled(correlated(Label="bus stop", CorrelationId="c"))])
    world.subscription("t", "no", [compiled(correlated(Label="Bus stop"))])
    topic = world.namespace.find("t").queue
    topic.send([encoded(), encoded({"color": "blue"}), encoded({"color": 5, "quantity": "10"})])
    world.turn()
    assert len(held(world, "t/subscriptions/yes")) == 1
    assert held(world, "t/subscriptions/no") == []


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_filter_that_fails_makes_a_dead_letter_if_that_is_wanted(is_kept: bool) -> None:
    world = a_topic(World(), "other")
    rules = [sql("bad", "sys.Nothing = 1"), sql("good", "1=1")]
    world.subscription("t", "s", rules, dead_letter_filter_errors=is_kept)
    world.send("t", "x")
    assert world.bodies("t/subscriptions/s") == world.bodies("t/subscriptions/other") == ["x"]
    dead = world.receive("t/subscriptions/s/$deadletterqueue").got
    assert [m.reason for m in dead] == (["FilterException"] if is_kept else [])
    assert not dead or "sys.Nothing" in (dead[0].description or "")


def test_an_action_may_not_break_the_copies_of_others() -> None:
    world = a_topic(World(), "plain")
    world.subscription("t", "s", [sql("r", "1=1", "SET a = 1/0")])
    world.send("t", "x")
    assert world.bodies("t/subscriptions/plain") == ["x"]
    assert world.bodies("t/subscriptions/s") == []
    assert world.bodies("t/subscriptions/s/$deadletterqueue") == ["x"]


def test_a_new_rule_counts_from_the_next_message_on() -> None:
    world = a_topic(World())
    sub = world.subscription("t", "s", [sql("none", "1=2")])
    world.send("t", "a")
    world.namespace.put_rule(sub, sql("all", "1=1"))
    world.send("t", "b")
    world.namespace.delete_rule(sub, "ALL")
    world.send("t", "c")
    assert world.bodies("t/subscriptions/s") == ["b"]
    with refused(Condition.NOT_FOUND):
        world.namespace.delete_rule(sub, "all")


# --- kill -9


def test_topics_rules_and_copies_survive(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    world = World(path)
    world.topic("T", duplicate_window_ms=MINUTE_MS, user_metadata="m")
    sub = world.subscription("T", "S", [sql("r", "1=1", "SET a = 1")], max_delivery_count=7)
    world.queue("end")
    world.subscription("T", "fwd", forward_to="end")
    world.send("T", "x", message_id="m")
    world.send("T", "later", due_ms=world.clock.now + 1_000)
    sub.bury(raw("stuck"), "why", "because")
    world.turn()
    world = world.crash(path)
    topic = world.namespace.topic("t")
    assert (topic.name, topic.settings.user_metadata) == ("T", "m")
    again = topic.subscriptions["s"]
    assert (again.own_name, again.settings.max_delivery_count) == ("S", 7)
    assert [(rule.name, rule.has_action) for rule in again.rules.values()] == [("r", True)]
    [message] = held(world, "end")
    assert message.travel is not None
    assert (message.travel.origin, message.travel.hops) == (1, 1)
    world.send("T", "again", message_id="m")
    world.pass_ms(1_000)
    assert world.bodies("end") == ["x", "later"]
    assert world.bodies("t/subscriptions/s") == ["x", "later"]
    assert world.receive("t/subscriptions/s/$deadletterqueue").bodies == ["stuck"]


def test_what_is_stuck_stays_stuck(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    world = World(path)
    world.queue("to")
    world.queue("from", forward_to="to")
    world.namespace.delete("to")
    world.send("from", "x")
    world = world.crash(path)
    [stuck] = held(world, "from/$transfer/$deadletterqueue")
    assert stuck.reason == "MessagingEntityNotFound"


def test_a_topic_that_was_being_deleted_takes_its_subscriptions_along(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    world = a_topic(World(path), "s")
    world.send("t", "x")
    world.store.drop_queue(world.namespace.topic("t").queue_id)  # killed right after this
    world = world.crash(path)
    assert not world.namespace.entities
    world = a_topic(world, "s")
    assert world.bodies("t/subscriptions/s") == []
