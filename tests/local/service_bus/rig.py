"""A queue without sockets: a clock that is moved by hand, a consumer that keeps what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.servicebus._pyamqp._decode import decode_payload

from local.service_bus import codec
from local.service_bus.core import Queue
from local.service_bus.model import Message, QueueSettings
from local.service_bus.sessions import Session
from local.service_bus.store import MemoryStore

if TYPE_CHECKING:
    from local.service_bus.store import Store

LOCK_MS = 30_000


class Clock:
    """Milliseconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


@dataclass(eq=False)
class Consumer:
    """Takes up to `credit` messages; keeps them with their tokens."""

    credit: int = 0
    removes: bool = False
    paused: bool = False
    name: str = "a link"
    got: list[Message] = field(default_factory=list)
    raws: list[bytes] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    losses: int = 0

    def deliver(self, message: Message, raw: bytes) -> None:
        self.got.append(message)
        self.raws.append(raw)
        self.tokens.append(message.lock.token if message.lock else b"")

    def granted(self, session: Session) -> None:
        self.sessions.append(session)

    def lost(self) -> None:
        self.losses += 1

    @property
    def bodies(self) -> list[str]:
        return [text_of(raw) for raw in self.raws]


class Rig:
    """One queue with its clock and store."""

    def __init__(
        self, store: Store | None = None, clock: Clock | None = None, **what: Any
    ) -> None:
        self.clock = clock or Clock()
        self.store: Store = store or MemoryStore()
        settings = QueueSettings(
            **{"name": "q", "lock_ms": LOCK_MS, "max_delivery_count": 3, **what}
        )
        self.queue = Queue(
            self.store.queue_id(settings.name), settings, journal=self.store, clock=self.clock
        )
        self.store.load(self.queue)
        self.queue.recover()

    def pass_ms(self, ms: int) -> None:
        """Let time pass, with a tick wherever one is due."""
        end = self.clock.now + ms
        while (due := self.queue.next_due()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.queue.tick()
        self.clock.now = end

    def send(self, text: str, **what: Any) -> int:
        """Send one message; says its number."""
        return self.queue.send([raw(text, **what)])[0]

    def receive(self, count: int = 1, *, removes: bool = False, dead: bool = False) -> Consumer:
        """A consumer that took up to so many messages and is gone."""
        consumer = Consumer(credit=count, removes=removes)
        box = self.queue.dead if dead else self.queue.active
        box.hungry(consumer)
        box.leave(consumer)
        return consumer

    def receive_one(self, *, dead: bool = False) -> tuple[Message, bytes]:
        """One message and its lock token."""
        consumer = self.receive(dead=dead)
        assert len(consumer.got) == 1
        return consumer.got[0], consumer.tokens[0]


def raw(
    text: str,
    *,
    message_id: str | None = None,
    ttl_ms: int | None = None,
    due_ms: int | None = None,
    session: str | None = None,
) -> bytes:
    """A message in AMQP bytes."""
    parts = []
    if ttl_ms is not None:
        parts.append(codec.composite(0x70, (codec.NULL, codec.NULL, codec.uint(ttl_ms))))
    if due_ms is not None:
        key = codec.symbol("x-opt-scheduled-enqueue-time")
        parts.append(codec.described(0x72, codec.map_((key, codec.timestamp(due_ms)))))
    if message_id is not None or session is not None:
        fields = [codec.NULL] * 11
        if message_id is not None:
            fields[0] = codec.string(message_id)
        if session is not None:
            fields[10] = codec.string(session)
        parts.append(codec.composite(0x73, fields))
    parts.append(codec.described(0x75, codec.binary(text.encode())))
    return b"".join(parts)


def body(message: Message) -> str:
    """The text of a message that is in memory."""
    assert message.raw is not None
    return text_of(message.raw)


def text_of(raw: bytes) -> str:
    """The text in a message's bytes."""
    return b"".join(decode_payload(memoryview(raw)).data or []).decode()
