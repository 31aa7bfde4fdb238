"""The port to a message broker, as narrow as the queue listener needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

SUBSCRIPTIONS = "/subscriptions/"
"""Between a topic and the subscription that is received from."""


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
    """An open link to one queue; every method may raise BusError.

    Receiving and settling take turns: neither while the other waits.
    """

    async def receive(self, wait_s: float) -> Delivery | None:
        """The next message, locked, or None when none came in time."""
        ...

    async def receive_many(self, count: int, wait_s: float) -> list[Delivery]:
        """Up to `count` messages that are there, waiting for the first one; locked."""
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


class SessionReceiver(Receiver, Protocol):
    """A link that holds one session: its messages alone, in order, under the session's lock.

    Once that lock has ended every method raises LockLostError.
    """

    @property
    def session_id(self) -> str:
        """The session it holds."""
        ...

    @property
    def locked_until(self) -> datetime:
        """When its lock ends unless it is renewed."""
        ...

    async def renew_session(self) -> datetime:
        """Hold the session longer; the new end of its lock."""
        ...


class Bus(Protocol):
    """One namespace. With `prefetch` that many messages are locked ahead of being asked for."""

    async def open(self, queue: str, *, prefetch: int = 0) -> Receiver:
        """A receiver whose link is open. Raises BusError."""
        ...

    async def open_session(
        self, queue: str, *, wait_s: float, prefetch: int = 0
    ) -> SessionReceiver | None:
        """The next session that nobody holds, or None when there was none in time. Raises BusError."""
        ...

    async def send(
        self, entity: str, body: bytes, *, content_type: str, is_topic: bool
    ) -> None:
        """Send one message to a queue or topic. Raises BusError."""
        ...

    async def close(self) -> None:
        """Let go of what receivers share."""
        ...
