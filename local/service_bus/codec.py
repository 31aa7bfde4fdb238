"""AMQP 1.0 values as bytes (part 1 of the standard); `decode.py` reads them.

Encoders are named after the AMQP type and give an encoded value, so that a wire type is always
chosen by the writer and never guessed from the value.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I8, _I32, _I64 = struct.Struct(">b"), struct.Struct(">i"), struct.Struct(">q")
_F64 = struct.Struct(">d")

NULL = b"\x40"
TRUE = b"\x41"
FALSE = b"\x42"
EMPTY_LIST = b"\x45"


def boolean(value: bool) -> bytes:
    """A boolean."""
    return TRUE if value else FALSE


def ubyte(value: int) -> bytes:
    """An unsigned byte."""
    return bytes((0x50, value))


def uint(value: int) -> bytes:
    """An unsigned number of 32 bits."""
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if value < 256 else b"\x70" + _U32.pack(value)


def ulong(value: int) -> bytes:
    """An unsigned number of 64 bits."""
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if value < 256 else b"\x80" + _U64.pack(value)


def ushort(value: int) -> bytes:
    """An unsigned number of 16 bits."""
    return b"\x60" + _U16.pack(value)


def int_(value: int) -> bytes:
    """A signed number of 32 bits."""
    return b"\x54" + _I8.pack(value) if -128 <= value < 128 else b"\x71" + _I32.pack(value)


def long(value: int) -> bytes:
    """A signed number of 64 bits."""
    return b"\x55" + _I8.pack(value) if -128 <= value < 128 else b"\x81" + _I64.pack(value)


def double(value: float) -> bytes:
    """A floating-point number of 64 bits."""
    return b"\x82" + _F64.pack(value)


def timestamp(ms: int) -> bytes:
    """A time in milliseconds since 1970."""
    return b"\x83" + _I64.pack(ms)


def uuid(value: bytes) -> bytes:
    """A UUID from its 16 bytes, big-endian."""
    return b"\x98" + value


def binary(value: bytes | memoryview) -> bytes:
    """Bytes."""
    return _sized(0xA0, 0xB0, bytes(value))


def string(value: str) -> bytes:
    """A text."""
    return _sized(0xA1, 0xB1, value.encode())


def symbol(value: str) -> bytes:
    """A name from a protocol; ASCII."""
    return _sized(0xA3, 0xB3, value.encode("ascii"))


def _sized(small: int, large: int, data: bytes) -> bytes:
    size = len(data)
    if size < 256:
        return bytes((small, size)) + data
    return bytes((large,)) + _U32.pack(size) + data


def list_(items: Sequence[bytes]) -> bytes:
    """A list of encoded values."""
    if not items:
        return EMPTY_LIST
    return _compound(0xC0, 0xD0, len(items), b"".join(items))


def map_(items: Sequence[bytes]) -> bytes:
    """A map of encoded values: key, value, key, value."""
    return _compound(0xC1, 0xD1, len(items), b"".join(items))


def _compound(small: int, large: int, count: int, data: bytes) -> bytes:
    if len(data) < 255 and count < 256:
        return bytes((small, len(data) + 1, count)) + data
    return bytes((large,)) + _U32.pack(len(data) + 4) + _U32.pack(count) + data


def array(constructor: int, items: Iterable[bytes]) -> bytes:
    """An array of values given without their constructors (fixed width or 32-bit sized)."""
    parts = list(items)
    data = b"".join(parts)
    return (
        b"\xf0"
        + _U32.pack(len(data) + 5)
        + _U32.pack(len(parts))
        + bytes((constructor,))
        + data
    )


def array_of_long(values: Iterable[int]) -> bytes:
    """An array of signed 64-bit numbers."""
    return array(0x81, (_I64.pack(v) for v in values))


def array_of_timestamp(values: Iterable[int]) -> bytes:
    """An array of times in milliseconds."""
    return array(0x83, (_I64.pack(v) for v in values))


def array_of_symbol(values: Iterable[str]) -> bytes:
    """An array of symbols."""
    return array(0xB3, (_U32.pack(len(v)) + v.encode("ascii") for v in values))


def described(code: int, value: bytes) -> bytes:
    """A standard type of the AMQP domain; the SDK expects exactly this form of descriptor."""
    return bytes((0x00, 0x53, code)) + value


def composite(code: int, fields: Sequence[bytes]) -> bytes:
    """A described list, as frames, outcomes and errors are."""
    return bytes((0x00, 0x53, code)) + list_(fields)
