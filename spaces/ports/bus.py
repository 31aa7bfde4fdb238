"""Service Bus: messages out, and a look at what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to send: `body` is JSON text; `due_at` schedules it; ids of one queue merge."""

    queue: str
    message_id: str
    body: str
    due_at: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message seen by peeking."""

    message_id: str | None
    body: bytes
    enqueued_at: datetime | None
    delivery_count: int
    dead_letter_reason: str | None = None
    dead_letter_description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Counts of one queue at this moment."""

    name: str
    active: int
    scheduled: int
    dead_letter: int


class Bus(Protocol):
    """Azure Service Bus queues, the sending and looking side; the Functions host receives."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Send all; returns when the broker has stored each one.

        In the order given as far as queues go: what stands behind a message of another queue is
        sent when that one is stored, so that its arrival proves the other.

        May be repeated: a message id known within the queue's duplicate window is dropped by the
        broker. Raises `TransientError` (nothing sent, or unknown: repeat) and `ThrottledError`.
        """
        ...

    async def dead_letters(self, queue: str, *, limit: int = 50) -> list[Waiting]:
        """The first dead letters of a queue, peeked: nothing is locked or removed."""
        ...

    async def depths(self, queues: Sequence[str]) -> list[QueueDepth]:
        """How many messages stand in each queue, in the order asked."""
        ...

    async def oldest(self, queue: str) -> datetime | None:
        """Since when the oldest message waits that could be worked on now; None where none does.

        Peeked, so that nothing is locked; scheduled and put-off messages do not count.
        """
        ...
