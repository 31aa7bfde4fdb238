"""Service Bus queues in memory: locks, counts, dead letters, schedules, duplicate detection.

The port sends and looks. The other side, which on Azure is the Functions host, is played by the
test: `receive`, `complete`, `abandon`, or `pump` for all at once. Time is the fake clock's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from spaces.errors import InvalidError, NotFoundError
from spaces.ports import Message, QueueDepth, Waiting
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes.clock import FakeClock

_DECLARED = Path(__file__).parents[2] / "infra" / "queues.json"
MOST_BYTES = 256 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRules:
    """How a queue behaves; read from infra/queues.json, where the cloud reads it too."""

    name: str
    lock_s: float = 30.0
    max_delivery_count: int = 5
    duplicate_window_s: float = 600.0
    ttl_s: float | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Received:
    """A message in somebody's hands; `delivery_count` is 1 at the first delivery.

    `number` is the broker's sequence number.
    """

    queue: str
    message: Message
    enqueued_at: datetime
    delivery_count: int = 0
    locked_until: datetime | None = None
    reason: str | None = None
    description: str | None = None
    number: int = 0

    @property
    def body(self) -> bytes:
        return self.message.body.encode()


@dataclass(slots=True)
class _Queue:
    rules: QueueRules
    waiting: list[Received] = field(default_factory=list[Received])
    locked: list[Received] = field(default_factory=list[Received])
    scheduled: list[Received] = field(default_factory=list[Received])
    dead: list[Received] = field(default_factory=list[Received])
    seen: dict[str, datetime] = field(default_factory=dict[str, datetime])


type Handler = Callable[[Received], Awaitable[object]]


class FakeBus:
    def __init__(self, clock: FakeClock, queues: Sequence[QueueRules] | None = None) -> None:
        self.faults = Faults()
        self.sent: list[Message] = []
        self._clock = clock
        rules = queues if queues is not None else declared()
        self._queues = {each.name: _Queue(each) for each in rules}

    # --- the port

    async def send(self, messages: Sequence[Message]) -> None:
        self.faults.before("send")
        for message in messages:
            if len(message.body.encode()) > MOST_BYTES:
                raise InvalidError("the message is too large", where=f"queue {message.queue}")
            self._queue(message.queue)
        for message in messages:
            self._accept(message)
        self.faults.after("send")

    async def dead_letters(self, queue: str, *, limit: int = 50) -> list[Waiting]:
        self.faults.before("dead_letters")
        dead = self._queue(queue).dead[:limit]
        return [
            Waiting(
                message_id=item.message.message_id,
                body=item.body,
                enqueued_at=item.enqueued_at,
                delivery_count=item.delivery_count,
                dead_letter_reason=item.reason,
                dead_letter_description=item.description,
            )
            for item in dead
        ]

    async def oldest(self, queue: str) -> datetime | None:
        self.faults.before("oldest")
        there = self._queue(queue)
        self._settle(there)
        return min((item.enqueued_at for item in [*there.waiting, *there.locked]), default=None)

    async def depths(self, queues: Sequence[str]) -> list[QueueDepth]:
        self.faults.before("depths")
        found: list[QueueDepth] = []
        for name in queues:
            queue = self._queue(name)
            self._settle(queue)
            found.append(
                QueueDepth(
                    name=name,
                    active=len(queue.waiting) + len(queue.locked),
                    scheduled=len(queue.scheduled),
                    dead_letter=len(queue.dead),
                )
            )
        return found

    # --- the host's side

    def receive(self, queue: str, *, most: int = 1) -> list[Received]:
        """Lock and take up to `most` messages, in order; none when there is nothing."""
        here = self._queue(queue)
        self._settle(here)
        taken, here.waiting = here.waiting[:most], here.waiting[most:]
        for item in taken:
            item.delivery_count += 1
            item.locked_until = self._clock.now() + timedelta(seconds=here.rules.lock_s)
            here.locked.append(item)
        return taken

    def complete(self, item: Received) -> None:
        """Done with it. Raises `LookupError` when its lock was lost."""
        self._unlock(item)

    def abandon(self, item: Received) -> None:
        """Give it back; it is there again at once, before the others."""
        self._unlock(item)
        self._return(self._queue(item.queue), item)

    def dead_letter(self, item: Received, reason: str, description: str = "") -> None:
        """Put it aside for good."""
        self._unlock(item)
        item.reason, item.description = reason, description
        self._queue(item.queue).dead.append(item)

    def dead(self, queue: str) -> list[Received]:
        """The dead letters of a queue themselves: whoever has dealt with one takes it out."""
        return self._queue(queue).dead

    def lose(self, queue: str) -> Received:
        """Let the next message vanish after it was accepted: a fault no broker should have."""
        here = self._queue(queue)
        self._settle(here)
        return (here.waiting or here.scheduled).pop(0)

    def next_due(self) -> datetime | None:
        """When the next scheduled message of any queue becomes due."""
        due = [
            item.message.due_at
            for queue in self._queues.values()
            for item in queue.scheduled
            if item.message.due_at is not None
        ]
        return min(due, default=None)

    async def pump(self, handlers: dict[str, Handler], *, most: int = 1000) -> int:
        """Hand every message that is there now to its queue's handler, as the host would.

        An exception abandons the message. Goes on until nothing is active; answers how many
        were delivered. Time does not move: scheduled messages stay. More than `most` deliveries
        are an endless loop and an `AssertionError`.
        """
        delivered = 0
        while True:
            batch = [item for name in handlers for item in self.receive(name)]
            if not batch:
                return delivered
            for item in batch:
                delivered += 1
                assert delivered <= most, f"more than {most} deliveries: {item.message}"
                await self._deliver(item, handlers[item.queue])

    async def _deliver(self, item: Received, handler: Handler) -> None:
        try:
            await handler(item)
        except Exception:  # noqa: BLE001 — what the host does with a function's exception
            self.abandon(item)
        else:
            self.complete(item)

    # --- inside

    def _queue(self, name: str) -> _Queue:
        if name not in self._queues:
            raise NotFoundError(f"no queue {name}", where=f"queue {name}")
        return self._queues[name]

    def _accept(self, message: Message) -> None:
        queue, now = self._queue(message.queue), self._clock.now()
        queue.seen = {known: until for known, until in queue.seen.items() if until > now}
        if message.message_id in queue.seen:
            return
        window = timedelta(seconds=queue.rules.duplicate_window_s)
        queue.seen[message.message_id] = now + window
        self.sent.append(message)
        item = Received(
            queue=message.queue, message=message, enqueued_at=now, number=len(self.sent)
        )
        if message.due_at is not None and message.due_at > now:
            queue.scheduled.append(item)
        else:
            queue.waiting.append(item)

    def _settle(self, queue: _Queue) -> None:
        """Bring a queue up to the present: what is due, what is unlocked, what is too old."""
        now = self._clock.now()
        due = [item for item in queue.scheduled if (item.message.due_at or now) <= now]
        for item in sorted(due, key=lambda each: each.message.due_at or now):
            queue.scheduled.remove(item)
            item.enqueued_at = item.message.due_at or now
            queue.waiting.append(item)
        lost = [item for item in queue.locked if (item.locked_until or now) <= now]
        for item in reversed(lost):
            queue.locked.remove(item)
            self._return(queue, item)
        ttl_s = queue.rules.ttl_s
        if ttl_s is not None:
            oldest = now - timedelta(seconds=ttl_s)
            queue.waiting = [item for item in queue.waiting if item.enqueued_at > oldest]

    def _return(self, queue: _Queue, item: Received) -> None:
        item.locked_until = None
        if item.delivery_count < queue.rules.max_delivery_count:
            queue.waiting.insert(0, item)
            return
        item.reason = "MaxDeliveryCountExceeded"
        item.description = (
            f"Message could not be consumed after {item.delivery_count} delivery attempts."
        )
        queue.dead.append(item)

    def _unlock(self, item: Received) -> None:
        queue = self._queue(item.queue)
        self._settle(queue)
        if item not in queue.locked:
            raise LookupError(f"the lock of {item.message.message_id} is lost")
        queue.locked.remove(item)


def declared() -> list[QueueRules]:
    """The queues of infra/queues.json."""
    return [
        QueueRules(
            name=queue["name"],
            lock_s=queue["lock_duration_s"],
            max_delivery_count=queue["max_delivery_count"],
            duplicate_window_s=queue["duplicate_window_s"],
            ttl_s=queue.get("default_ttl_s"),
        )
        for queue in json.loads(_DECLARED.read_text())["queues"]
    ]
