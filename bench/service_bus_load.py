"""What a full queue and a thousand idle receivers cost the local broker.

The queue is filled through the SDK; then the broker is killed and started again. The receivers
speak frames by themselves: a thousand links of the SDK would take ten minutes to open, and the
broker sees no difference.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from azure.servicebus import ServiceBusMessage

from bench.kit import Figure
from bench.service_bus import BODY, QUEUE, Broker
from local.service_bus import codec, frames
from local.service_bus.connection import KEY_NAME

if TYPE_CHECKING:
    from local.home import Home

MESSAGES, BATCH = 100_000, 100
RECEIVERS, WATCH_S = 1_000, 5.0


def measure() -> list[Figure]:
    """One broker: a crowd of receivers first, then the full queue and the start with it."""
    with tempfile.TemporaryDirectory(prefix="kpax-bench-") as folder:
        broker = Broker(Path(folder), "sqlite")
        try:
            broker.wait()
            idle = asyncio.run(_idle_cost(broker))
            full = _fill(broker)
            broker.kill()
            begin = time.perf_counter()
            broker = Broker(Path(folder), "sqlite")
            broker.wait()
            start_s = time.perf_counter() - begin
            loaded = broker.pss_mib()
        finally:
            broker.stop()
    what = f"{MESSAGES:,} messages of {len(BODY)} bytes"
    return [
        Figure(
            f"{RECEIVERS:,} idle receivers, of a core",
            100 * idle,
            "%",
            5,
            at_least=False,
            note=f"processor time within {WATCH_S:g} s",
        ),
        Figure(f"memory with {what} queued, PSS", full, "MiB", 120, at_least=False),
        Figure("start with them after kill -9", start_s, "s", 10, at_least=False),
        Figure("… and memory then, PSS", loaded, "MiB", 120, at_least=False),
    ]


def _fill(broker: Broker) -> float:
    with broker.client() as client, client.get_queue_sender(QUEUE) as sender:
        for _ in range(MESSAGES // BATCH):
            sender.send_messages([ServiceBusMessage(BODY) for _ in range(BATCH)])
    return broker.pss_mib()


async def _idle_cost(broker: Broker) -> float:
    """The part of a core that waiting receivers cost."""
    links = [await _receiver(broker.home) for _ in range(RECEIVERS)]
    before, begin = broker.cpu_s(), time.perf_counter()
    await asyncio.sleep(WATCH_S)
    cost = (broker.cpu_s() - before) / (time.perf_counter() - begin)
    for writer in links:
        writer.close()
    return cost


async def _receiver(home: Home) -> asyncio.StreamWriter:
    """A link that is attached and has given credit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", home.port("service_bus"))
    login = codec.binary(f"\0{KEY_NAME}\0{home.secret('service_bus_key')}".encode())
    number, empty = codec.uint(0), codec.NULL
    address = (codec.string(QUEUE),)
    window = codec.uint(frames.WINDOW)
    attach = (
        codec.string("idle"),
        number,
        codec.TRUE,
        codec.ubyte(0),
        codec.ubyte(1),
        codec.composite(frames.SOURCE, address),
        codec.composite(frames.TARGET, address),
    )
    flow = (
        number,
        window,
        number,
        window,
        number,
        number,
        codec.uint(1),
        empty,
        empty,
        codec.TRUE,
    )
    writer.write(
        frames.SASL_HEADER
        + frames.performative(0, frames.SASL_INIT, (codec.symbol("PLAIN"), login), kind=1)
        + frames.AMQP_HEADER
        + frames.performative(0, frames.OPEN, (codec.string("bench"),))
        + frames.performative(0, frames.BEGIN, (empty, number, window, window))
        + frames.performative(0, frames.ATTACH, attach)
        + frames.performative(0, frames.FLOW, flow)
    )
    while True:  # the answer to the flow comes last; a refusal would come in its place
        code = await _answer(reader)
        if code in {frames.DETACH, frames.CLOSE}:
            raise SystemExit("the broker refused a receiver")
        if code == frames.FLOW:
            return writer


async def _answer(reader: asyncio.StreamReader) -> int | None:
    """What the broker's next frame is; None for a header."""
    head = await reader.readexactly(8)
    if head.startswith(b"AMQP"):
        return None
    body = await reader.readexactly(int.from_bytes(head[:4]) - 8)
    return body[2]
