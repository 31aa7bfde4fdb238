"""Attaching a link: what it is to, who may, and the answer the SDK expects.

Source and target are echoed byte for byte, but for the session that was chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.service_bus import cbs, codec, frames
from local.service_bus.decode import Described, decode, slices
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.links import (
    MAX_MESSAGE,
    Asking,
    Inbound,
    Link,
    Listening,
    Receiving,
    ReceivingSession,
    Sending,
)
from local.service_bus.management import manage
from local.service_bus.model import Right
from local.service_bus.sas import path_of
from local.service_bus.topics import Subscription, Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.service_bus.exchange import Request
    from local.service_bus.namespace import Entity
    from local.service_bus.session import Session

_SESSION_FILTER = "com.microsoft:session-filter"
_TIMEOUT = "com.microsoft:timeout"
_BATCH_SIZE = codec.map_(
    (codec.symbol("com.microsoft:max-message-batch-size"), codec.ulong(MAX_MESSAGE))
)
_CBS = "$cbs"
_MANAGEMENT = "/$management"
_DEFAULT_WAIT_MS = 60_000


class Attach:
    """One attach frame of a client."""

    def __init__(self, session: Session, fields: list[Any], body: bytes) -> None:
        self.session = session
        self.name = str(fields[0])
        self.handle: int = fields[1]
        self.is_receiver = bool(fields[2])
        self.settle_modes = (fields[3], fields[4])
        self.initial_count: int = fields[9] or 0
        self.properties = fields[13] if isinstance(fields[13], dict) else {}
        self._slices = frames.read_slices(body)
        terminus = frames.terminus(fields[5] if self.is_receiver else fields[6])
        address = terminus[0] if terminus else None
        self.is_coordinator = not self.is_receiver and frames.is_coordinator(fields[6])
        self.address = path_of(address).strip("/") if isinstance(address, str) else ""
        filters = terminus[7] if self.is_receiver and len(terminus) > 7 else None
        self.filters: dict[Any, Any] = filters if isinstance(filters, dict) else {}

    def accept(self, *, source: bytes | None = None, properties: bytes = codec.NULL) -> None:
        """Answer with the client's own terms."""
        raw = self._slices
        self.session.send(
            frames.ATTACH,
            raw[0],
            raw[1],
            codec.boolean(not self.is_receiver),
            raw[3],
            raw[4],
            source or raw[5],
            raw[6],
            codec.NULL,
            codec.NULL,
            codec.uint(0) if self.is_receiver else codec.NULL,
            codec.ulong(MAX_MESSAGE),
            codec.NULL,
            codec.NULL,
            properties,
        )

    def refuse(self, refusal: BrokerError) -> None:
        """Answer with a link to nothing, and end it with the reason."""
        raw = self._slices
        self.session.send(
            frames.ATTACH,
            raw[0],
            raw[1],
            codec.boolean(not self.is_receiver),
            raw[3],
            raw[4],
            codec.NULL if self.is_receiver else raw[5],
            raw[6] if self.is_receiver else codec.NULL,
            codec.NULL,
            codec.NULL,
            codec.uint(0) if self.is_receiver else codec.NULL,
        )
        error = frames.error(refusal.condition, refusal.description)
        self.session.send(frames.DETACH, raw[1], codec.TRUE, error)

    def source_with_session(self, session_id: str) -> bytes:
        """The client's source, its filter naming the session that it got."""
        _, at = decode(self._slices[5], 1)
        fields = slices(self._slices[5], at)
        chosen = (codec.symbol(_SESSION_FILTER), codec.string(session_id))
        fields[7] = codec.map_(chosen)
        return codec.composite(frames.SOURCE, fields)


def attach(session: Session, fields: list[Any], body: bytes) -> None:
    """Attach a link, or refuse it."""
    asked = Attach(session, fields, body)
    try:
        _link(asked)
    except BrokerError as refusal:
        asked.refuse(refusal)


def _link(asked: Attach) -> None:
    if not asked.session.has_room(asked.handle):
        raise BrokerError(Condition.FULL, f"No link can be attached as {asked.handle}.")
    address = asked.address.lower()
    if address == _CBS or address.endswith(_MANAGEMENT):
        _request_link(asked, address)
        return
    if asked.is_coordinator:
        raise BrokerError(
            Condition.NOT_IMPLEMENTED, "Not implemented: this broker has no transactions."
        )
    namespace = asked.session.server.namespace
    right = Right.LISTEN if asked.is_receiver else Right.SEND
    asked.session.connection.authorize(asked.address, right)
    entity = namespace.find(asked.address)
    if not asked.is_receiver:
        _check_sending(entity)
        link = Sending(asked.session, asked.handle, entity, asked.initial_count)
        _open(asked, link, properties=_BATCH_SIZE)
        return
    _check_receiving(entity)
    needs_session = entity.queue.sessions is not None and not entity.is_dead
    if needs_session != (_SESSION_FILTER in asked.filters):
        raise BrokerError(
            Condition.NOT_ALLOWED,
            f"It is not possible for an entity that {'requires' if needs_session else 'has no'} "
            f"sessions to create a {'non-' if needs_session else ''}sessionful message receiver.",
        )
    removes = asked.settle_modes[0] == 1
    if needs_session:
        _attach_session(asked, removes=removes)
    else:
        _open(asked, Receiving(asked.session, asked.handle, entity, removes=removes))


def _check_sending(entity: Entity) -> None:
    if entity.is_dead or isinstance(entity.queue, Subscription):
        what = "a dead-letter queue" if entity.is_dead else "a subscription"
        raise BrokerError(Condition.NOT_ALLOWED, f"Nothing can be sent to {what}.")
    if not entity.queue.settings.can_send:
        raise BrokerError(Condition.DISABLED, f"{entity.queue.name} takes no messages.")


def _check_receiving(entity: Entity) -> None:
    if isinstance(entity.queue, Topic):
        raise BrokerError(
            Condition.NOT_ALLOWED,
            f"{entity.queue.name} is a topic: receive from a subscription.",
        )
    if entity.is_forwarded:
        raise BrokerError(
            Condition.NOT_ALLOWED,
            "Cannot create a message receiver on an entity with auto-forwarding enabled.",
        )
    if not entity.queue.settings.can_receive:
        raise BrokerError(Condition.DISABLED, f"{entity.queue.name} gives no messages.")


def _open(
    asked: Attach, link: Link, *, source: bytes | None = None, properties: bytes = codec.NULL
) -> None:
    asked.session.add(link)
    asked.accept(source=source, properties=properties)
    if isinstance(link, Inbound) and not asked.session.connection.is_python_sdk:
        link.grant()


def _attach_session(asked: Attach, *, removes: bool) -> None:
    entity = asked.session.server.namespace.find(asked.address)

    def on_granted(link: ReceivingSession) -> None:
        session_id = link.held.session_id if link.held is not None else ""
        source = asked.source_with_session(session_id)
        _open(asked, link, source=source, properties=link.properties)
        asked.session.touch()

    link = ReceivingSession(
        asked.session,
        asked.handle,
        entity,
        name=asked.name,
        removes=removes,
        on_granted=on_granted,
        on_timeout=asked.refuse,
    )
    wanted = asked.filters[_SESSION_FILTER]
    wanted = wanted.value if isinstance(wanted, Described) else wanted
    timeout_ms = asked.properties.get(_TIMEOUT) or _DEFAULT_WAIT_MS
    if not isinstance(wanted, str | None) or not isinstance(timeout_ms, int):
        raise BrokerError(Condition.NOT_ALLOWED, "A session's id is a text, or null for any.")
    asked.session.add(link)  # so that a detach, or the connection's end, stops the waiting
    try:
        link.accept(wanted, timeout_ms)
    except BrokerError:
        asked.session.drop(link)
        raise


def _request_link(asked: Attach, address: str) -> None:
    session = asked.session
    respond = _responder(asked, address)
    if asked.is_receiver:
        _open(asked, Listening(session, asked.handle, address))
        return
    link = Asking(
        session,
        asked.handle,
        address=address,
        respond=respond,
        delivery_count=asked.initial_count,
    )
    _open(asked, link)


def _responder(asked: Attach, address: str) -> Callable[[Request], bytes]:
    connection, server = asked.session.connection, asked.session.server
    if address == _CBS:
        return lambda request: cbs.put_token(request, server.keys, connection.grants)
    path = asked.address[: -len(_MANAGEMENT)]
    connection.authorize(path)
    server.namespace.find(path)
    # Looked up each time: the queue may be deleted, or made anew, while the link lives.
    return lambda request: manage(
        request,
        server.namespace.find(path),
        lambda right: connection.authorize(path, right),
    )
