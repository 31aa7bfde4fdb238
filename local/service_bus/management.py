"""The node `<entity>/$management`: what a receiver or sender asks beside its links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from local.service_bus import codec
from local.service_bus.decode import CodecError
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.exchange import Request, answer
from local.service_bus.links import check_size
from local.service_bus.message import short_text
from local.service_bus.model import Right
from local.service_bus.namespace import Entity
from local.service_bus.topics import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local.service_bus.sessions import SessionBox

_PREFIX = "com.microsoft:"
_MAX_ANSWER = 1_000_000  # bytes of messages in one answer; the client asks for the rest again
_EVERY_SESSION = 253_402_300_800_000  # "last updated" that means: all with messages or a state

_LINK_NAME = "associated-link-name"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: at which entity, for which of its links (a session is held by a link)."""

    entity: Entity
    link_name: str | None


# A status and a body; most operations answer 200 with a map.
type Answer = tuple[int, bytes]

_EMPTY = codec.map_(())


def manage(request: Request, entity: Entity, authorize: Callable[[Right], None]) -> bytes:
    """Carry out one request and answer it; `authorize` refuses who has not the right to it."""
    operation = str(request.properties.get("operation", "")).removeprefix(_PREFIX)
    arguments = request.body if isinstance(request.body, dict) else {}
    try:
        authorize(Right.SEND if operation in _SENDING else Right.LISTEN)
        caller = Caller(entity, request.properties.get(_LINK_NAME))
        status, body = _operation(operation)(caller, arguments)
    except BrokerError as refusal:
        return _answer(request, refusal.status, _EMPTY, refusal=refusal)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"The request {operation} is not understood: {type(error).__name__} {error}."
        return _answer(request, 400, _EMPTY, refusal=BrokerError(Condition.ARGUMENT, what))
    return _answer(request, status, body)


def _operation(name: str) -> Callable[[Caller, dict], Answer]:
    if name not in _OPERATIONS:
        raise BrokerError(
            Condition.NOT_IMPLEMENTED, f"The operation {name!r} is not implemented."
        )
    return _OPERATIONS[name]


def _answer(
    request: Request, status: int, body: bytes, *, refusal: BrokerError | None = None
) -> bytes:
    properties = [
        codec.string("statusCode"),
        codec.int_(status),
        codec.string("statusDescription"),
        codec.string("OK" if refusal is None else refusal.description),
    ]
    if refusal is not None:
        properties += [codec.string("errorCondition"), codec.symbol(refusal.condition)]
    return answer(request, properties, body)


def _map(name: str, value: bytes) -> bytes:
    return codec.map_((codec.string(name), value))


def _tokens(arguments: dict) -> list[bytes]:
    return [UUID(str(token)).bytes for token in arguments["lock-tokens"]]


def _numbers(arguments: dict) -> list[int]:
    return [int(number) for number in arguments["sequence-numbers"]]


def _sessions(caller: Caller) -> SessionBox:
    sessions = None if caller.entity.is_dead else caller.entity.queue.sessions
    if sessions is None:
        raise BrokerError(Condition.NOT_ALLOWED, f"{caller.entity.queue.name} has no sessions.")
    return sessions


def _check_session(caller: Caller, arguments: dict) -> str | None:
    """The session of a request; its lock must be held, and its loss is told before the message's."""
    session_id = arguments.get("session-id")
    sessions = None if caller.entity.is_dead else caller.entity.queue.sessions
    if session_id is not None and sessions is not None:
        sessions.held_session(session_id, caller.link_name)
    return session_id


# --- locks and settling


def _renew_lock(caller: Caller, arguments: dict) -> Answer:
    _check_session(caller, arguments)
    ends = [caller.entity.box.renew(token) for token in _tokens(arguments)]
    return 200, _map("expirations", codec.array_of_timestamp(ends))


def _update_disposition(caller: Caller, arguments: dict) -> Answer:
    _check_session(caller, arguments)
    box, tokens = caller.entity.box, _tokens(arguments)
    for token in tokens:
        box.held(token)
    reason = short_text(arguments.get("deadletter-reason"))
    description = short_text(arguments.get("deadletter-description"))
    settle: dict[str, Callable[[bytes], None]] = {
        "completed": box.complete,
        "abandoned": box.abandon,
        "defered": box.defer,
        "suspended": lambda token: box.dead_letter(token, reason, description),
    }
    for token in tokens:
        settle[arguments["disposition-status"]](token)
    return 200, _EMPTY


def _receive_by_number(caller: Caller, arguments: dict) -> Answer:
    session_id = _check_session(caller, arguments)
    removes = arguments.get("receiver-settle-mode") == 0
    entries = []
    for message, raw in caller.entity.box.fetch(
        _numbers(arguments), removes=removes, session_id=session_id
    ):
        token = UUID(int=0).bytes if message.lock is None else message.lock.token
        entries.append(
            codec.map_(
                (
                    codec.string("lock-token"),
                    codec.uuid(token),
                    codec.string("message"),
                    codec.binary(message.render(raw)),
                )
            )
        )
    return 200, _map("messages", codec.list_(entries))


# --- looking


def _peek(caller: Caller, arguments: dict) -> Answer:
    start, count = int(arguments["from-sequence-number"]), int(arguments["message-count"])
    if count <= 0:
        raise BrokerError(Condition.ARGUMENT, "message-count must be positive.")
    entries: list[bytes] = []
    size = 0
    for message in caller.entity.box.peek(start, count, arguments.get("session-id")):
        rendered = message.render(caller.entity.queue.raw(message), is_peeked=True)
        size += len(rendered)
        if entries and size > _MAX_ANSWER:
            break
        entries.append(_map("message", codec.binary(rendered)))
    if not entries:
        return 204, _EMPTY
    return 200, _map("messages", codec.list_(entries))


# --- scheduling


def _schedule(caller: Caller, arguments: dict) -> Answer:
    if caller.entity.is_dead:
        raise BrokerError(Condition.NOT_ALLOWED, "Nothing can be sent to a dead-letter queue.")
    if isinstance(caller.entity.queue, Subscription):
        raise BrokerError(Condition.NOT_ALLOWED, "Nothing can be sent to a subscription.")
    raws = [entry["message"] for entry in arguments["messages"]]
    if not all(isinstance(raw, bytes) for raw in raws):
        raise CodecError("a message must be binary")
    check_size(sum(map(len, raws)))
    return 200, _map("sequence-numbers", codec.array_of_long(caller.entity.queue.send(raws)))


def _cancel(caller: Caller, arguments: dict) -> Answer:
    caller.entity.queue.cancel(_numbers(arguments))
    return 200, _EMPTY


# --- sessions


def _renew_session(caller: Caller, arguments: dict) -> Answer:
    until_ms = _sessions(caller).renew_session(arguments["session-id"], caller.link_name)
    return 200, _map("expiration", codec.timestamp(until_ms))


def _get_state(caller: Caller, arguments: dict) -> Answer:
    state = _sessions(caller).held_session(arguments["session-id"], caller.link_name).state
    return 200, _map("session-state", codec.NULL if state is None else codec.binary(state))


def _set_state(caller: Caller, arguments: dict) -> Answer:
    state: Any = arguments.get("session-state")
    if state is not None and not isinstance(state, bytes):
        raise CodecError("a session's state must be binary")
    _sessions(caller).set_state(arguments["session-id"], state, caller.link_name)
    return 200, _EMPTY


def _list_sessions(caller: Caller, arguments: dict) -> Answer:
    since = arguments.get("last-updated-time", _EVERY_SESSION)
    skip, top = int(arguments.get("skip", 0)), int(arguments.get("top", 100))
    found: Sequence[str] = _sessions(caller).listed(None if since >= _EVERY_SESSION else since)
    page = found[skip : skip + top]
    if not page:
        return 204, _EMPTY
    names = codec.list_([codec.string(name) for name in page])
    body = (
        codec.string("skip"),
        codec.int_(skip + len(page)),
        codec.string("sessions-ids"),
        names,
    )
    return 200, codec.map_(body)


_SENDING = frozenset({"schedule-message", "cancel-scheduled-message"})
_OPERATIONS: dict[str, Callable[[Caller, dict], Answer]] = {
    "renew-lock": _renew_lock,
    "update-disposition": _update_disposition,
    "receive-by-sequence-number": _receive_by_number,
    "peek-message": _peek,
    "schedule-message": _schedule,
    "cancel-scheduled-message": _cancel,
    "renew-session-lock": _renew_session,
    "get-session-state": _get_state,
    "set-session-state": _set_state,
    "get-message-sessions": _list_sessions,
}
