"""AMQP over WebSocket (RFC 6455) on the broker's own port.

The first bytes tell: a client that begins with GET asks for a WebSocket, all others speak AMQP and
never meet this module again. Path and subprotocol are those of the service. Not TLS, as all of
the local broker: the SDK uses `ws://` for connection strings of an emulator.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING, cast

from local.service_bus.front import hand_over

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/$servicebus/websocket"
_SUBPROTOCOLS = ("AMQPWSB10", "amqp")
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_HEAD = 16_384
_MAX_FRAME = 4 * 1024 * 1024
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def speaks(make: Callable[[], asyncio.Protocol]) -> Callable[[bytes], asyncio.Protocol | None]:
    """Who goes on with a socket: AMQP as `make` makes it, or that within a WebSocket."""

    def choose(data: bytes) -> asyncio.Protocol | None:
        if len(data) < 4 and b"GET ".startswith(data):
            return None
        return Handshake(make) if data.startswith(b"GET ") else make()

    return choose


class Handshake(asyncio.Protocol):
    """The request for a WebSocket, and the answer."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The request, in one piece or several."""
        self._data += data
        transport = self._transport
        head, is_whole, rest = self._data.partition(b"\r\n\r\n")
        if transport is None or len(head) > _MAX_HEAD:
            self._abort()
        elif is_whole:
            answer, is_accepted = _handshake(head.decode("latin-1"))
            transport.write(answer)
            if is_accepted:
                hand_over(transport, WebSocket(self._make()), rest)
            else:
                transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _handshake(head: str) -> tuple[bytes, bool]:
    """The answer to a request, and whether it opens a WebSocket."""
    first, *lines = head.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    path = first.split(" ")[1].partition("?")[0] if first.count(" ") == 2 else ""
    offered = [word.strip() for word in headers.get("sec-websocket-protocol", "").split(",")]
    chosen = next((name for name in _SUBPROTOCOLS if name in offered), None)
    key = headers.get("sec-websocket-key")
    if path.lower() != _PATH or headers.get("upgrade", "").lower() != "websocket" or not key:
        return _refusal("404 Not Found", f"AMQP over WebSocket is at {_PATH}."), False
    if chosen is None:
        return _refusal("400 Bad Request", f"The subprotocol is {_SUBPROTOCOLS[0]}."), False
    # The standard asks for SHA-1 here, as an echo and not as a safeguard.
    accept = b64encode(sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
    ).encode(), True


def _refusal(status: str, why: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(why)}\r\n\r\n{why}".encode()


class WebSocket(asyncio.Protocol):
    """One open WebSocket, around the AMQP connection that speaks through it."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(cast("asyncio.BaseTransport", _Wrapped(self)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Frames, in pieces of any size; what AMQP they carry is one stream."""
        self._rest += data
        at = 0
        while not self._is_closing and (found := _frame(self._rest, at)) is not None:
            code, payload, at = found
            self._take(code, payload)
        self._rest = self._rest[at:]

    def _take(self, code: int, payload: bytes) -> None:
        if code in {_BINARY, _CONTINUATION}:
            self._inner.data_received(payload)
        elif code == _PING:
            self.send(_PONG, payload)
        elif code != _PONG:
            self.close(payload[:2] if code == _CLOSE else (1002).to_bytes(2))

    def send(self, code: int, payload: bytes) -> None:
        """One frame to the client; a server's are not masked."""
        if self._transport is None or self._is_closing:
            return
        size = len(payload)
        if size < 126:
            length = bytes((size,))
        else:
            length = b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
        self._transport.write(bytes((0x80 | code,)) + length + payload)

    def close(self, reason: bytes = b"\x03\xe8") -> None:
        """Say goodbye and close."""
        self.send(_CLOSE, reason)
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the socket."""
        if self._transport is not None:
            self._transport.abort()


class _Wrapped:
    """What the AMQP connection takes for its socket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    def write(self, data: bytes) -> None:
        self._socket.send(_BINARY, data)

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """(code, payload, where the next one begins), None when it is not all there.

    What breaks the protocol reads as a close: reserved bits, no mask, too long.
    """
    if len(data) - at < 2:
        return None
    code, size, start = data[at] & 0x0F, data[at + 1] & 0x7F, at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) - start < width:
            return None
        size, start = int.from_bytes(data[start : start + width]), start + width
    if data[at] & 0x70 or not data[at + 1] & 0x80 or size > _MAX_FRAME:
        return _CLOSE, (1002).to_bytes(2), len(data)
    end = start + 4 + size
    if len(data) < end:
        return None
    mask = data[start : start + 4]
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return code, (int.from_bytes(data[start + 4 : end]) ^ key).to_bytes(size), end
