"""The sections of a message: what the broker reads in one, and what it writes over one.

Only header, message annotations and two properties are looked into. Everything the application
wrote (properties, application properties, body, footer, delivery annotations) is kept as the
bytes that came and spliced back unchanged: no type can get lost on the way, and it is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from local.service_bus import codec
from local.service_bus.decode import Buffer, CodecError, decode, skip, slices

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_FORMAT = 0x80013700

_LONGEST_TTL_MS = 0xFFFFFFFF  # what the field can say

_HEADER, _DELIVERY_ANNOTATIONS, _ANNOTATIONS, _PROPERTIES = 0x70, 0x71, 0x72, 0x73
_APPLICATION_PROPERTIES, _DATA, _FOOTER = 0x74, 0x75, 0x78

_SCHEDULED = "x-opt-scheduled-enqueue-time"
_PARTITION_KEY = "x-opt-partition-key"
# What only the broker may say; a sender's own values (of a message it forwards) are dropped.
_BROKER_OWNED = frozenset(
    {
        "x-opt-sequence-number",
        "x-opt-enqueue-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-locked-until",
        "x-opt-message-state",
        "x-opt-deadletter-source",
        "x-opt-lock-token",
    }
)

_SEQUENCE_KEY = codec.symbol("x-opt-sequence-number")
_ENQUEUE_SEQUENCE_KEY = codec.symbol("x-opt-enqueue-sequence-number")
_ENQUEUED_KEY = codec.symbol("x-opt-enqueued-time")
_LOCKED_UNTIL_KEY = codec.symbol("x-opt-locked-until")
_STATE_KEY = codec.symbol("x-opt-message-state")
_SOURCE_KEY = codec.symbol("x-opt-deadletter-source")

_REASON = "DeadLetterReason"
_DESCRIPTION = "DeadLetterErrorDescription"


@dataclass(slots=True)
class Facts:
    """What the broker needs to know of a message that comes in."""

    ttl_ms: int | None = None
    scheduled_ms: int = 0
    message_id: bytes | None = None  # type and value, so that "1" and 1 are two ids
    session_id: str | None = None
    partition_key: str | None = None


@dataclass(slots=True, kw_only=True)
class Stamps:
    """What the broker adds to a message that goes out."""

    sequence: int
    enqueued_ms: int
    delivery_count: int
    state: int = 0
    locked_until_ms: int | None = None
    ttl_ms: int | None = None  # what holds: the sender's, or the queue's where that is shorter
    reason: str | None = None
    description: str | None = None
    origin: int | None = None  # the number it had where it was sent, before it was forwarded
    source: str | None = None  # whose dead letter it was before it was forwarded

    @property
    def is_dead_lettered(self) -> bool:
        """Whether somebody said why this message is dead."""
        return self.reason is not None or self.description is not None


def sections(raw: Buffer) -> Iterator[tuple[int, int, int]]:
    """(section code, where its value begins, where it ends), in the order they were sent."""
    at = 0
    while at < len(raw):
        if raw[at] != 0:
            raise CodecError("a message section needs a descriptor")
        code, start = decode(raw, at + 1)
        if not isinstance(code, int) or not _HEADER <= code <= _FOOTER:
            raise CodecError(f"{code!r} is no section of a message")
        end = skip(raw, start)
        yield code, start, end
        at = end


def examine(raw: bytes) -> Facts:
    """The facts of one complete message.

    Raises:
        CodecError: the bytes are not a message.
    """
    facts = Facts()
    for code, start, _ in sections(raw):
        if code == _HEADER:
            fields = _list(raw, start)
            ttl = fields[2] if len(fields) > 2 else None
            facts.ttl_ms = ttl if isinstance(ttl, int) else None
        elif code == _ANNOTATIONS:
            annotations = _map(raw, start)
            due = annotations.get(_SCHEDULED)
            facts.scheduled_ms = due if isinstance(due, int) else 0
            facts.partition_key = annotations.get(_PARTITION_KEY)
        elif code == _PROPERTIES:
            fields = _list(raw, start)
            if fields and fields[0] is not None:
                facts.message_id = _identity(fields[0])
            if len(fields) > 10 and fields[10] is not None:
                facts.session_id = str(fields[10])
        elif code == _APPLICATION_PROPERTIES:
            _without(raw, start, frozenset())  # a reason will be added there one day
    return facts


def _identity(value: object) -> bytes:
    match value:
        case UUID():
            return b"u" + value.bytes
        case bytes():
            return b"b" + value
        case int():
            return b"n%d" % value
        case _:
            return b"s" + str(value).encode()


def _list(raw: bytes, at: int) -> list[object]:
    value, _ = decode(raw, at)
    if not isinstance(value, list) or raw[at] >> 4 in {0xE, 0xF}:
        raise CodecError("this section must be a list")
    return value


def _map(raw: bytes, at: int) -> dict:
    value, _ = decode(raw, at)
    if not isinstance(value, dict):
        raise CodecError("this section must be a map")
    return value


def short_text(value: object) -> str | None:
    """A reason or description of a dead letter, of at most 4,096 characters."""
    return None if value is None else str(value)[:4_096]


def split_batch(payload: Buffer) -> list[bytes]:
    """The messages in the data sections of a batch envelope."""
    messages = []
    for code, start, _ in sections(payload):
        if code == _DATA:
            data, _end = decode(payload, start)
            if not isinstance(data, bytes):
                raise CodecError("a data section must be binary")
            messages.append(data)
    return messages


def render(raw: bytes, stamps: Stamps) -> bytes:
    """The message as a receiver gets it: the sender's bytes with the broker's stamps."""
    header: list[bytes] = []
    annotations: list[bytes] = []
    front, back = b"", []
    for code, start, end in sections(raw):
        if code == _HEADER:
            header = slices(raw, start)[:4]
        elif code == _ANNOTATIONS:
            annotations = _kept_annotations(raw, start)
        elif code == _DELIVERY_ANNOTATIONS:
            front = codec.described(code, raw[start:end])
        elif code == _APPLICATION_PROPERTIES and stamps.is_dead_lettered:
            pairs = _without(raw, start, {_REASON, _DESCRIPTION})
            back.append(codec.described(code, codec.map_(pairs + _dead_letter_pairs(stamps))))
        else:
            if code not in {_PROPERTIES, _APPLICATION_PROPERTIES} and _owes_reason(
                stamps, back
            ):
                back.append(_dead_letter_section(stamps))
            back.append(codec.described(code, raw[start:end]))
    if _owes_reason(stamps, back):
        back.append(_dead_letter_section(stamps))
    header += [codec.NULL] * (4 - len(header))
    if stamps.ttl_ms is not None:
        header[2] = codec.uint(min(stamps.ttl_ms, _LONGEST_TTL_MS))
    header.append(codec.uint(stamps.delivery_count))
    return b"".join(
        [
            codec.composite(_HEADER, header),
            front,
            codec.described(_ANNOTATIONS, codec.map_(annotations + _stamped(stamps))),
            *back,
        ]
    )


def with_reason(raw: bytes, reason: str | None, description: str | None) -> bytes:
    """A dead letter's bytes with its reason among the application properties, for its way on."""
    stamps = Stamps(
        sequence=0, enqueued_ms=0, delivery_count=0, reason=reason, description=description
    )
    if not stamps.is_dead_lettered:
        return raw
    own, front, body = _dead_letter_pairs(stamps), [], []
    for code, start, end in sections(raw):
        if code == _APPLICATION_PROPERTIES:
            own = _without(raw, start, {_REASON, _DESCRIPTION}) + own
        else:
            part = codec.described(code, raw[start:end])
            (front if code < _APPLICATION_PROPERTIES else body).append(part)
    return b"".join((*front, codec.described(_APPLICATION_PROPERTIES, codec.map_(own)), *body))


def _owes_reason(stamps: Stamps, written: list[bytes]) -> bool:
    return stamps.is_dead_lettered and not any(
        part[2] == _APPLICATION_PROPERTIES for part in written
    )


def _dead_letter_section(stamps: Stamps) -> bytes:
    return codec.described(_APPLICATION_PROPERTIES, codec.map_(_dead_letter_pairs(stamps)))


def _dead_letter_pairs(stamps: Stamps) -> list[bytes]:
    pairs: list[bytes] = []
    if stamps.reason is not None:
        pairs += [codec.string(_REASON), codec.string(stamps.reason)]
    if stamps.description is not None:
        pairs += [codec.string(_DESCRIPTION), codec.string(stamps.description)]
    return pairs


def _stamped(stamps: Stamps) -> list[bytes]:
    sequence = codec.long(stamps.sequence)
    pairs = [
        _SEQUENCE_KEY,
        sequence,
        _ENQUEUE_SEQUENCE_KEY,
        sequence if stamps.origin is None else codec.long(stamps.origin),
        _ENQUEUED_KEY,
        codec.timestamp(stamps.enqueued_ms),
    ]
    if stamps.locked_until_ms is not None:
        pairs += [_LOCKED_UNTIL_KEY, codec.timestamp(stamps.locked_until_ms)]
    if stamps.state:
        pairs += [_STATE_KEY, codec.int_(stamps.state)]
    if stamps.source is not None:
        pairs += [_SOURCE_KEY, codec.string(stamps.source)]
    return pairs


def _kept_annotations(raw: bytes, at: int) -> list[bytes]:
    return _without(raw, at, _BROKER_OWNED)


# The constructors of a map of up to 255 bytes, and of a longer one.
_MAPS = frozenset({0xC1, 0xD1})


def _without(raw: bytes, at: int, names: set[str] | frozenset[str]) -> list[bytes]:
    """The raw keys and values of a map, but for these keys."""
    items = slices(raw, at)
    if raw[at] not in _MAPS or len(items) % 2:
        raise CodecError("a section that must be a map is none")
    kept: list[bytes] = []
    for key, value in zip(items[::2], items[1::2], strict=True):
        name, _ = decode(key)
        if not isinstance(name, str) or name not in names:
            kept += [key, value]
    return kept
