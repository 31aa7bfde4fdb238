"""Sections of a message: what the sender wrote arrives untouched under the broker's stamps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus._pyamqp._decode import decode_payload
from azure.servicebus._pyamqp._encode import encode_payload
from azure.servicebus._transport._pyamqp_transport import PyamqpTransport
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageHeader, AmqpMessageProperties
from hypothesis import given
from hypothesis import strategies as st

from local.service_bus import codec
from local.service_bus.decode import CodecError
from local.service_bus.message import Stamps, examine, render, split_batch


def sdk_bytes(message: ServiceBusMessage | AmqpAnnotatedMessage) -> bytes:
    """A message as the SDK would put it on the wire."""
    raw = message if isinstance(message, AmqpAnnotatedMessage) else message.raw_amqp_message
    output = bytearray()
    encode_payload(output, PyamqpTransport.to_outgoing_amqp_message(raw))
    return bytes(output)


def stamps(**what: Any) -> Stamps:
    """Stamps of a first delivery."""
    return Stamps(**{"sequence": 7, "enqueued_ms": 1_000, "delivery_count": 0, **what})


PROPERTIES = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.integers(-(2**31), 2**31 - 1) | st.text(max_size=40) | st.booleans() | st.uuids(),
    max_size=5,
)


@given(st.binary(max_size=400), PROPERTIES, st.text(max_size=20))
def test_what_the_sender_wrote_arrives_as_it_was(
    body: bytes, properties: dict[str, Any], message_id: str
) -> None:
    sent = sdk_bytes(
        ServiceBusMessage(body, application_properties=properties, message_id=message_id)
    )
    got = decode_payload(memoryview(render(sent, stamps(delivery_count=3))))
    was = decode_payload(memoryview(sent))
    assert b"".join(got.data or []) == body
    assert got.properties == was.properties
    assert got.application_properties == was.application_properties
    assert got.header is not None
    assert got.header.delivery_count == 3


def test_header_annotations_and_delivery_annotations_survive() -> None:
    sent = sdk_bytes(
        AmqpAnnotatedMessage(
            data_body=b"x",
            header=AmqpMessageHeader(durable=True, priority=9, time_to_live=5_000),
            annotations={"mine": 1, "x-opt-sequence-number": 99, "x-opt-partition-key": "p"},
            delivery_annotations={"way": "north"},
            footer={"end": 1},
        )
    )
    rendered = render(sent, stamps(state=1, locked_until_ms=5))
    assert rendered.count(b"x-opt-sequence-number") == 1
    got = decode_payload(memoryview(rendered))
    assert got.header is not None
    assert (got.header.durable, got.header.priority, got.header.ttl) == (True, 9, 5_000)
    assert got.message_annotations == {
        b"mine": 1,
        b"x-opt-partition-key": b"p",
        b"x-opt-sequence-number": 7,
        b"x-opt-enqueue-sequence-number": 7,
        b"x-opt-enqueued-time": 1_000,
        b"x-opt-locked-until": 5,
        b"x-opt-message-state": 1,
    }
    assert got.delivery_annotations == {b"way": b"north"}
    assert got.footer == {b"end": 1}


@pytest.mark.parametrize(
    "properties", [{}, {"a": 1}, {"DeadLetterReason": "an old one", "a": 1}]
)
def test_a_dead_letter_tells_its_reason_once(properties: dict[str, Any]) -> None:
    sent = sdk_bytes(ServiceBusMessage(b"body", application_properties=properties))
    got = decode_payload(memoryview(render(sent, stamps(reason="new", description="why"))))
    assert (got.application_properties or {}).get(b"DeadLetterReason") == b"new"
    assert (got.application_properties or {}).get(b"DeadLetterErrorDescription") == b"why"
    assert (got.application_properties or {}).get(b"a") == properties.get("a")
    assert b"".join(got.data or []) == b"body"


def test_the_facts_of_a_message_are_found() -> None:
    facts = examine(
        sdk_bytes(ServiceBusMessage(b"", message_id="m", session_id="s", partition_key="s"))
    )
    assert (facts.message_id, facts.session_id, facts.partition_key) == (b"sm", "s", "s")
    assert facts.ttl_ms is None


def test_ids_of_different_types_are_different_ids() -> None:
    def identity(encoded: bytes) -> bytes | None:
        return examine(codec.composite(0x73, (encoded,))).message_id

    ids = [
        identity(codec.string("1")),
        identity(codec.ulong(1)),
        identity(codec.binary(b"1")),
        identity(codec.uuid(UUID(int=1).bytes)),
    ]
    assert len(set(ids)) == 4
    assert identity(codec.NULL) is None


def test_a_batch_is_taken_apart() -> None:
    parts = [b"one", b"", b"three" * 100]
    envelope = b"".join(codec.described(0x75, codec.binary(part)) for part in parts)
    assert split_batch(codec.composite(0x73, (codec.string("first"),)) + envelope) == parts


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        examine(data)
    except CodecError:
        return
    render(data, stamps(reason="r"))


@pytest.mark.parametrize("items", [1, 2, 3])
def test_properties_that_are_a_list_are_no_message(items: int) -> None:
    listed = bytes([0xC0, 1 + items, items]) + codec.NULL * items
    with pytest.raises(CodecError):
        examine(b"\x00\x53\x74" + listed + codec.described(0x75, codec.binary(b"x")))


@given(st.data())
def test_whatever_is_accepted_can_be_delivered(data: st.DataObject) -> None:
    sent = bytearray(
        sdk_bytes(
            AmqpAnnotatedMessage(
                data_body=b"x",
                header=AmqpMessageHeader(durable=True, time_to_live=5_000),
                annotations={"mine": 1, "x-opt-partition-key": "p"},
                application_properties={"a": 1, "DeadLetterReason": "old"},
                properties=AmqpMessageProperties(message_id="m", group_id="g"),
            )
        )
    )
    for _ in range(data.draw(st.integers(0, 3))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        examine(bytes(sent))
    except CodecError:
        return
    render(bytes(sent), stamps(reason="r", description="d"))


@pytest.mark.parametrize(
    "wrong", [b"x", codec.described(0x10, codec.NULL), b"\x00\x53\x73\xa1\x01a"]
)
def test_what_is_no_message_is_refused(wrong: bytes) -> None:
    with pytest.raises(CodecError):
        examine(wrong)


def test_a_receiver_is_told_the_time_that_holds() -> None:
    sent = sdk_bytes(ServiceBusMessage(b"body", time_to_live=timedelta(hours=1)))
    for ttl_ms, told in ((5_000, 5_000), (2**40, 2**32 - 1), (None, 3_600_000)):
        got = decode_payload(memoryview(render(sent, stamps(ttl_ms=ttl_ms))))
        assert got.header is not None
        assert got.header.ttl == told
