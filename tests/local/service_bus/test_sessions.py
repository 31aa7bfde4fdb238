"""Sessions: one receiver each, in order, under one lock; on a clock that is moved by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.service_bus.errors import BrokerError, Condition
from tests.local.service_bus.rig import LOCK_MS, Consumer, Rig

if TYPE_CHECKING:
    from local.service_bus.sessions import SessionBox


class SessionRig(Rig):
    """A queue that requires sessions."""

    def __init__(self) -> None:
        super().__init__(requires_session=True)
        assert self.queue.sessions is not None
        self.box: SessionBox = self.queue.sessions

    def accept(self, session_id: str, credit: int = 10) -> Consumer:
        """A consumer that holds this session."""
        consumer = Consumer(credit=credit)
        self.box.accept(session_id, consumer)
        self.box.hungry(consumer)
        return consumer

    def accept_next(self, credit: int = 10) -> Consumer:
        """A consumer that waits for any session."""
        consumer = Consumer(credit=credit)
        self.box.accept_next(consumer)
        self.box.hungry(consumer)
        return consumer


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


def refused(condition: Condition) -> pytest.RaisesExc[BrokerError]:
    return pytest.RaisesExc(BrokerError, check=lambda error: error.condition is condition)


def test_a_message_without_a_session_is_refused(rig: SessionRig) -> None:
    with refused(Condition.NOT_ALLOWED):
        rig.send("a")


def test_a_holder_gets_the_messages_of_its_session_in_order(rig: SessionRig) -> None:
    for text, session in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        rig.send(text, session=session)
    assert rig.accept("a").bodies == ["a1", "a2"]


def test_two_cannot_hold_one_session(rig: SessionRig) -> None:
    rig.accept("a")
    with refused(Condition.SESSION_TAKEN):
        rig.accept("a")


def test_a_session_without_messages_can_be_held_and_filled(rig: SessionRig) -> None:
    holder = rig.accept("a")
    rig.send("a1", session="a")
    assert holder.bodies == ["a1"]


def test_the_next_session_is_the_one_that_waited_longest(rig: SessionRig) -> None:
    for session in "ba":
        rig.send(f"{session}1", session=session)
    first, second, third = (rig.accept_next() for _ in range(3))
    assert (first.bodies, second.bodies, third.bodies) == (["b1"], ["a1"], [])
    rig.send("c1", session="c")
    assert [s.session_id for s in third.sessions] == ["c"]


def test_who_stops_waiting_gets_nothing(rig: SessionRig) -> None:
    waiting = rig.accept_next()
    rig.box.stop_waiting(waiting)
    rig.send("a1", session="a")
    assert not waiting.sessions
    assert rig.accept_next().bodies == ["a1"]


def test_who_leaves_frees_the_session_and_nothing_counts_as_failed(rig: SessionRig) -> None:
    rig.send("a1", session="a")
    holder, waiting = rig.accept("a"), rig.accept_next()
    rig.box.leave(holder)
    assert waiting.bodies == ["a1"]
    assert waiting.got[0].delivery_count == 0
    with refused(Condition.LOCK_LOST):
        rig.box.complete(holder.tokens[0])


def test_an_abandoned_message_comes_first_again(rig: SessionRig) -> None:
    for text in ("a1", "a2"):
        rig.send(text, session="a")
    holder = rig.accept("a", credit=1)
    rig.box.abandon(holder.tokens[0])
    holder.credit = 2
    rig.box.hungry(holder)
    assert holder.bodies == ["a1", "a1", "a2"]
    assert holder.got[1].delivery_count == 1


def test_a_session_lock_that_ends_is_lost_with_all_that_was_in_flight(rig: SessionRig) -> None:
    for text in ("a1", "a2"):
        rig.send(text, session="a")
    holder = rig.accept("a")
    rig.pass_ms(LOCK_MS)
    assert holder.losses == 1
    with refused(Condition.SESSION_LOCK_LOST):
        rig.box.held_session("a")
    following = rig.accept("a")
    assert [(m.sequence, m.delivery_count) for m in following.got] == [(1, 1), (2, 1)]


def test_a_renewed_session_keeps_its_messages_too(rig: SessionRig) -> None:
    rig.send("a1", session="a")
    holder = rig.accept("a")
    rig.pass_ms(LOCK_MS - 1)
    assert rig.box.renew_session("a") == rig.clock.now + LOCK_MS
    rig.pass_ms(LOCK_MS - 1)
    rig.box.complete(holder.tokens[0])
    assert holder.losses == 0


def test_a_session_lock_has_ended_when_its_time_is_over_even_if_no_timer_ran(
    rig: SessionRig,
) -> None:
    holder = rig.accept("a")
    rig.clock.now += LOCK_MS
    with refused(Condition.SESSION_LOCK_LOST):
        rig.box.renew_session("a")
    assert holder.losses == 1


def test_a_session_that_fails_too_often_loses_the_message_not_its_place(
    rig: SessionRig,
) -> None:
    rig.send("a1", session="a")
    for _ in range(3):
        rig.accept("a")
        rig.pass_ms(LOCK_MS)
    assert rig.receive(dead=True).bodies == ["a1"]
    assert "a" not in rig.box.sessions


def test_a_state_is_kept_until_it_is_taken_back(rig: SessionRig) -> None:
    holder = rig.accept("a")
    rig.box.set_state("a", b"half way")
    rig.box.leave(holder)
    assert rig.box.listed(None) == ["a"]
    again = rig.accept("a")
    assert rig.box.held_session("a").state == b"half way"
    rig.box.set_state("a", None)
    rig.box.leave(again)
    assert rig.box.listed(None) == []
    assert not rig.box.sessions


def test_only_a_holder_may_touch_the_state(rig: SessionRig) -> None:
    with refused(Condition.SESSION_LOCK_LOST):
        rig.box.set_state("a", b"")


def test_sessions_are_listed_by_messages_or_by_when_their_state_changed(
    rig: SessionRig,
) -> None:
    rig.send("b1", session="b")
    rig.accept("a")
    before = rig.clock.now - 1
    rig.box.set_state("a", b"x")
    assert sorted(rig.box.listed(None)) == ["a", "b"]
    assert rig.box.listed(before) == ["a"]
    assert rig.box.listed(rig.clock.now) == []


def test_a_deferred_message_belongs_to_its_session(rig: SessionRig) -> None:
    number = rig.send("a1", session="a")
    holder = rig.accept("a")
    rig.box.defer(holder.tokens[0])
    with refused(Condition.MESSAGE_NOT_FOUND):
        rig.box.fetch([number], removes=False, session_id="b")
    [(message, _)] = rig.box.fetch([number], removes=False, session_id="a")
    assert message.lock is not None
    assert message.lock.until_ms == rig.box.held_session("a").until_ms


def test_peeking_can_look_at_one_session(rig: SessionRig) -> None:
    for session in "aba":
        rig.send("x", session=session)
    assert [m.sequence for m in rig.box.peek(0, 9, "a")] == [1, 3]


def test_a_scheduled_message_finds_its_session(rig: SessionRig) -> None:
    holder = rig.accept("a")
    rig.send("later", session="a", due_ms=rig.clock.now + 1_000)
    rig.pass_ms(1_000)
    assert holder.bodies == ["later"]


def test_many_sessions_that_come_and_go_leave_no_trace(rig: SessionRig) -> None:
    for number in range(500):
        rig.send("x", session=str(number))
        holder = rig.accept_next()
        rig.box.complete(holder.tokens[0])
        rig.box.leave(holder)
    assert not rig.box.sessions
    assert not rig.box._held
    assert not rig.box._free
    assert len(rig.box._session_ends) < 200


def test_only_the_link_that_holds_a_session_may_speak_for_it(rig: SessionRig) -> None:
    rig.box.accept("a", Consumer(name="first"))
    rig.pass_ms(LOCK_MS)
    rig.box.accept("a", Consumer(name="second"))
    until_ms = rig.box.held_session("a", "second").until_ms
    rig.clock.now += 1
    for ask in (
        lambda: rig.box.held_session("a", "first"),
        lambda: rig.box.renew_session("a", "first"),
        lambda: rig.box.set_state("a", b"x", "first"),
    ):
        with refused(Condition.SESSION_LOCK_LOST):
            ask()
    session = rig.box.held_session("a", "second")
    assert (session.until_ms, session.state) == (until_ms, None)
