"""A client without a socket: frames in, frames out, on a broker of its own."""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from hmac import digest
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote_plus

from local.service_bus import codec, frames
from local.service_bus.model import QueueSettings
from local.service_bus.namespace import Namespace
from local.service_bus.sas import Keyring, SharedKey
from local.service_bus.server import Connection, Server
from local.service_bus.store import MemoryStore
from tests.local.service_bus.rig import Clock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

KEY = Keyring(SharedKey("kpax", "secret"), lambda _path: ())
NULL = codec.NULL


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Peer:
    """A client that speaks frames, on a broker with the queue `q`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = Connection(server)
        self.transport = Transport()
        self.connection.connection_made(cast("asyncio.BaseTransport", self.transport))
        self._read = 0

    def feed(self, data: bytes) -> None:
        """Bytes from the client, and the end of the turn."""
        self.connection.data_received(data)
        self.server.flush()

    def send(self, code: int, *fields: bytes, payload: bytes = b"", channel: int = 0) -> None:
        """One frame from the client."""
        self.feed(frames.frame(channel, codec.composite(code, fields) + payload))

    def answers(self) -> list[tuple[int, list[Any], bytes]]:
        """Frames that were written since the last time: code, fields, payload."""
        found = []
        data = self.transport.written
        while self._read < len(data):
            if data[self._read : self._read + 4] == b"AMQP":
                self._read += 8
                continue
            size = int.from_bytes(data[self._read : self._read + 4])
            body = data[self._read + 8 : self._read + size]
            self._read += size
            if body[2] == frames.SASL_MECHANISMS or body[2] == frames.SASL_OUTCOME:
                continue
            code, values, end = frames.read(body)
            found.append((code, values, body[end:]))
        return found

    def open(self, *, product: str = "other") -> None:
        """Log in with the key, open, begin."""
        self.feed(frames.SASL_HEADER)
        login = codec.binary(b"\0kpax\0secret")
        fields = (codec.symbol("PLAIN"), login)
        self.feed(frames.performative(0, frames.SASL_INIT, fields, kind=1))
        self.feed(frames.AMQP_HEADER)
        properties = codec.map_((codec.symbol("product"), codec.string(product)))
        self.send(frames.OPEN, codec.string("me"), *[NULL] * 8, properties)
        self.send(frames.BEGIN, NULL, codec.uint(0), codec.uint(100), codec.uint(100))

    def attach(
        self, address: str, *, receiver: bool, handle: int = 0, settled: bool = False
    ) -> None:
        """Attach a link to a queue."""
        terminus = codec.string(address)
        self.send(
            frames.ATTACH,
            codec.string(f"link-{handle}"),
            codec.uint(handle),
            codec.boolean(receiver),
            codec.ubyte(int(settled)),
            codec.ubyte(0),
            codec.composite(frames.SOURCE, (terminus,)),
            codec.composite(frames.TARGET, (terminus,)),
            NULL,
            NULL,
            codec.uint(0),
        )

    def transfer(
        self, payload: bytes, *, number: int = 0, more: bool = False, handle: int = 0
    ) -> None:
        """A message, or a part of one."""
        self.send(
            frames.TRANSFER,
            codec.uint(handle),
            codec.uint(number),
            codec.binary(b"tag"),
            codec.uint(0),
            codec.FALSE,
            codec.boolean(more),
            payload=payload,
        )

    def credit(
        self, count: int, *, handle: int = 0, seen: int = 0, drain: bool = False
    ) -> None:
        """Credit for a receiving link."""
        numbers = [codec.uint(n) for n in (0, 100, 0, 100, handle, seen, count)]
        self.send(frames.FLOW, *numbers, NULL, codec.boolean(drain))


def a_server(clock: Callable[[], int] | None = None, **what: Any) -> Server:
    def fail(error: Exception) -> None:
        raise error

    queue = QueueSettings(name="q", **what)
    namespace = Namespace(MemoryStore(), clock=clock or Clock(), declared=[queue])
    return Server(namespace, KEY, on_failure=fail)


async def a_peer(**what: Any) -> Peer:
    peer = Peer(a_server(**what))
    peer.open()
    peer.answers()
    return peer


def signature(resource: str, key: str = "secret", *, lasts_s: int = 60) -> str:
    """A shared access signature."""
    until, encoded = int(time.time()) + lasts_s, quote_plus(resource)
    signed = b64encode(digest(key.encode(), f"{encoded}\n{until}".encode(), sha256)).decode()
    return f"SharedAccessSignature sr={encoded}&sig={quote_plus(signed)}&se={until}&skn=kpax"
