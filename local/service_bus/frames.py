"""Frames and the values that stand in them: part 2 of the AMQP 1.0 standard, and SASL's.

Fields of a performative are named by position in the `…_FIELDS` comments; an omitted trailing
field reads as None.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from local.service_bus import codec
from local.service_bus.decode import CodecError, Described, decode, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.service_bus.errors import BrokerError

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"

OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE = 0x15, 0x16, 0x17, 0x18
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44

ERROR, RECEIVED, ACCEPTED, REJECTED, RELEASED, MODIFIED = 0x1D, 0x23, 0x24, 0x25, 0x26, 0x27
SOURCE, TARGET, COORDINATOR = 0x28, 0x29, 0x30

MAX_FRAME = 1_048_576
WINDOW = 2**31 - 1

_HEAD = struct.Struct(">IBBH")

# The types of the fields, by position, and how many of the first must not be null.
_FIELDS: dict[int, tuple[tuple[type, ...], int]] = {
    OPEN: ((str, str, int, int, int, object, object, object, object, dict), 1),
    BEGIN: ((int, int, int, int, int, object, object, dict), 0),
    ATTACH: (
        (str, int, bool, int, int, *(object,) * 3, bool, int, int, object, object, dict),
        3,
    ),
    FLOW: ((*(int,) * 8, bool, bool, dict), 0),
    TRANSFER: ((int, int, bytes, int, bool, bool, int, object, bool, bool, bool), 1),
    DISPOSITION: ((bool, int, int, bool, object, bool), 2),
    DETACH: ((int, bool, object), 1),
    END: ((object,), 0),
    CLOSE: ((object,), 0),
    SASL_INIT: ((str, bytes, str), 1),
}

ACCEPTED_STATE = codec.composite(ACCEPTED, ())
REJECTED_STATE = codec.composite(REJECTED, ())
MODIFIED_STATE = codec.composite(MODIFIED, ())
RELEASED_STATE = codec.composite(RELEASED, ())


def frame(channel: int, body: bytes, *, kind: int = 0) -> bytes:
    """A complete frame."""
    return _HEAD.pack(len(body) + 8, 2, kind, channel) + body


def performative(channel: int, code: int, fields: Sequence[bytes], *, kind: int = 0) -> bytes:
    """A frame with one performative of encoded fields."""
    return frame(channel, codec.composite(code, fields), kind=kind)


def read(body: bytes) -> tuple[int, list[Any], int]:
    """(code, fields, where the payload begins) of a frame's body.

    Raises:
        CodecError: no performative, or one that is not known.
    """
    code, at = _descriptor(body)
    fields, end = decode(body, at)
    if not isinstance(fields, list):
        raise CodecError("a performative must be a list")
    types, needed = _FIELDS[code]
    if len(fields) < len(types):
        fields += [None] * (len(types) - len(fields))
    for position, (value, kind) in enumerate(zip(fields, types, strict=False)):
        if value is None:
            if position < needed:
                raise CodecError(f"field {position} of performative 0x{code:02x} is missing")
        elif not isinstance(value, kind):
            raise CodecError(f"field {position} of performative 0x{code:02x} has a wrong type")
    return code, fields, end


def read_slices(body: bytes) -> list[bytes]:
    """The fields of a performative, still encoded; missing ones are null."""
    code, at = _descriptor(body)
    fields = slices(body, at)
    return fields + [codec.NULL] * (len(_FIELDS[code][0]) - len(fields))


def _descriptor(body: bytes) -> tuple[int, int]:
    if not body or body[0] != 0:
        raise CodecError("a frame needs a performative")
    code, at = decode(body, 1)
    if not isinstance(code, int) or code not in _FIELDS:
        raise CodecError(f"{code!r} is no performative")
    return code, at


def transfer(
    channel: int,
    handle: int,
    delivery: tuple[int, bytes],
    payload: bytes,
    *,
    settled: bool,
    max_frame: int,
) -> list[bytes]:
    """The frames that carry one delivery (id and tag), split to the peer's frame size."""
    delivery_id, tag = delivery
    fields = [
        codec.uint(handle),
        codec.uint(delivery_id),
        codec.binary(tag),
        codec.uint(0),
        codec.boolean(settled),
        codec.FALSE,
    ]
    room = max_frame - 64
    if len(payload) <= room:
        return [frame(channel, codec.composite(TRANSFER, fields) + payload)]
    frames = []
    for start in range(0, len(payload), room):
        fields[5] = codec.boolean(start + room < len(payload))
        part = payload[start : start + room]
        frames.append(frame(channel, codec.composite(TRANSFER, fields) + part))
    return frames


def disposition(channel: int, *, from_receiver: bool, delivery_id: int, state: bytes) -> bytes:
    """A settled disposition of one delivery."""
    number = codec.uint(delivery_id)
    fields = (codec.boolean(from_receiver), number, number, codec.TRUE, state)
    return performative(channel, DISPOSITION, fields)


def error(condition: str, description: str) -> bytes:
    """An error; always with its third field, which the SDK looks at unasked."""
    fields = (codec.symbol(condition), codec.string(description), codec.map_(()))
    return codec.composite(ERROR, fields)


def rejected(refusal: BrokerError) -> bytes:
    """The outcome that refuses a delivery."""
    return codec.composite(REJECTED, (error(refusal.condition, refusal.description),))


def terminus(value: object) -> list[Any]:
    """The fields of a source or target; none for anything else."""
    if isinstance(value, Described) and isinstance(value.value, list):
        return value.value
    return []


def is_coordinator(value: object) -> bool:
    """Whether a target is where transactions are declared."""
    return isinstance(value, Described) and value.descriptor == COORDINATOR


def outcome(value: object) -> tuple[int | None, list[Any]]:
    """(code, fields) of a delivery state."""
    if isinstance(value, Described) and isinstance(value.value, list):
        return value.descriptor, value.value
    return None, []
