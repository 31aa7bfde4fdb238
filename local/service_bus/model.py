"""The values of the broker: a queue's settings, a message, a lock, and who receives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from local.service_bus.message import Stamps, render

# A message's key in the store: its queue above, its sequence number below.
SEQUENCE_BITS = 40


class Right(StrEnum):
    """What a key may do; who may manage may do the others too."""

    LISTEN = "Listen"
    SEND = "Send"
    MANAGE = "Manage"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """A key of one queue or topic, under its name."""

    key_name: str
    rights: tuple[str, ...]
    primary_key: str
    secondary_key: str
    claim_type: str = "SharedAccessKey"
    claim_value: str = "None"
    created_ms: int = 0
    modified_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What a queue, topic or subscription was declared with; times in ms, None: no limit."""

    name: str
    lock_ms: int = 60_000
    max_delivery_count: int = 10
    duplicate_window_ms: int = 0  # 0: no duplicate detection
    shown_window_ms: int = 600_000  # what was asked for, also where nothing is detected
    requires_session: bool = False
    ttl_ms: int | None = None
    dead_letter_expired: bool = False
    max_bytes: int = 1024 * 1024 * 1024
    can_send: bool = True
    can_receive: bool = True
    batched: bool = True  # shown as it was asked for; this broker always batches
    user_metadata: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    forward_to: str = ""  # an address; "": nothing is forwarded
    forward_dead_to: str = ""
    idle_ms: int | None = None  # unused for so long, it is deleted
    partitioned: bool = False  # shown; one process has no partitions
    express: bool = False  # shown; everything is written at once
    ordered: bool = True  # shown; this broker always keeps the order
    dead_letter_filter_errors: bool = True  # subscriptions only
    rules: tuple[AccessRule, ...] = ()


class State(IntEnum):
    """Where a message stands, as the annotation `x-opt-message-state` says it."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


class Place(IntEnum):
    """Which of a queue's boxes a message lies in."""

    ACTIVE = 0
    DEAD = 1
    TRANSFER_DEAD = 2  # what could not be forwarded


@dataclass(frozen=True, slots=True)
class Travel:
    """Where a message has been before it came here."""

    origin: int  # its number where it was sent
    hops: int = 0  # how often it was forwarded
    source: str | None = None  # whose dead letter it was


class Message:
    """One message in the broker's hands; `raw` is None while only the store holds its bytes."""

    __slots__ = (
        "delivery_count",
        "description",
        "enqueued_ms",
        "expires_ms",
        "is_stored",
        "key",
        "lock",
        "place",
        "raw",
        "reason",
        "scheduled_ms",
        "session_id",
        "size",
        "state",
        "travel",
        "ttl_ms",
    )

    def __init__(
        self,
        *,
        key: int,
        raw: bytes | None,
        size: int,
        enqueued_ms: int,
        ttl_ms: int | None = None,
        scheduled_ms: int = 0,
        session_id: str | None = None,
        state: State = State.ACTIVE,
        delivery_count: int = 0,
        place: Place = Place.ACTIVE,
        reason: str | None = None,
        description: str | None = None,
        travel: Travel | None = None,
    ) -> None:
        self.key = key
        self.raw = raw
        self.size = size
        self.enqueued_ms = enqueued_ms
        self.ttl_ms = ttl_ms
        self.expires_ms = None if ttl_ms is None else enqueued_ms + ttl_ms
        self.scheduled_ms = scheduled_ms
        self.session_id = session_id
        self.state = state
        self.delivery_count = delivery_count  # failed deliveries so far
        self.place = place
        self.travel = travel
        self.reason = reason
        self.description = description
        self.is_stored = False  # the store's own mark: a row of it exists
        self.lock: Lock | None = None

    @property
    def is_dead(self) -> bool:
        """Whether it is a dead letter, of whichever kind."""
        return self.place is not Place.ACTIVE

    @property
    def sequence(self) -> int:
        """The sequence number, without the queue."""
        return self.key & ((1 << SEQUENCE_BITS) - 1)

    def render(self, raw: bytes, *, is_peeked: bool = False) -> bytes:
        """The message as a receiver gets it now, with its lock unless it is only peeked at."""
        lock = None if is_peeked else self.lock
        return render(
            raw,
            Stamps(
                sequence=self.sequence,
                enqueued_ms=self.enqueued_ms,
                delivery_count=self.delivery_count,
                state=self.state,
                locked_until_ms=None if lock is None else lock.until_ms,
                ttl_ms=self.ttl_ms,
                reason=self.reason,
                description=self.description,
                origin=None if self.travel is None else self.travel.origin,
                source=None if self.travel is None else self.travel.source,
            ),
        )


class Lock:
    """Somebody's right to settle a message, for a while; lives on when the connection is gone."""

    __slots__ = ("message", "token", "until_ms")

    def __init__(self, token: bytes, message: Message, until_ms: int) -> None:
        self.token = token
        self.message = message
        self.until_ms = until_ms


class Consumer(Protocol):
    """A receiving link as a queue sees it."""

    credit: int
    removes: bool  # receive and delete

    @property
    def paused(self) -> bool:
        """Whether its socket takes no more for now."""
        ...

    def deliver(self, message: Message, raw: bytes) -> None:
        """Send this message; its lock, when there is one, is on it."""
        ...


class Journal(Protocol):
    """Where changes are written before anybody is told of them."""

    def save(self, message: Message) -> None:
        """This message is new or has changed."""
        ...

    def delete(self, message: Message) -> None:
        """This message is gone."""
        ...

    def body(self, message: Message) -> bytes:
        """The bytes of a message whose `raw` is None."""
        ...

    def remember(
        self, queue_id: int, message_id: bytes, expires_ms: int, sequence: int
    ) -> None:
        """A message id counts as a duplicate until then."""
        ...

    def forget(self, queue_id: int, before_ms: int) -> None:
        """Message ids that expired before then are gone."""
        ...

    def session_state(self, queue_id: int, session_id: str, state: bytes | None) -> None:
        """The state of a session; None removes it."""
        ...
