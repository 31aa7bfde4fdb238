"""What a broker that was killed finds again; the process is played by leaving the store open."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from local.errors import StackError
from local.service_bus import store as store_module
from local.service_bus.model import SEQUENCE_BITS
from local.service_bus.store import SqliteStore
from tests.local.service_bus.rig import LOCK_MS, Clock, Consumer, Rig, raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Machine:
    """A broker's file, and brokers that are started on it one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.stores: list[SqliteStore] = []

    def start(self, **what: object) -> Rig:
        """The next broker; what the last one did not commit is lost."""
        self.crash()
        store = SqliteStore(self.path)
        self.stores.append(store)
        return Rig(store, self.clock, **what)

    def crash(self) -> None:
        """As kill -9 does: the lock falls, nothing is written."""
        for store in self.stores:
            store.abandon()
        self.stores.clear()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "broker.sqlite")
    yield machine
    machine.crash()


def test_what_was_committed_is_there_and_what_was_not_is_not(machine: Machine) -> None:
    rig = machine.start()
    rig.send("told")
    rig.store.commit()
    rig.send("not told")
    assert machine.start().receive(9).got[0].sequence == 1
    assert len(machine.start().queue.active.messages) == 1


def test_the_bytes_of_a_message_are_as_they_were(machine: Machine) -> None:
    sent = raw("x" * 5_000, message_id="m", session="s", ttl_ms=10**6)
    rig = machine.start()
    rig.queue.send([sent])
    rig.store.commit()
    rig = machine.start()
    message, _ = rig.receive_one()
    assert rig.queue.raw(message) == sent
    assert (message.session_id, message.ttl_ms, message.size) == ("s", 10**6, len(sent))


def test_a_completed_message_does_not_come_back(machine: Machine) -> None:
    rig = machine.start()
    rig.send("a")
    rig.store.commit()
    rig.queue.active.complete(rig.receive_one()[1])
    rig.store.commit()
    assert not machine.start().queue.active.messages


def test_a_number_is_never_given_twice(machine: Machine) -> None:
    rig = machine.start()
    rig.send("a")
    rig.queue.active.complete(rig.receive_one()[1])
    rig.store.commit()
    assert machine.start().send("b") == 2


def test_a_delivery_counts_from_the_moment_it_is_made(machine: Machine) -> None:
    machine.start().send("a")
    machine.stores[-1].commit()
    for expected in range(3):
        rig = machine.start()
        message, _ = rig.receive_one()
        assert message.delivery_count == expected
        rig.store.commit()
    rig = machine.start()
    assert not rig.queue.active.messages
    assert rig.receive_one(dead=True)[0].reason == "MaxDeliveryCountExceeded"


def test_a_released_delivery_does_not_count_after_all(machine: Machine) -> None:
    rig = machine.start()
    rig.send("a")
    rig.store.commit()
    _, token = rig.receive_one()
    rig.store.commit()
    rig.queue.active.release(token)
    rig.store.commit()
    assert machine.start().receive_one()[0].delivery_count == 0


def test_dead_letters_deferred_and_scheduled_messages_stay_what_they_are(
    machine: Machine,
) -> None:
    rig = machine.start()
    for text in ("dead", "deferred"):
        rig.send(text)
    rig.send("scheduled", due_ms=rig.clock.now + 5_000)
    got = rig.receive(2)
    rig.store.commit()
    rig.queue.active.dead_letter(got.tokens[0], "why", "because")
    rig.queue.active.defer(got.tokens[1])
    rig.store.commit()
    rig = machine.start()
    dead, _ = rig.receive_one(dead=True)
    assert (dead.reason, dead.description) == ("why", "because")
    assert rig.receive().got == []
    [(deferred, _)] = rig.queue.active.fetch([2], removes=False, session_id=None)
    assert deferred.delivery_count == 1
    rig.pass_ms(5_000)
    assert rig.receive_one()[0].sequence == 4


def test_duplicates_are_known_over_a_restart(machine: Machine) -> None:
    rig = machine.start(duplicate_window_ms=60_000)
    rig.send("a", message_id="m")
    rig.store.commit()
    rig = machine.start(duplicate_window_ms=60_000)
    assert rig.send("b", message_id="m") == 1
    assert len(rig.queue.active.messages) == 1
    rig.pass_ms(200_000)
    rig.store.commit()
    with sqlite3.connect(machine.path) as db:
        assert db.execute("select count(*) from seen").fetchone() == (0,)


def test_a_message_past_its_time_is_gone_at_the_start(machine: Machine) -> None:
    rig = machine.start()
    rig.send("a", ttl_ms=1_000)
    rig.store.commit()
    machine.clock.now += 2_000
    assert not machine.start().queue.active.messages


def test_a_sessions_state_is_kept(machine: Machine) -> None:
    rig = machine.start(requires_session=True)
    assert rig.queue.sessions is not None
    rig.queue.sessions.accept("s", Consumer())
    rig.queue.sessions.set_state("s", b"half way")
    rig.store.commit()
    rig = machine.start(requires_session=True)
    assert rig.queue.sessions is not None
    assert rig.queue.sessions.sessions["s"].state == b"half way"
    rig.queue.sessions.accept("s", Consumer())
    rig.queue.sessions.set_state("s", None)
    rig.store.commit()
    rig = machine.start(requires_session=True)
    assert rig.queue.sessions is not None
    assert not rig.queue.sessions.sessions


def test_what_comes_and_goes_in_one_turn_is_never_written(machine: Machine) -> None:
    rig = machine.start()
    consumer = Consumer(credit=1, removes=True)
    rig.queue.active.hungry(consumer)
    rig.send("a")
    rig.store.commit()
    assert len(consumer.got) == 1
    with sqlite3.connect(machine.path) as db:
        assert db.execute("select count(*) from message").fetchone() == (0,)
        assert db.execute("select last_sequence from queue").fetchone() == (1,)


def test_bytes_beyond_the_budget_are_read_back_from_the_file(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RESIDENT_BYTES", 1_000)
    rig = machine.start()
    sent = [raw(str(number) * 100) for number in range(50)]
    for one in sent:
        rig.queue.send([one])
        rig.store.commit()
    in_memory = [m for m in rig.queue.active.messages.values() if m.raw is not None]
    assert sum(m.size for m in in_memory) <= 1_000
    for one in sent:
        message, token = rig.receive_one()
        assert rig.queue.raw(message) == one
        rig.queue.active.complete(token)
        rig.store.commit()
    rig.send("again")
    rig.store.commit()
    assert rig.receive_one()[0].raw is not None  # the budget was given back


def test_a_lock_ends_with_the_process_and_the_message_is_free(machine: Machine) -> None:
    rig = machine.start()
    rig.send("a")
    rig.store.commit()
    _, token = rig.receive_one()
    rig.store.commit()
    rig = machine.start()
    with pytest.raises(Exception, match="lock"):
        rig.queue.active.complete(token)
    assert rig.receive_one()[0].sequence == 1
    assert rig.queue.next_due() == rig.clock.now + LOCK_MS


def test_a_second_broker_on_the_same_file_is_refused(machine: Machine) -> None:
    machine.start()
    with pytest.raises(StackError, match="Another broker"):
        SqliteStore(machine.path)


def test_queues_made_at_run_time_are_known_and_forgotten_when_deleted(machine: Machine) -> None:
    rig = machine.start(duplicate_window_ms=60_000)
    queue_id = rig.queue.queue_id
    rig.store.keep_queue(queue_id, "{}")
    rig.send("a", message_id="m")
    rig.store.commit()
    assert rig.store.made_queues() == [("q", "{}")]
    rig.store.drop_queue(queue_id)
    assert rig.store.made_queues() == []
    rig = machine.start(duplicate_window_ms=60_000)
    assert not rig.queue.active.messages
    assert rig.send("b", message_id="m") == 2


def test_keys_of_different_queues_never_meet(machine: Machine) -> None:
    rig = machine.start()
    other = rig.store.queue_id("other")
    assert other != rig.queue.queue_id == rig.store.queue_id("Q")
    assert rig.queue.key(2**60) < other << SEQUENCE_BITS
