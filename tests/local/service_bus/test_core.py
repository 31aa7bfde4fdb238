"""The rules of a queue, one by one, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from local.service_bus.box import MAX_DELIVERIES, TTL_EXPIRED
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import State
from tests.local.service_bus.rig import LOCK_MS, Consumer, Rig, body, raw


def refused(condition: Condition) -> pytest.RaisesExc[BrokerError]:
    return pytest.RaisesExc(BrokerError, check=lambda error: error.condition is condition)


# --- order and competition


def test_messages_come_in_the_order_they_were_sent() -> None:
    rig = Rig()
    for text in "abc":
        rig.send(text)
    assert rig.receive(5).bodies == ["a", "b", "c"]


def test_a_waiting_consumer_gets_a_message_at_once() -> None:
    rig, consumer = Rig(), Consumer(credit=1)
    rig.queue.active.hungry(consumer)
    rig.send("a")
    rig.send("b")
    assert consumer.bodies == ["a"]
    assert consumer.credit == 0


def test_consumers_take_turns() -> None:
    rig = Rig()
    consumers = [Consumer(credit=10) for _ in range(4)]
    for consumer in consumers:
        rig.queue.active.hungry(consumer)
    for number in range(20):
        rig.send(str(number))
    assert [len(consumer.got) for consumer in consumers] == [5, 5, 5, 5]


def test_a_consumer_whose_socket_is_full_is_passed_over() -> None:
    rig, full, other = Rig(), Consumer(credit=5, paused=True), Consumer(credit=1)
    rig.queue.active.hungry(full)
    rig.queue.active.hungry(other)
    for text in "ab":
        rig.send(text)
    assert (full.bodies, other.bodies) == ([], ["a"])
    full.paused = False
    rig.queue.active.hungry(full)
    assert full.bodies == ["b"]


def test_receive_and_delete_leaves_nothing() -> None:
    rig = Rig()
    rig.send("a")
    assert rig.receive(removes=True).bodies == ["a"]
    assert not rig.queue.active.messages
    assert rig.queue.bytes == 0


# --- locks and settlement


def test_a_locked_message_is_nobody_elses() -> None:
    rig = Rig()
    rig.send("a")
    rig.receive_one()
    assert rig.receive().bodies == []


def test_a_completed_message_is_gone() -> None:
    rig = Rig()
    rig.send("a")
    _, token = rig.receive_one()
    rig.queue.active.complete(token)
    rig.pass_ms(LOCK_MS * 2)
    assert rig.receive().bodies == []
    with refused(Condition.LOCK_LOST):
        rig.queue.active.complete(token)


def test_an_abandoned_message_is_back_in_its_place_and_counted() -> None:
    rig = Rig()
    rig.send("a")
    rig.send("b")
    _, token = rig.receive_one()
    rig.queue.active.abandon(token)
    message, _ = rig.receive_one()
    assert (body(message), message.delivery_count) == ("a", 1)


def test_a_released_message_is_back_and_not_counted() -> None:
    rig = Rig()
    rig.send("a")
    _, token = rig.receive_one()
    rig.queue.active.release(token)
    assert rig.receive_one()[0].delivery_count == 0
    rig.queue.active.release(b"no token")


def test_a_lock_that_ends_frees_the_message_and_counts() -> None:
    rig, waiting = Rig(), Consumer(credit=1)
    rig.send("a")
    _, token = rig.receive_one()
    rig.queue.active.hungry(waiting)
    rig.pass_ms(LOCK_MS - 1)
    assert not waiting.got
    rig.pass_ms(1)
    assert waiting.bodies == ["a"]
    assert waiting.got[0].delivery_count == 1
    with refused(Condition.LOCK_LOST):
        rig.queue.active.complete(token)


def test_a_lock_has_ended_when_its_time_is_over_even_if_no_timer_ran() -> None:
    rig = Rig()
    rig.send("a")
    _, token = rig.receive_one()
    rig.clock.now += LOCK_MS
    with refused(Condition.LOCK_LOST):
        rig.queue.active.complete(token)
    assert rig.receive_one()[0].delivery_count == 1


def test_a_renewed_lock_holds_longer_and_the_old_end_means_nothing() -> None:
    rig = Rig()
    rig.send("a")
    _, token = rig.receive_one()
    rig.pass_ms(LOCK_MS - 1)
    assert rig.queue.active.renew(token) == rig.clock.now + LOCK_MS
    rig.pass_ms(LOCK_MS - 1)
    rig.queue.active.complete(token)


def test_a_renewed_lock_ends_too() -> None:
    rig, waiting = Rig(), Consumer(credit=1)
    rig.send("a")
    _, token = rig.receive_one()
    rig.pass_ms(1_000)
    rig.queue.active.renew(token)
    rig.queue.active.hungry(waiting)
    rig.pass_ms(LOCK_MS - 1)
    assert not waiting.got
    rig.pass_ms(1)
    assert waiting.bodies == ["a"]


def test_the_last_allowed_delivery_that_fails_makes_a_dead_letter() -> None:
    rig = Rig()
    rig.send("a")
    for _ in range(3):
        _, token = rig.receive_one()
        rig.queue.active.abandon(token)
    assert rig.receive().bodies == []
    message, token = rig.receive_one(dead=True)
    assert (body(message), message.reason, message.delivery_count) == ("a", MAX_DELIVERIES, 3)
    for _ in range(5):  # no limit among the dead
        rig.queue.dead.abandon(token)
        _, token = rig.receive_one(dead=True)
    rig.queue.dead.complete(token)
    assert not rig.queue.dead.messages


def test_locks_that_end_make_a_dead_letter_too() -> None:
    rig = Rig()
    rig.send("a")
    for _ in range(3):
        rig.receive_one()
        rig.pass_ms(LOCK_MS)
    assert rig.receive(dead=True).bodies == ["a"]


def test_a_dead_letter_keeps_its_reason_and_number() -> None:
    rig = Rig()
    number = rig.send("a")
    _, token = rig.receive_one()
    rig.queue.active.dead_letter(token, "why", "because")
    message, token = rig.receive_one(dead=True)
    assert (message.reason, message.description, message.sequence) == ("why", "because", number)
    rig.queue.dead.dead_letter(token, "again", None)
    assert rig.receive(dead=True).got[0].reason == "again"


def test_a_deferred_dead_letter_that_is_dead_lettered_again_can_be_received() -> None:
    rig = Rig()
    rig.send("a")
    rig.queue.active.dead_letter(rig.receive().tokens[0], "first", None)
    rig.queue.dead.defer(rig.receive(dead=True).tokens[0])
    [(message, _)] = rig.queue.dead.fetch([1], removes=False, session_id=None)
    assert message.lock is not None
    rig.queue.dead.dead_letter(message.lock.token, "second", None)
    [again] = rig.receive(dead=True).got
    assert (again.reason, again.state) == ("second", State.ACTIVE)


def test_dead_letters_come_in_the_order_of_their_numbers() -> None:
    rig = Rig()
    for text in "abc":
        rig.send(text)
    got = rig.receive(3)
    for token in reversed(got.tokens):
        rig.queue.active.dead_letter(token, "r", None)
    assert [body(m) for m in rig.queue.dead.peek(0, 10)] == ["a", "b", "c"]
    assert rig.receive(3, dead=True).bodies == ["a", "b", "c"]


# --- deferral


def test_a_deferred_message_is_fetched_by_its_number_only() -> None:
    rig = Rig()
    number = rig.send("a")
    _, token = rig.receive_one()
    rig.queue.active.defer(token)
    assert rig.receive().bodies == []
    [(message, _)] = rig.queue.active.fetch([number], removes=False, session_id=None)
    assert message.state is State.DEFERRED
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.queue.active.fetch([number], removes=False, session_id=None)
    assert message.lock is not None
    rig.queue.active.complete(message.lock.token)
    assert not rig.queue.active.messages


def test_a_deferred_message_whose_lock_ends_stays_deferred() -> None:
    rig = Rig()
    number = rig.send("a")
    rig.queue.active.defer(rig.receive_one()[1])
    rig.queue.active.fetch([number], removes=False, session_id=None)
    rig.pass_ms(LOCK_MS)
    assert rig.receive().bodies == []
    rig.queue.active.fetch([number], removes=True, session_id=None)
    assert not rig.queue.active.messages


def test_fetching_is_all_or_nothing() -> None:
    rig = Rig()
    number = rig.send("a")
    rig.send("b")
    rig.queue.active.defer(rig.receive_one()[1])
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.queue.active.fetch([number, number + 1], removes=True, session_id=None)
    rig.queue.active.fetch([number, number], removes=True, session_id=None)


# --- scheduled messages


def test_a_scheduled_message_joins_the_end_under_a_new_number() -> None:
    rig = Rig()
    due = rig.clock.now + 5_000
    scheduled = rig.send("later", due_ms=due)
    rig.send("now")
    rig.pass_ms(4_999)
    assert [m.state for m in rig.queue.active.peek(0, 9)] == [State.SCHEDULED, State.ACTIVE]
    rig.pass_ms(1)
    got = rig.receive(5)
    assert got.bodies == ["now", "later"]
    assert got.got[1].sequence == 3 != scheduled
    assert got.got[1].enqueued_ms == due
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.queue.cancel([scheduled])


def test_a_message_scheduled_for_the_past_is_there_at_once() -> None:
    rig = Rig()
    rig.send("a", due_ms=rig.clock.now)
    assert rig.receive().bodies == ["a"]


def test_a_cancelled_message_never_comes_and_cancelling_is_all_or_nothing() -> None:
    rig = Rig()
    due = rig.clock.now + 5_000
    first, second = rig.send("a", due_ms=due), rig.send("b", due_ms=due)
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.queue.cancel([first, 99])
    rig.queue.cancel([first, first])
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.queue.cancel([first])
    rig.pass_ms(5_000)
    assert rig.receive(5).bodies == ["b"]
    assert second != rig.receive(dead=True).got


def test_scheduled_messages_that_are_cancelled_leave_no_trace() -> None:
    rig = Rig()
    for number in range(1_000):
        rig.queue.cancel([rig.send(str(number), due_ms=rig.clock.now + 10**9)])
    assert len(rig.queue._scheduled) < 200
    assert len(rig.queue.active._order) < 200


# --- duplicates


def test_a_duplicate_is_accepted_and_dropped_for_as_long_as_the_window() -> None:
    rig = Rig(duplicate_window_ms=60_000)
    first = rig.send("a", message_id="m")
    assert rig.send("b", message_id="m") == first
    rig.queue.active.complete(rig.receive_one()[1])
    rig.pass_ms(59_999)
    rig.send("c", message_id="m")
    assert rig.receive().bodies == []
    rig.pass_ms(1)
    rig.send("d", message_id="m")
    assert rig.receive().bodies == ["d"]


def test_duplicates_within_a_batch_and_of_scheduled_messages_are_dropped() -> None:
    rig = Rig(duplicate_window_ms=60_000)
    rig.queue.send(
        [raw("a", message_id="1"), raw("b", message_id="1"), raw("c", message_id="2")]
    )
    rig.send("d", message_id="2", due_ms=rig.clock.now + 10)
    rig.pass_ms(10)
    assert rig.receive(9).bodies == ["a", "c"]


def test_without_a_window_or_an_id_nothing_is_a_duplicate() -> None:
    plain, watching = Rig(), Rig(duplicate_window_ms=60_000)
    plain.queue.send([raw("a", message_id="1"), raw("b", message_id="1")])
    watching.queue.send([raw("a"), raw("b")])
    assert plain.receive(9).bodies == watching.receive(9).bodies == ["a", "b"]


def test_ids_that_have_lapsed_are_forgotten() -> None:
    rig = Rig(duplicate_window_ms=60_000)
    for number in range(100):
        rig.send("a", message_id=str(number))
    rig.pass_ms(200_000)
    assert not rig.queue._seen
    assert rig.queue._purge_ms == 0


# --- time to live


def test_a_message_past_its_time_is_dropped() -> None:
    rig = Rig()
    rig.send("short", ttl_ms=1_000)
    rig.send("long")
    rig.pass_ms(1_000)
    assert rig.receive(5).bodies == ["long"]
    assert len(rig.queue.active.messages) == 1


def test_or_becomes_a_dead_letter_that_does_not_lapse_again() -> None:
    rig = Rig(dead_letter_expired=True)
    rig.send("short", ttl_ms=1_000)
    rig.pass_ms(10_000_000)
    message, _ = rig.receive_one(dead=True)
    assert message.reason == TTL_EXPIRED


def test_the_queues_own_limit_counts_when_it_is_shorter() -> None:
    rig = Rig(ttl_ms=500)
    rig.send("a")
    rig.send("b", ttl_ms=100)
    rig.send("c", ttl_ms=10_000)
    rig.pass_ms(499)
    assert [body(m) for m in rig.queue.active.peek(0, 9)] == ["a", "c"]
    rig.pass_ms(1)
    assert not rig.queue.active.messages


def test_a_message_does_not_lapse_in_somebodys_hands() -> None:
    rig = Rig()
    rig.send("a", ttl_ms=1_000)
    _, token = rig.receive_one()
    rig.pass_ms(2_000)
    rig.queue.active.complete(token)


def test_but_lapses_when_it_comes_back() -> None:
    rig = Rig()
    rig.send("a", ttl_ms=1_000)
    _, token = rig.receive_one()
    rig.pass_ms(2_000)
    rig.queue.active.abandon(token)
    assert not rig.queue.active.messages


def test_the_time_of_a_scheduled_message_begins_when_it_is_due() -> None:
    rig = Rig()
    rig.send("a", ttl_ms=1_000, due_ms=rig.clock.now + 5_000)
    rig.pass_ms(5_999)
    assert rig.receive().bodies == ["a"]


# --- peeking, limits, bookkeeping


def test_peeking_goes_in_pages_and_changes_nothing() -> None:
    rig = Rig()
    for number in range(10):
        rig.send(str(number))
    rig.receive_one()
    pages = [rig.queue.active.peek(start, 4) for start in (0, 5, 9, 11)]
    assert [[m.sequence for m in page] for page in pages] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
        [],
    ]
    assert len(rig.queue.active.locks) == 1


def test_a_full_queue_takes_all_of_a_batch_or_nothing() -> None:
    one = raw("x" * 100)
    rig = Rig(max_bytes=len(one) * 2)
    rig.queue.send([one])
    with refused(Condition.FULL):
        rig.queue.send([one, one])
    rig.queue.send([one])
    assert len(rig.queue.active.messages) == 2


def test_a_queue_that_is_closed_for_sending_says_so() -> None:
    with refused(Condition.DISABLED):
        Rig(can_send=False).send("a")


def test_an_idle_queue_needs_no_timer() -> None:
    rig = Rig()
    rig.receive()
    assert rig.queue.next_due() is None
    rig.send("a")
    rig.queue.active.complete(rig.receive_one()[1])
    rig.pass_ms(LOCK_MS)
    assert rig.queue.next_due() is None


def test_long_use_leaves_no_trace() -> None:
    rig = Rig()
    for number in range(2_000):
        rig.send(str(number), ttl_ms=10**9)
        token = rig.receive_one()[1]
        rig.queue.active.renew(token)
        rig.queue.active.complete(token)
    box = rig.queue.active
    assert not box.messages
    assert not box.locks
    assert max(map(len, (box._order, box._ready, box._ends, box._expiries))) < 200
    assert rig.queue.bytes == 0


def test_asking_for_messages_counts_as_access_and_looking_does_not() -> None:
    rig = Rig()
    rig.send("a")
    sent_ms = rig.queue.accessed_ms
    rig.clock.now += 1_000
    rig.queue.active.peek(1, 5)
    assert rig.queue.accessed_ms == sent_ms
    rig.queue.active.touch()
    assert rig.queue.accessed_ms == sent_ms + 1_000
