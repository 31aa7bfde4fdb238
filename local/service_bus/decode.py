"""AMQP 1.0 values from bytes (part 1 of the standard); `codec.py` writes them.

`decode` gives plain Python values, `skip` walks over a value without building it, `slices` cuts
a list into its encoded elements. All refuse what points outside the buffer, nests deeper than 32
or announces more elements than it has bytes: peers are not trusted with memory.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 32
MAX_ELEMENTS = 65_536

type Buffer = bytes | memoryview


class CodecError(ValueError):
    """These bytes are not an AMQP value."""


class Symbol(str):
    """An AMQP symbol; equal to the text it holds."""

    __slots__ = ()


class Described:
    """A value with a descriptor that is not one of the performatives."""

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:  # noqa: ANN401 — any AMQP value
        self.descriptor = descriptor
        self.value = value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Described)
            and self.descriptor == other.descriptor
            and self.value == other.value
        )

    def __hash__(self) -> int:
        return hash((self.descriptor, self.value))

    def __repr__(self) -> str:
        return f"Described({self.descriptor!r}, {self.value!r})"


_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I8, _I16, _I32, _I64 = (struct.Struct(f) for f in (">b", ">h", ">i", ">q"))
_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")


def decode(data: Buffer, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """The value at `at` and where the next one begins."""
    try:
        code = data[at]
        return _DECODERS[code](data, at + 1, depth)
    except KeyError:
        raise CodecError(f"no AMQP type has the constructor 0x{data[at]:02x}") from None
    except (IndexError, struct.error):
        raise CodecError("the value is longer than its buffer") from None
    except UnicodeDecodeError as error:
        raise CodecError(f"text is not UTF-8: {error}") from None


def skip(data: Buffer, at: int = 0, depth: int = 0) -> int:
    """Where the value at `at` ends."""
    try:
        code = data[at]
        if code == 0:
            if depth >= MAX_DEPTH:
                raise CodecError("descriptors nest too deep")
            return skip(data, skip(data, at + 1, depth + 1), depth + 1)
        width = code >> 4
        if width in _FIXED and code in _DECODERS:
            end = at + 1 + _FIXED[width]
        elif width in {0xA, 0xC, 0xE} and code in _DECODERS:
            end = at + 2 + data[at + 1]
        elif width in {0xB, 0xD, 0xF} and code in _DECODERS:
            end = at + 5 + _U32.unpack_from(data, at + 1)[0]
        else:
            raise CodecError(f"no AMQP type has the constructor 0x{code:02x}")
    except (IndexError, struct.error):
        raise CodecError("the value is longer than its buffer") from None
    if end > len(data):
        raise CodecError("the value is longer than its buffer")
    return end


def slices(data: bytes, at: int = 0) -> list[bytes]:
    """The elements of a list or map, still encoded."""
    code = data[at]
    if code == 0x45:
        return []
    if code in {0xC0, 0xC1}:
        count, at, end = _extent(data, at + 1, 1)
    elif code in {0xD0, 0xD1}:
        count, at, end = _extent(data, at + 1, 4)
    else:
        raise CodecError("a list or a map is expected here")
    items = []
    for _ in range(count):
        following = skip(data, at)
        items.append(data[at:following])
        at = following
    if at != end or (code in {0xC1, 0xD1} and count % 2):
        raise CodecError("elements do not fill their list or map")
    return items


_FIXED = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


def _constant(value: Any) -> Callable[[Buffer, int, int], tuple[Any, int]]:  # noqa: ANN401 — any AMQP value
    return lambda _data, at, _depth: (value, at)


def _byte(data: Buffer, at: int, _depth: int) -> tuple[int, int]:
    return data[at], at + 1


def _bool(data: Buffer, at: int, _depth: int) -> tuple[bool, int]:
    return bool(data[at]), at + 1


def _number(form: struct.Struct) -> Callable[[Buffer, int, int], tuple[Any, int]]:
    unpack, size = form.unpack_from, form.size
    return lambda data, at, _depth: (unpack(data, at)[0], at + size)


def _raw(size: int) -> Callable[[Buffer, int, int], tuple[bytes, int]]:
    def read(data: Buffer, at: int, _depth: int) -> tuple[bytes, int]:
        return _slice(data, at, at + size), at + size

    return read


def _uuid(data: Buffer, at: int, _depth: int) -> tuple[UUID, int]:
    return UUID(bytes=_slice(data, at, at + 16)), at + 16


def _char(data: Buffer, at: int, _depth: int) -> tuple[str, int]:
    try:
        return chr(_U32.unpack_from(data, at)[0]), at + 4
    except (ValueError, OverflowError):
        raise CodecError("no such character") from None


def _slice(data: Buffer, start: int, end: int) -> bytes:
    if end > len(data):
        raise CodecError("the value is longer than its buffer")
    return bytes(data[start:end])


def _binary8(data: Buffer, at: int, _depth: int) -> tuple[bytes, int]:
    end = at + 1 + data[at]
    return _slice(data, at + 1, end), end


def _binary32(data: Buffer, at: int, _depth: int) -> tuple[bytes, int]:
    end = at + 4 + _U32.unpack_from(data, at)[0]
    return _slice(data, at + 4, end), end


def _string8(data: Buffer, at: int, _depth: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return _slice(data, at + 1, end).decode(), end


def _string32(data: Buffer, at: int, _depth: int) -> tuple[str, int]:
    end = at + 4 + _U32.unpack_from(data, at)[0]
    return _slice(data, at + 4, end).decode(), end


def _symbol8(data: Buffer, at: int, _depth: int) -> tuple[Symbol, int]:
    end = at + 1 + data[at]
    return Symbol(_slice(data, at + 1, end).decode()), end


def _symbol32(data: Buffer, at: int, _depth: int) -> tuple[Symbol, int]:
    end = at + 4 + _U32.unpack_from(data, at)[0]
    return Symbol(_slice(data, at + 4, end).decode()), end


def _extent(data: Buffer, at: int, width: int) -> tuple[int, int, int]:
    """(count, where the elements begin, where they end) of a compound value."""
    if width == 1:
        size, count = data[at], data[at + 1]
    else:
        size, count = _U32.unpack_from(data, at)[0], _U32.unpack_from(data, at + 4)[0]
    end = at + width + size
    if size < width or end > len(data):
        raise CodecError("the value is longer than its buffer")
    if count > MAX_ELEMENTS:
        raise CodecError(f"{count} elements are more than {MAX_ELEMENTS}")
    return count, at + 2 * width, end


def _elements(data: Buffer, at: int, depth: int, width: int) -> tuple[list[Any], int]:
    if depth >= MAX_DEPTH:
        raise CodecError("values nest too deep")
    count, at, end = _extent(data, at, width)
    items: list[Any] = []
    for _ in range(count):
        item, at = decode(data, at, depth + 1)
        items.append(item)
    if at != end:
        raise CodecError("elements do not fill their list")
    return items, end


def _list8(data: Buffer, at: int, depth: int) -> tuple[list[Any], int]:
    return _elements(data, at, depth, 1)


def _list32(data: Buffer, at: int, depth: int) -> tuple[list[Any], int]:
    return _elements(data, at, depth, 4)


def _map8(data: Buffer, at: int, depth: int) -> tuple[dict[Any, Any], int]:
    return _pairs(data, at, depth, 1)


def _map32(data: Buffer, at: int, depth: int) -> tuple[dict[Any, Any], int]:
    return _pairs(data, at, depth, 4)


def _pairs(data: Buffer, at: int, depth: int, width: int) -> tuple[dict[Any, Any], int]:
    items, end = _elements(data, at, depth, width)
    if len(items) % 2:
        raise CodecError("a map needs a value for each key")
    try:
        return dict(zip(items[::2], items[1::2], strict=True)), end
    except TypeError:
        raise CodecError("a list or map cannot be a key") from None


def _array8(data: Buffer, at: int, depth: int) -> tuple[list[Any], int]:
    return _array(data, at, depth, 1)


def _array32(data: Buffer, at: int, depth: int) -> tuple[list[Any], int]:
    return _array(data, at, depth, 4)


def _array(data: Buffer, at: int, depth: int, width: int) -> tuple[list[Any], int]:
    if depth >= MAX_DEPTH:
        raise CodecError("values nest too deep")
    count, at, end = _extent(data, at, width)
    if count == 0:
        return [], end
    descriptor: Any = None
    is_described = data[at] == 0
    if is_described:
        descriptor, at = decode(data, at + 1, depth + 1)
    if data[at] >> 4 == 4 and count > 16:
        raise CodecError("an array of elements without bytes is a way to ask for memory")
    read = _DECODERS[data[at]]
    at += 1
    items: list[Any] = []
    for _ in range(count):
        item, at = read(data, at, depth + 1)
        items.append(Described(descriptor, item) if is_described else item)
    if at != end:
        raise CodecError("elements do not fill their array")
    return items, end


def _described(data: Buffer, at: int, depth: int) -> tuple[Described, int]:
    if depth >= MAX_DEPTH:
        raise CodecError("descriptors nest too deep")
    descriptor, at = decode(data, at, depth + 1)
    value, at = decode(data, at, depth + 1)
    return Described(descriptor, value), at


_DECODERS: dict[int, Callable[[Buffer, int, int], tuple[Any, int]]] = {
    0x00: _described,
    0x40: _constant(None),
    0x41: _constant(value=True),
    0x42: _constant(value=False),
    0x43: _constant(0),
    0x44: _constant(0),
    0x45: lambda _data, at, _depth: ([], at),
    0x50: _byte,
    0x51: _number(_I8),
    0x52: _byte,
    0x53: _byte,
    0x54: _number(_I8),
    0x55: _number(_I8),
    0x56: _bool,
    0x60: _number(_U16),
    0x61: _number(_I16),
    0x70: _number(_U32),
    0x71: _number(_I32),
    0x72: _number(_F32),
    0x73: _char,
    0x74: _raw(4),  # decimal32, kept as its bytes: no queue looks into one
    0x80: _number(_U64),
    0x81: _number(_I64),
    0x82: _number(_F64),
    0x83: _number(_I64),
    0x84: _raw(8),  # decimal64
    0x94: _raw(16),  # decimal128
    0x98: _uuid,
    0xA0: _binary8,
    0xA1: _string8,
    0xA3: _symbol8,
    0xB0: _binary32,
    0xB1: _string32,
    0xB3: _symbol32,
    0xC0: _list8,
    0xC1: _map8,
    0xD0: _list32,
    0xD1: _map32,
    0xE0: _array8,
    0xF0: _array32,
}
