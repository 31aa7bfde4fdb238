"""The port to a message broker, as narrow as the queue listener needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class BusError(Exception):
    """The broker cannot be reached, or the link to it is gone: open another receiver."""


class LockLostError(Exception):
    """The message is not ours any more; it will be delivered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One locked message. `delivery_count` starts at 1; `raw` is the adapter's own."""

    body: bytes
    message_id: str | None
    sequence_number: int
    delivery_count: int
    lock_token: str
    locked_until: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None
    subject: str | None = None
    to: str | None = None
    reply_to: str | None = None
    session_id: str | None = None
    reply_to_session_id: str | None = None
    partition_key: str | None = None
    dead_letter_source: str | None = None
    enqueued_at: datetime | None = None
    expires_at: datetime | None = None
    raw: Any = None


class Receiver(Protocol):
    """An open link to one queue that holds at most one message; every method may raise BusError."""

    async def receive(self, wait_s: float) -> Delivery | None:
        """The next message, locked, or None when none came in time."""
        ...

    async def complete(self, delivery: Delivery) -> None:
        """Remove the message. Raises LockLostError."""
        ...

    async def abandon(self, delivery: Delivery) -> None:
        """Give the message back at once; counts as a delivery. Raises LockLostError."""
        ...

    async def renew(self, delivery: Delivery) -> datetime:
        """Hold the lock longer; its new end. Raises LockLostError."""
        ...

    async def close(self) -> None:
        """Give up the link; what it holds unsettled becomes free. Never raises."""
        ...


class Bus(Protocol):
    """One namespace."""

    async def open(self, queue: str) -> Receiver:
        """A receiver whose link is open. Raises BusError."""
        ...

    async def close(self) -> None:
        """Let go of what receivers share."""
        ...
