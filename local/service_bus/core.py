"""One queue: numbers, admission, duplicates, scheduled messages; its boxes do the rest.

No socket and no clock of its own: time comes from the `clock` it is given (milliseconds), every
change goes to a `Journal` before anybody can be told. The dead letters share the queue's
sequence numbers. Rules: Service Bus documentation on sequencing, timestamps and duplicates.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

from local.service_bus.box import Box
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.message import Facts, examine
from local.service_bus.model import (
    SEQUENCE_BITS,
    Message,
    Place,
    QueueSettings,
    State,
    Travel,
)
from local.service_bus.sessions import SessionBox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local.service_bus.model import Journal

_PURGE_EVERY_MS = 60_000
SESSION_MISSING = "Session ID is null."


class Queue:
    """One queue with its dead letters."""

    def __init__(
        self,
        queue_id: int,
        settings: QueueSettings,
        *,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        self.queue_id = queue_id
        self.settings = settings
        self.journal = journal
        self.clock = clock
        self.last_sequence = 0
        self.bytes = 0
        self.accessed_ms = self.used_ms = clock()
        self.sessions = SessionBox(self) if settings.requires_session else None
        self.active: Box = self.sessions or Box(self, is_dead=False)
        self.dead = Box(self, is_dead=True)
        self.transfer_dead = Box(self, is_dead=True)  # what could not be forwarded
        self._scheduled: list[tuple[int, int]] = []  # heap of (due, key)
        self._seen: OrderedDict[bytes, tuple[int, int]] = (
            OrderedDict()
        )  # id: (expiry, sequence)
        self._purge_ms = 0

    @property
    def name(self) -> str:
        """The queue's name as it was declared."""
        return self.settings.name

    @property
    def used_bytes(self) -> int:
        """What counts towards the queue's size."""
        return self.bytes

    def key(self, sequence: int) -> int:
        """The store's key of a sequence number."""
        limit = (1 << SEQUENCE_BITS) - 1
        return (self.queue_id << SEQUENCE_BITS) | max(0, min(sequence, limit))

    def raw(self, message: Message) -> bytes:
        """A message's bytes, wherever they are."""
        return message.raw if message.raw is not None else self.journal.body(message)

    # --- sending

    def send(self, raws: Iterable[bytes], *, due_ms: int | None = None) -> list[int]:
        """Accept messages, all of them or none; says their numbers (a duplicate's: the first's).

        Raises:
            BrokerError: the queue cannot take one of them.
        """
        incoming = [(raw, examine(raw)) for raw in raws]
        self._admit(incoming)
        now = self.accessed_ms = self.clock()
        numbers = [self._accept(raw, facts, now, due_ms) for raw, facts in incoming]
        self.active.dispatch()
        return numbers

    def _admit(self, incoming: list[tuple[bytes, Facts]]) -> None:
        if not self.settings.can_send:
            raise BrokerError(Condition.DISABLED, f"Queue {self.name} is disabled for sending.")
        if self.settings.requires_session and any(f.session_id is None for _, f in incoming):
            raise BrokerError(
                Condition.NOT_ALLOWED,
                f"Queue {self.name} requires sessions: the session id must be set on every message.",
            )
        if self.used_bytes + sum(len(raw) for raw, _ in incoming) > self.settings.max_bytes:
            raise BrokerError(
                Condition.FULL,
                f"Queue {self.name} has reached its maximum size of {self.settings.max_bytes} bytes.",
            )

    def take_over(self, raw: bytes, travel: Travel) -> None:
        """Accept a message that another queue forwards; it lives anew here.

        Raises:
            BrokerError: the queue cannot take it.
        """
        facts = examine(raw)
        self._admit([(raw, facts)])
        self._accept(raw, facts, self.clock(), None, travel=travel)
        self.active.dispatch()

    def bury(
        self,
        raw: bytes,
        reason: str,
        description: str,
        *,
        travel: Travel | None = None,
        place: Place = Place.DEAD,
    ) -> None:
        """A message that is a dead letter from its first moment here."""
        message = Message(
            key=self._next_key(),
            raw=raw,
            size=len(raw),
            enqueued_ms=self.clock(),
            session_id=examine(raw).session_id,
            place=place,
            reason=reason,
            description=description,
            travel=travel,
        )
        self._take_in(message)
        self.box_of(message).dispatch()

    def _accept(
        self,
        raw: bytes,
        facts: Facts,
        now: int,
        due_ms: int | None,
        *,
        travel: Travel | None = None,
    ) -> int:
        if (known := self._duplicate_of(facts, now)) is not None:
            return known
        due = facts.scheduled_ms if due_ms is None else due_ms
        ttl = self.settings.ttl_ms
        if facts.ttl_ms is not None:
            ttl = facts.ttl_ms if ttl is None else min(ttl, facts.ttl_ms)
        message = Message(
            key=self._next_key(),
            raw=raw,
            size=len(raw),
            enqueued_ms=now,
            ttl_ms=ttl,
            scheduled_ms=due,
            session_id=facts.session_id,
            state=State.SCHEDULED if due > now else State.ACTIVE,
            travel=travel,
        )
        self._take_in(message)
        self._remember(facts, now, message.sequence)
        return message.sequence

    def _next_key(self) -> int:
        self.last_sequence += 1
        return self.key(self.last_sequence)

    def _take_in(self, message: Message) -> None:
        self.journal.save(message)
        self.restore(message)

    def _duplicate_of(self, facts: Facts, now: int) -> int | None:
        if not self.settings.duplicate_window_ms or facts.message_id is None:
            return None
        seen = self._seen.get(facts.message_id)
        return seen[1] if seen is not None and seen[0] > now else None

    def _remember(self, facts: Facts, now: int, sequence: int) -> None:
        window = self.settings.duplicate_window_ms
        if window and facts.message_id is not None:
            self._seen.pop(facts.message_id, None)
            self.restore_seen(facts.message_id, now + window, sequence)
            self.journal.remember(self.queue_id, facts.message_id, now + window, sequence)

    # --- scheduled messages

    def cancel(self, sequences: Iterable[int]) -> None:
        """Take scheduled messages back, all of them or none.

        Raises:
            BrokerError: one of them is not scheduled (any more).
        """
        found = []
        for sequence in sequences:
            message = self.active.messages.get(self.key(sequence))
            if message is None or message.state is not State.SCHEDULED:
                raise BrokerError(
                    Condition.MESSAGE_NOT_FOUND, f"No message is scheduled as {sequence}."
                )
            found.append(message)
        for message in found:
            if message.key in self.active.messages:  # the same number may be named twice
                self.active.take(message)
                self.journal.delete(message)
        if len(self._scheduled) > 2 * len(self.active.messages) + 64:
            self._scheduled = [e for e in self._scheduled if e[1] in self.active.messages]
            heapq.heapify(self._scheduled)

    def _wake(self, message: Message, now: int) -> None:
        """A scheduled message is due: it joins the end of the queue under a new number."""
        raw = self.raw(message)
        self.active.take(message)
        self.journal.delete(message)
        self._take_in(
            Message(
                key=self._next_key(),
                raw=raw,
                size=message.size,
                enqueued_ms=now,
                ttl_ms=message.ttl_ms,
                scheduled_ms=message.scheduled_ms,
                session_id=message.session_id,
                travel=message.travel,
            )
        )

    # --- restoring and time

    def restore(self, message: Message) -> None:
        """Put a message where it belongs; the journal knows it already."""
        self.last_sequence = max(self.last_sequence, message.sequence)
        if message.state is State.SCHEDULED:
            heapq.heappush(self._scheduled, (message.scheduled_ms, message.key))
        self.box_of(message).put(message)

    def box_of(self, message: Message) -> Box:
        """The box that a message lies in."""
        match message.place:
            case Place.ACTIVE:
                return self.active
            case Place.DEAD:
                return self.dead
            case Place.TRANSFER_DEAD:
                return self.transfer_dead

    def restore_seen(self, message_id: bytes, expires_ms: int, sequence: int) -> None:
        """A message id counts as a duplicate until then."""
        self._seen[message_id] = (expires_ms, sequence)
        if not self._purge_ms:
            self._purge_ms = expires_ms + _PURGE_EVERY_MS

    def recover(self) -> None:
        """After a restart: bury what the last run delivered too often without an answer."""
        limit = self.settings.max_delivery_count
        for message in list(self.active.messages.values()):
            if message.delivery_count >= limit and message.state is State.ACTIVE:
                message.delivery_count -= 1
                self.active.fail(message)
        self.tick()

    def tick(self) -> None:
        """Do whatever is due."""
        now = self.clock()
        while self._scheduled and self._scheduled[0][0] <= now:
            message = self.active.messages.get(heapq.heappop(self._scheduled)[1])
            if message is not None and message.state is State.SCHEDULED:
                self._wake(message, now)
        if self._purge_ms and self._purge_ms <= now:
            self._purge(now)
        self.active.tick(now)
        self.dead.tick(now)
        if self.transfer_dead.messages:
            self.transfer_dead.tick(now)

    def is_idle(self, now: int) -> bool:
        """Whether nobody has used the queue for as long as it may stand unused.

        Waiting receivers, scheduled messages and forwarding are use. Source: "Idleness" in the
        Service Bus documentation on message expiration.
        """
        idle_ms = self.settings.idle_ms
        if idle_ms is None or self._last_use_ms + idle_ms > now:
            return False
        boxes = (self.active, self.dead, self.transfer_dead)
        is_used = (
            any(box.is_awaited or box.locks for box in boxes)
            or bool(self.settings.forward_to)
            or any(m.state is State.SCHEDULED for m in self.active.messages.values())
        )
        if is_used:
            self.used_ms = now
        return not is_used

    @property
    def _last_use_ms(self) -> int:
        """Looking at messages is use, though no access that the administration shows."""
        return max(self.used_ms, self.accessed_ms)

    def _purge(self, now: int) -> None:
        while self._seen and next(iter(self._seen.values()))[0] <= now:
            self._seen.popitem(last=False)
        self.journal.forget(self.queue_id, now)
        first = next(iter(self._seen.values()), None)
        self._purge_ms = first[0] + _PURGE_EVERY_MS if first else 0

    def next_due(self) -> int | None:
        """When `tick` is needed next, None: not before somebody calls."""
        dues = [*self.active.due(), *self.dead.due()]
        if self.transfer_dead.messages:
            dues += self.transfer_dead.due()
        if self.settings.idle_ms is not None:
            dues.append(self._last_use_ms + self.settings.idle_ms)
        if self._scheduled:
            dues.append(self._scheduled[0][0])
        if self._purge_ms:
            dues.append(self._purge_ms)
        return min(dues, default=None)
