"""AMQP over WebSocket: the SDK through it, and the frames by themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from azure.servicebus import ServiceBusMessage, TransportType
from azure.servicebus.aio import ServiceBusClient
from hypothesis import given, settings
from hypothesis import strategies as st

from local.service_bus.front import Front
from local.service_bus.websocket import speaks

if TYPE_CHECKING:
    from tests.local.service_bus.process import Broker

HEAD = (
    b"GET /$servicebus/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n"
)


class Inner(asyncio.Protocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.got = b""
        self.transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Socket:
    """A socket of one client: what is written to it, and who reads it."""

    def __init__(self) -> None:
        self.inner = Inner()
        self.protocol: asyncio.Protocol = Front(speaks(lambda: self.inner))
        self.written = b""
        self.is_closed = False
        self.protocol.connection_made(cast("asyncio.BaseTransport", self))

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def feed(self, data: bytes, size: int = 1 << 20) -> None:
        for start in range(0, len(data), size):
            self.protocol.data_received(data[start : start + size])


def a_frame(payload: bytes, code: int = 2, *, flags: int = 0x80) -> bytes:
    """A client's frame, masked."""
    size, mask = len(payload), b"\x01\x80\x7f\xfe"
    if size < 126:
        head = bytes((flags | code, 0x80 | size))
    elif size < 65_536:
        head = bytes((flags | code, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((flags | code, 0xFF)) + size.to_bytes(8)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def opened() -> Socket:
    socket = Socket()
    socket.feed(HEAD)
    assert socket.written.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in socket.written  # of the RFC
    socket.written = b""
    return socket


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore:ssl=None")  # the SDK's way of asking for none
async def test_the_sdk_sends_and_receives_through_it(broker: Broker) -> None:
    name = broker.queue()
    client = ServiceBusClient.from_connection_string(
        broker.connection_string,
        transport_type=TransportType.AmqpOverWebsocket,
        custom_endpoint_address=f"sb://127.0.0.1:{broker.home.port('service_bus')}",
        retry_total=0,
    )
    async with client:
        async with client.get_queue_sender(name) as sender:
            await sender.send_messages(ServiceBusMessage(b"x" * 200_000))
        async with client.get_queue_receiver(name) as receiver:
            [message] = await receiver.receive_messages(1, max_wait_time=5)
            assert b"".join(message.body) == b"x" * 200_000
            await receiver.complete_message(message)


def test_a_client_that_speaks_amqp_never_meets_it() -> None:
    socket = Socket()
    socket.feed(b"AMQP\x00\x01\x00\x00rest", size=3)
    assert socket.protocol is socket.inner
    assert socket.inner.got == b"AMQP\x00\x01\x00\x00rest"
    assert socket.inner.transport is cast("asyncio.Transport", socket)


@given(
    st.lists(st.binary(max_size=300), max_size=5),
    st.sampled_from([1, 7, 1 << 20]),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_frames_are_one_stream_in_whatever_pieces(
    parts: list[bytes], size: int, has_large: bool
) -> None:
    socket, parts = Socket(), [*parts, b"y" * 70_000] if has_large and size > 1 else parts
    data = b"".join(a_frame(part) + a_frame(b"", 9) + a_frame(b"?", 10) for part in parts)
    socket.feed(HEAD + data, size)
    assert socket.inner.got == b"".join(parts)


def test_an_answer_is_one_binary_frame_of_any_size() -> None:
    for size, head in ((5, "8205"), (200, "827e00c8"), (70_000, "827f0000000000011170")):
        socket = opened()
        assert socket.inner.transport is not None
        socket.inner.transport.write(b"z" * size)
        assert socket.written == bytes.fromhex(head) + b"z" * size


def test_pings_are_answered_and_a_close_is_returned() -> None:
    socket = opened()
    socket.feed(a_frame(b"hello", 9))
    assert socket.written == b"\x8a\x05hello"
    socket.written = b""
    socket.feed(a_frame(b"\x03\xe8bye", 8) + a_frame(b"more"))
    assert socket.written == b"\x88\x02\x03\xe8"
    assert socket.is_closed
    assert socket.inner.got == b""


@pytest.mark.parametrize(
    "frame",
    [
        b"\x82\x05hello",  # not masked
        a_frame(b"x", flags=0xC0),  # a reserved bit
        a_frame(b"text", 1),
        b"\x82\xff" + (1 << 40).to_bytes(8),
    ],
)
def test_what_breaks_the_protocol_ends_it(frame: bytes) -> None:
    socket = opened()
    socket.feed(frame)
    assert socket.written == b"\x88\x02\x03\xea"
    assert socket.is_closed


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"/$servicebus/websocket", b"/"),
        HEAD.replace(b"AMQPWSB10", b"mqtt"),
        HEAD.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        HEAD.replace(b"Sec-WebSocket-Key", b"X-Key"),
        b"GET\x20\r\n\r\n",
    ],
)
def test_other_requests_are_refused(head: bytes) -> None:
    socket = Socket()
    socket.feed(head)
    assert socket.written.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert socket.is_closed


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_do_no_harm(data: bytes) -> None:
    for socket, start in ((Socket(), b""), (Socket(), b"GET "), (opened(), b"")):
        socket.feed(start + data)
        socket.protocol.connection_lost(None)


def test_an_endless_head_is_not_gathered() -> None:
    socket = Socket()
    socket.feed(b"GET " + b"x" * 20_000)
    assert socket.is_closed
