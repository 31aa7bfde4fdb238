"""Whatever a stranger may send: no bytes raise, and nothing of the broker breaks."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.service_bus import codec, frames
from tests.local.service_bus.peer import NULL, Peer, a_peer, a_server
from tests.local.service_bus.rig import raw


def _conversation() -> list[bytes]:
    """Frames of a good client, to be damaged."""
    link = codec.composite(frames.SOURCE, (codec.string("q"),))
    names = (codec.string("l"), codec.uint(0))
    modes = (codec.ubyte(0), codec.ubyte(1), link, link, NULL, NULL, codec.uint(0))
    sender = frames.performative(0, frames.ATTACH, (*names, codec.FALSE, *modes))
    names = (codec.string("m"), codec.uint(1))
    receiver = frames.performative(0, frames.ATTACH, (*names, codec.TRUE, *modes))
    flow = [codec.uint(n) for n in (0, 100, 0, 100, 1, 0, 10)]
    transfer = (codec.uint(0), codec.uint(0), codec.binary(b"t"), codec.uint(0))
    body = codec.composite(frames.TRANSFER, transfer) + raw("x", message_id="m", ttl_ms=5)
    settled = (codec.TRUE, codec.uint(0), codec.uint(9), codec.FALSE, frames.MODIFIED_STATE)
    return [
        sender,
        receiver,
        frames.performative(0, frames.FLOW, flow),
        frames.frame(0, body),
        frames.performative(0, frames.DISPOSITION, settled),
        frames.performative(0, frames.DETACH, (codec.uint(0), codec.TRUE)),
        frames.performative(0, frames.END, ()),
        frames.performative(0, frames.CLOSE, ()),
    ]


@given(st.binary(max_size=300))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_of_a_stranger_raise(data: bytes) -> None:
    async def run() -> None:
        for begin in (b"", frames.SASL_HEADER, frames.AMQP_HEADER):
            Peer(a_server()).feed(begin + data)

    asyncio.run(run())


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_damaged_frame_raises_or_breaks_the_broker(data: st.DataObject) -> None:
    async def run() -> None:
        peer = await a_peer()
        good = _conversation()
        for frame in good:
            damaged = bytearray(frame)
            for _ in range(data.draw(st.integers(0, 2))):
                damaged[data.draw(st.integers(8, len(frame) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            peer.feed(bytes(damaged))
        other = Peer(peer.server)  # somebody else is served as ever
        other.open()
        other.attach("q", receiver=False)
        other.transfer(raw("fine"))
        assert other.answers()[-1][1][4].descriptor == frames.ACCEPTED

    asyncio.run(run())


@pytest.mark.parametrize(
    "size", [b"\x00\x00\x00\x07", b"\x7f\xff\xff\xff", b"\x00\x20\x00\x00"]
)
async def test_a_frame_of_an_impossible_size_ends_the_connection(size: bytes) -> None:
    peer = await a_peer()
    peer.feed(size + b"\x02\x00\x00\x00")
    code, fields, _ = peer.answers()[-1]
    assert (code, fields[0].value[0]) == (frames.CLOSE, "amqp:connection:framing-error")
    assert peer.transport.is_closed
