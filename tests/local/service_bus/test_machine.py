"""The queue against a plain model of it, over random histories with crashes in between.

The model keeps one flat list and looks through all of it each time; it knows no heaps, no lazy
sweeping, no store. After each step both must name the same messages in the same states.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from local.service_bus.errors import BrokerError
from local.service_bus.store import SqliteStore
from tests.local.service_bus.rig import LOCK_MS, Clock, Rig

LIMIT = 3
WINDOW_MS = 20_000


@dataclass
class Record:
    """One message as the model sees it."""

    number: int
    state: str  # ready, deferred, scheduled
    due: int = 0
    count: int = 0
    is_dead: bool = False
    until: int = 0  # 0: not locked
    token: bytes = b""


class QueueMachine(RuleBasedStateMachine):
    """A queue with a file, its model, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "broker.sqlite"
        self.clock = Clock()
        self.records: list[Record] = []
        self.seen: dict[str, int] = {}
        self.last = 0
        self._open()

    def _open(self) -> None:
        self.store = SqliteStore(self.path)
        self.rig = Rig(
            self.store, self.clock, max_delivery_count=LIMIT, duplicate_window_ms=WINDOW_MS
        )
        self.queue = self.rig.queue

    def teardown(self) -> None:
        self.store.abandon()
        self.folder.cleanup()

    # --- the model's own rules

    def _new(self, state: str, due: int = 0) -> None:
        self.last += 1
        self.records.append(Record(self.last, state, due))

    def _failed(self, record: Record) -> None:
        record.until, record.count = 0, record.count + 1
        if record.count >= LIMIT and not record.is_dead:
            record.is_dead, record.state = True, "ready"

    def _ready(self, *, dead: bool) -> list[Record]:
        found = [
            r for r in self.records if r.state == "ready" and not r.until and r.is_dead is dead
        ]
        return sorted(found, key=lambda record: record.number)

    def _locked(self) -> list[Record]:
        return [r for r in self.records if r.until]

    def _settle(self, data: st.DataObject) -> Record:
        return data.draw(st.sampled_from(self._locked()))

    def _box(self, record: Record):  # noqa: ANN202 — one of the queue's boxes
        return self.queue.dead if record.is_dead else self.queue.active

    # --- what may happen

    @rule(
        message_id=st.sampled_from(["a", "b", None, None]),
        delay=st.sampled_from([0, 0, 5_000, 25_000]),
    )
    def send(self, message_id: str | None, delay: int) -> None:
        self.rig.send(
            "x", message_id=message_id, due_ms=self.clock.now + delay if delay else None
        )
        if message_id is not None and self.seen.get(message_id, 0) > self.clock.now:
            return
        if message_id is not None:
            self.seen[message_id] = self.clock.now + WINDOW_MS
        self._new("scheduled" if delay else "ready", self.clock.now + delay)

    @rule(count=st.integers(1, 3), dead=st.booleans())
    def receive(self, count: int, dead: bool) -> None:
        got = self.rig.receive(count, dead=dead)
        expected = self._ready(dead=dead)[:count]
        assert [m.sequence for m in got.got] == [r.number for r in expected]
        for record, token in zip(expected, got.tokens, strict=True):
            record.until, record.token = self.clock.now + LOCK_MS, token

    @rule(dead=st.booleans())
    def receive_and_delete(self, dead: bool) -> None:
        got = self.rig.receive(1, removes=True, dead=dead)
        expected = self._ready(dead=dead)[:1]
        assert [m.sequence for m in got.got] == [r.number for r in expected]
        for record in expected:
            self.records.remove(record)

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).complete(record.token)
        self.records.remove(record)

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).abandon(record.token)
        self._failed(record)

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).release(record.token)
        record.until = 0

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def defer(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).defer(record.token)
        record.until, record.state, record.count = 0, "deferred", record.count + 1

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def dead_letter(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).dead_letter(record.token, "why", None)
        record.until, record.is_dead, record.state = 0, True, "ready"

    @precondition(lambda self: self._locked())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        record = self._settle(data)
        self._box(record).renew(record.token)
        record.until = self.clock.now + LOCK_MS

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.records))
        try:
            [(message, _)] = self._box(record).fetch(
                [record.number], removes=False, session_id=None
            )
        except BrokerError:
            assert record.state != "deferred" or record.until
        else:
            assert record.state == "deferred"
            assert message.lock is not None
            record.until, record.token = self.clock.now + LOCK_MS, message.lock.token

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.records))
        try:
            self.queue.cancel([record.number])
        except BrokerError:
            assert record.state != "scheduled"
        else:
            assert record.state == "scheduled"
            self.records.remove(record)

    @rule(ms=st.sampled_from([1, 4_999, 5_000, 20_000, 30_000]))
    def time_passes(self, ms: int) -> None:
        self.rig.pass_ms(ms)
        for record in self._locked():
            if record.until <= self.clock.now:
                self._failed(record)
        self._wake()

    def _wake(self) -> None:
        due = [r for r in self.records if r.state == "scheduled" and r.due <= self.clock.now]
        for record in sorted(due, key=lambda record: (record.due, record.number)):
            self.records.remove(record)
            self._new("ready")

    @rule(is_committed=st.booleans())
    def crash(self, is_committed: bool) -> None:
        """Kill -9; what the server had not committed it had told nobody, so commit first."""
        self.store.commit()
        if is_committed:
            self.rig.queue.tick()  # nothing is due: nothing may change
        self.store.abandon()
        self._open()
        for record in self._locked():
            if record.state == "deferred":  # how often it was deferred is not held against it
                record.until, record.count = 0, record.count + 1
            else:
                self._failed(record)

    @invariant()
    def both_name_the_same_messages_in_the_same_states(self) -> None:
        names = {0: "ready", 1: "deferred", 2: "scheduled"}
        real = {
            m.sequence: (names[m.state], m.delivery_count, m.is_dead, m.lock is not None)
            for box in (self.queue.active, self.queue.dead)
            for m in box.messages.values()
        }
        model = {r.number: (r.state, r.count, r.is_dead, bool(r.until)) for r in self.records}
        assert real == model
        peeked = [m.sequence for m in self.queue.active.peek(0, 10_000)]
        assert peeked == sorted(r.number for r in self.records if not r.is_dead)
        assert self.queue.bytes == sum(
            m.size
            for box in (self.queue.active, self.queue.dead)
            for m in box.messages.values()
        )


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
