"""AMQP values: our bytes mean to the SDK what they mean to us, and the other way round."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus._pyamqp import _decode as sdk_decode
from azure.servicebus._pyamqp import _encode as sdk_encode
from azure.servicebus._pyamqp.types import TYPE, VALUE, AMQPTypes
from hypothesis import given, settings
from hypothesis import strategies as st

from local.service_bus import codec
from local.service_bus.decode import (
    MAX_DEPTH,
    CodecError,
    Described,
    Symbol,
    decode,
    skip,
    slices,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

U8, U32, U64 = (st.integers(0, 2**n - 1) for n in (8, 32, 64))
I32, I64 = (st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (32, 64))
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300)

ENCODERS: list[tuple[Callable[[Any], bytes], st.SearchStrategy[Any], str]] = [
    (codec.boolean, st.booleans(), AMQPTypes.boolean),
    (codec.ubyte, U8, AMQPTypes.ubyte),
    (codec.uint, U32, AMQPTypes.uint),
    (codec.ulong, U64, AMQPTypes.ulong),
    (codec.ushort, st.integers(0, 65_535), AMQPTypes.ushort),
    (codec.int_, I32, AMQPTypes.int),
    (codec.long, I64, AMQPTypes.long),
    (codec.timestamp, I64, AMQPTypes.timestamp),
    (codec.binary, st.binary(max_size=600), AMQPTypes.binary),
    (codec.string, st.text(max_size=300), AMQPTypes.string),
    (codec.symbol, ASCII, AMQPTypes.symbol),
]


def sdk_reads(data: bytes) -> Any:
    """What the SDK's decoder makes of one value; it must use all bytes."""
    rest, value = sdk_decode._DECODE_BY_CONSTRUCTOR[data[0]](memoryview(data)[1:])
    assert len(rest) == 0
    return value


def sdk_writes(value: Any) -> bytes:
    """One value in the SDK's bytes."""
    output = bytearray()
    sdk_encode.encode_value(output, value)
    return bytes(output)


def as_sdk(value: Any) -> Any:
    """The SDK reads every text as bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [as_sdk(item) for item in value]
    if isinstance(value, dict):
        return {as_sdk(k): as_sdk(v) for k, v in value.items()}
    return value


@given(st.data())
@pytest.mark.parametrize(("encode", "values", "kind"), ENCODERS, ids=[e[2] for e in ENCODERS])
def test_every_encoder_writes_what_both_decoders_read(
    encode: Callable[[Any], bytes],
    values: st.SearchStrategy[Any],
    kind: str,
    data: st.DataObject,
) -> None:
    value = data.draw(values)
    encoded = encode(value)
    assert decode(encoded) == (value, len(encoded))
    assert skip(encoded) == len(encoded)
    assert sdk_reads(encoded) == as_sdk(value)
    if kind != AMQPTypes.timestamp:  # the SDK's encoder wants a datetime there
        assert decode(sdk_writes({TYPE: kind, VALUE: value}))[0] == value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | I32
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.uuids()
    | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=10), inner, max_size=6)
    ),
    max_leaves=40,
)


@given(VALUES)
def test_whatever_the_sdk_writes_is_read_back_as_it_was(value: object) -> None:
    encoded = sdk_writes(value)
    assert decode(encoded) == (value, len(encoded))
    assert skip(encoded) == len(encoded)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=8))
def test_a_list_of_encoded_values_reads_as_the_list_of_the_values(values: list[object]) -> None:
    parts = [sdk_writes(value) for value in values]
    encoded = codec.list_(parts)
    assert decode(encoded)[0] == values
    assert sdk_reads(encoded) == as_sdk(values)
    assert slices(encoded) == parts


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=6))
def test_a_map_of_encoded_pairs_reads_as_the_map(values: dict[str, object]) -> None:
    parts = [part for pair in values.items() for part in map(sdk_writes, pair)]
    encoded = codec.map_(parts)
    assert decode(encoded)[0] == values
    assert sdk_reads(encoded) == as_sdk(values)
    assert slices(encoded) == parts


# An empty array still names its type; the SDK's decoder stumbles there, and never gets one.
@given(st.lists(I64, min_size=1, max_size=20), st.lists(ASCII, min_size=1, max_size=20))
def test_arrays_are_read_by_both(numbers: list[int], names: list[str]) -> None:
    for encoded, expected in (
        (codec.array_of_long(numbers), numbers),
        (codec.array_of_timestamp(numbers), numbers),
        (codec.array_of_symbol(names), names),
    ):
        assert decode(encoded)[0] == expected
        assert sdk_reads(encoded) == as_sdk(expected)


@given(st.lists(st.uuids(), min_size=1, max_size=5))
def test_the_sdks_array_of_lock_tokens_is_read(tokens: list[UUID]) -> None:
    array = {TYPE: AMQPTypes.array, VALUE: [{TYPE: AMQPTypes.uuid, VALUE: t} for t in tokens]}
    assert decode(sdk_writes(array))[0] == tokens
    assert sdk_reads(codec.uuid(tokens[0].bytes)) == tokens[0]


def test_types_that_no_queue_looks_into_are_still_read() -> None:
    assert decode(b"\x72" + struct.pack(">f", 1.5))[0] == 1.5
    assert math.isnan(decode(b"\x82" + struct.pack(">d", math.nan))[0])
    assert decode(b"\x73\x00\x01\xf6\x00")[0] == "😀"
    assert decode(b"\x94" + bytes(16)) == (bytes(16), 17)
    assert decode(b"\x00\xa3\x01a\x41")[0] == Described(Symbol("a"), value=True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    for read in (decode, skip):
        try:
            read(data)
        except CodecError:
            continue


@given(VALUES, st.integers(1, 50))
def test_a_value_that_is_cut_short_is_an_error(value: object, cut: int) -> None:
    encoded = sdk_writes(value)
    with pytest.raises(CodecError):
        decode(encoded[: max(0, len(encoded) - cut)])
    with pytest.raises(CodecError):
        skip(encoded[: max(0, len(encoded) - cut)])


def test_nesting_has_an_end() -> None:
    deep = codec.EMPTY_LIST
    for _ in range(MAX_DEPTH - 1):
        deep = codec.list_([deep])
    decode(deep)
    with pytest.raises(CodecError, match="too deep"):
        decode(codec.list_([codec.list_([codec.list_([deep])])]))
    with pytest.raises(CodecError, match="too deep"):
        skip(b"\x00" * 100)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xf0\x00\x00\x00\x05\x7f\xff\xff\xff\x40",  # two billion nulls in one byte
        b"\xf0\x00\x00\x00\x05\x00\x00\xff\xff\x40",  # as many as are allowed elsewhere
        b"\xd0\x00\x00\x00\x04\x7f\xff\xff\xff",
    ],
)
def test_few_bytes_cannot_ask_for_much_memory(bomb: bytes) -> None:
    with pytest.raises(CodecError):
        decode(bomb)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xc0\x03\x01\x40\x40",  # more bytes than elements
        b"\xc1\x02\x01\x40",  # a key without its value
        b"\xc1\x04\x02\x45\x40\x40"[:5] + b"\x40",  # a list as key
        b"\xa1\x01\xff",  # no UTF-8
        b"\x73\xff\xff\xff\xff",  # no character
        b"\x01",
    ],
)
def test_what_the_standard_forbids_is_an_error(wrong: bytes) -> None:
    with pytest.raises(CodecError):
        decode(wrong)
