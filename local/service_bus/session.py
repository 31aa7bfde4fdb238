"""An AMQP session: its links, and the numbers of its deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.service_bus import codec, frames
from local.service_bus.attach import attach
from local.service_bus.links import Inbound, Link, Listening, Receiving

if TYPE_CHECKING:
    from local.service_bus.core import Queue
    from local.service_bus.errors import BrokerError
    from local.service_bus.server import Connection

MAX_LINKS = 255


class Session:
    """One AMQP session: its links, and the numbers of its deliveries."""

    def __init__(self, connection: Connection, channel: int, next_incoming: int) -> None:
        self.connection = connection
        self.server = connection.server
        self.links: dict[int, Link] = {}
        self.listening: dict[str, Listening] = {}
        self.unsettled: dict[int, tuple[Receiving, bytes]] = {}
        self._channel = channel
        self._next_incoming = next_incoming
        self._next_delivery = 0

    # --- out

    def send(self, code: int, *fields: bytes) -> None:
        """Put a performative of this session on the wire."""
        self.connection.send(frames.performative(self._channel, code, fields))

    def touch(self) -> None:
        """Have what was sent outside of an incoming frame written at the turn's end."""
        self.server.touch(self.connection)

    def send_flow(
        self, handle: int, delivery_count: int, credit: int, *, drain: bool = False
    ) -> None:
        """Tell a link's credit."""
        self.send(
            frames.FLOW,
            codec.uint(self._next_incoming),
            codec.uint(frames.WINDOW),
            codec.uint(self._next_delivery),
            codec.uint(frames.WINDOW),
            codec.uint(handle),
            codec.uint(delivery_count),
            codec.uint(credit),
            codec.NULL,
            codec.boolean(drain),
        )

    def send_disposition(self, delivery_id: int, state: bytes, *, from_receiver: bool) -> None:
        """Tell the outcome of a delivery."""
        self.connection.send(
            frames.disposition(
                self._channel, from_receiver=from_receiver, delivery_id=delivery_id, state=state
            )
        )

    def deliver(self, link: Link, tag: bytes, payload: bytes, *, settled: bool) -> int:
        """Send a message on a link; says the delivery's number."""
        number = self._next_delivery
        self._next_delivery = (number + 1) & 0xFFFFFFFF
        connection = self.connection
        for frame in frames.transfer(
            self._channel,
            link.handle,
            (number, tag),
            payload,
            settled=settled,
            max_frame=connection.max_frame,
        ):
            connection.send(frame)
        self.server.touch(connection)
        return number

    # --- in

    def frame(self, code: int, fields: list[Any], body: bytes, end: int) -> None:
        """One frame of this session; what follows `end` in its body is payload."""
        match code:
            case frames.TRANSFER:
                self.transfer(fields, body[end:])
            case frames.DISPOSITION:
                self.disposition(fields)
            case frames.FLOW:
                self.flow(fields)
            case frames.ATTACH:
                attach(self, fields, body)
            case frames.DETACH:
                self.detach(fields)

    def transfer(self, fields: list[Any], payload: bytes) -> None:
        """A frame with (a part of) a message."""
        self._next_incoming = (self._next_incoming + 1) & 0xFFFFFFFF
        link = self.links.get(fields[0])
        if isinstance(link, Inbound):
            link.transfer(fields, payload)

    def disposition(self, fields: list[Any]) -> None:
        """Outcomes for deliveries that this side made; of links that are gone, none counts."""
        is_receiver, first, last, is_settled, state = fields[:5]
        if not is_receiver:
            return
        last = first if last is None else last
        if last - first < len(self.unsettled):
            numbers = range(first, last + 1)
        else:
            numbers = [n for n in self.unsettled if first <= n <= last]
        for number in numbers:
            if (delivery := self.unsettled.get(number)) is None:
                continue
            link, token = delivery
            echo = link.settle(token, state)
            if echo is None and not is_settled:
                continue
            self.unsettled.pop(number, None)
            if not is_settled and echo is not None:
                self.send_disposition(number, echo, from_receiver=False)

    def flow(self, fields: list[Any]) -> None:
        """Credit for a link; a flow of the session alone needs no answer."""
        link = self.links.get(fields[4])
        if link is not None:
            link.flow(fields)

    def detach(self, fields: list[Any]) -> None:
        """A link ends; frames for unknown handles come late and mean nothing."""
        link = self.links.get(fields[0])
        if link is not None:
            self.drop(link)
            link.send(frames.DETACH, codec.TRUE)

    def drop(self, link: Link) -> None:
        """Forget a link."""
        self.links.pop(link.handle, None)
        link.close()
        gone = [n for n, (owner, _) in self.unsettled.items() if owner is link]
        for number in gone:
            del self.unsettled[number]

    def end_links(self, queue: Queue, refusal: BrokerError, *, receiving_only: bool) -> None:
        """Detach what is attached to a queue that is gone, or gives nothing any more."""
        for link in list(self.links.values()):
            if link.queue is queue and (isinstance(link, Receiving) or not receiving_only):
                link.detach(refusal)
                self.touch()

    def add(self, link: Link) -> None:
        """A new link."""
        self.links[link.handle] = link

    def has_room(self, handle: int) -> bool:
        """Whether this handle can be taken."""
        return handle not in self.links and len(self.links) < MAX_LINKS

    def wake(self) -> None:
        """The socket takes more again."""
        for link in self.links.values():
            if isinstance(link, Receiving):
                link.wake()

    def close(self) -> None:
        """The session is over."""
        for link in list(self.links.values()):
            link.close()
        self.links.clear()
        self.unsettled.clear()
