"""The counting relays: what passes is passed on whole, and counted whatever way it is cut."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bench.taps import Messages, Requests, Tap
from local.service_bus import codec, frames
from local.service_bus.message import BATCH_FORMAT

GET = b"GET /kpaxcontrol/spaces(PartitionKey='s-1',RowKey='x')?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"GET /not/a HTTP/1.1\r\n\r\n\r\n\r\n"
BATCH = b"POST /kpaxcontrol/$batch HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_batch_is_one_request_and_its_body_is_not_read_as_requests(size: int) -> None:
    counts: Counter[str] = Counter()
    ear = Requests(counts)
    stream = GET + BATCH + GET + BATCH
    for start in range(0, len(stream), size):
        ear.said(stream[start : start + size])
    assert counts == {"GET spaces": 2, "POST $batch": 2}


def test_a_request_of_unknown_length_is_refused_not_guessed() -> None:
    with pytest.raises(ValueError, match="unknown length"):
        Requests(Counter()).said(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_messages_of_a_batch_count_one_by_one_and_questions_do_not(size: int) -> None:
    counts: Counter[str] = Counter()
    ear = Messages(counts)
    said = b"".join(
        (
            b"AMQP\x03\x01\x00\x00",
            b"AMQP\x00\x01\x00\x00",
            _attach(0, "steps", sends=True),
            _attach(1, "steps/$management", sends=True),
            _transfer(0, b"\x00Sw\xa0\x01x"),
            _transfer(0, _data(b"a") + _data(b"b") + _data(b"c"), batch=True),
            _transfer(0, _data(b"d"), batch=True, more=True),
            _transfer(0, _data(b"e") + _data(b"f")),
            _transfer(1, b"\x00Sw\xa0\x01?"),
        )
    )
    for start in range(0, len(said), size):
        ear.said(said[start : start + size])
    answered = (
        _attach(0, "steps", sends=False) + _transfer(0, b"1", more=True) + _transfer(0, b"2")
    )
    for start in range(0, len(answered), size):
        ear.answered(answered[start : start + size])
    assert counts == {"sent steps": 1 + 3 + 3, "delivered steps": 1}


async def test_a_tap_passes_every_byte_on_and_hears_it() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    counts: Counter[str] = Counter()
    async with server, Tap(server.sockets[0].getsockname()[1], lambda: Requests(counts)) as tap:
        reader, writer = await asyncio.open_connection("127.0.0.1", tap.port)
        writer.write(GET + BATCH)
        writer.write_eof()
        assert await reader.read() == GET + BATCH
        writer.close()
    assert counts.total() == 2


def _attach(handle: int, address: str, *, sends: bool) -> bytes:
    """A link as seen from the side that speaks: the client sends, or the server delivers to it."""
    name = codec.string(f"sb://127.0.0.1/{address}")
    source = codec.composite(frames.SOURCE, [codec.string("me") if sends else name])
    target = codec.composite(frames.TARGET, [name if sends else codec.string("me")])
    fields = [
        codec.string(f"link-{handle}"),
        codec.uint(handle),
        codec.FALSE,
        codec.NULL,
        codec.NULL,
        source,
        target,
    ]
    return frames.performative(0, frames.ATTACH, fields)


def _transfer(handle: int, payload: bytes, *, batch: bool = False, more: bool = False) -> bytes:
    fields = [
        codec.uint(handle),
        codec.uint(1),
        codec.binary(b"t"),
        codec.uint(BATCH_FORMAT if batch else 0),
        codec.FALSE,
        codec.boolean(more),
    ]
    return frames.frame(0, codec.composite(frames.TRANSFER, fields) + payload)


def _data(body: bytes) -> bytes:
    return codec.described(0x75, codec.binary(body))
