"""AMQP connections: headers, SASL, frames, one object per client socket.

Everything a turn of the event loop brings in is carried out at once; then the store commits, and
only then is anything written to a socket (`Server.flush`). So whatever a client has been told is
durable, and all clients of one turn share one commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from local.service_bus import codec, frames
from local.service_bus.decode import CodecError
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.session import MAX_LINKS, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.service_bus.core import Queue
    from local.service_bus.model import Right
    from local.service_bus.namespace import Namespace
    from local.service_bus.sas import Grant, Keyring

log = logging.getLogger("local.service_bus")

_MECHANISMS = ("MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL")
_MAX_SESSIONS = 1_024
_MAX_PENDING = 4 * 1024 * 1024  # bytes of one connection in one turn
_LIFECYCLE = frozenset({frames.SASL_INIT, frames.OPEN, frames.BEGIN, frames.END, frames.CLOSE})


class Server:
    """The connections of a namespace, the turn's end, and the one timer."""

    def __init__(
        self, namespace: Namespace, keys: Keyring, *, on_failure: Callable[[Exception], None]
    ) -> None:
        self.namespace = namespace
        namespace.on_deleted = self._on_deleted
        self.keys = keys
        self._on_failure = on_failure
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._dirty: set[Connection] = set()
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0

    def touch(self, connection: Connection | None = None) -> None:
        """Something changed; this connection may have something to write."""
        if connection is not None:
            self._dirty.add(connection)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Commit, then write; a commit that fails ends the broker, because memory is ahead of it."""
        try:
            self.namespace.move()
            self._is_flushing = False
            self.namespace.store.commit()
        except Exception as error:  # noqa: BLE001 — handed to whoever runs the server
            self._on_failure(error)
            return
        dirty, self._dirty = self._dirty, set()  # writing makes room, and room makes deliveries
        for connection in dirty:
            connection.write_out()
        self._arm()

    def _arm(self) -> None:
        due = self.namespace.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay_ms = max(0, due - self.namespace.clock()) + 1
        self._timer = self._loop.call_later(delay_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.namespace.tick()
        self.touch()

    def _on_deleted(self, queue: Queue) -> None:
        gone = BrokerError(
            Condition.NOT_FOUND, f"The messaging entity '{queue.name}' was deleted."
        )
        self.end_links(queue, gone, receiving_only=False)

    def end_links(self, queue: Queue, refusal: BrokerError, *, receiving_only: bool) -> None:
        """Detach all clients from a queue that is gone, or gives nothing any more."""
        for connection in self.connections:
            for session in connection.sessions.values():
                session.end_links(queue, refusal, receiving_only=receiving_only)

    def close(self) -> None:
        """End all connections."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.grants: list[Grant] = []
        self.is_trusted = False  # logged in with the key itself
        self.is_python_sdk = False
        self.max_frame = frames.MAX_FRAME
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._is_full = False  # the socket takes no more
        self._expects_header = True
        self._is_closing = False
        self.sessions: dict[int, Session] = {}

    # --- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it its sessions and links."""
        self.server.connections.discard(self)
        self._is_closing = True
        for session in list(self.sessions.values()):
            session.close()
        self.sessions.clear()
        self.server.touch()

    @property
    def paused(self) -> bool:
        """Whether deliveries must wait: the client reads slower than it asks."""
        return self._is_full or self._out_bytes > _MAX_PENDING

    def pause_writing(self) -> None:
        """The socket is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The socket takes more: deliveries go on."""
        self._is_full = False
        self._wake()

    def _wake(self) -> None:
        for session in self.sessions.values():
            session.wake()
        self.server.touch(self)

    def send(self, frame: bytes) -> None:
        """Put a frame behind what this turn writes."""
        self._out.append(frame)
        self._out_bytes += len(frame)

    def write_out(self) -> None:
        """Write what has gathered; called after the commit."""
        if self._transport is None or not self._out:
            return
        data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
        was_paused, self._out_bytes = self.paused, 0
        self._out.clear()
        self._transport.write(data)
        if was_paused and not self.paused:
            self._wake()
        if self._is_closing:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def authorize(self, path: str, right: Right | None = None) -> None:
        """Let through who has a token for this path and this right (None: for anything there).

        Raises:
            BrokerError: this connection has none.
        """
        now_s = time.time()
        if self.is_trusted or any(grant.covers(path, now_s, right) for grant in self.grants):
            return
        claim = "" if right is None else f" '{right}' claim is required for it."
        raise BrokerError(Condition.UNAUTHORIZED, f"Unauthorized access to '{path}'.{claim}")

    # --- frames

    def data_received(self, data: bytes) -> None:
        """Carry out all complete frames; keep the rest."""
        if self._rest:
            data = self._rest + data
        at = 0
        try:
            while not self._is_closing and (length := self._complete(data, at)):
                if self._expects_header:
                    self._header(data[at : at + 8])
                else:
                    self._frame(data[at : at + length])
                at += length
        except CodecError as error:
            self._fail(Condition.DECODE, str(error))
        except BrokerError as error:
            self._fail(error.condition, error.description)
        self._rest = data[at:] if at < len(data) else b""
        self.server.touch(self)

    def _complete(self, data: bytes, at: int) -> int:
        """The length of the next header or frame, 0 when it is not all there."""
        left = len(data) - at
        if left < 8:
            return 0
        if self._expects_header:
            return 8
        size = int.from_bytes(data[at : at + 4])
        if not 8 <= size <= frames.MAX_FRAME or not 8 <= data[at + 4] * 4 <= size:
            raise BrokerError(Condition.FRAMING, f"A frame of {size} bytes is not allowed.")
        return size if left >= size else 0

    def _fail(self, condition: Condition, description: str) -> None:
        log.warning("connection.failed condition=%s reason=%s", condition, description)
        error = frames.error(condition, description)
        self.send(frames.performative(0, frames.CLOSE, (error,)))
        self._is_closing = True

    def _header(self, header: bytes) -> None:
        if header == frames.SASL_HEADER:
            mechanisms = (codec.array_of_symbol(_MECHANISMS),)
            self.send(header)
            self.send(frames.performative(0, frames.SASL_MECHANISMS, mechanisms, kind=1))
        elif header == frames.AMQP_HEADER:
            self.send(header)
        else:
            self.send(frames.AMQP_HEADER)
            self._is_closing = True
        self._expects_header = False

    def _frame(self, frame: bytes) -> None:
        body = frame[frame[4] * 4 :]
        if not body:
            return  # a heartbeat
        channel = int.from_bytes(frame[6:8])
        code, fields, end = frames.read(body)
        if code in _LIFECYCLE:
            self._lifecycle(code, fields, channel)
        elif (session := self.sessions.get(channel)) is not None:
            # Without a session: late frames of one that has ended, which mean nothing.
            session.frame(code, fields, body, end)

    def _lifecycle(self, code: int, fields: list[Any], channel: int) -> None:
        if code == frames.SASL_INIT:
            self._login(str(fields[0]), fields[1])
        elif code == frames.OPEN:
            self._open(fields)
        elif code == frames.BEGIN:
            self._begin(channel, fields)
        elif code == frames.END:
            if (session := self.sessions.pop(channel, None)) is not None:
                session.close()
                self.send(frames.performative(channel, frames.END, ()))
        elif code == frames.CLOSE:
            self.send(frames.performative(0, frames.CLOSE, ()))
            self._is_closing = True

    def _login(self, mechanism: str, response: object) -> None:
        is_good = mechanism in _MECHANISMS
        if mechanism == "PLAIN":
            parts = response.split(b"\0") if isinstance(response, bytes) else []
            is_good = len(parts) == 3 and self.server.keys.is_login(
                parts[1].decode(errors="replace"), parts[2].decode(errors="replace")
            )
            self.is_trusted = is_good
        code = codec.ubyte(0 if is_good else 1)
        self.send(frames.performative(0, frames.SASL_OUTCOME, (code,), kind=1))
        self._expects_header = True
        self._is_closing = not is_good

    def _open(self, fields: list[Any]) -> None:
        self.max_frame = min(fields[2] or frames.MAX_FRAME, frames.MAX_FRAME)
        if self.max_frame < 512:
            raise BrokerError(Condition.FRAME_SIZE, "max-frame-size must be at least 512.")
        properties = fields[9] if isinstance(fields[9], dict) else {}
        self.is_python_sdk = str(properties.get("product", "")).startswith("azsdk-python")
        answer = (
            codec.string("kpax-service-bus"),
            codec.NULL,
            codec.uint(frames.MAX_FRAME),
            codec.ushort(_MAX_SESSIONS - 1),
        )
        self.send(frames.performative(0, frames.OPEN, answer))

    def _begin(self, channel: int, fields: list[Any]) -> None:
        if channel in self.sessions or len(self.sessions) >= _MAX_SESSIONS:
            raise BrokerError(Condition.FRAMING, f"Channel {channel} cannot begin a session.")
        session = self.sessions[channel] = Session(self, channel, fields[1] or 0)
        session.send(
            frames.BEGIN,
            codec.ushort(channel),
            codec.uint(0),
            codec.uint(frames.WINDOW),
            codec.uint(frames.WINDOW),
            codec.uint(MAX_LINKS),
        )
