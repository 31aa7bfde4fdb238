"""Links of a session: what a client sends to a queue, what it receives, what it asks.

A link here is named from the client's side. `Sending` takes messages in and answers each with its
outcome, `Receiving` is a consumer of a queue and settles what comes back, `Asking` is the request
half of `$cbs` and `$management`; the answers go out on a `Listening` link.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from local.service_bus import codec, frames
from local.service_bus.decode import CodecError
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.exchange import read_request
from local.service_bus.message import BATCH_FORMAT, short_text, split_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.service_bus.box import Box
    from local.service_bus.core import Queue
    from local.service_bus.exchange import Request
    from local.service_bus.model import Message
    from local.service_bus.namespace import Entity
    from local.service_bus.session import Session
    from local.service_bus.sessions import Session as MessageSession
    from local.service_bus.sessions import SessionBox

MAX_MESSAGE = 1_048_576
_CREDIT, _TOP_UP = 5_000, 2_500
# Unix epoch in .NET ticks of 100 ns, as `com.microsoft:locked-until-utc` counts.
_EPOCH_TICKS = 621_355_968_000_000_000


class Link:
    """What all links have in common."""

    def __init__(self, session: Session, handle: int, queue: Queue | None = None) -> None:
        self.session = session
        self.handle = handle
        self.queue = queue

    def send(self, code: int, *fields: bytes) -> None:
        """Put a performative of this link on the wire."""
        self.session.send(code, codec.uint(self.handle), *fields)

    def close(self) -> None:
        """The link is detached, or its connection is gone."""

    def flow(self, fields: list[Any]) -> None:
        """The client says what it can take."""

    def detach(self, refusal: BrokerError) -> None:
        """End the link from this side."""
        error = frames.error(refusal.condition, refusal.description)
        self.send(frames.DETACH, codec.TRUE, error)
        self.session.drop(self)


class Inbound(Link):
    """A link on which the client sends: puts transfers together, keeps up the client's credit."""

    limit = MAX_MESSAGE

    def __init__(
        self, session: Session, handle: int, *, delivery_count: int, queue: Queue | None = None
    ) -> None:
        super().__init__(session, handle, queue)
        self._delivery_count = delivery_count
        self._credit = _CREDIT
        self._parts: list[bytes] = []
        self._size = 0
        self._first: list[Any] = []

    def grant(self) -> None:
        """Give the client credit.

        The SDK assumes 10,000 to begin with and pays a nap of 50 ms for each frame it has to
        read, so it gets none before half is used; credit must never reach 0, or the SDK's
        session sends a flow frame that it cannot encode after 65,536 messages.
        """
        self._credit = _CREDIT
        self.session.send_flow(self.handle, self._delivery_count, _CREDIT)

    def transfer(self, fields: list[Any], payload: bytes) -> None:
        """One frame of a delivery."""
        if not self._first:
            if fields[1] is None:
                raise CodecError("a transfer needs its delivery's number")
            self._first = fields
        if fields[9]:  # aborted
            self._first, self._parts, self._size = [], [], 0
            return
        self._size += len(payload)
        if self._size <= self.limit:
            self._parts.append(payload)
        if fields[5]:  # more
            return
        first, size = self._first, self._size
        raw = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._first, self._parts, self._size = [], [], 0
        self._delivery_count = (self._delivery_count + 1) & 0xFFFFFFFF
        self._credit -= 1
        outcome = self._outcome(raw, size, first[3] or 0)
        if not (first[4] or fields[4]):  # settled
            self.session.send_disposition(first[1], outcome, from_receiver=True)
        if self._credit <= _TOP_UP:
            self.grant()

    def _outcome(self, raw: bytes, size: int, message_format: int) -> bytes:
        try:
            check_size(size, self.limit)
            self.take(raw, message_format)
        except CodecError as error:
            return frames.rejected(BrokerError(Condition.DECODE, f"No AMQP message: {error}."))
        except BrokerError as refusal:
            return frames.rejected(refusal)
        return frames.ACCEPTED_STATE

    def take(self, raw: bytes, message_format: int) -> None:
        """Do with a complete delivery what this link is for."""
        raise AssertionError(f"{type(self).__name__} takes nothing")


class Sending(Inbound):
    """A client's link to a queue."""

    def __init__(
        self, session: Session, handle: int, entity: Entity, delivery_count: int
    ) -> None:
        super().__init__(session, handle, delivery_count=delivery_count, queue=entity.queue)
        self._queue = entity.queue

    def take(self, raw: bytes, message_format: int) -> None:
        """Accept a message, or all of a batch."""
        self._queue.send(split_batch(raw) if message_format == BATCH_FORMAT else [raw])


class Asking(Inbound):
    """The request half of `$cbs` and `$management`."""

    # A request with too large a message in it is answered as one: a link that rejects the whole
    # request is of no use to the SDK any more.
    limit = 4 * MAX_MESSAGE

    def __init__(
        self,
        session: Session,
        handle: int,
        *,
        address: str,
        respond: Callable[[Request], bytes],
        delivery_count: int,
    ) -> None:
        super().__init__(session, handle, delivery_count=delivery_count)
        self._address = address
        self._respond = respond

    def take(self, raw: bytes, message_format: int) -> None:
        """Carry out a request; the answer goes out before the request's own outcome."""
        if message_format:
            raise BrokerError(Condition.NOT_ALLOWED, "A request is one message.")
        response = self._respond(read_request(raw))
        link = self.session.listening.get(self._address)
        if link is None:
            raise BrokerError(
                Condition.NOT_ALLOWED, f"Nobody listens to answers of {self._address}."
            )
        link.answer(response)


class Listening(Link):
    """The answering half of `$cbs` and `$management`."""

    def __init__(self, session: Session, handle: int, address: str) -> None:
        super().__init__(session, handle)
        self._address = address
        session.listening[address] = self

    def answer(self, response: bytes) -> None:
        """Send an answer, settled."""
        self.session.deliver(self, os.urandom(16), response, settled=True)

    def close(self) -> None:
        """Nobody listens any more."""
        if self.session.listening.get(self._address) is self:
            del self.session.listening[self._address]


class Receiving(Link):
    """A client's link from a queue or its dead letters: a consumer."""

    def __init__(self, session: Session, handle: int, entity: Entity, *, removes: bool) -> None:
        super().__init__(session, handle, entity.queue)
        self.box: Box = entity.box
        self.removes = removes
        self.credit = 0
        self._delivery_count = 0

    @property
    def paused(self) -> bool:
        """Whether the connection's socket is full."""
        return self.session.connection.paused

    def flow(self, fields: list[Any]) -> None:
        """The client's credit, counted from its own view of the deliveries; maybe a drain."""
        seen, granted, drain, echo = fields[5] or 0, fields[6] or 0, fields[8], fields[9]
        self.credit = (seen + granted - self._delivery_count) & 0xFFFFFFFF
        if self.credit > 0x7FFFFFFF:
            self.credit = 0
        self.wake()
        if drain:
            self._delivery_count = (self._delivery_count + self.credit) & 0xFFFFFFFF
            self.credit = 0
        if drain or echo:
            self.session.send_flow(
                self.handle, self._delivery_count, self.credit, drain=bool(drain)
            )

    def wake(self) -> None:
        """Ask the queue for messages if there is credit."""
        if self.credit > 0:
            self.box.touch()
            self.box.hungry(self)

    def deliver(self, message: Message, raw: bytes) -> None:
        """Send a message; the tag is its lock token in Microsoft's byte order."""
        self._delivery_count = (self._delivery_count + 1) & 0xFFFFFFFF
        token = os.urandom(16) if message.lock is None else message.lock.token
        number = self.session.deliver(
            self, _swapped(token), message.render(raw), settled=self.removes
        )
        if not self.removes:
            self.session.unsettled[number] = (self, token)

    def settle(self, token: bytes, state: object) -> bytes | None:
        """Do what an outcome asks; says the outcome to echo, None for a state that is none."""
        code, fields = frames.outcome(state)
        try:
            self.check()
            match code:
                case frames.ACCEPTED:
                    self.box.complete(token)
                    return frames.ACCEPTED_STATE
                case frames.REJECTED:
                    self.box.dead_letter(token, *_reason(fields))
                    return frames.REJECTED_STATE
                case frames.RELEASED:
                    self.box.release(token)
                    return frames.RELEASED_STATE
                case frames.MODIFIED:
                    is_put_aside = len(fields) > 1 and fields[1]
                    (self.box.defer if is_put_aside else self.box.abandon)(token)
                    return frames.MODIFIED_STATE
                case _:
                    return None
        except BrokerError as refusal:
            return frames.rejected(refusal)

    def check(self) -> None:
        """Raise when what was delivered here can no longer be settled."""

    def close(self) -> None:
        """Leave the queue; locks stay until they end."""
        self.box.leave(self)


class ReceivingSession(Receiving):
    """A client's link from one session of a queue, named or the next that is free."""

    def __init__(
        self,
        session: Session,
        handle: int,
        entity: Entity,
        *,
        name: str,
        removes: bool,
        on_granted: Callable[[ReceivingSession], None],
        on_timeout: Callable[[BrokerError], None],
    ) -> None:
        super().__init__(session, handle, entity, removes=removes)
        if entity.queue.sessions is None or entity.is_dead:
            raise BrokerError(Condition.NOT_ALLOWED, f"{entity.queue.name} has no sessions.")
        self.sessions: SessionBox = entity.queue.sessions
        self.held: MessageSession | None = None
        self.name = name
        self._is_lost = False
        self._on_granted = on_granted
        self._on_timeout = on_timeout
        self._timeout: asyncio.TimerHandle | None = None

    def accept(self, session_id: str | None, timeout_ms: int) -> None:
        """Ask for a session; `on_granted` is called now or later, or the link is refused.

        Raises:
            BrokerError: the session is held by somebody else.
        """
        if session_id is not None:
            self.granted(self.sessions.accept(session_id, self))
            return
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(timeout_ms / 1000, self._give_up)
        self.sessions.accept_next(self)

    @property
    def properties(self) -> bytes:
        """What the client reads about its session from the attach."""
        until_ms = self.held.until_ms if self.held is not None else 0
        ticks = until_ms * 10_000 + _EPOCH_TICKS
        return codec.map_((codec.symbol("com.microsoft:locked-until-utc"), codec.long(ticks)))

    def granted(self, session: MessageSession) -> None:
        """The session is there."""
        self.held = session
        self._stop_waiting()
        self._on_granted(self)

    def lost(self) -> None:
        """The session's lock has ended: so does the link."""
        self._is_lost = True
        self.detach(
            BrokerError(
                Condition.SESSION_LOCK_LOST, "The session lock has expired on the session."
            )
        )
        self.session.touch()

    def check(self) -> None:
        """Raise when the session is not held any more."""
        if self._is_lost:
            raise BrokerError(Condition.SESSION_LOCK_LOST, "The session lock was lost.")

    def _give_up(self) -> None:
        self.session.drop(self)
        self._on_timeout(BrokerError(Condition.TIMEOUT, "No session became available in time."))
        self.session.touch()

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def close(self) -> None:
        """Leave; the session is free."""
        self._stop_waiting()
        self.sessions.leave(self)


def check_size(size: int, limit: int = MAX_MESSAGE) -> None:
    """Raise when so many bytes are more than a message may have."""
    if size > limit:
        raise BrokerError(
            Condition.TOO_LARGE,
            f"The message of {size} bytes is larger than the {limit} allowed.",
        )


def _swapped(token: bytes) -> bytes:
    """A UUID's bytes in Microsoft's order."""
    return token[3::-1] + token[5:3:-1] + token[7:5:-1] + token[8:]


def _reason(fields: list[Any]) -> tuple[str | None, str | None]:
    """Reason and description of a rejection."""
    error = frames.terminus(fields[0]) if fields else []
    info = error[2] if len(error) > 2 and isinstance(error[2], dict) else {}
    reason, description = info.get("DeadLetterReason"), info.get("DeadLetterErrorDescription")
    if not info and error and error[0] != Condition.DEAD_LETTER:
        reason, description = error[0], error[1] if len(error) > 1 else None
    return short_text(reason), short_text(description)
