"""A box of messages in order of their numbers: who gets which, until when, what becomes of it.

A queue has two boxes, the active messages and the dead letters. Every change goes to the queue's
journal before anybody can be told of it. Heaps are swept lazily: what a heap names is looked up,
and passed over when it is not true any more. Rules: Service Bus documentation on message
transfers, locks, settlement, expiration and dead-letter queues.
"""

from __future__ import annotations

import heapq
import os
from bisect import bisect_left, insort
from collections import OrderedDict
from typing import TYPE_CHECKING

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import Lock, Message, Place, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from local.service_bus.core import Queue
    from local.service_bus.model import Consumer

MAX_DELIVERIES = "MaxDeliveryCountExceeded"
TTL_EXPIRED = "TTLExpiredException"


class Box:
    """Messages in order of their numbers, the locks on them, and who waits for one."""

    def __init__(self, queue: Queue, *, is_dead: bool) -> None:
        self._queue = queue
        self._is_dead = is_dead
        # Where messages go at once, in place of waiting for a receiver: forwarding, a topic's copies.
        self.outlet: Callable[[Message, bytes], None] | None = None
        self.messages: dict[int, Message] = {}  # by key
        self.locks: dict[bytes, Lock] = {}  # by token
        self._order: list[int] = []  # keys, ascending; gone ones are swept now and then
        self._ready: list[int] = []  # heap of keys; those not ready any more are passed over
        self._ends: list[tuple[int, bytes]] = []  # heap of (lock's end, token), same way
        self._expiries: list[tuple[int, int]] = []  # heap of (expiry, key), same way
        self._hungry: OrderedDict[Consumer, None] = OrderedDict()

    def pass_on_to(self, outlet: Callable[[Message, bytes], None] | None) -> None:
        """From now on messages go there, those that are ready first; None: they wait again."""
        self.outlet = outlet
        self.dispatch()

    # --- messages come and go

    def put(self, message: Message) -> None:
        """Take a message in: at the end, or at its number's place."""
        key = message.key
        self.messages[key] = message
        self._queue.bytes += message.size
        if not self._order or key > self._order[-1]:
            self._order.append(key)
        else:
            insort(self._order, key)
        if message.expires_ms is not None and not self._is_dead:
            heapq.heappush(self._expiries, (message.expires_ms, key))
        if message.state is State.ACTIVE:
            self._offer(message)

    def take(self, message: Message) -> None:
        """Let a message go, with its lock."""
        del self.messages[message.key]
        self._queue.bytes -= message.size
        self._unlock(message)
        if len(self._order) > 2 * len(self.messages) + 64:
            self._order = [key for key in self._order if key in self.messages]
            self._sweep_ready()
            self._expiries = [e for e in self._expiries if e[1] in self.messages]
            heapq.heapify(self._expiries)

    def _sweep_ready(self) -> None:
        self._ready = [key for key in self._ready if key in self.messages]
        heapq.heapify(self._ready)

    def _offer(self, message: Message) -> None:
        heapq.heappush(self._ready, message.key)

    # --- receiving

    def hungry(self, consumer: Consumer) -> None:
        """This consumer has credit and may be given messages."""
        self._hungry[consumer] = None
        self.dispatch()

    def touch(self) -> None:
        """Somebody asked for messages; the administration shows when."""
        self._queue.accessed_ms = self._queue.clock()

    def leave(self, consumer: Consumer) -> None:
        """This consumer is gone; what it holds locked stays so until the lock ends."""
        self._hungry.pop(consumer, None)

    def dispatch(self) -> None:
        """Hand ready messages to waiting consumers, in turn."""
        if self.outlet is not None:
            self._pass_on(self._ready, self.outlet)
            return
        waiting = self._hungry
        in_vain = 0
        while self._ready and in_vain < len(waiting):
            consumer = next(iter(waiting))
            if consumer.credit <= 0:
                del waiting[consumer]
                continue
            if consumer.paused:
                waiting.move_to_end(consumer)
                in_vain += 1
                continue
            message = self._next(self._ready)
            if message is None:
                return
            waiting.move_to_end(consumer)
            in_vain = 0
            self._give(message, consumer)

    def _pass_on(self, ready: list[int], outlet: Callable[[Message, bytes], None]) -> None:
        """Let go of all that is ready; whoever has the outlet answers for it from now on."""
        while (message := self._next(ready)) is not None:
            raw = self._queue.raw(message)
            self.take(message)
            self._queue.journal.delete(message)
            outlet(message, raw)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a message here."""
        return bool(self._hungry)

    def _next(self, ready: list[int]) -> Message | None:
        """The first message of this heap that can really be had."""
        while ready:
            message = self.messages.get(heapq.heappop(ready))
            if message is None or message.lock or message.state is not State.ACTIVE:
                continue
            if self._is_expired(message):
                self._expire(message)
                continue
            return message
        return None

    def _give(self, message: Message, consumer: Consumer) -> None:
        raw = self._queue.raw(message)
        consumer.credit -= 1
        if consumer.removes:
            self.take(message)
            self._queue.journal.delete(message)
        else:
            self._lock(message)
        consumer.deliver(message, raw)

    def fetch(
        self, sequences: Iterable[int], *, removes: bool, session_id: str | None
    ) -> list[tuple[Message, bytes]]:
        """Deferred messages by their numbers, locked (or removed, with `removes`); all or none.

        Raises:
            BrokerError: one is not there, not deferred, or locked.
        """
        self.touch()
        found: list[tuple[Message, bytes]] = []
        for sequence in dict.fromkeys(sequences):
            message = self.messages.get(self._queue.key(sequence))
            if message is not None and self._is_expired(message) and not message.lock:
                self._expire(message)
                message = None
            if (
                message is None
                or message.state is not State.DEFERRED
                or message.lock is not None
                or message.session_id != session_id
            ):
                raise BrokerError(
                    Condition.MESSAGE_NOT_FOUND,
                    f"No deferred message {sequence} can be received from {self._queue.name}.",
                )
            found.append((message, self._queue.raw(message)))
        for message, _ in found:
            if removes:
                self.take(message)
                self._queue.journal.delete(message)
            else:
                self._lock(message)
        return found

    def peek(self, start: int, count: int, session_id: str | None = None) -> list[Message]:
        """Up to `count` messages of any state from this number on; nothing changes."""
        self._queue.used_ms = self._queue.clock()
        first = bisect_left(self._order, self._queue.key(start))
        found: list[Message] = []
        for position in range(first, len(self._order)):
            message = self.messages.get(self._order[position])
            if message is None or (session_id is not None and message.session_id != session_id):
                continue
            found.append(message)
            if len(found) == count:
                break
        return found

    # --- locks

    def _lock_end(self, message: Message) -> int:
        return self._queue.clock() + self._queue.settings.lock_ms

    def _lock(self, message: Message) -> None:
        lock = Lock(os.urandom(16), message, self._lock_end(message))
        message.lock = lock
        self.locks[lock.token] = lock
        self._arm(lock)
        # The store counts a delivery when it is made: a crash in the middle is a failed one.
        self._queue.journal.save(message)

    def _arm(self, lock: Lock) -> None:
        heapq.heappush(self._ends, (lock.until_ms, lock.token))
        if len(self._ends) > 2 * len(self.locks) + 64:
            self._ends = [(held.until_ms, held.token) for held in self.locks.values()]
            heapq.heapify(self._ends)

    def _unlock(self, message: Message) -> None:
        if message.lock is not None:
            del self.locks[message.lock.token]
            message.lock = None

    def held(self, token: bytes) -> Lock:
        """The living lock of this token.

        Raises:
            BrokerError: it has ended, or never was.
        """
        lock = self.locks.get(token)
        if lock is not None and lock.until_ms <= self._queue.clock():
            self.fail(lock.message)
            lock = None
        if lock is None:
            raise BrokerError(
                Condition.LOCK_LOST,
                "The lock supplied is invalid. Either the lock expired, or the message has "
                "already been removed from the queue.",
            )
        return lock

    def renew(self, token: bytes) -> int:
        """Extend a lock by the queue's lock duration; says until when."""
        lock = self.held(token)
        lock.until_ms = self._lock_end(lock.message)
        self._arm(lock)
        return lock.until_ms

    # --- settling

    def complete(self, token: bytes) -> None:
        """Done: the message is gone."""
        message = self.held(token).message
        self.take(message)
        self._queue.journal.delete(message)

    def abandon(self, token: bytes) -> None:
        """Not done: the message is available again in its place, and counted."""
        self.fail(self.held(token).message)
        self.dispatch()

    def release(self, token: bytes) -> None:
        """Never looked at: available again, not counted. A lock that ended is no error."""
        if (lock := self.locks.get(token)) is not None:
            self._give_back(lock.message)
            self.dispatch()

    def defer(self, token: bytes) -> None:
        """Put aside: from now on only its number fetches it."""
        message = self.held(token).message
        self._unlock(message)
        message.delivery_count += 1
        message.state = State.DEFERRED
        self._queue.journal.save(message)

    def dead_letter(self, token: bytes, reason: str | None, description: str | None) -> None:
        """Into the dead letters, with the reason; in the dead letters it stays where it is."""
        self._bury(self.held(token).message, reason, description)

    def fail(self, message: Message) -> None:
        """One failed delivery more."""
        message.delivery_count += 1
        limit = self._queue.settings.max_delivery_count
        if not self._is_dead and message.delivery_count >= limit:
            self._bury(
                message,
                MAX_DELIVERIES,
                f"Message could not be consumed after {message.delivery_count} delivery attempts.",
            )
        else:
            self._give_back(message)

    def _give_back(self, message: Message) -> None:
        self._unlock(message)
        if message.state is State.ACTIVE and self._is_expired(message):
            self._expire(message)
            return
        self._queue.journal.save(message)
        if message.state is State.ACTIVE:
            self._offer(message)

    def _bury(self, message: Message, reason: str | None, description: str | None) -> None:
        self._unlock(message)
        message.reason, message.description = reason, description
        message.state = State.ACTIVE
        if self._is_dead:
            self._give_back(message)
            self.dispatch()
            return
        message.place = Place.DEAD
        self.take(message)
        self._queue.journal.save(message)
        self._queue.dead.put(message)
        self._queue.dead.dispatch()

    # --- time

    def _is_expired(self, message: Message) -> bool:
        return (
            not self._is_dead
            and message.expires_ms is not None
            and message.expires_ms <= self._queue.clock()
        )

    def _expire(self, message: Message) -> None:
        if self._queue.settings.dead_letter_expired:
            self._bury(message, TTL_EXPIRED, "The message expired and was dead lettered.")
        else:
            self.take(message)
            self._queue.journal.delete(message)

    def tick(self, now: int) -> None:
        """Whatever is due by now."""
        while self._ends and self._ends[0][0] <= now:
            until_ms, token = heapq.heappop(self._ends)
            lock = self.locks.get(token)
            if lock is not None and lock.until_ms == until_ms:
                self.fail(lock.message)
        while self._expiries and self._expiries[0][0] <= now:
            message = self.messages.get(heapq.heappop(self._expiries)[1])
            # A deferred one waits for its receiver, a locked one for the end of its lock.
            if message and not message.lock and message.state is State.ACTIVE:
                self._expire(message)
        self.dispatch()

    def due(self) -> Iterator[int]:
        """When something is to be done next."""
        if self._ends:
            yield self._ends[0][0]
        if self._expiries:
            yield self._expiries[0][0]
