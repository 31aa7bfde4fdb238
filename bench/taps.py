"""Relays that count what passes: requests of a table client, messages of a bus client.

A tap stands between an unmodified client and its server and passes every byte on; what it counts
is on the wire, whoever sent it and whatever our own counters say.
"""

from __future__ import annotations

import asyncio
import re
import struct
from typing import TYPE_CHECKING, Protocol, Self

from local.service_bus.decode import Described
from local.service_bus.frames import AMQP_HEADER, ATTACH, TRANSFER, read
from local.service_bus.message import BATCH_FORMAT, split_batch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

_CHUNK = 65_536
_HEAD = struct.Struct(">IBBH")
_PROTOCOL_BYTES = 8
_NO_MESSAGES = re.compile(r"(\$cbs|\$management)$")


class Ear(Protocol):
    """Hears one connection."""

    def said(self, data: bytes) -> None:
        """Bytes from the client."""
        ...

    def answered(self, data: bytes) -> None:
        """Bytes from the server."""
        ...


class Tap:
    """A relay on a port of its own to `upstream` (a port of 127.0.0.1)."""

    def __init__(self, upstream: int, ear: Callable[[], Ear]) -> None:
        self._upstream = upstream
        self._ear = ear
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        writers = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self._upstream
            )
            writers.append(server_writer)
            ear = self._ear()
            await asyncio.gather(
                _pass_on(reader, server_writer, ear.said),
                _pass_on(server_reader, writer, ear.answered),
            )
        except OSError:
            pass  # one side is gone, and the other is told so below
        finally:
            self._open.discard(task)
            for one in writers:
                one.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Callable[[bytes], None]
) -> None:
    while data := await reader.read(_CHUNK):
        hear(data)
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class Requests:
    """Counts HTTP requests of one connection by method and table; `$batch` is one request."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._buffer = b""
        self._body_left = 0

    def said(self, data: bytes) -> None:
        """Heads are counted, bodies skipped by their length."""
        self._buffer += data
        while self._buffer:
            skipped = min(self._body_left, len(self._buffer))
            self._buffer, self._body_left = self._buffer[skipped:], self._body_left - skipped
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if self._body_left or not found:
                return
            self._buffer = rest
            lines = head.decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(":", 1) for line in lines[1:])
            if "transfer-encoding" in fields:
                raise ValueError("a request of unknown length cannot be counted")
            self._body_left = int(fields.get("content-length", "0"))
            method, path, _ = lines[0].split(" ", 2)
            name = re.split(r"[(?]", path.rpartition("/")[2])[0]
            self._counts[f"{method.upper()} {name}"] += 1

    def answered(self, data: bytes) -> None:
        """Answers are not counted."""


class Messages:
    """Counts messages of one AMQP connection: `sent <queue>` and `delivered <queue>`.

    A batch counts as the messages in it. Links for tokens and for questions carry no messages.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._said, self._answered = _Frames(), _Frames()
        self._senders: dict[tuple[int, int], str] = {}
        self._receivers: dict[tuple[int, int], str] = {}
        self._payload: dict[tuple[int, int], bytes] = {}
        self._batched: dict[tuple[int, int], bool] = {}

    def said(self, data: bytes) -> None:
        """The client attaches links and sends."""
        for channel, body in self._said.cut(data):
            code, fields, end = read(body)
            if code == ATTACH and not fields[2]:
                self._senders[channel, fields[1]] = _address(fields[6])
            elif code == TRANSFER:
                self._transferred((channel, fields[0]), fields, body[end:])

    def answered(self, data: bytes) -> None:
        """The server confirms links (its own handle numbers) and delivers."""
        for channel, body in self._answered.cut(data):
            code, fields, _ = read(body)
            if code == ATTACH and not fields[2]:
                self._receivers[channel, fields[1]] = _address(fields[5])
            elif code == TRANSFER and not fields[5]:
                self._count("delivered", self._receivers.get((channel, fields[0]), "?"), 1)

    def _transferred(self, link: tuple[int, int], fields: list[object], part: bytes) -> None:
        # Only the first frame of a delivery says whether it is a batch.
        self._batched.setdefault(link, fields[3] == BATCH_FORMAT)
        self._payload[link] = self._payload.get(link, b"") + part
        if fields[5]:
            return
        payload, is_batch = self._payload.pop(link), self._batched.pop(link)
        count = len(split_batch(payload)) if is_batch else 1
        self._count("sent", self._senders.get(link, "?"), count)

    def _count(self, what: str, address: str, count: int) -> None:
        if not _NO_MESSAGES.search(address):
            self._counts[f"{what} {address}"] += count


class _Frames:
    """Cuts one direction of a connection into frames with a performative."""

    def __init__(self) -> None:
        self._buffer = b""

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """Channel and body of each complete frame; those of SASL and empty ones are left out."""
        self._buffer += data
        found: list[tuple[int, bytes]] = []
        while len(self._buffer) >= _PROTOCOL_BYTES:
            if self._buffer.startswith(AMQP_HEADER[:4]):
                self._buffer = self._buffer[_PROTOCOL_BYTES:]
                continue
            size, offset, kind, channel = _HEAD.unpack_from(self._buffer)
            if len(self._buffer) < size:
                break
            body, self._buffer = self._buffer[4 * offset : size], self._buffer[size:]
            if kind == 0 and body:
                found.append((channel, body))
        return found


def _address(terminus: object) -> str:
    """The entity that a source or target names, without scheme and host."""
    fields = terminus.value if isinstance(terminus, Described) else None
    address = fields[0] if isinstance(fields, list) and fields else ""
    return str(address).rpartition("/")[2] if "$" not in str(address) else str(address)
